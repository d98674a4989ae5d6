r"""Soft ranks by projection onto the permutahedron, which is isotonic regression after sorting.

The ranks of the scores, the highest at 1, are the corner of the permutahedron of (n, …, 1) that lies furthest in the
direction of :math:`-s`; the soft ranks are the point of it that is nearest to :math:`-s/\varepsilon`.

Isotonic regression pools neighbours that stand in the wrong order, without a loop over items. First all runs of wrong
neighbours are pooled at once, again and again: on scores of models that leaves nothing wrong after a few rounds. For
whatever is left (each round may pool but two) stretches of 1, 2, 4, … pools, each in order by itself, are joined two by
two: what has to be pooled is an end of the left one with a beginning of the right one, and each tells by a binary search
in the other stretch whether it belongs to it. Time O(n log n), at worst O(n log^2 n); in float64.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.kernels.operators import applied, flatten, list_operator
from rankwell.lists import Opened, blocks, check_positive, open_lists
from rankwell.types import Mask, Offsets, Scores, Values

__all__ = ["Regularisation", "decreasing_fit", "projected_ranks", "soft_ranks"]

BLOCK_ITEMS = 1 << 14
"""Padded items of one block of lists (one list at least): a pass over them stays in the cache."""

ROUNDS = 16
"""Rounds of pooling runs, before stretches are joined."""

Regularisation: TypeAlias = Literal["l2", "kl"]


# ------------------------------------------------------------------------------------------------------------------- fit


class _Stretch(NamedTuple):
    """Sums over the items of a stretch that are next to the join, from none to all of them: ``[..., h + 1]``."""

    given: Tensor
    weight: Tensor


def _sums(x: Tensor, kl: bool) -> Tensor:
    """Of the first 0, 1, … numbers; for the entropic fit of logarithms."""
    sums = x.logcumsumexp(-1) if kl else x.cumsum(-1)
    return torch.nn.functional.pad(sums, (1, 0), value=-torch.inf if kl else 0.0)


def _pooled(left: _Stretch, i: Tensor, right: _Stretch, j: Tensor, kl: bool) -> Tensor:
    """What fits the last i items of the left stretch and the first j of the right one best; NaN for none."""
    add = torch.logaddexp if kl else torch.add
    given = add(left.given.gather(-1, i), right.given.gather(-1, j))
    weight = add(left.weight.gather(-1, i), right.weight.gather(-1, j))
    return given - weight if kl else given / weight


def _join(left: Tensor, right: Tensor, weight: Tensor, kl: bool) -> tuple[Tensor, Tensor]:
    """The fit of two stretches ``[..., h]`` as one, from the fits of each."""
    h = left.shape[-1]
    at = torch.arange(h, device=left.device)
    of_left, of_right = weight[..., :h].flip(-1), weight[..., h:]
    given = (of_left + left.flip(-1), of_right + right) if kl else (of_left * left.flip(-1), of_right * right)
    ends = _Stretch(_sums(given[0], kl), _sums(of_left, kl))
    starts = _Stretch(_sums(given[1], kl), _sums(of_right, kl))
    # An item of the left belongs to the pool if what would then be pooled, all beyond its own value, comes out above it.
    beyond = torch.searchsorted(-right, -left)
    i = (_pooled(ends, (h - 1 - at).expand(left.shape), starts, beyond, kl) > left).sum(-1, keepdim=True)
    beyond = h - torch.searchsorted(-left, -right, right=True)
    j = (_pooled(ends, beyond, starts, at.expand(right.shape), kl) < right).sum(-1, keepdim=True)
    # In the right order nothing is pooled, whatever rounding says of equal numbers; else at least both ends of the join.
    wrong = left[..., -1:] < right[..., :1]
    i, j = (torch.where(wrong, count.clamp(min=1), 0) for count in (i, j))
    pool = _pooled(ends, i, starts, j, kl)
    return torch.where(at >= h - i, pool, left), torch.where(at < j, pool, right)


def decreasing_fit(y: Tensor, weight: Tensor, regularisation: Regularisation = "l2") -> Tensor:
    r"""The numbers :math:`v_1 \ge v_2 \ge \dots` along the last axis that fit ``y`` best.

    ``"l2"`` minimises :math:`\sum_i w_i (y_i - v_i)^2`, where a pool is a weighted mean; ``"kl"`` takes the logarithms of the
    weights, and minimises :math:`\sum_i w_i (e^{y_i - v_i} + v_i)`, where a pool is the logarithm of the weighted mean of
    :math:`e^{y_i}`. Weights of ``y``'s shape.

    >>> decreasing_fit(torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.ones(1, 4))
    tensor([[3.0000, 1.5000, 1.5000, 0.0000]])

    Source: :cite:`blondel2020`, section 5 and appendix, the two regressions; equation numbers unchecked. The way of joining is
    our own.
    """
    kl, n = regularisation == "kl", y.shape[-1]
    row = torch.arange(y.shape[:-1].numel(), device=y.device).repeat_interleave(n)
    value, weight = y.reshape(-1), weight.expand(y.shape).reshape(-1)
    pool = torch.arange(y.numel(), device=y.device)
    for _ in range(ROUNDS):
        right = (value[:-1] >= value[1:]) | (row[:-1] != row[1:])
        if bool(right.all()):
            return value[pool].reshape(y.shape)
        opens = torch.nn.functional.pad(right, (1, 0), value=True)
        into = opens.cumsum(0) - 1
        row, pool = row[opens], into[pool]
        value, weight = _merged(value, weight, into, row.numel(), kl)
    return _joined(value, weight, row, kl)[pool].reshape(y.shape)


def _merged(value: Tensor, weight: Tensor, into: Tensor, size: int, kl: bool) -> tuple[Tensor, Tensor]:
    """Values and weights of pools of pools."""
    zero = value.new_zeros(size)
    if not kl:
        total = zero.index_add(0, into, weight)
        return zero.index_add(0, into, weight * value) / total, total

    def logsumexp(x: Tensor) -> Tensor:
        top = zero.scatter_reduce(0, into, x, "amax", include_self=False)
        return top + zero.index_add(0, into, (x - top[into]).exp_()).log_()

    total = logsumexp(weight)
    return logsumexp(weight + value) - total, total


def _joined(value: Tensor, weight: Tensor, row: Tensor, kl: bool) -> Tensor:
    """The fit of each row, by joining stretches two by two."""
    sizes = torch.bincount(row)
    size = 1 << (int(sizes.max()) - 1).bit_length()
    place = torch.arange(row.numel(), device=row.device) - (sizes.cumsum(0) - sizes)[row]
    # Padding behind each row, not above anything in it: it is never pooled.
    fit = value.min().expand(sizes.numel(), size).index_put((row, place), value)
    weight = weight.new_ones(fit.shape).index_put((row, place), weight)
    h = 1
    while h < size:
        parts = fit.unflatten(-1, (-1, 2 * h))
        left, right = parts[..., :h].contiguous(), parts[..., h:].contiguous()
        fit = torch.cat(_join(left, right, weight.unflatten(-1, (-1, 2 * h)), kl), -1).flatten(-2)
        h *= 2
    return fit[row, place]


# ----------------------------------------------------------------------------------------------------------------- ranks


def _project(scores: Tensor, where: Tensor, offsets: Tensor, kl: bool) -> tuple[Tensor, Tensor]:
    """Soft ranks, and how far before each item in the flat lists the first of its pool stands; both 0 where masked."""
    ranks, ahead = torch.zeros_like(scores), torch.zeros_like(scores, dtype=torch.int32)
    for _, items, valid in blocks(offsets, BLOCK_ITEMS):
        valid = valid & where[items]
        z, order = torch.where(valid, -scores[items].double(), -torch.inf).sort(dim=-1, descending=True, stable=True)
        items, valid = items.gather(-1, order), valid.gather(-1, order)
        at = torch.arange(items.shape[1], device=items.device)
        corner = (valid.sum(-1, keepdim=True) - at).clamp(min=1).double()
        given = torch.where(valid, z - (corner.log() if kl else corner), torch.inf)
        given = torch.where(valid, given, torch.where(valid[:, :1], given.amin(-1, keepdim=True), 0) - 1)
        fit = decreasing_fit(given, corner.log() if kl else torch.ones_like(corner), "kl" if kl else "l2")
        value = torch.where(valid, z - fit, 0)
        value = torch.where(valid, value.exp(), 0) if kl else value
        opens = torch.nn.functional.pad(fit[:, 1:] != fit[:, :-1], (1, 0), value=True)
        first = torch.where(opens, at, 0).cummax(-1).values
        ranks.index_add_(0, items.flatten(), value.to(ranks.dtype).flatten())  # padding adds 0 to a first item
        ahead.index_add_(0, items.flatten(), ((items.gather(-1, first) - items) * valid).to(ahead.dtype).flatten())
    return ranks, ahead


project = list_operator(
    _project, lambda scores, *_: (torch.empty_like(scores), torch.empty_like(scores, dtype=torch.int32))
)


class _Project(torch.autograd.Function):
    """The projection. Its slope takes the mean of each pool away: plain for l2, weighted by the ranks for kl."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        return project(*inputs)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.kl = inputs[-1]
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        ranks, ahead = ctx.saved_tensors
        pool = ahead + torch.arange(ahead.shape[0], device=ahead.device)
        zero = torch.zeros_like(ranks)
        if not ctx.kl:
            sizes = zero.scatter_add(0, pool, ranks.new_ones(()).expand_as(ranks))
            return (zero.scatter_add(0, pool, grad) / sizes).gather(0, pool) - grad, None, None, None
        # A masked item is the only one of its pool, and has rank 0.
        sums = zero.scatter_add(0, pool, ranks).clamp(min=torch.finfo(ranks.dtype).tiny)
        mean = zero.scatter_add(0, pool, ranks * grad) / sums
        return ranks * (mean.gather(0, pool) - grad), None, None, None


