"""What every head loss keeps to."""

import warnings
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from rankwell.losses import LOSSES
from rankwell.losses.laws import peak_bytes
from rankwell.types import Ragged

HEADS = LOSSES.names("head")
ROWS, ITEMS, WIDTH = 6, 11, 3

# Small enough that rows and items miss each other; by themselves the losses would take all of these few.
OWN = {
    "scalable_cross_entropy": {"buckets": 4, "bucket_rows": 3, "bucket_items": 5},
    "reduced_cross_entropy": {"buckets": 4, "rounds": 2, "extra_chunks": 0},
}

_NEAR = "which items a row meets depends on the other rows"
_TIES = "rows of one hash are cut into chunks in the order they come in"
_PLACES = "a known item takes a place among the items that a row meets"
EXCEPTIONS = {
    "batch_is_independent": {"scalable_cross_entropy": _NEAR, "reduced_cross_entropy": _NEAR},
    "rows_permute": {"reduced_cross_entropy": _TIES},
    "known_is_removed": {"scalable_cross_entropy": _PLACES, "reduced_cross_entropy": _PLACES},
}


def heads(law=None):
    return pytest.mark.parametrize("name", [name for name in HEADS if name not in EXCEPTIONS.get(law, {})])


def loss_of(name):
    return partial(LOSSES[name].function, **OWN.get(name, {}))


def case(name, *, seed=0, dtype=torch.float, scale=1.0):
    """Arguments with all that heads may share: known items, weights, log q; and what the loss takes besides."""
    draw = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.empty(shape, dtype=dtype).uniform_(-1.2, 1.2, generator=draw)

    args = {
        "hidden": scale * numbers(ROWS, WIDTH),
        "item_weight": numbers(ITEMS, WIDTH),
        "targets": torch.randint(ITEMS, (ROWS,), generator=draw),
        "known": Ragged(torch.arange(ROWS + 1) * 2, torch.randint(ITEMS, (2 * ROWS,), generator=draw)),
        "weights": numbers(ROWS).abs() + 0.1,
        "log_q": numbers(ITEMS).log_softmax(0),
    }
    if "label_smoothing" in LOSSES[name].parameters:
        args |= {"label_smoothing": 0.1, "bias": numbers(ITEMS)}
    return args


def some(args, rows):
    """The arguments of some rows."""
    known = args["known"]
    lists = [known.values[known.offsets[i] : known.offsets[i + 1]] for i in rows]
    offsets = torch.tensor([0, *(len(ids) for ids in lists)]).cumsum(0)
    taken = {key: args[key][rows] for key in ("hidden", "targets", "weights")}
    return {**args, **taken, "known": Ragged(offsets, torch.cat(lists))}


def gradients(loss, args, names=("hidden", "item_weight")):
    leaves = {name: args[name].detach().clone().requires_grad_() for name in names}
    values = loss(**{**args, **leaves}, reduction="none")
    return [values.detach(), *torch.autograd.grad(values.sum(), list(leaves.values()))]


def all_close(ours, expected, **tolerance):
    for one, other in zip(ours, expected, strict=True):
        assert_close(one, other, **tolerance)


@heads()
def test_one_value_a_row(name):
    values = loss_of(name)(**case(name), reduction="none")
    assert values.shape == (ROWS,) and values.dtype == torch.float and values.isfinite().all()


@heads()
def test_reductions_agree(name):
    args = case(name)
    values = loss_of(name)(**args, reduction="none")
    assert_close(loss_of(name)(**args, reduction="sum"), values.sum())
    assert_close(loss_of(name)(**args), values.sum() / (values != 0).sum())


@heads("batch_is_independent")
def test_batch_is_independent(name):
    loss, args = loss_of(name), case(name)
    whole = gradients(loss, args)
    first, rest = (gradients(loss, some(args, list(rows))) for rows in (range(1), range(1, ROWS)))
    all_close([torch.cat([a, b]) for a, b in zip(first[:2], rest[:2], strict=True)], whole[:2])
    assert_close(first[2] + rest[2], whole[2])


@heads()
def test_batch_may_have_dimensions(name):
    loss, args = loss_of(name), case(name)
    folded = {**args, "hidden": args["hidden"].reshape(2, 3, WIDTH), "targets": args["targets"].reshape(2, 3)}
    folded["weights"] = args["weights"].reshape(2, 3)
    assert_close(loss(**folded, reduction="none"), loss(**args, reduction="none").reshape(2, 3))
    assert_close(loss(**folded), loss(**args))
    alone = some(args, [0])
    single = {**alone, "hidden": alone["hidden"][0], "targets": alone["targets"][0], "weights": alone["weights"][0]}
    assert_close(loss(**single, reduction="none"), loss(**alone, reduction="none")[0])


