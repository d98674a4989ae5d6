"""What every loss keeps to: each law is one function of a registry entry, and raises AssertionError where it is broken.

The tests run every law on every registered loss, and ``rankwell check`` on a loss of one's own. An exception to
a law stands beside it, with its reason.
"""

# mypy: allow-untyped-calls

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rankwell.laws import Laws, agree, shown
from rankwell.lists import offsets_from_sizes
from rankwell.losses.cases import Case, cases, scalars
from rankwell.registry import Entry

__all__ = ["LAWS"]


def _with_numbers(entry: Entry[Any]) -> Entry[Any]:
    numbers = scalars(entry)
    return replace(entry, function=partial(entry.function, **numbers)) if numbers else entry


LAWS = Laws("list", "graded", "contrast", "embedding", prepare=_with_numbers)
law = LAWS.law


def gradients(entry: Entry[Any], case: Case, args: Mapping[str, Tensor]) -> list[Tensor]:
    """Values of the rows, and the gradients of their sum by the scores."""
    leaves = {name: args[name].detach().clone().requires_grad_() for name in case.scores}
    values = entry(**{**args, **leaves}, reduction="none")
    return [values.detach(), *torch.autograd.grad(values.sum(), list(leaves.values()))]


close = partial(agree, rtol=2e-5, atol=2e-5)

_SHARED = "uniformity is shared by the batch"
_BOTH_ENDS = "a positive's negatives stand in other queries' rows"
_DRAWS = "its negatives stand in the order in which they were drawn, which estimates the rank"
_POSTERIORS = "its posteriors are constants in the gradient, as in the paper"
_PACES = "its paces are constants in the gradient, as in the paper"


# ---------------------------------------------------------------------------------------------------- values and batches


@law()
def one_value_a_list(entry: Entry[Any]) -> None:
    """Unreduced, there is one value a row, of the scores' type."""
    for case in cases(entry):
        values = entry(**case.args, reduction="none")
        assert values.shape == (case.rows,), f"{case.rows} rows gave values of shape {tuple(values.shape)}"
        assert values.dtype == case.args[case.scores[0]].dtype, values.dtype
        assert values.isfinite().all(), f"got {shown(values)}, expected finite values"


@law()
def reductions_agree(entry: Entry[Any]) -> None:
    """Sum and mean are those of the values; the mean is also the default."""
    for case in cases(entry):
        values = entry(**case.args, reduction="none")
        close(entry(**case.args, reduction="sum"), values.sum())
        close(entry(**case.args, reduction="mean"), values.mean())
        close(entry(**case.args), values.mean())


@law(direct_au=_SHARED, mawu=_SHARED, lifted_structure=_BOTH_ENDS)
def batch_is_independent(entry: Entry[Any]) -> None:
    """Rows in chunks have the values and gradients that they have together."""
    for case in cases(entry):
        whole = gradients(entry, case, case.args)
        chunks = [
            gradients(entry, case, case.take(torch.arange(case.rows)[some])) for some in (slice(0, 1), slice(1, None))
        ]
        close(torch.cat([chunk[0] for chunk in chunks]), whole[0])
        for number, name in enumerate(case.scores, 1):
            parts = [chunk[number] for chunk in chunks]
            close(sum(parts) if name in case.shared else torch.cat(parts), whole[number])


@law()
def batch_may_have_dimensions(entry: Entry[Any]) -> None:
    """Two batches in one call are two calls."""
    for first, second in zip(cases(entry), cases(entry, seed=1), strict=True):
        both = {name: torch.stack([x, second.args[name]]) for name, x in first.args.items()}
        expected = torch.stack([entry(**case.args, reduction="none") for case in (first, second)])
        close(entry(**both, reduction="none"), expected)


