"""Binary metrics: an item is relevant or not, and only positions count."""

from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.metrics.ideal import IdealLabels
from rankwell.metrics.ranked import Ranked, Ratio
from rankwell.metrics.registry import evaluate, metric
from rankwell.types import Empty, Labels, Mask, Offsets, Reduction, Scores, Ties, Values, Weights

__all__ = ["ap", "hit_rate", "hits", "mrr", "precision", "precisions", "recall"]

Total: TypeAlias = Literal["relevant", "reachable"]
Depth: TypeAlias = Literal["k", "reachable"]
At: TypeAlias = Literal["items", "thresholds"]


def hits(view: Ranked, k: int | None, rel: float) -> Tensor:
    """Weight of the relevant items in the first k positions; a tie group that k cuts is there in part."""
    n = view.places.numel()
    in_cut = torch.arange(n + 1, device=view.places.device).clamp(max=n if k is None else k)
    return (view.weights * view.relevant(rel) * view.average(in_cut)).sum(-1)


def _recall(view: Ranked, k: int | None, rel: float = 1.0) -> Ratio:
    return Ratio(hits(view, k, rel), view.positives(rel))


def _precision(view: Ranked, k: int | None, rel: float = 1.0, depth: Depth = "k") -> Ratio:
    if depth not in ("k", "reachable"):
        raise InputError(f"depth must be 'k' or 'reachable': got {depth!r}.")
    deep = view.count.clamp(min=1) if k is None else torch.full_like(view.count, k)
    if depth == "reachable":
        deep = torch.minimum(deep, view.number(rel).clamp(min=1))
    return Ratio(hits(view, k, rel) / deep, (view.positives(rel) > 0).to(view.labels.dtype))


def _ap(view: Ranked, k: int | None, rel: float = 1.0, total: Total = "relevant", at: At = "items") -> Ratio:
    if total not in ("relevant", "reachable"):
        raise InputError(f"total must be 'relevant' or 'reachable': got {total!r}.")
    found = precisions(view, k, rel, at)
    gained = (view.inside_weight(rel, k) / view.size[..., :k] * found).sum(-1)
    every = view.positives(rel)
    if total == "reachable" and k is not None:
        number = view.number(rel)
        every = every * number.clamp(max=k) / number.clamp(min=1)
    return Ratio(gained, every)


def precisions(view: Ranked, k: int | None, rel: float, at: At) -> Tensor:
    """Precision down to a relevant item at each of the first k positions, or down to the end of its tie group."""
    if at not in ("items", "thresholds"):
        raise InputError(f"at must be 'items' or 'thresholds': got {at!r}.")
    counts = view.counts(rel)
    before, found = view.before(counts, k), view.inside(counts, k)
    if at == "thresholds":
        return (before + found) / (view.start + view.size)[..., :k]
    # With i - 1 items of its group above it, a relevant item has (i - 1)(r - 1)/(g - 1) relevant ones of them above.
    above = view.places[:k] - view.start[..., :k]
    shared = above * (found - 1) / (view.size[..., :k] - 1).clamp(min=1)
    return (before + 1 + shared) / (view.places[:k] + 1)


def _first(view: Ranked, k: int | None, rel: float) -> Tensor:
    """Chance that the first relevant item stands at each of the first k positions, times its weight.

    A product of hazards: a position whose group has r relevant items and g - i + 1 places left, itself included, gets a
    relevant one with chance r / (g - i + 1), given that none came before. In closed form C(g - i, r - 1) / C(g, r),
    but without the cancellation of log-gammas. Groups behind the first relevant one are reached with chance 0.
    """
    found = view.inside(view.counts(rel), k)
    left = (view.start + view.size - view.places)[..., :k]
    # Above 1 only where the chance to get there is 0; clamped, so that a parallel scan multiplies no such numbers up.
    hazard = (found / left).clamp(max=1)
    reached = torch.nn.functional.pad((1 - hazard).cumprod(-1), (1, 0), value=1)[..., :-1]
    return reached * hazard * view.inside_weight(rel, k) / found.clamp(min=1)


def _mrr(view: Ranked, k: int | None, rel: float = 1.0) -> Ratio:
    value = (_first(view, k, rel) / (view.places[:k] + 1)).sum(-1)
    return Ratio(value, (view.positives(rel) > 0).to(value.dtype))


def _hit_rate(view: Ranked, k: int | None, rel: float = 1.0) -> Ratio:
    value = _first(view, k, rel).sum(-1)
    return Ratio(value, (view.positives(rel) > 0).to(value.dtype))


