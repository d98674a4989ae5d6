r"""Sums over the pairs of a list, in memory that does not grow with their number.

For one list

.. math:: \ell = \sum_{(i,j):\, y_i > y_j} w_i\, \phi(s_i - s_j)

Hinges and squares have exact sums by sorting (:mod:`rankwell.kernels.sorted_pairs`), all others go by chunks of pairs
(:mod:`rankwell.kernels.chunked_pairs`). Both give their slopes along with the values: the backward pass is one
multiplication.
"""

import math

import torch
from torch import Tensor

from rankwell.kernels.chunked_pairs import chunked_sums
from rankwell.kernels.operators import list_sums
from rankwell.kernels.sorted_pairs import SORTED, sorted_sums
from rankwell.lists import Opened

__all__ = ["pair_means"]


def pair_means(opened: Opened, phi: str, parameter: float = 0.0) -> Tensor:
    """Mean of ``w_i phi(s_i - s_j)`` over the pairs with ``y_i > y_j`` of each list; 0 for a list without pairs.

    ``phi`` is a name of :data:`SORTED` or of :data:`~rankwell.kernels.chunked_pairs.PHI`, and ``parameter`` its margin.
    """
    scores, where = opened.scores, opened.where
    where = scores.new_ones((), dtype=torch.bool) if where is None else where
    sums, counts = pair_sums(opened.lists, scores, opened.labels, opened.weights, where, phi, parameter)
    return sums / counts.clamp(min=1)


def _pair_sums(
    scores: Tensor, labels: Tensor, weights: Tensor, where: Tensor, offsets: Tensor, phi: str, parameter: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted sum and number of pairs of each list; gradients of the sum by scores and by weights."""
    engine = sorted_sums if phi in SORTED else chunked_sums
    if math.isfinite(scores.sum() + labels.sum()):  # none of them is infinite or NaN
        return engine(scores, labels, weights, where, offsets, phi, parameter)
    spoilt = _spoilt(scores, labels, where, offsets)
    labels = labels.nan_to_num(0, 0, 0)  # which have no order; the engines keep such scores out of the other lists
    sums, counts, by_scores, by_weights = engine(scores, labels, weights, where, offsets, phi, parameter)
    return sums + spoilt, counts, by_scores + spoilt.repeat_interleave(offsets.diff()), by_weights


def _spoilt(scores: Tensor, labels: Tensor, where: Tensor, offsets: Tensor) -> Tensor:
    """NaN for a list with a valid score or label that is not finite, else 0."""
    none = torch.where(where, scores * 0 + labels * 0, 0)
    return torch.segment_reduce(none, "sum", offsets=offsets, unsafe=True, initial=0)


pair_sums = list_sums(_pair_sums, "losses of pairs", constants=1)
