r"""Sums over the pairs of a list, in memory that does not grow with their number.

For one list

.. math:: \ell = \sum_{(i,j):\, y_i > y_j} w_i\, \phi(s_i - s_j)

Hinges and squares have exact sums by sorting (:mod:`rankwell.sorted_pairs`), all others go by chunks of pairs
(:mod:`rankwell.chunked_pairs`). Both give their slopes along with the values: the backward pass is one multiplication.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

from typing import Any

import torch
from torch import Tensor

from rankwell.chunked_pairs import chunked_sums
from rankwell.lists import Dense, Flat, Opened
from rankwell.sorted_pairs import SORTED, sorted_sums
from rankwell.types import Offsets

__all__ = ["pair_means"]


def pair_means(opened: Opened, phi: str, parameter: float = 0.0) -> Tensor:
    """Mean of ``w_i phi(s_i - s_j)`` over the pairs with ``y_i > y_j`` of each list; 0 for a list without pairs.

    ``phi`` is a name of :data:`SORTED` or of :data:`~rankwell.chunked_pairs.PHI`, and ``parameter`` its margin.
    """
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
    engine = sorted_sums if phi in SORTED else chunked_sums
    return engine(scores, labels, weights, where, offsets, phi, parameter)


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