@law()
def rows_permute(entry: Entry[Any]) -> None:
    """A permutation of the rows, and of the declared inputs along with them, permutes the values."""
    for case in cases(entry, inputs=True):
        order = torch.randperm(case.rows, generator=torch.Generator().manual_seed(1))
        close(entry(**case.take(order), reduction="none"), entry(**case.args, reduction="none")[order])


@law()
def inputs_are_unchanged(entry: Entry[Any]) -> None:
    """Neither call nor backward pass writes to the arguments."""
    for case in cases(entry, inputs=True):
        before = {name: x.clone() for name, x in case.args.items()}
        gradients(entry, case, case.args)
        for name, x in before.items():
            assert torch.equal(case.args[name], x), f"{name} was written to"


# ---------------------------------------------------------------------------------------------------------------- masks


@law(direct_au=_SHARED, mawu=_SHARED, lifted_structure=_BOTH_ENDS)
def masked_is_removed(entry: Entry[Any]) -> None:
    """A row has the value that it has without its masked items."""
    for case in cases(entry):
        values = entry(**case.args, reduction="none")
        for row in range(case.rows):
            alone = case.take(torch.tensor([row]))
            for mask, axes in case.items.items():
                kept = alone.pop(mask).flatten().nonzero().flatten()
                for name, axis in axes.items():
                    if name in alone:
                        alone[name] = alone[name].index_select(axis, kept)
            close(entry(**alone, reduction="none")[0], values[row])


@law()
def masked_values_change_nothing(entry: Entry[Any]) -> None:
    """NaN, infinities and huge numbers behind a mask reach neither value nor gradient."""
    for case in cases(entry):
        clean = gradients(entry, case, case.args)
        for junk in (torch.nan, torch.inf, -torch.inf, 1e30):
            args = {
                name: x.masked_fill(case.absent[name], junk) if name in case.absent else x
                for name, x in case.args.items()
            }
            for poisoned, expected in zip(gradients(entry, case, args), clean, strict=True):
                try:
                    agree(poisoned, expected, rtol=0, atol=0)
                except AssertionError as error:
                    raise AssertionError(f"with {junk} behind the mask {error}") from error


@law()
def padding_width_is_irrelevant(entry: Entry[Any]) -> None:
    """More padding changes nothing."""
    for case in cases(entry):
        args = dict(case.args)
        for mask, axes in case.items.items():
            for name, axis in axes.items():
                shape = list(args[name].shape)
                shape[axis] = 3
                args[name] = torch.cat([args[name], args[name].new_full(shape, name != mask)], axis)
        close(entry(**args, reduction="none"), entry(**case.args, reduction="none"))


@law(warp=_DRAWS, k_os_warp=_DRAWS)
def item_order_is_irrelevant(entry: Entry[Any]) -> None:
    """The items of a list, the positives and the negatives of a row, may stand in any order."""
    for case in cases(entry):
        args = dict(case.args)
        for axes in case.items.values():
            size = args[name := next(iter(axes))].shape[axes[name]]
            order = torch.randperm(size, generator=torch.Generator().manual_seed(2))
            args |= {name: args[name].index_select(axis, order) for name, axis in axes.items()}
        close(entry(**args, reduction="none"), entry(**case.args, reduction="none"))


@law()
def nothing_valid_gives_zero(entry: Entry[Any]) -> None:
    """A row with nothing valid has value 0 and gradient 0, and does not count in the mean."""
    for case in cases(entry):
        mask = case.args[case.valid].clone()
        mask[0] = False
        args = {**case.args, case.valid: mask}
        values, *slopes = gradients(entry, case, args)
        assert values[0] == 0, f"got {float(values[0]):.6g}, expected 0 for the row with nothing valid"
        for name, slope in zip(case.scores, slopes, strict=True):
            assert slope.isfinite().all() and (name in case.shared or not slope[0].any()), (
                f"got the gradient {shown(slope)}"
            )
        close(entry(**args, reduction="mean"), values[1:].mean())
        for nothing in gradients(entry, case, {**args, case.valid: torch.zeros_like(mask)}):
            assert not nothing.any(), f"got {shown(nothing)} where nothing at all is valid, expected 0"


