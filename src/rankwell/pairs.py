r"""Sums over the pairs of a list, in memory that does not grow with their number.

For one list

.. math:: \ell = \sum_{(i,j):\, y_i > y_j} w_i\, \phi(s_i - s_j)

Each list is sorted by label, best first, so that the worse items of a row are the columns behind it; rows that have
nothing worse are skipped, and binary labels cost positives x negatives. Rows go in chunks that stay in the cache, and
each chunk gives its values and its slopes at once: the backward pass is one multiplication. The sizes of the chunks
follow from the labels, so a block of lists on another device is waited for twice.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.lists import Dense, Flat, Opened, blocks
from rankwell.types import Offsets

__all__ = ["PHI", "pair_means"]

CHUNK_PAIRS = 1 << 16
"""Pairs made at once: a quarter of a megabyte a temporary, small enough for the cache."""

BLOCK_ITEMS = 1 << 16
"""Padded items sorted at once."""

Phi = Callable[[Tensor, float], tuple[Tensor, Tensor]]


def _logistic(gap: Tensor, _: float) -> tuple[Tensor, Tensor]:
    return functional.softplus(-gap, threshold=40), torch.sigmoid(-gap).neg_()


def _hinge(gap: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    value = (margin - gap).relu_()
    return value, value.sign().neg_()


PHI: dict[str, Phi] = {"logistic": _logistic, "hinge": _hinge}
"""Value and slope by the gap ``s_i - s_j`` and a parameter, each a new tensor."""


def pair_means(opened: Opened, phi: str, parameter: float = 0.0) -> Tensor:
    """Mean of ``w_i phi(s_i - s_j)`` over the pairs with ``y_i > y_j`` of each list; 0 for a list without pairs."""
    scores, where = opened.scores, opened.where
    weights = opened.weights.expand(scores.shape)
    where = scores.new_ones((), dtype=torch.bool).expand(scores.shape) if where is None else where
    flat = (x.reshape(-1) for x in (scores, opened.labels, weights, where))
    sums: Tensor
    counts: Tensor
    sums, counts, _, _ = _PairSums.apply(*flat, _offsets(opened.lists, scores), phi, parameter)
    return (sums / counts.clamp(min=1)).reshape(opened.lists.count().shape)


def _offsets(lists: object, scores: Tensor) -> Offsets:
    """Where the lists start when they are laid one behind the other."""
    if isinstance(lists, Flat):
        return lists.offsets
    assert isinstance(lists, Dense)
    rows, n = scores.shape[:-1].numel(), scores.shape[-1]
    return torch.arange(rows + 1, device=scores.device) * n


def _pair_sums(
    scores: Tensor, labels: Tensor, weights: Tensor, where: Tensor, offsets: Tensor, phi: str, parameter: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted sum and number of pairs of each list; gradients of the sum by scores and by weights."""
    lists = offsets.numel() - 1
    sums, counts = scores.new_zeros(lists), scores.new_zeros(lists)
    by_scores, by_weights = torch.zeros_like(scores), torch.zeros_like(scores)
    for chosen, items, valid in blocks(offsets, BLOCK_ITEMS):
        valid = valid & where[items]
        # Labels as the better item of a pair and as the worse one: what is masked is neither.
        better = torch.where(valid, labels[items], -torch.inf)
        order = better.argsort(dim=-1, descending=True, stable=True)
        items, valid, better = (x.gather(-1, order) for x in (items, valid, better))
        worse = torch.where(valid, better, torch.inf)
        first = torch.searchsorted(-better, -better, right=True)  # the first column that is worse than each row
        wins = (valid.sum(-1, keepdim=True) - first).clamp(min=0)
        # Lists with many rows first: a chunk of rows then needs a prefix of the lists only.
        rank = (wins > 0).sum(-1).argsort(descending=True)
        items, better, worse, first, wins = (x[rank] for x in (items, better, worse, first, wins))
        block = _block(scores[items], weights[items], better, worse, first, wins, PHI[phi], parameter)
        for total, part in zip((by_scores, by_weights), block, strict=True):
            total.index_add_(0, items.flatten(), part.flatten())  # padding points at a first item, and adds 0 to it
        sums[chosen[rank]] = (weights[items] * block[1]).sum(-1)
        counts[chosen[rank]] = wins.sum(-1).to(counts.dtype)
    return sums, counts, by_scores, by_weights


