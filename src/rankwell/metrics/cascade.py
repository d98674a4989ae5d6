"""Metrics of a user who reads down the list and may stop: at what satisfies (err), or from lack of patience (rbp)."""

from functools import partial
from typing import Annotated, Literal, TypeAlias

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.metrics.ideal import IdealLabels
from rankwell.metrics.ranked import Ranked, Ratio, prefix_sums
from rankwell.metrics.registry import evaluate, metric
from rankwell.registry import Search
from rankwell.types import Empty, Labels, Mask, Offsets, Reduction, Scores, Ties, Values, Weights

__all__ = ["err", "rbp"]

Grades: TypeAlias = Literal["cut", "share"]

ABOVE_ZERO = torch.finfo(torch.float32).tiny
"""The least label that is relevant where labels are grades: any above 0."""


def _err(view: Ranked, k: int | None, max_label: float = 4.0) -> Ratio:
    if not max_label > 0:
        raise InputError(f"max_label must be above 0: got {max_label}.")
    grades = view.labels.double().clamp(0, max_label)
    stops = (torch.exp2(grades) - 1) / 2**max_label
    # Chance that nothing before the group satisfies; its products hold no difference, so that no digit is lost.
    left = torch.nn.functional.pad((1 - stops).cumprod(-1), (1, 0), value=1)
    reached = view.before(left, k)
    value = (reached * _stops_in_ties(view, stops, view.weights * stops, k) / (view.places[:k] + 1)).sum(-1)
    return Ratio(value.to(view.labels.dtype), (view.positives(ABOVE_ZERO) > 0).to(view.labels.dtype))


def _stops_in_ties(view: Ranked, stops: Tensor, credits: Tensor, k: int | None) -> Tensor:
    """Expected credit of a stop at each of the first k positions by one who reaches its tie group, over the group's orders.

    Items enter their group one by one. The j-th stands at any place p among the j with chance 1/j: then its credit counts
    if nothing of the p - 1 others above it stops (``pass_by``); or it stands above p, and lets pass with 1 - stop; or below.
    What never stops enters first: without it nothing happens, so that only items with a chance to stop are steps.
    """
    start, end, size, places = view.start[..., :k], view.end[..., :k], view.size[..., :k], view.places[:k]
    entered = size - view.inside(prefix_sums((stops > 0).double()), k)
    steps = int(torch.where(size > 1, size - entered, 0).max())
    if not steps:
        return credits[..., :k]
    stops, credits = _idle_first(view, stops, credits)
    place = places - start
    value, pass_by = torch.zeros_like(stops[..., :k]), torch.ones_like(stops[..., :k])
    for _ in range(steps):
        newest = (end - (size - entered).long()).clamp(max=view.places.numel() - 1)
        stop, credit = stops.gather(-1, newest), credits.gather(-1, newest)
        above = torch.where(place > 0, pass_by.roll(1, -1), 1)
        value_above = torch.where(place > 0, value.roll(1, -1), 0)
        more = entered < size
        entered = entered + more
        below = (entered - 1 - place).clamp(min=0)
        new = (credit * above + place * (1 - stop) * value_above + below * value) / entered
        passed = ((place + 1) * (1 - stop) * above + below * pass_by) / entered
        inside = more & (place < entered)
        value, pass_by = torch.where(inside, new, value), torch.where(inside, passed, pass_by)
    return value


def _idle_first(view: Ranked, stops: Tensor, credits: Tensor) -> tuple[Tensor, Tensor]:
    """Chances and credits with those who never stop at the head of each tie group."""
    order = (stops > 0).to(torch.int8).argsort(dim=-1, stable=True)
    order = order.gather(-1, view.start.gather(-1, order).argsort(dim=-1, stable=True))
    return stops.gather(-1, order), credits.gather(-1, order)


def _rbp(view: Ranked, k: int | None, rel: float = 1.0, p: float = 0.8, grades: Grades = "cut") -> Ratio:
    if not 0 < p < 1:
        raise InputError(f"p must be between 0 and 1: got {p}.")
    if grades not in ("cut", "share"):
        raise InputError(f"grades must be 'cut' or 'share': got {grades!r}.")
    gain = view.relevant(rel)
    if grades == "share":
        gain = view.labels.clamp(min=0) / view.highest()[:, None].clamp(min=ABOVE_ZERO)
    places = view.places.double()
    patience = (1 - p) * p**places
    at = view.average(prefix_sums(patience if k is None else torch.where(places < k, patience, 0)))
    value = (view.weights * gain * at).sum(-1)
    return Ratio(value, (view.positives(rel) > 0).to(value.dtype))