@law()
def missing_side_is_finite(entry: Entry[Any]) -> None:
    """No relevant item, or no negatives: value and gradient are finite, and the row counts."""
    for case in cases(entry):
        args = {**case.args, case.other_side: torch.zeros_like(case.args[case.other_side])}
        values, *slopes = gradients(entry, case, args)
        for what, x in zip(
            ("values", *(f"gradient by {name}" for name in case.scores)), (values, *slopes), strict=True
        ):
            assert x.isfinite().all(), f"got {what} {shown(x)}, expected finite ones"
        close(entry(**args, reduction="mean"), values.sum() / case.rows)


# ------------------------------------------------------------------------------------------------------------- precision


@law()
def extremes_have_the_gradient_of_float64(entry: Entry[Any]) -> None:
    """Scores by ten thousand and gaps of sixty: finite values, and the gradient of float64."""
    for case in cases(entry):
        for change in (lambda x: x * 1e4, lambda x: 30 * x.sign(), lambda x: 60 * x.sign() + x):
            args = {name: change(x) if name in case.scores else x for name, x in case.args.items()}
            exact = {name: x.double() if x.is_floating_point() else x for name, x in args.items()}
            for single, double in zip(gradients(entry, case, args), gradients(entry, case, exact), strict=True):
                agree(single.double(), double, rtol=1e-4, atol=1e-5 * float(double.abs().max().clamp(min=1)))


@law("list", "contrast", pirank="the pull of a relaxed order rises, then fades, over gaps of its temperature, 5")
def gradient_does_not_die(entry: Entry[Any]) -> None:
    """The pull on a misplaced positive, if it is not fading from a gap of 5 to one of 10, is still there at 25 and 60.

    A constant inside a logarithm (``log(1e-10 + sigmoid(gap))``) breaks this: just the worst mistakes are then not mended.
    """
    for case in cases(entry):
        args = dict(case.args)
        if entry.kind == "list":
            args["labels"] = torch.zeros_like(args["labels"])
            args["labels"][:, 0] = 1
        name = case.scores[0]
        pulls = {}
        for gap in (5.0, 10.0, 25.0, 60.0):
            far = args[name].clone()
            far[(slice(None),) + (0,) * (far.ndim - 1)] = -gap
            slope = gradients(entry, case, {**args, name: far})[1]
            pulls[gap] = slope[(slice(None),) + (0,) * (far.ndim - 1)].abs()
            if gap <= 10:
                continue
            lasting = (pulls[10.0] > 0.9 * pulls[5.0]) & (pulls[10.0] > 1e-6)
            faded = lasting & (pulls[gap] < 0.5 * pulls[10.0])
            assert not faded.any(), (
                f"got a gradient of {float(pulls[gap][faded][0]):.3g} at a gap of {gap:.0f},"
                f" expected {float(pulls[10.0][faded][0]):.3g} as at a gap of 10"
            )


@law()
def autocast_changes_nothing(entry: Entry[Any]) -> None:
    """Under ``torch.autocast`` the values, their type and their gradients are those without."""
    for case in cases(entry):
        leaves = {name: case.args[name].clone().requires_grad_() for name in case.scores}
        with torch.autocast("cpu", torch.bfloat16):
            values = entry(**{**case.args, **leaves}, reduction="none")
        slopes = torch.autograd.grad(values.sum(), list(leaves.values()))
        for ours, expected in zip((values, *slopes), gradients(entry, case, case.args), strict=True):
            close(ours, expected)


