"""Metrics of a set: how much of what stands above a cut is relevant, whatever the order."""

from functools import partial

import torch

from rankwell.metrics.binary import hits
from rankwell.metrics.ideal import IdealLabels
from rankwell.metrics.ranked import Ranked, Ratio
from rankwell.metrics.registry import evaluate, metric
from rankwell.types import Empty, Labels, Mask, Offsets, Reduction, Scores, Ties, Values, Weights

__all__ = ["f1", "r_precision"]


def _f1(view: Ranked, k: int | None, rel: float = 1.0) -> Ratio:
    depth = view.count.clamp(min=1) if k is None else k
    every = view.positives(rel)
    # 2PR / (P + R) with P = hits / depth and R = hits / every: linear in the hits, so that ties stay exact.
    return Ratio(2 * hits(view, k, rel) / (depth + every), (every > 0).to(every.dtype))


def _r_precision(view: Ranked, k: int | None, rel: float = 1.0) -> Ratio:
    view.check_uncut("r_precision", k)
    n = view.places.numel()
    in_cut = torch.minimum(torch.arange(n + 1, device=view.places.device), view.number(rel)[..., None])
    found = (view.weights * view.relevant(rel) * view.average(in_cut.double())).sum(-1)
    return Ratio(found, view.positives(rel))


@metric(body=_f1, paper="manning2008")
def f1(
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
    r"""Harmonic mean of precision and recall at k.

    .. math:: \mathrm{F_1@}k(s, y) = \frac{2 P R}{P + R}
              = \frac{2 \sum_{y_i \ge rel} w_i\,[\pi_i \le k]}{k + \sum_{y_i \ge rel} w_i}

    with :math:`\pi_i` the position of item i by score, P :func:`~rankwell.metrics.precision` and R
    :func:`~rankwell.metrics.recall` at k.

    - gain: 1 for labels of at least ``rel``.
    - denominator: k, even where the list is shorter, and all relevant items (with ``ideal``, retrieved or not); so the best
      value of R relevant items is :math:`2 \min(k, R) / (k + R)`. Without k, the number of valid items.
    - weights: those of precision, which doubles with them, and of recall, in which they cancel.
    - ties: an item counts by the share of its tie group that stands within k.
    - empty: lists without a relevant item.

    Equal to trec_eval's ``set_F`` where k is the length of the list. Time O(n log n), memory O(n) a list.
    See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> f1(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 0.0, 0.0]), k=2)  # P = 1/2, R = 1
    tensor(0.6667)

    Source: :cite:`manning2008`, section 8.3, equation 8.6 (equation number unchecked).
    """
    return evaluate(partial(_f1, rel=rel), scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)


@metric(body=_r_precision, kind="uncut", paper="manning2008")
def r_precision(
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
    r"""Share of relevant items among the first R positions, where R is the number of relevant items.

    .. math:: \mathrm{RP}(s, y) = \frac{\sum_{y_i \ge rel} w_i\,[\pi_i \le R]}{\sum_{y_i \ge rel} w_i}, \qquad
              R = |\{j : y_j \ge rel\}|

    with :math:`\pi_i` the position of item i by score. Precision at R, and recall at R.

    - gain: 1 for labels of at least ``rel``.
    - denominator: all relevant items (with ``ideal``, retrieved or not). Cut-off: R; ``k`` is an error.
    - ties: an item counts by the share of its tie group that stands within R.
    - empty: lists without a relevant item.

    Equal to trec_eval's ``Rprec``. Time O(n log n), memory O(n) a list.
    See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> r_precision(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 0.0]))
    tensor(0.5000)

    Source: :cite:`manning2008`, section 8.4.
    """
    return evaluate(
        partial(_r_precision, rel=rel), scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty
    )