@metric(body=_err, paper="chapelle2009", complexity="n log n + n t")
def err(
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
    max_label: Annotated[float, Search(1, 5)] = 4.0,
) -> Values:
    r"""Expected reciprocal rank: where one who stops at the first satisfying item stops.

    .. math:: \mathrm{ERR@}k(s, y) = \sum_{i:\ \pi_i \le k} \frac{w_i\, R_i}{\pi_i} \prod_{j:\ \pi_j < \pi_i} (1 - R_j), \qquad
              R_i = \frac{2^{y_i} - 1}{2^{y_{\max}}}

    with :math:`\pi_i` the position of item i by score and :math:`y_{\max}` the parameter ``max_label``. With binary labels and
    chances of one it would be :func:`~rankwell.metrics.mrr`.

    - gain: :math:`R_i`, the chance that the item satisfies; labels below 0 do not, those above ``max_label`` count as that.
    - denominator: none; the best value is below 1.
    - cut-off: positions after k earn nothing.
    - ties: the exact mean over all orders, by a recurrence over the items of a tie group that have a chance.
    - empty: lists without a label above 0; ``ideal`` only decides which these are.

    Time O(n log n + n t) for a list whose largest tie group holds t items with a label above 0 (t = 1 without ties), memory
    O(n): ties of a few hundred cost little, a tie of 20,000 such items some 14 seconds. ``ties="order"`` is O(n log n).
    See :class:`~rankwell.metrics.Metric` for the common arguments.

    Args:
        max_label: the highest grade of the labelling, not of the list: 4 for Yahoo and MSLR, 1 for binary labels.

    Raises:
        InputError: where ``max_label`` is not above 0.

    >>> err(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 0.0, 1.0]), max_label=1)  # 1/2 + (1/2 · 1/2) / 2
    tensor(0.6250)

    Source: :cite:`chapelle2009`, equations 4 and 5 (equation numbers unchecked).
    """
    body = partial(_err, max_label=max_label)
    return evaluate(body, scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)


@metric(body=_rbp, paper="moffat2008")
def rbp(
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
    p: Annotated[float, Search(0.5, 0.98)] = 0.8,
    grades: Grades = "cut",
) -> Values:
    r"""Rank-biased precision: what one finds who goes on to the next item with chance p.

    .. math:: \mathrm{RBP@}k(s, y) = (1 - p) \sum_{i:\ y_i \ge rel,\ \pi_i \le k} w_i\, p^{\pi_i - 1}

    with :math:`\pi_i` the position of item i by score.

    - gain: 1 for labels of at least ``rel``; with ``grades="share"`` :math:`y_i / \max_j y_j`, whatever ``rel``, where the
      highest is that of all items that are known, retrieved or not.
    - denominator: none; R relevant items reach at most :math:`1 - p^R`.
    - cut-off: positions after k earn nothing.
    - ties: the discount of an item is the mean over the positions of its tie group.
    - empty: lists without a relevant item; ``ideal`` only decides which these are.

    Equal to trec_eval's ``rbp`` with p = 0.9 and shares, which the preset ``trec`` takes.
    Time O(n log n), memory O(n) a list.
    See :class:`~rankwell.metrics.Metric` for the common arguments.

    Args:
        p: persistence, the chance to go on; expected depth 1 / (1 - p).
        grades: whether ``rel`` cuts graded labels in two, or each gains its share of the highest.

    Raises:
        InputError: where ``p`` is not between 0 and 1, or ``grades`` is neither.

    >>> rbp(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 0.0]), p=0.5)  # (1 + 1/4) / 2
    tensor(0.6250)

    Source: :cite:`moffat2008`, equation 1 (equation number unchecked), for binary relevance; shares as in trec_eval.
    """
    body = partial(_rbp, rel=rel, p=p, grades=grades)
    return evaluate(body, scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)