def _block(
    scores: Tensor, weights: Tensor, better: Tensor, worse: Tensor, first: Tensor, wins: Tensor, phi: Phi, own: float
) -> tuple[Tensor, Tensor]:
    """Gradients by scores and by weights of lists ``[g, n]`` that are sorted by label; the latter is also the value."""
    by_scores, by_weights = torch.zeros_like(scores), torch.zeros_like(scores)
    active = wins > 0
    lists = active.sum(0).tolist()
    columns = torch.where(active, first, first.shape[-1]).amin(0).tolist()
    n, ends = len(lists), sum(count > 0 for count in lists)
    row = 0
    while row < ends:
        low, width = columns[row], n - columns[row]
        last = min(ends, row + max(1, CHUNK_PAIRS // (lists[row] * width)))
        step = max(1, CHUNK_PAIRS // ((last - row) * width))
        for start in range(0, lists[row], step):
            some = slice(start, min(start + step, lists[row]))
            gap = scores[some, row:last, None] - scores[some, None, low:]
            value, slope = phi(gap, own)
            # Comparing into a float tensor and multiplying takes a tenth of the time of a boolean mask.
            counts = torch.gt(better[some, row:last, None], worse[some, None, low:], out=gap)
            by_weights[some, row:last] = value.mul_(counts).sum(-1)
            slope.mul_(counts).mul_(weights[some, row:last, None])
            by_scores[some, row:last] += slope.sum(-1)
            by_scores[some, low:] -= slope.sum(-2)
        row = last
    return by_scores, by_weights


# An operator, so that tracing and vmap take it whole. Not by custom_op, whose first call imports the compiler: 3 s.
torch.library.define("rankwell::pair_sums", torch.library.infer_schema(_pair_sums, mutates_args=()))
torch.library.impl("rankwell::pair_sums", "CompositeExplicitAutograd", _pair_sums)


@torch.library.register_fake("rankwell::pair_sums")
def _(
    scores: Tensor, _labels: Tensor, _weights: Tensor, _where: Tensor, offsets: Tensor, _phi: str, _own: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sums = scores.new_empty(offsets.shape[0] - 1)
    return sums, torch.empty_like(sums), torch.empty_like(scores), torch.empty_like(scores)


@torch.library.register_vmap("rankwell::pair_sums")
def _(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """A batch is more lists."""
    size = info.batch_size
    *tensors, offsets, phi, parameter = args
    flat = [
        (x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)).reshape(-1)
        for x, dim in zip(tensors, in_dims, strict=False)
    ]
    total = flat[0].shape[0] // size
    starts = torch.arange(size, device=offsets.device)[:, None] * total + offsets[:-1]
    offsets = torch.cat([starts.reshape(-1), offsets.new_full((1,), size * total)])
    outputs = torch.ops.rankwell.pair_sums(*flat, offsets, phi, parameter)
    return tuple(x.reshape(size, x.shape[0] // size) for x in outputs), (0, 0, 0, 0)


class _PairSums(torch.autograd.Function):
    """Sums and counts of pairs. The gradients come with the values, as outputs whose own gradient is an error, not a zero:
    it is asked for when somebody differentiates a second time.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor, Tensor, Tensor] = torch.ops.rankwell.pair_sums(*inputs)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, counts, by_scores, by_weights = output
        ctx.mark_non_differentiable(counts)
        if torch.compiler.is_compiling():  # no second derivatives there in any case
            ctx.mark_non_differentiable(by_scores, by_weights)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[4], by_scores, by_weights if ctx.needs_input_grad[2] else None)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
        offsets, by_scores, by_weights = ctx.saved_tensors
        if not torch.compiler.is_compiling() and any(other is not None for other in others):
            raise NotImplementedError(
                "losses of pairs have no second derivatives. Take the penalty of a gradient from another loss"
                " (softmax, sampled_softmax), or leave create_graph out."
            )
        if grad is None:
            return (None,) * 7
        grad = grad.repeat_interleave(offsets.diff(), output_size=by_scores.shape[0])
        return grad * by_scores, None, None if by_weights is None else grad * by_weights, None, None, None, None