@heads("rows_permute")
def test_rows_permute(name):
    loss, args, order = loss_of(name), case(name), [3, 0, 5, 1, 4, 2]
    assert_close(loss(**some(args, order), reduction="none"), loss(**args, reduction="none")[order])


@heads()
def test_inputs_are_unchanged(name):
    args = case(name)
    tensors = {**args, "offsets": args["known"].offsets, "ids": args["known"].values}
    before = {key: x.clone() for key, x in tensors.items() if isinstance(x, torch.Tensor)}
    gradients(loss_of(name), args)
    for key, x in before.items():
        assert torch.equal(tensors[key], x), key


@heads()
@pytest.mark.parametrize("junk", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_row_without_a_target_is_removed(name, junk):
    """Whatever stands in it, its known items included."""
    loss, args = loss_of(name), case(name)
    kept = [0, 2, 3, 5]
    absent = {
        **args,
        "targets": args["targets"].clone(),
        "hidden": args["hidden"].clone(),
        "weights": args["weights"].clone(),
    }
    for row in (1, 4):
        absent["targets"][row] = -1
        absent["hidden"][row] = absent["weights"][row] = junk
    ours, expected = gradients(loss, absent), gradients(loss, some(args, kept))
    assert not ours[0][[1, 4]].any() and not ours[1][[1, 4]].any()
    all_close([ours[0][kept], ours[1][kept], ours[2]], expected)
    assert_close(loss(**absent), loss(**some(args, kept)))


@heads()
def test_no_targets_at_all_give_zero(name):
    args = case(name) | {"targets": torch.full((ROWS,), -1)}
    for nothing in (*gradients(loss_of(name), args), loss_of(name)(**args)):
        assert not nothing.any()


@heads()
def test_no_rows_give_zero(name):
    args = case(name)
    nothing = {
        **args, "hidden": args["hidden"][:0], "targets": args["targets"][:0], "weights": args["weights"][:0],
        "known": Ragged(torch.tensor([0]), torch.zeros(0, dtype=torch.long)),
    }  # fmt: skip
    assert loss_of(name)(**nothing) == 0
    assert not gradients(loss_of(name), nothing)[2].any()


@heads("known_is_removed")
def test_known_is_removed(name):
    loss, args = loss_of(name), case(name) | {"log_q": None}
    values = loss(**args, reduction="none")
    for row in range(ROWS):
        alone = some(args, [row])
        target = int(alone["targets"][0])
        kept = [j for j in range(ITEMS) if j == target or j not in alone["known"].values]
        alone |= {"known": None, "targets": torch.tensor([kept.index(target)])}
        alone |= {key: args[key][kept] for key in ("item_weight", "bias") if key in args}
        assert_close(loss(**alone, reduction="none")[0], values[row])


@heads()
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, ITEMS, 1000])
def test_chunked_is_whole(name, chunk):
    loss, args = loss_of(name), case(name)
    all_close(gradients(partial(loss, chunk=chunk), args), gradients(loss, args))


@heads()
@pytest.mark.parametrize("scale", [64.0, 8192.0])
def test_extremes_have_the_gradient_of_float64(name, scale):
    """With numbers whose products are exact in float32: what is off is off by what comes after."""
    args = case(name) | {"log_q": None, "bias": None}
    args = {key: x for key, x in args.items() if key != "bias" or "bias" in LOSSES[name].inputs}
    args |= {"hidden": scale * (8 * args["hidden"]).round() / 8, "item_weight": (8 * args["item_weight"]).round() / 8}
    exact = {key: x.double() if torch.is_tensor(x) and x.is_floating_point() else x for key, x in args.items()}
    for single, double in zip(gradients(loss_of(name), args), gradients(loss_of(name), exact), strict=True):
        assert_close(single.double(), double, rtol=1e-5, atol=1e-6 * float(double.abs().max().clamp(min=1)))


