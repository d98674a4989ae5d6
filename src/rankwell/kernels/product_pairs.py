r"""Sums over the pairs of a list that weigh as the product of their items, in memory that does not grow with their number.

.. math:: \ell = \sum_{(i,j):\, y_i > y_j} w_i w_j\, \phi\!\left(\frac{s_j - s_i}{\tau}\right)

Rows go in chunks against all columns, with their slopes at once: the backward pass is one multiplication. Sums whose pairs
weigh as their better item are in :mod:`rankwell.kernels.pairs`.
"""

# mypy: allow-untyped-calls

import torch
from torch import Tensor

from rankwell.kernels.comparisons import BLOCK_ITEMS, CHUNK_PAIRS, STEPS, Step
from rankwell.kernels.operators import list_sums
from rankwell.lists import Opened, blocks

__all__ = ["product_pairs"]


def product_pairs(opened: Opened, step: Step, temperature: float = 1.0) -> Tensor:
    """Sums of ``w_i w_j step((s_j - s_i) / temperature)`` over the pairs with ``y_i > y_j`` of each list."""
    scores, where = opened.scores, opened.where
    where = scores.new_ones((), dtype=torch.bool) if where is None else where
    return product_sums(opened.lists, scores, opened.labels, opened.weights, where, step, temperature)[0]


def _product_sums(
    scores: Tensor, labels: Tensor, weights: Tensor, where: Tensor, offsets: Tensor, step: str, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of each list, and its gradients by scores and by weights."""
    sums = scores.new_zeros(offsets.numel() - 1)
    by_scores, by_weights = torch.zeros_like(scores), torch.zeros_like(scores)
    value_of, slope_of, _ = STEPS[step]  # type: ignore[index]
    for lists, items, valid in blocks(offsets, BLOCK_ITEMS):
        valid = valid & where[items]
        s, y, w = scores[items], labels[items], torch.where(valid, weights[items], 0)
        height = max(1, CHUNK_PAIRS // items.numel())
        for rows in torch.arange(items.shape[1], device=items.device).split(height):
            own = w[:, rows]
            gap = (s[:, None] - s[:, rows, None]).div_(temperature)
            counts = (y[:, rows, None] > y[:, None]).to(s.dtype)
            value, slope = value_of(gap).mul_(counts), slope_of(gap).mul_(counts)
            of_rows = (value @ w[..., None]).squeeze(-1)
            sums[lists] += (own * of_rows).sum(-1)
            for total, rows_part, columns_part in (
                (by_weights, of_rows * valid[:, rows], (own[:, None] @ value).squeeze(1) * valid),
                (by_scores, -own * (slope @ w[..., None]).squeeze(-1), w * (own[:, None] @ slope).squeeze(1)),
            ):
                total.index_add_(0, items[:, rows].flatten(), rows_part.flatten())
                total.index_add_(0, items.flatten(), columns_part.flatten())  # padding adds 0 to a first item
    return sums, by_scores.div_(temperature), by_weights


product_sums = list_sums(_product_sums, "losses of pairs")
