"""Average precision at R: as deep as there are relevant items."""

from functools import partial

import torch

from rankwell.metrics.binary import precisions
from rankwell.metrics.ideal import IdealLabels
from rankwell.metrics.ranked import Ranked, Ratio
from rankwell.metrics.registry import evaluate, metric
from rankwell.types import Empty, Labels, Mask, Offsets, Reduction, Scores, Ties, Values, Weights

__all__ = ["ap_at_r"]


def _ap_at_r(view: Ranked, k: int | None, rel: float = 1.0) -> Ratio:
    view.check_uncut("ap_at_r", k)
    within = view.places < view.number(rel)[..., None]
    shares = view.inside_weight(rel) / view.size * precisions(view, None, rel, "items")
    return Ratio(torch.where(within, shares, 0).sum(-1), view.positives(rel))


@metric(body=_ap_at_r, kind="uncut", paper="musgrave2020")
def ap_at_r(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    k: int | None = None,
    ties: Ties = "expected",
    ideal: IdealLabels | None = None,
    empty: Empty = "skip",
    rel: float = 1.0,
) -> Values:
    r"""Average precision of the first R positions, where R is the number of relevant items: MAP@R of metric learning.

    .. math:: \mathrm{AP@R}(s, y) = \frac{1}{\sum_{y_j \ge rel} w_j}
              \sum_{i:\ y_i \ge rel,\ \pi_i \le R} w_i\, \frac{|\{j : y_j \ge rel,\ \pi_j \le \pi_i\}|}{\pi_i},
              \qquad R = |\{j : y_j \ge rel\}|

    with :math:`\pi_i` the position of item i by score: :func:`~rankwell.metrics.ap` at k = R, and at most
    :func:`~rankwell.metrics.r_precision`, which does not look at the order within R. Measures are also written ``map@r``.

    - gain: 1 for labels of at least ``rel``.
    - denominator: all relevant items (with ``ideal``, retrieved or not). Cut-off: R; ``k`` is an error.
    - ties: the exact mean over all orders, as in :func:`~rankwell.metrics.ap`.
    - empty: lists without a relevant item.

    Time O(n log n), memory O(n) a list. See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> ap_at_r(torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([0.0, 1.0, 1.0, 0.0]))  # of two, one: at the second place
    tensor(0.2500)

    Source: :cite:`musgrave2020`, section 3.2, equations 5 and 6 (section and equation numbers unchecked).
    """
    return evaluate(
        partial(_ap_at_r, rel=rel), scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty
    )
