"""What every head loss keeps to, as in ``losses/laws.py``: hidden states against the whole item table.

The tests run every law on every registered head, and ``rankwell check`` on one's own. An exception to a law stands beside
it, with its reason.
"""

# mypy: allow-untyped-calls

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rankwell.laws import Laws, agree, shown
from rankwell.losses.laws import peak_bytes
from rankwell.registry import Entry
from rankwell.types import Ragged

__all__ = ["LAWS"]

ROWS, ITEMS, WIDTH = 6, 11, 3
LEAVES = ("hidden", "item_weight")

_SMALL = {"buckets": 4, "bucket_rows": 3, "bucket_items": 5, "rounds": 2, "extra_chunks": 0}
"""Such that rows and items miss each other; by themselves the losses that have buckets would take all of these few."""


def _with_small_buckets(entry: Entry[Any]) -> Entry[Any]:
    own = {name: size for name, size in _SMALL.items() if name in entry.parameters}
    return replace(entry, function=partial(entry.function, **own)) if own else entry


LAWS = Laws("head", prepare=_with_small_buckets)
law = LAWS.law

close = partial(agree, rtol=1.3e-6, atol=1e-5)

_NEAR = "which items a row meets depends on the other rows"
_PLACES = "a known item takes a place among the items that a row meets"


def arguments(entry: Entry[Any], *, seed: int = 0, dtype: torch.dtype = torch.float) -> dict[str, Any]:
    """All that heads may share: known items, weights, log q; and what the loss takes besides."""
    draw = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype).uniform_(-1.2, 1.2, generator=draw)

    args = {
        "hidden": numbers(ROWS, WIDTH),
        "item_weight": numbers(ITEMS, WIDTH),
        "targets": torch.randint(ITEMS, (ROWS,), generator=draw),
        "known": Ragged(torch.arange(ROWS + 1) * 2, torch.randint(ITEMS, (2 * ROWS,), generator=draw)),
        "weights": numbers(ROWS).abs() + 0.1,
        "log_q": numbers(ITEMS).log_softmax(0),
    }
    smoothing = {"label_smoothing": 0.1} if "label_smoothing" in entry.parameters else {}
    return args | smoothing | {name: numbers(ITEMS) for name in _of_items(entry)}


def _of_items(entry: Entry[Any]) -> list[str]:
    return [name for name, given in entry.inputs.items() if given.alignment == "catalogue"]