@law()
def half_precision_is_summed_in_float32(entry: Entry[Any]) -> None:
    """Half precision in gives what the same numbers give in float32."""
    for case in cases(entry):
        for dtype in (torch.bfloat16, torch.float16):
            halves = {name: x.to(dtype) if name in case.scores else x for name, x in case.args.items()}
            floats = {name: x.float() if name in case.scores else x for name, x in halves.items()}
            expected = gradients(entry, case, floats)
            for half, single in zip(gradients(entry, case, halves), expected, strict=True):
                agree(half.float(), single, rtol=1e-2, atol=1e-2 * float(single.abs().max()))


_STRAIGHT = "its value is that of the hard order, its gradient that of a relaxation (straight through)"


@law(circle=_PACES, variational_bpr=_POSTERIORS, pirank=_STRAIGHT)
def gradient_is_numerical(entry: Entry[Any]) -> None:
    """In float64 the gradient, by scores and by weights, is that of finite differences."""
    for case in cases(entry, dtype=torch.double):
        names = (*case.scores, "weights")
        leaves = [case.args[name].clone().requires_grad_() for name in names]

        def values(*tensors: Tensor, case: Case = case, names: tuple[str, ...] = names) -> Tensor:
            return entry(**{**case.args, **dict(zip(names, tensors, strict=True))}, reduction="none")  # type: ignore[no-any-return]

        assert torch.autograd.gradcheck(values, leaves, fast_mode=True)


@law(circle=_PACES)
def second_derivative_is_numerical_or_an_error(entry: Entry[Any]) -> None:
    """The gradient of a penalty on the squared gradient is that of finite differences, or NotImplementedError."""
    for case in cases(entry, dtype=torch.double):
        args = dict(case.args)

        def penalised(*scores: Tensor, case: Case = case, args: dict[str, Tensor] = args) -> Tensor:
            loss = entry(**{**args, **dict(zip(case.scores, scores, strict=True))}, reduction="sum")
            slopes = torch.autograd.grad(loss, scores, create_graph=True)
            penalty: Tensor = loss + sum(slope.square().sum() for slope in slopes)
            return penalty

        draw = torch.Generator().manual_seed(3)
        at = [args[name].clone().requires_grad_() for name in case.scores]
        step = [1e-6 * torch.randn(x.shape, generator=draw, dtype=x.dtype) for x in at]
        there, back = (
            penalised(*((x.detach() + sign * by).requires_grad_() for x, by in zip(at, step, strict=True))).detach()
            for sign in (1, -1)
        )
        try:
            slopes = torch.autograd.grad(penalised(*at), at)
        except NotImplementedError:
            continue
        along = sum((2 * slope * by).sum() for slope, by in zip(slopes, step, strict=True))
        agree(along, there - back, rtol=1e-4, atol=1e-6 * 1e-3)


@law(pirank=_STRAIGHT)
def step_downhill_lowers_it(entry: Entry[Any]) -> None:
    """A small step against the gradient lowers the loss."""
    for case in cases(entry, dtype=torch.double):
        values, *slopes = gradients(entry, case, case.args)
        size = sum(slope.square().sum() for slope in slopes)
        assert size > 0, "no gradient at random scores"
        moved = {
            name: case.args[name] - 1e-4 * slope / size**0.5 for name, slope in zip(case.scores, slopes, strict=True)
        }
        after = entry(**{**case.args, **moved}, reduction="sum")
        assert after < values.sum(), f"{float(values.sum()):.6g} rose to {float(after):.6g}"


@law()
def weights_double_the_value_or_cancel(entry: Entry[Any]) -> None:
    """Doubled weights double the value, or cancel as in a ratio; weights of one are none."""
    doubled: list[Tensor] = []
    for case in cases(entry):
        values = entry(**case.args, reduction="none")
        weights = case.args["weights"]
        doubled += [entry(**{**case.args, "weights": 2 * weights}, reduction="none"), values]
        without = {name: x for name, x in case.args.items() if name != "weights"}
        close(entry(**without, weights=torch.ones_like(weights), reduction="none"), entry(**without, reduction="none"))
    twice, once = torch.cat(doubled[::2]), torch.cat(doubled[1::2])
    adds = (twice - 2 * once).abs().sum() < (twice - once).abs().sum()
    close(twice, 2 * once if adds else once)


