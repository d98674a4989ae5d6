"""Agreement of two orders over the whole list: that of the scores and that of graded labels."""

from typing import NamedTuple

import torch
from torch import Tensor

from rankwell.metrics.ideal import IdealLabels
from rankwell.metrics.inversions import lower_behind, runs
from rankwell.metrics.ranked import Ranked, Ratio, prefix_sums
from rankwell.metrics.registry import evaluate, metric
from rankwell.types import Empty, Labels, Mask, Offsets, Reduction, Scores, Ties, Values, Weights

__all__ = ["kendall_tau", "opa", "spearman"]


class _Ordered(NamedTuple):
    """Items by score, the worst label first inside a tie group: then nothing of a group stands behind its better."""

    labels: Tensor
    """Infinite where absent."""
    weights: Tensor
    """In float64; 0 where absent."""
    lower_tied: Tensor
    """First position of the item's label inside its tie group."""


def _ordered(view: Ranked) -> _Ordered:
    labels, weights = _clean(view)
    start = view.start.expand(labels.shape)
    order = labels.argsort(dim=-1)
    order = order.gather(-1, start.gather(-1, order).argsort(dim=-1, stable=True))
    labels, weights = labels.gather(-1, order), weights.gather(-1, order)
    return _Ordered(labels, weights, runs(start, labels)[0])


def _clean(view: Ranked) -> tuple[Tensor, Tensor]:
    weights = view.weights.double().expand(view.labels.shape)
    if view.valid is None:
        return view.labels, weights
    return torch.where(view.valid, view.labels, torch.inf), torch.where(view.valid, weights, 0)


def _opa(view: Ranked, k: int | None) -> Ratio:
    view.check_whole("opa", k)
    labels, weights, lower_tied = _ordered(view)
    won = lower_behind(labels, None) + (lower_tied - view.start) / 2
    by_label, order = labels.sort(dim=-1)
    lower = runs(by_label)[0]
    pairs = (weights.gather(-1, order) * lower).sum(-1)
    dtype = view.labels.dtype
    return Ratio((weights * won).sum(-1).to(dtype), pairs.to(dtype))


def _kendall_tau(view: Ranked, k: int | None) -> Ratio:
    view.check_whole("kendall_tau", k)
    labels, weights, lower_tied = _ordered(view)
    before = prefix_sums(weights)
    concordant = (weights * lower_behind(labels, weights)).sum(-1)
    by_score = (weights * view.before(before)).sum(-1)
    only_score_tied = (weights * (before.gather(-1, lower_tied) - view.before(before))).sum(-1)
    ascending, order = labels.sort(dim=-1)
    weights = weights.gather(-1, order)
    by_label = (weights * prefix_sums(weights).gather(-1, runs(ascending)[0])).sum(-1)
    # Pairs apart in label are concordant, discordant, or tied in score.
    agreed = 2 * concordant + only_score_tied - by_label
    apart = by_score.sqrt() * by_label.sqrt()
    return _where_apart(agreed / torch.where(apart > 0, apart, 1), by_label > 0, view)


def _spearman(view: Ranked, k: int | None) -> Ratio:
    view.check_whole("spearman", k)
    labels, weights = _clean(view)
    ascending, order = labels.sort(dim=-1)
    first, last = runs(ascending)
    by_label = torch.empty_like(weights).scatter_(-1, order, (first + last - 1).double() / 2)
    by_score = -(view.start + view.end - 1).double().expand(labels.shape) / 2
    total = weights.sum(-1, keepdim=True)
    one, other = (
        torch.where(weights > 0, ranks - (weights * ranks).sum(-1, keepdim=True) / torch.where(total > 0, total, 1), 0)
        for ranks in (by_score, by_label)
    )
    spread = (weights * one**2).sum(-1).sqrt() * (weights * other**2).sum(-1).sqrt()
    # Exactly apart or not: where all ranks are equal, rounding must not make a correlation.
    apart = [
        ((edge > 0) & (weights > 0)).any(-1)
        for edge in (view.start.expand(labels.shape), first.gather(-1, order.argsort(-1)))
    ]
    value = torch.where(
        apart[0] & (spread > 0), (weights * one * other).sum(-1) / torch.where(spread > 0, spread, 1), 0
    )
    return _where_apart(value, apart[1], view)