def some(args: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """The arguments of some rows."""
    known = args["known"]
    lists = [known.values[known.offsets[i] : known.offsets[i + 1]] for i in rows]
    offsets = torch.tensor([0, *(len(ids) for ids in lists)]).cumsum(0)
    taken = {name: args[name][list(rows)] for name in ("hidden", "targets", "weights")}
    return {**args, **taken, "known": Ragged(offsets, torch.cat([known.values[:0], *lists]))}


def gradients(entry: Entry[Any], args: Mapping[str, Any]) -> list[Tensor]:
    """Values of the rows, and the gradients of their sum by hidden states and items."""
    leaves = {name: args[name].detach().clone().requires_grad_() for name in LEAVES}
    values = entry(**{**args, **leaves}, reduction="none")
    return [values.detach(), *torch.autograd.grad(values.sum(), list(leaves.values()))]


def all_close(ours: Iterable[Tensor], expected: Iterable[Tensor]) -> None:
    """Raise AssertionError unless all are close."""
    for one, other in zip(ours, expected, strict=True):
        close(one, other)


# ---------------------------------------------------------------------------------------------------- values and batches


@law()
def one_value_a_row(entry: Entry[Any]) -> None:
    """Unreduced, there is one value a row, of the hidden states' type."""
    values = entry(**arguments(entry), reduction="none")
    assert values.shape == (ROWS,), f"{ROWS} rows gave values of shape {tuple(values.shape)}"
    assert values.dtype == torch.float, values.dtype
    assert values.isfinite().all(), f"got {shown(values)}, expected finite values"


@law()
def reductions_agree(entry: Entry[Any]) -> None:
    """Sum and mean are those of the values; the mean is also the default."""
    args = arguments(entry)
    values = entry(**args, reduction="none")
    close(entry(**args, reduction="sum"), values.sum())
    close(entry(**args), values.sum() / (values != 0).sum())


@law(scalable_cross_entropy=_NEAR, reduced_cross_entropy=_NEAR)
def batch_is_independent(entry: Entry[Any]) -> None:
    """Rows in chunks have the values and gradients that they have together."""
    args = arguments(entry)
    whole = gradients(entry, args)
    first, rest = (gradients(entry, some(args, rows)) for rows in (range(1), range(1, ROWS)))
    all_close([torch.cat([a, b]) for a, b in zip(first[:2], rest[:2], strict=True)], whole[:2])
    close(first[2] + rest[2], whole[2])


@law()
def batch_may_have_dimensions(entry: Entry[Any]) -> None:
    """Rows may lie in several dimensions, or in none."""
    args = arguments(entry)
    folded = {name: args[name].unflatten(0, (2, 3)) for name in ("hidden", "targets", "weights")}
    close(entry(**{**args, **folded}, reduction="none"), entry(**args, reduction="none").reshape(2, 3))
    close(entry(**{**args, **folded}), entry(**args))
    alone = some(args, [0])
    single = {**alone, **{name: alone[name][0] for name in folded}}
    close(entry(**single, reduction="none"), entry(**alone, reduction="none")[0])


@law(reduced_cross_entropy="rows of one hash are cut into chunks in the order they come in")
def rows_permute(entry: Entry[Any]) -> None:
    """A permutation of the rows permutes the values."""
    args, order = arguments(entry), [3, 0, 5, 1, 4, 2]
    close(entry(**some(args, order), reduction="none"), entry(**args, reduction="none")[order])


@law()
def inputs_are_unchanged(entry: Entry[Any]) -> None:
    """Neither call nor backward pass writes to the arguments."""
    args = arguments(entry)
    tensors = {**args, "offsets of known": args["known"].offsets, "ids of known": args["known"].values}
    before = {name: x.clone() for name, x in tensors.items() if isinstance(x, Tensor)}
    gradients(entry, args)
    for name, x in before.items():
        assert torch.equal(tensors[name], x), f"{name} was written to"


# --------------------------------------------------------------------------------------------------------- what is absent


@law()
def row_without_a_target_is_removed(entry: Entry[Any]) -> None:
    """A row without a target has value 0 and gradient 0, whatever stands in it, and does not count."""
    args, kept, gone = arguments(entry), [0, 2, 3, 5], [1, 4]
    expected = gradients(entry, some(args, kept))
    for junk in (torch.nan, torch.inf, -torch.inf, 1e30):
        absent = {**args, **{name: args[name].clone() for name in ("hidden", "targets", "weights")}}
        absent["targets"][gone] = -1
        absent["hidden"][gone] = absent["weights"][gone] = junk
        values, by_hidden, by_items = gradients(entry, absent)
        for x in (values[gone], by_hidden[gone]):
            assert not x.any(), f"got {shown(x)} with {junk}, expected 0"
        all_close([values[kept], by_hidden[kept], by_items], expected)
        close(entry(**absent), entry(**some(args, kept)))


@law()
def no_targets_at_all_give_zero(entry: Entry[Any]) -> None:
    """Without a single target, value and gradients are 0."""
    args = arguments(entry) | {"targets": torch.full((ROWS,), -1)}
    for nothing in (*gradients(entry, args), entry(**args)):
        assert not nothing.any(), f"got {shown(nothing)}, expected 0"


@law()
def no_rows_give_zero(entry: Entry[Any]) -> None:
    """Without rows the mean is 0, and so is the gradient of the items."""
    nothing = some(arguments(entry), [])
    value = entry(**nothing)
    assert value == 0, f"got {shown(value)}, expected 0"
    assert not gradients(entry, nothing)[2].any(), "got a gradient"


@law(scalable_cross_entropy=_PLACES, reduced_cross_entropy=_PLACES)
def known_is_removed(entry: Entry[Any]) -> None:
    """A row has the value that it has with a table that lacks its known items; its target stays."""
    args = arguments(entry) | {"log_q": None}
    values = entry(**args, reduction="none")
    for row in range(ROWS):
        alone = some(args, [row])
        target = int(alone["targets"][0])
        kept = [j for j in range(ITEMS) if j == target or j not in alone["known"].values]
        alone |= {"known": None, "targets": torch.tensor([kept.index(target)])}
        alone |= {name: args[name][kept] for name in ("item_weight", *_of_items(entry))}
        close(entry(**alone, reduction="none")[0], values[row])


@law()
def masked_values_change_nothing(entry: Entry[Any]) -> None:
    """An item that all rows know and that is not finite is as one of zeros; the rows that meet such a one are NaN."""
    args, item = arguments(entry), 4
    args["targets"] = torch.where(args["targets"] == item, item + 1, args["targets"])
    known = torch.cat([args["known"].values.view(ROWS, -1), torch.full((ROWS, 1), item)], 1)
    offsets = torch.arange(ROWS + 1) * known.shape[1]
    beside = ("log_q", *_of_items(entry))
    args |= {name: args[name].clone() for name in ("item_weight", *beside)} | {
        "known": Ragged(offsets, known.flatten())
    }
    args["item_weight"][item] = 0
    expected = gradients(entry, args)
    row = int(expected[0].nonzero()[0])  # one of those without a bucket is 0 whatever it knows
    for junk in (torch.nan, torch.inf, -torch.inf):
        table = args["item_weight"].clone()
        table[item, 1:] = junk
        absent = {"item_weight": table} | {
            name: args[name].index_fill(0, torch.tensor([item]), junk) for name in beside
        }
        for ours, clean in zip(gradients(entry, args | absent), expected, strict=True):
            try:
                close(ours, clean)
            except AssertionError as error:
                raise AssertionError(f"with {junk} in an item that all know {error}") from error
        others = known.clone()
        others[row, -1] = others[row, 0]
        met = {"item_weight": table, "known": Ragged(offsets, others.flatten())}
        values, by_hidden, _ = gradients(entry, args | met)
        wrong = torch.arange(ROWS) == row
        assert torch.equal(values.isnan(), wrong), (
            f"got {shown(values)}, expected nan for row {row} alone, that meets {junk}"
        )
        assert torch.equal(by_hidden.isnan().any(1), wrong), (
            f"got the gradient {shown(by_hidden)} of row {row} with {junk}"
        )


@law()
def uniform_log_q_is_none(entry: Entry[Any]) -> None:
    """A table of which each item is drawn once on average stands for itself."""
    args = arguments(entry)
    uniform = torch.full((ITEMS,), 1 / ITEMS).log()
    close(entry(**args | {"log_q": uniform}), entry(**args | {"log_q": None}))


@law()
def weights_are_additive(entry: Entry[Any]) -> None:
    """A row weighs its value."""
    args = arguments(entry)
    plain = entry(**args | {"weights": None}, reduction="none")
    close(entry(**args, reduction="none"), args["weights"] * plain)
    close(entry(**args | {"weights": torch.tensor(2.0)}, reduction="none"), 2 * plain)


# ------------------------------------------------------------------------------------------------- precision and memory


@law()
def chunked_is_whole(entry: Entry[Any]) -> None:
    """However many logits are made at once, values and gradients are the same."""
    args = arguments(entry)
    whole = gradients(entry, args)
    for chunk in (1, 2, 3, 7, ITEMS, 1000):
        all_close(gradients(entry, args | {"chunk": chunk}), whole)


@law()
def extremes_have_the_gradient_of_float64(entry: Entry[Any]) -> None:
    """Hidden states by thousands: finite values, and the gradient of float64."""
    for scale in (64.0, 8192.0):
        args = arguments(entry) | {"log_q": None, **dict.fromkeys(_of_items(entry))}
        # Products of eighths are exact in float32: what is off is off by what comes after.
        args |= {name: (8 * args[name]).round() / 8 for name in LEAVES}
        args["hidden"] *= scale
        exact = {name: x.double() if torch.is_tensor(x) and x.is_floating_point() else x for name, x in args.items()}
        for single, double in zip(gradients(entry, args), gradients(entry, exact), strict=True):
            agree(single.double(), double, rtol=1e-5, atol=1e-6 * float(double.abs().max().clamp(min=1)))


@law()
def half_precision_is_summed_in_float32(entry: Entry[Any]) -> None:
    """Half precision in gives the values of the same numbers in float32, and gradients in half precision."""
    args = arguments(entry)
    for dtype in (torch.bfloat16, torch.float16):
        halves = {**args, **{name: args[name].to(dtype) for name in LEAVES}}
        floats = {**args, **{name: halves[name].float() for name in LEAVES}}
        ours, expected = gradients(entry, halves), gradients(entry, floats)
        types = [x.dtype for x in ours]
        assert types == [torch.float, dtype, dtype], types
        agree(ours[0], expected[0], rtol=0, atol=0)
        for half, single in zip(ours[1:], expected[1:], strict=True):
            agree(half.float(), single, rtol=1e-2, atol=1e-2)


@law()
def weights_of_any_dtype(entry: Entry[Any]) -> None:
    """Weights of float64, and ones that are integers or booleans, do what they do in float32, and leave the type as it is."""
    args = arguments(entry)
    ones = torch.ones_like(args["weights"])
    for given in (args["weights"].double(), ones.long(), ones.bool()):
        ours, expected = (gradients(entry, {**args, "weights": x}) for x in (given, given.float()))
        all_close(ours, expected)


@law()
def autocast_changes_nothing(entry: Entry[Any]) -> None:
    """Under ``torch.autocast`` the value is the same."""
    args = arguments(entry)
    expected = entry(**args)
    with torch.autocast("cpu", torch.bfloat16):
        agree(entry(**args), expected, rtol=0, atol=0)


@law()
def memory_is_far_below_the_logits(entry: Entry[Any]) -> None:
    """Forwards and backwards take less than a third of the bytes of the logits, beside the gradients."""
    rows, items = 256, 50_000
    hidden, item_weight = torch.randn(rows, 4, requires_grad=True), torch.randn(items, 4, requires_grad=True)
    own = {name: entry.parameters[name].default for name in _SMALL if name in entry.parameters}
    if "rounds" in own:
        own |= {"rounds": 2, "buckets": 16}
    peak = peak_bytes(lambda: entry(hidden, item_weight, torch.arange(rows), **own).backward())
    logits = 4 * rows * items
    taken = peak - hidden.nbytes - item_weight.nbytes
    assert taken < logits / 3, f"got {taken} bytes, where the logits have {logits}"


# -------------------------------------------------------------------------------------------------------- derivatives


@law()
def gradient_is_numerical(entry: Entry[Any]) -> None:
    """In float64 the gradient, by hidden states, items, weights and what else is one an item, is that of finite differences."""
    args = arguments(entry, dtype=torch.double)
    names = (*LEAVES, "weights", *(name for name in _of_items(entry) if entry.inputs[name].holds == "number"))
    leaves = [args[name].clone().requires_grad_() for name in names]

    def values(*tensors: Tensor) -> Tensor:
        return entry(**{**args, **dict(zip(names, tensors, strict=True))}, reduction="none")  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(values, leaves)


@law()
def second_derivative_is_numerical_or_an_error(entry: Entry[Any]) -> None:
    """The gradient of the squared gradient is that of finite differences, or NotImplementedError."""
    args = arguments(entry, dtype=torch.double)

    def penalty(hidden: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(entry(**{**args, "hidden": hidden}), hidden, create_graph=True)
        return slope.square().sum()

    at = args["hidden"].clone().requires_grad_()
    try:
        (by_hidden,) = torch.autograd.grad(penalty(at), at)
    except NotImplementedError:
        return
    step = 1e-6 * torch.randn(at.shape, generator=torch.Generator().manual_seed(3), dtype=at.dtype)
    there, back = (penalty((at.detach() + sign * step).requires_grad_()).detach() for sign in (1, -1))
    agree((2 * by_hidden * step).sum(), there - back, rtol=1e-4, atol=1e-6 * 1e-3)


@law()
def step_downhill_lowers_it(entry: Entry[Any]) -> None:
    """A small step against the gradient lowers the loss."""
    args = arguments(entry, dtype=torch.double)
    values, *slopes = gradients(entry, args)
    size = sum(slope.square().sum() for slope in slopes) ** 0.5
    moved = {name: args[name] - 1e-4 * slope / size for name, slope in zip(LEAVES, slopes, strict=True)}
    after = entry(**{**args, **moved}, reduction="sum")
    assert after < values.sum(), f"{float(values.sum()):.6g} rose to {float(after):.6g}"


# -------------------------------------------------------------------------------------------------------- transformations


@law()
def vmap_is_a_loop(entry: Entry[Any]) -> None:
    """``torch.func.vmap`` over calls, with and without gradients, gives what the calls give."""
    several = [arguments(entry, seed=seed) for seed in range(3)]
    known, names = several[0]["known"], ("hidden", "item_weight", "targets", "weights")
    single = [{name: args[name] for name in names} for args in several]
    stacked = {name: torch.stack([args[name] for args in single]) for name in names}

    def total(args: Mapping[str, Tensor]) -> Tensor:
        return entry(**args, known=known, reduction="sum")  # type: ignore[no-any-return]

    def slope(hidden: Tensor, args: dict[str, Tensor]) -> Tensor:
        return torch.func.grad(lambda x: total({**args, "hidden": x}))(hidden)  # type: ignore[no-any-return]

    close(torch.func.vmap(total)(stacked), torch.stack([total(args) for args in single]))
    expected = [gradients(entry, {**args, "known": known})[1] for args in single]
    close(torch.func.vmap(slope)(stacked["hidden"], stacked), torch.stack(expected))


@law()
def compiles_to_the_same(entry: Entry[Any]) -> None:
    """``torch.compile`` takes it in one graph, forwards and backwards or without a gradient, and changes nothing."""
    args = arguments(entry)
    torch._dynamo.reset()
    compiled = replace(entry, function=torch.compile(entry.function, fullgraph=True, backend="aot_eager"))
    expected = gradients(entry, args)
    with warnings.catch_warnings():
        # torch's own tracer still instantiates autograd.Function, and warns of it.
        warnings.filterwarnings("ignore", ".*should not be instantiated", DeprecationWarning)
        all_close(gradients(compiled, args), expected)
        with torch.no_grad():
            all_close([compiled(**args, reduction="none")], expected[:1])
    torch._dynamo.reset()