@law()
def unequal_weights_count(entry: Entry[Any]) -> None:
    """Weights that differ change values."""
    changes = []
    for case in cases(entry):
        args = {**case.args, "weights": 1 + 2 * (torch.arange(case.args["weights"].numel()) % 2)}
        args["weights"] = args["weights"].reshape(case.args["weights"].shape).float()
        if entry.kind == "list":  # with more than one relevant item
            args["labels"] = (args["labels"] > 0).float()
        plain = entry(**{**args, "weights": torch.ones_like(args["weights"])}, reduction="none")
        changes.append((entry(**args, reduction="none") - plain).abs().max())
    assert max(changes) > 1e-3, f"got changes of at most {float(max(changes)):.3g} by weights of 1 and 3"


@law()
def weights_of_any_dtype(entry: Entry[Any]) -> None:
    """Weights of float64, and ones that are integers or booleans, do what they do in float32, and leave the type as it is."""
    for case in cases(entry):
        weights = case.args["weights"]
        for given in (weights.double(), torch.ones_like(weights).long(), torch.ones_like(weights).bool()):
            ours, expected = (gradients(entry, case, {**case.args, "weights": x}) for x in (given, given.float()))
            for one, other in zip(ours, expected, strict=True):
                close(one, other)


# -------------------------------------------------------------------------------------------------------- transformations


_RAGGED_INSIDE = "its groups are ragged lists, whose offsets are checked on the host"


@law(hierarchical=_RAGGED_INSIDE)
def vmap_is_a_loop(entry: Entry[Any]) -> None:
    """``torch.func.vmap`` over calls, with and without gradients, gives what the calls give."""
    for several in zip(*(cases(entry, seed=seed) for seed in range(3)), strict=True):
        stacked = {name: torch.stack([case.args[name] for case in several]) for name in several[0].args}

        def total(args: dict[str, Tensor]) -> Tensor:
            value: Tensor = entry(**args, reduction="sum")
            return value

        close(torch.func.vmap(total)(stacked), torch.stack([total(case.args) for case in several]))
        name = several[0].scores[-1]

        def slope(x: Tensor, args: dict[str, Tensor], name: str = name) -> Tensor:
            return torch.func.grad(lambda x: total({**args, name: x}))(x)  # type: ignore[no-any-return]

        expected = torch.stack([gradients(entry, case, case.args)[-1] for case in several])
        close(torch.func.vmap(slope)(stacked[name], stacked), expected)


@law(hierarchical=_RAGGED_INSIDE)
def compiles_to_the_same(entry: Entry[Any]) -> None:
    """``torch.compile`` takes it in one graph, forwards and backwards or without a gradient, and changes nothing."""
    with warnings.catch_warnings():
        # torch's own tracer still instantiates autograd.Function, and warns of it.
        warnings.filterwarnings("ignore", ".*should not be instantiated", DeprecationWarning)
        for case in cases(entry):
            torch._dynamo.reset()
            compiled = replace(entry, function=torch.compile(entry.function, fullgraph=True, backend="aot_eager"))
            expected = gradients(entry, case, case.args)
            for ours, eager in zip(gradients(compiled, case, case.args), expected, strict=True):
                close(ours, eager)
        with torch.no_grad():
            close(compiled(**case.args, reduction="none"), expected[0])
    torch._dynamo.reset()


# ----------------------------------------------------------------------------------------------------------------- ragged