@heads()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(name, dtype):
    args = case(name)
    halves = {**args, **{key: args[key].to(dtype) for key in ("hidden", "item_weight")}}
    floats = {**halves, **{key: halves[key].float() for key in ("hidden", "item_weight")}}
    ours, expected = gradients(loss_of(name), halves), gradients(loss_of(name), floats)
    assert [x.dtype for x in ours] == [torch.float, dtype, dtype]
    assert torch.equal(ours[0], expected[0])
    all_close([x.float() for x in ours[1:]], expected[1:], rtol=1e-2, atol=1e-2)


@heads()
def test_autocast_changes_nothing(name):
    args = case(name)
    expected = loss_of(name)(**args)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss_of(name)(**args), expected)


@heads()
def test_gradient_is_numerical(name):
    args = case(name, dtype=torch.double)
    names = [key for key in ("hidden", "item_weight", "weights", "bias") if key in args]
    leaves = [args[key].clone().requires_grad_() for key in names]

    def values(*tensors):
        return loss_of(name)(**{**args, **dict(zip(names, tensors, strict=True))}, reduction="none")

    assert torch.autograd.gradcheck(values, leaves)


@heads()
def test_second_derivative_is_an_error(name):
    args = case(name)
    hidden = args["hidden"].requires_grad_()
    (slope,) = torch.autograd.grad(loss_of(name)(**args), hidden, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        slope.square().sum().backward()


@heads()
def test_step_downhill_lowers_it(name):
    args = case(name, dtype=torch.double)
    values, *slopes = gradients(loss_of(name), args)
    size = sum(slope.square().sum() for slope in slopes) ** 0.5
    moved = {key: args[key] - 1e-4 * slope / size for key, slope in zip(("hidden", "item_weight"), slopes, strict=True)}
    assert loss_of(name)(**{**args, **moved}, reduction="sum") < values.sum()


@heads()
def test_weights_are_additive(name):
    loss, args = loss_of(name), case(name)
    plain = loss(**args | {"weights": None}, reduction="none")
    assert_close(loss(**args, reduction="none"), args["weights"] * plain)
    assert_close(loss(**args | {"weights": torch.tensor(2.0)}, reduction="none"), 2 * plain)


@heads()
def test_uniform_log_q_is_none(name):
    """A table of which each item is drawn once on average stands for itself."""
    loss, args = loss_of(name), case(name)
    uniform = torch.full((ITEMS,), 1 / ITEMS).log()
    assert_close(loss(**args | {"log_q": uniform}), loss(**args | {"log_q": None}))


@heads()
def test_vmap_is_a_loop(name):
    loss, several = loss_of(name), [case(name, seed=seed) for seed in range(3)]
    known = several[0]["known"]
    stacked = {
        key: torch.stack([args[key] for args in several]) for key in ("hidden", "item_weight", "targets", "weights")
    }

    def total(args):
        return loss(**args, known=known, reduction="sum")

    single = [{key: x[i] for key, x in stacked.items()} for i in range(3)]
    assert_close(torch.func.vmap(total)(stacked), torch.stack([total(args) for args in single]))

    def slope(hidden, args):
        return torch.func.grad(lambda x: total({**args, "hidden": x}))(hidden)

    expected = [gradients(loss, {**args, "known": known})[1] for args in single]
    assert_close(torch.func.vmap(slope)(stacked["hidden"], stacked), torch.stack(expected))


@heads()
def test_compiles_to_the_same(name):
    args = case(name)
    torch._dynamo.reset()
    compiled = torch.compile(loss_of(name), fullgraph=True, backend="aot_eager")
    with warnings.catch_warnings():
        # torch's own tracer still instantiates autograd.Function, and warns of it.
        warnings.filterwarnings("ignore", ".*should not be instantiated", DeprecationWarning)
        traced = gradients(compiled, args)
    all_close(traced, gradients(loss_of(name), args))
    torch._dynamo.reset()


@heads()
def test_memory_is_far_below_the_logits(name):
    rows, items = 256, 50_000
    hidden, item_weight = torch.randn(rows, 4, requires_grad=True), torch.randn(items, 4, requires_grad=True)
    targets = torch.arange(rows)
    own = {"rounds": 2, "buckets": 16} if name == "reduced_cross_entropy" else {}
    peak = peak_bytes(lambda: LOSSES[name].function(hidden, item_weight, targets, **own).backward())
    logits = 4 * rows * items
    assert peak - hidden.nbytes - item_weight.nbytes < logits / 3


@pytest.mark.parametrize("law", EXCEPTIONS)
def test_exceptions_are_of_heads_that_exist(law):
    assert f"test_{law}" in globals() and set(EXCEPTIONS[law]) <= set(HEADS)