@metric(body=_ap, paper="manning2008")
def ap(
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
    total: Total = "relevant",
    at: At = "items",
) -> Values:
    r"""Average precision: the precision at each relevant item, averaged over all relevant items.

    .. math:: \mathrm{AP@}k(s, y) = \frac{1}{\sum_{y_j \ge rel} w_j}
              \sum_{i:\ y_i \ge rel,\ \pi_i \le k} w_i\, \frac{|\{j : y_j \ge rel,\ \pi_j \le \pi_i\}|}{\pi_i}

    with :math:`\pi_i` the position of item i by score. Its mean over lists is MAP.

    - gain: 1 for labels of at least ``rel``.
    - denominator: all relevant items (with ``ideal``, retrieved or not), also under a cut-off; with
      ``total="reachable"`` min(k, relevant), as RecBole, LightGBM and implicit have it (times their mean weight).
    - cut-off: relevant items after k add nothing.
    - ties: the exact mean over all orders; position a + i of a group of g items with r relevant ones, behind a positions
      with R relevant, adds :math:`\frac{r}{g} \left(R + 1 + \frac{(i - 1)(r - 1)}{g - 1}\right) / (a + i)`. With
      ``at="thresholds"`` a group has one precision, that down to its end, as scikit-learn has it: no mean over orders.
    - empty: lists without a relevant item.

    Equal to trec_eval's ``map`` and ``map_cut``; with thresholds, to scikit-learn's ``average_precision_score``.
    Time O(n log n), memory O(n) a list. See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> ap(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 0.0]))
    tensor(0.8333)

    Source: :cite:`manning2008`, section 8.4; ties :cite:`mcsherry2008`.
    """
    body = partial(_ap, rel=rel, total=total, at=at)
    return evaluate(body, scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)


@metric(body=_mrr, paper="voorhees1999")
def mrr(
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
    r"""Reciprocal rank of the first relevant item.

    .. math:: \mathrm{RR@}k(s, y) = \frac{w_f\,[\pi_f \le k]}{\pi_f}, \qquad
              f = \arg\min_{i:\ y_i \ge rel} \pi_i

    with :math:`\pi_i` the position of item i by score. Its mean over lists is MRR. Only the order counts: scores below 0
    change nothing.

    - gain: 1 for labels of at least ``rel``. Denominator: none.
    - cut-off: 0 where the first relevant item stands after k.
    - ties: the exact mean over all orders; in a group of g items with r relevant ones behind a positions,
      :math:`\sum_x \binom{g - x}{r - 1} / \binom{g}{r} / (a + x)`.
    - empty: lists without a relevant item (in ``ideal``, where given).

    Time O(n log n), memory O(n) a list. See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> mrr(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0.0, 0.0, 1.0]))
    tensor(0.5000)

    Source: :cite:`voorhees1999`; ties :cite:`mcsherry2008`.
    """
    return evaluate(partial(_mrr, rel=rel), scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)


@metric(body=_recall, paper="manning2008")
def recall(
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
    r"""Share of all relevant items that stand in the first k positions.

    .. math:: \mathrm{Recall@}k(s, y) =
              \frac{\sum_{y_i \ge rel} w_i\,[\pi_i \le k]}{\sum_{y_i \ge rel} w_i}

    with :math:`\pi_i` the position of item i by score.

    - gain: 1 for labels of at least ``rel``.
    - denominator: all relevant items (with ``ideal``, retrieved or not), as LightGCN, BARS and trec_eval have it; not
      min(k, relevant).
    - cut-off: without k, the share that was retrieved at all: 1 unless ``ideal`` names more.
    - ties: an item counts by the share of its tie group that stands within k.
    - empty: lists without a relevant item.

    Time O(n log n), memory O(n) a list. See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> recall(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 0.0]), k=2)
    tensor(0.5000)

    Source: :cite:`manning2008`, section 8.3; the convention is that of :cite:`he2020lightgcn`.
    """
    return evaluate(
        partial(_recall, rel=rel), scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty
    )


@metric(body=_precision, paper="manning2008")
def precision(
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
    depth: Depth = "k",
) -> Values:
    r"""Share of the first k positions that hold relevant items.

    .. math:: \mathrm{P@}k(s, y) = \frac{1}{k} \sum_{y_i \ge rel} w_i\,[\pi_i \le k]

    with :math:`\pi_i` the position of item i by score.

    - gain: 1 for labels of at least ``rel``.
    - denominator: k, even where the list is shorter or has fewer relevant items, as in trec_eval; so a perfect ranking
      of fewer than k relevant items is below 1. Without k, the number of valid items. With ``depth="reachable"``
      min(k, relevant): implicit's precision, and the recall of :cite:`liang2018`.
    - ties: an item counts by the share of its tie group that stands within k.
    - empty: lists without a relevant item (in ``ideal``, where given).

    Time O(n log n), memory O(n) a list. See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> precision(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 0.0]), k=2)
    tensor(0.5000)

    Source: :cite:`manning2008`, section 8.4.
    """
    body = partial(_precision, rel=rel, depth=depth)
    return evaluate(body, scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)


@metric(body=_hit_rate, paper="deshpande2004")
def hit_rate(
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
    r"""Whether any relevant item stands in the first k positions ("success" in information retrieval).

    .. math:: \mathrm{Hit@}k(s, y) = w_f\,[\pi_f \le k], \qquad f = \arg\min_{i:\ y_i \ge rel} \pi_i

    with :math:`\pi_i` the position of item i by score. With one relevant item a list it is recall.

    - gain: 1 for labels of at least ``rel``. Denominator: none.
    - cut-off: without k, whether anything relevant was retrieved.
    - ties: the chance over all orders; where k takes t of a group of g items with r relevant ones, and none stands
      before, :math:`1 - \binom{g - r}{t} / \binom{g}{t}`.
    - empty: lists without a relevant item (in ``ideal``, where given).

    Time O(n log n), memory O(n) a list. See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> hit_rate(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0.0, 1.0, 0.0]), k=2)
    tensor(0.)

    Source: :cite:`deshpande2004`, hit rate, which has one relevant item a list.
    """
    return evaluate(
        partial(_hit_rate, rel=rel), scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty
    )