@law("list", "graded")
def ragged_is_dense_is_a_loop(entry: Entry[Any]) -> None:
    """Lists one behind the other, as padded rows, and one by one: the same values and gradients."""
    (case,) = cases(entry, rows=6, items=8)
    sizes = torch.tensor([3, 0, 8, 1, 5, 8])
    there = torch.arange(8) < sizes[:, None]
    dense = {**case.args, "where": case.args["where"] & there}
    flat = {name: x[there] if x.shape[:2] == there.shape else x for name, x in case.args.items()}
    flat["offsets"] = offsets_from_sizes(sizes)
    padded, ragged = gradients(entry, case, dense), gradients(entry, case, flat)
    close(ragged[0], padded[0])
    close(ragged[1], padded[1][there])
    close(entry(**flat), entry(**dense))
    for row in range(6):
        one = {name: x[row, there[row]] if x.shape[:2] == there.shape else x[row] for name, x in case.args.items()}
        close(entry(**one, reduction="none"), ragged[0][row])


@law("list", "graded")
def empty_lists_give_zero(entry: Entry[Any]) -> None:
    """No lists, and lists without items, dense or ragged: value 0 each, and a gradient of their shape."""
    (case,) = cases(entry, items=8)
    along = {name for name, x in case.args.items() if x.shape[:2] == (case.rows, 8)}
    no_rows = {name: x[:0] for name, x in case.args.items()}
    no_items = {name: x[:, :0] if name in along else x for name, x in case.args.items()}
    ragged = {name: x[:, :0].flatten(0, 1) if name in along else x for name, x in case.args.items()}
    ragged["offsets"] = torch.zeros(case.rows + 1, dtype=torch.long)
    no_lists = {name: x.flatten(0, 1) if name in along else x for name, x in no_rows.items()}
    no_lists["offsets"] = torch.zeros(1, dtype=torch.long)
    for args, rows in ((no_rows, 0), (no_items, case.rows), (ragged, case.rows), (no_lists, 0)):
        for given in (args, {name: x for name, x in args.items() if name not in ("where", "weights")}):
            values = gradients(entry, case, given)[0]
            assert values.shape == (rows,), f"got values of shape {tuple(values.shape)}, expected {(rows,)}"
            assert not values.any(), f"got {shown(values)}, expected 0"
            assert entry(**given, reduction="mean") == 0, "the mean is not 0"


_SINKHORN = (
    "Sinkhorn's iterations keep the matrix of one list, up to a fixed 64 MB: to make it again in each is far slower"
)


@law(
    "list",
    hierarchical="sorts the ids of groups and keeps each item's place: 19 times the bytes, and linear",
    neural_ndcg=_SINKHORN,
    gumbel_neural_ndcg=_SINKHORN,
    gumbel_approx_ndcg="each of its samples keeps what the loss keeps",
)
def ragged_memory_is_linear(entry: Entry[Any]) -> None:
    """Forward and backward over heavy-tailed lists take at most six times the bytes of scores and labels."""
    # The r-th longest of these lists has 4,000 / r^0.6 items: some 180,000 in all.
    sizes = (4_000 / torch.arange(1, 1_800) ** 0.6).long()
    offsets = offsets_from_sizes(sizes[torch.randperm(len(sizes), generator=torch.Generator().manual_seed(0))])
    total = int(offsets[-1])
    scores = torch.linspace(-3, 3, total).sin().requires_grad_()
    labels = (torch.arange(total) % 9 == 0).float()
    more = {
        name: _filled(given.holds, total if given.alignment == "item" else len(sizes))
        for name, given in entry.inputs.items()
        if given.required and given.alignment != "scalar"
    }
    peak = peak_bytes(lambda: entry(scores, labels, offsets=offsets, **more).backward())
    given = 2 * scores.nbytes
    assert peak <= 6 * given, f"{peak / given:.1f} times the bytes of scores and labels"


def _filled(holds: str, size: int) -> Tensor:
    return torch.full((size,), 0.5) if holds in ("number", "share") else torch.arange(size) % 7 + 1


class Allocated(NamedTuple):
    """Bytes of tensors."""

    peak: int
    """The most that were alive at once, above those alive before."""
    largest: int
    """The largest one's."""