def _where_apart(value: Tensor, some: Tensor, view: Ranked) -> Ratio:
    """A finished value, for lists that have two different labels."""
    dtype = view.labels.dtype
    return Ratio(torch.where(some, value, 0).clamp(-1, 1).to(dtype), some.to(dtype))


@metric(body=_opa, kind="whole", paper="cohen1999", complexity="n log² n")
def opa(
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
) -> Values:
    r"""Ordered pair accuracy: share of the pairs with different labels that the scores put in the right order.

    .. math:: \mathrm{OPA}(s, y) = \frac{\sum_{y_i > y_j} w_i \left([s_i > s_j] + \tfrac{1}{2} [s_i = s_j]\right)}
              {\sum_{y_i > y_j} w_i}

    A pair weighs as its better item. With binary labels it is :func:`~rankwell.metrics.auc`; with graded ones it compares all
    grades with each other, where auc cuts them at ``rel``.

    - denominator: all pairs with different labels. Cut-off: none; ``k`` and ``ideal`` are errors, since the list must be whole.
    - ties: a tied pair counts one half; with ``ties="order"`` it counts by the input order.
    - empty: lists without two different labels.

    Time O(n log² n), memory O(n) a list; no pairs are made. See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> import torch
    >>> opa(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 0.0, 2.0]))  # two of three pairs
    tensor(0.6667)

    Source: the share of agreements with a preference of :cite:`cohen1999`; the name is that of TensorFlow Ranking. Differs from
    the latter: pairs tied in score count one half, not 0.
    """
    return evaluate(_opa, scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)


@metric(body=_kendall_tau, kind="whole", paper="kendall1945", complexity="n log² n")
def kendall_tau(
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
) -> Values:
    r"""Kendall's tau-b between scores and labels: pairs in the right order less pairs in the wrong one.

    .. math:: \tau_b(s, y) = \frac{\sum_{i < j} w_i w_j \operatorname{sign}(s_i - s_j) \operatorname{sign}(y_i - y_j)}
              {\sqrt{\sum_{i < j} w_i w_j [s_i \ne s_j]}\ \sqrt{\sum_{i < j} w_i w_j [y_i \ne y_j]}}

    Between -1 and 1. Without ties in scores or labels it is 2 :func:`~rankwell.metrics.opa` - 1.

    - weights: a pair weighs as the product of its items, so that a weight of 2 is the item twice.
    - denominator: pairs apart in score, and pairs apart in label. Cut-off: none; ``k`` and ``ideal`` are errors, since the list
      must be whole.
    - ties: pairs tied in score are taken out above and below, which is no mean over orders (that would have every pair below);
      with ``ties="order"`` no scores are tied.
    - empty: lists without two different labels. Scores that are all equal say nothing: 0.

    Time O(n log² n), memory O(n) a list; no pairs are made. See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> kendall_tau(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 0.0, 2.0]))  # two pairs right, one wrong
    tensor(0.3333)

    Source: :cite:`kendall1945`, the coefficient for ties in both rankings.
    """
    return evaluate(_kendall_tau, scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)


@metric(body=_spearman, kind="whole", paper="spearman1904")
def spearman(
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
) -> Values:
    r"""Spearman's rank correlation between scores and labels.

    .. math:: \rho(s, y) = \frac{\sum_i w_i (r_i - \bar r) (q_i - \bar q)}
              {\sqrt{\sum_i w_i (r_i - \bar r)^2}\ \sqrt{\sum_i w_i (q_i - \bar q)^2}}

    with :math:`r` the ranks of the scores, :math:`q` those of the labels, and :math:`\bar r, \bar q` their weighted means.
    Between -1 and 1.

    - weights: those of a weighted correlation; the ranks themselves are not weighted.
    - cut-off: none; ``k`` and ``ideal`` are errors, since the list must be whole.
    - ties: tied items share the mean of their ranks, which is no mean of correlations over orders; with ``ties="order"`` no
      scores are tied.
    - empty: lists without two different labels. Scores that are all equal say nothing: 0.

    Time O(n log n), memory O(n) a list. See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> spearman(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 0.0, 2.0]))  # ranks 3, 1, 2 and 2, 1, 3
    tensor(0.5000)

    Source: :cite:`spearman1904`, with mean ranks for ties.
    """
    return evaluate(_spearman, scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)
