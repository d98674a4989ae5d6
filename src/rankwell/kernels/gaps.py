r"""Functions of the gaps between a positive and all negatives of its row, in memory that does not grow with their product.

For one row

.. math:: \ell = \sum_i v_i\, \phi\left(\{s_j - s_i\}_j, \{x_j\}_j\right)

where :math:`x` is what a function needs beside the gaps, one number a negative (a weight, say). Rows and positives go in
chunks that stay in the cache, and each chunk gives its values and its slopes at once: the backward pass is one
multiplication.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.kernels.operators import refuse_second_derivative
from rankwell.lists import Rows

__all__ = ["Phi", "gap_sums"]

CHUNK_GAPS = 1 << 16
"""Gaps made at once: a quarter of a megabyte a temporary, small enough for the cache."""

Phi: TypeAlias = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor | None]]
"""From gaps ``[r, c, n]``, minus infinity where a negative is masked, and ``x [r, 1, n]``: the value ``[r, c]``, and its slopes
by the gaps and by ``x``, each ``[r, c, n]`` (None where ``x`` has no gradient)."""


def gap_sums(phi: Phi, rows: Rows, scale: Tensor, extra: Tensor | None = None) -> Tensor:
    """Sums of ``scale · phi`` over the valid positives of each row. Without second derivatives.

    ``scale`` broadcasts to the positives, ``extra`` has the shape of the negatives.
    """
    pos, neg = rows.pos, rows.neg
    scale = scale.expand_as(pos) if rows.pos_where is None else torch.where(rows.pos_where, scale, 0)
    if not neg.shape[-1]:
        neg = functional.pad(neg, (0, 1), value=-torch.inf)
        extra = None if extra is None else functional.pad(extra, (0, 1))
    r = pos.shape[:-1].numel()
    flat = (x if x is None else x.reshape(r, x.shape[-1]) for x in (pos, neg, scale, extra))
    sums: Tensor = _GapSums.apply(phi, *flat)[0]
    return sums.reshape(pos.shape[:-1])


def _chunk(phi: Phi, pos: Tensor, neg: Tensor, scale: Tensor, extra: Tensor | None, step: int) -> tuple[Tensor, ...]:
    """Values ``[r, m]``, and the slopes of their weighted sum by positives, negatives and extras."""
    values, by_pos = [], []
    totals: list[Tensor] = []
    extra = None if extra is None else extra[:, None]
    for start in range(0, pos.shape[1], step):
        some = slice(start, start + step)
        value, *slopes = phi(neg[:, None] - pos[:, some, None], extra)
        by_gap, *more = (slope * scale[:, some, None] for slope in slopes if slope is not None)
        values.append(value)
        by_pos.append(-by_gap.sum(-1))
        sums = [x.squeeze(1) if x.shape[1] == 1 else x.sum(1) for x in (by_gap, *more)]
        totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else sums
    return torch.cat(values, 1), torch.cat(by_pos, 1), *totals


class _GapSums(torch.autograd.Function):
    """The sums. The slopes come with them, as outputs whose own gradient is an error, not a zero: it is asked for when
    somebody differentiates a second time.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(phi: Phi, pos: Tensor, neg: Tensor, scale: Tensor, extra: Tensor | None) -> tuple[Tensor, ...]:
        r, n = neg.shape
        if not r:
            return pos.sum(1), *(torch.zeros_like(x) for x in (pos, pos, neg, extra) if x is not None)
        rows = min(r, max(1, CHUNK_GAPS // n))
        step = max(1, CHUNK_GAPS // (rows * n))
        chunks = []
        for start in range(0, r, rows):
            some = slice(start, start + rows)
            more = None if extra is None else extra[some]
            chunks.append(_chunk(phi, pos[some], neg[some], scale[some], more, step))
        values, *slopes = chunks[0] if len(chunks) == 1 else (torch.cat(x) for x in zip(*chunks, strict=True))
        return (scale * values).sum(1), values, *slopes

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG004
        _, by_scale, by_pos, by_neg, *by_extra = output
        if torch.compiler.is_compiling():  # no second derivatives there in any case
            ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(by_pos, by_neg, by_scale, *by_extra)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
        slopes = ctx.saved_tensors
        refuse_second_derivative(others, "losses of gaps")
        if grad is None:
            return (None,) * 5
        by_pos, by_neg, by_scale, *by_extra = (grad[:, None] * slope for slope in slopes)
        return None, by_pos, by_neg, by_scale, by_extra[0] if by_extra else None