def allocated(run: Callable[[], Any]) -> Allocated:
    """What a call allocates."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        run()
    changes = [event.nbytes() for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return Allocated(max(accumulate(changes), default=0), max(changes, default=0))


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most bytes of tensors that were alive at once, above those alive before."""
    return max(0, allocated(run).peak)


# --------------------------------------------------------------------------------------------------------------- contrast

_COUNT = "the number of negatives is in the formula"


@LAWS.usual(
    "contrast",
    llpauc="the share of the negatives that counts is of their number",
    debiased_contrastive=_COUNT,
    gbce=_COUNT,
    hard_contrastive=_COUNT,
    soft_info_nce="the weights of the negatives are relative to each other",
)
def negatives_are_summed_or_averaged(entry: Entry[Any]) -> None:
    """A negative far below all others adds nothing, as to a sum; or each negative twice changes nothing, as in a mean."""
    try:
        _more_negatives(entry, "one", -1e30)
    except AssertionError:
        _more_negatives(entry, "all")
    else:
        _more_negatives(entry, "one", -torch.inf)


def _more_negatives(entry: Entry[Any], more: str, worst: float = 0.0) -> None:
    of_neg = {"neg", "where", *(name for name, given in entry.inputs.items() if given.alignment == "item")}
    for case in cases(entry):
        n = case.args["neg"].shape[-1]
        added = slice(0, 1 if more == "one" else n)
        args = {name: torch.cat([x, x[:, added]], -1) if name in of_neg else x for name, x in case.args.items()}
        if more == "one":
            args["neg"][:, -1], args["where"][:, -1] = worst, True
        (value, by_pos, by_neg), expected = gradients(entry, case, args), gradients(entry, case, case.args)
        by_neg = by_neg[..., :n] if more == "one" else by_neg[..., :n] + by_neg[..., n:]
        for ours, other in zip((value, by_pos, by_neg), expected, strict=True):
            close(ours, other)


@LAWS.usual(
    "contrast", gan_generator="it is the sum of what the discriminator says of its negatives, the lower the worse"
)
def infinitely_bad_negative_is_far_below(entry: Entry[Any]) -> None:
    """A negative of minus infinity has the finite value and the gradient of one far below all others."""
    for case in cases(entry):
        args, far = (
            {**case.args, "neg": case.args["neg"].clone(), "where": case.args["where"].clone()} for _ in range(2)
        )
        for given, worst in ((args, -torch.inf), (far, -1e4)):
            given["neg"][:, 0], given["where"][:, 0] = worst, True
        for ours, expected in zip(gradients(entry, case, args), gradients(entry, case, far), strict=True):
            assert ours.isfinite().all(), f"got {shown(ours)}, expected finite numbers"
            close(ours, expected)


_EARLIER = "a positive that falls a little may meet an earlier, smaller violation"


@law(
    "contrast",
    k_os_warp=_EARLIER,
    multi_sample_contrastive="with alpha below 1/2, a positive that leads by far is pushed back",
    softmax_at_k="its weight gives up positives that are far below the threshold",
    warp=_EARLIER,
)
def lower_positive_never_lowers_it(entry: Entry[Any]) -> None:
    """With one positive a row, the loss does not fall as the positive does."""
    case = next(case for case in cases(entry) if case.args["pos"].ndim == 1)
    values = [
        entry(**{**case.args, "pos": case.args["pos"] - drop}, reduction="none") for drop in (0.0, 0.1, 1.0, 10.0)
    ]
    for before, after in pairwise(values):
        assert (after >= before).all(), f"got {shown(after)}, expected at least {shown(before)}"


def arguments(entry: Entry[Any]) -> Iterator[dict[str, Any]]:
    """All arguments that the laws call the entry with, for a check of its annotations."""
    for case in cases(entry, inputs=True):
        yield {**case.args, **scalars(entry)}