def projected_ranks(opened: Opened, strength: float, regularisation: Regularisation) -> Tensor:
    """Soft ranks of the items of each list; 0 where masked."""
    if regularisation not in ("l2", "kl"):
        raise InputError(f"regularisation must be 'l2' or 'kl': got {regularisation!r}.")
    check_positive(strength, "strength")
    scores, where, offsets = flatten(opened)
    ranks, _ = applied(_Project, scores / strength, where, offsets, regularisation == "kl")
    return ranks.reshape(opened.scores.shape)  # type: ignore[no-any-return]


def soft_ranks(
    scores: Scores,
    *,
    where: Mask | None = None,
    offsets: Offsets | None = None,
    strength: float = 1.0,
    regularisation: Regularisation = "l2",
) -> Values:
    r"""Differentiable ranks of the items of each list, the highest score at 1.

    .. math:: r(s) = \arg\min_{r \in \mathcal{P}(n, \dots, 1)} \tfrac{1}{2} \lVert r + s / \varepsilon \rVert^2

    They are the hard ranks as soon as neighbouring scores are :math:`\varepsilon` apart, sum to n (n + 1) / 2 always, and
    are all (n + 1) / 2 as :math:`\varepsilon` grows. Time O(n log n), at worst O(n log^2 n); memory O(n).

    Args:
        scores: ``[*batch, list]``, or flat ``[total]`` beside ``offsets``.
        where: true where an item is there. What is masked has rank 0 and no gradient.
        offsets: ``[lists + 1]``, where each ragged list starts, and the total at the end.
        strength: :math:`\varepsilon`, in units of the scores.
        regularisation: ``"l2"`` as above; ``"kl"`` projects :math:`e^{-s/\varepsilon}` by relative entropy.

    Raises:
        InputError: if ``strength`` is not above 0, ``regularisation`` is neither, or the lists do not fit.

    >>> soft_ranks(torch.tensor([3.0, 0.0, 0.5]))  # the second and third share 2 + 3, half a rank apart
    tensor([1.0000, 2.7500, 2.2500])

    Source: :cite:`blondel2020`, soft ranking; equation numbers unchecked. Differs from its code: the highest score is first.
    """
    opened = open_lists(scores, scores, where=where, weights=None, offsets=offsets)
    return projected_ranks(opened, strength, regularisation)
