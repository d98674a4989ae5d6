"""The part of the area under the ROC curve that has few false positives."""

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

__all__ = ["pauc"]

Scale: TypeAlias = Literal["plain", "mcclish"]


def _pauc(view: Ranked, k: int | None, rel: float = 1.0, max_fpr: float = 0.1, scale: Scale = "plain") -> Ratio:
    view.check_whole("pauc", k)
    if not 0 < max_fpr <= 1:
        raise InputError(f"max_fpr must be above 0 and at most 1: got {max_fpr}.")
    if scale not in ("plain", "mcclish"):
        raise InputError(f"scale must be 'plain' or 'mcclish': got {scale!r}.")
    weight = view.weights * view.relevant(rel)
    irrelevant = view.labels < rel
    counts = prefix_sums((irrelevant if view.valid is None else irrelevant & view.valid).double())
    total = counts[..., -1:]
    area = _area(view, counts, prefix_sums(weight.double()), max_fpr * total) / total[..., 0].clamp(min=1)
    every = weight.sum(-1)
    part = area / every.double().clamp(min=torch.finfo(every.dtype).tiny)
    chance = max_fpr**2 / 2
    value = part / max_fpr if scale == "plain" else (1 + (part - chance) / (max_fpr - chance)) / 2
    return Ratio(value.to(every.dtype) * every, every * (total[..., 0] > 0))


def _area(view: Ranked, counts: Tensor, gained: Tensor, cut: Tensor) -> Tensor:
    """Weight of the relevant items above each of the first ``cut`` irrelevant ones, summed; the last one in part."""
    before, found = view.before(counts), view.inside(counts)
    # The t-th of the m irrelevant items of a group has t / (m + 1) of the group's relevant weight above it, on average.
    width = _width(before + found, cut) - _width(before, cut)
    moment = _moment(before + found, cut) - _moment(before, cut) - before * width
    strips = view.before(gained) * width + view.inside(gained) / (found + 1) * moment
    return (strips * (view.start == view.places)).sum(-1)


def _width(last: Tensor, cut: Tensor) -> Tensor:
    """How much of the first ``last`` irrelevant items stands within the cut."""
    return torch.minimum(last, cut)


def _moment(last: Tensor, cut: Tensor) -> Tensor:
    """The same, each irrelevant item times its number."""
    whole = torch.minimum(last, cut.floor())
    rest = torch.where(last > whole, cut - cut.floor(), 0)
    return whole * (whole + 1) / 2 + (whole + 1) * rest


@metric(body=_pauc, kind="whole", paper="mcclish1989")
def pauc(
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
    max_fpr: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1,
    scale: Scale = "plain",
) -> Values:
    r"""Partial AUC: the area under the ROC curve of one list up to a false positive rate.

    .. math:: A = \frac{1}{N \sum_{y_i \ge rel} w_i} \sum_{t \ge 1} c_t \sum_{y_i \ge rel} w_i\,[s_i > s_{(t)}], \qquad
              c_t = \min(1, \max(0, f N - t + 1))

    with f ``max_fpr``, N the irrelevant items, and :math:`s_{(t)}` the t-th highest score among them. The value is
    :math:`A / f`, or McClish's :math:`\tfrac{1}{2} \left(1 + \frac{A - f^2 / 2}{f - f^2 / 2}\right)`, in which a random
    order has one half. With f = 1 both are :func:`~rankwell.metrics.auc`.

    - gain: 1 for labels of at least ``rel``.
    - denominator: all pairs up to the rate, at which an irrelevant item may count in part. Cut-off: none; ``k`` and ``ideal``
      are errors, since the list must be whole.
    - weights: those of the relevant items.
    - ties: the exact mean over all orders. Where f falls inside a tie group, scikit-learn draws a straight line through the
      group instead; elsewhere the two are equal.
    - empty: lists without a relevant or without an irrelevant item.

    With ``scale="mcclish"`` equal to scikit-learn's ``roc_auc_score(max_fpr=f)``, up to that. Time O(n log n), memory O(n) a
    list; no pairs are made. See :class:`~rankwell.metrics.Metric` for the common arguments.

    Args:
        max_fpr: the false positive rate f up to which the curve counts, above 0 and at most 1.
        scale: ``"plain"`` divides by the largest area, ``"mcclish"`` puts a random order at one half.

    Raises:
        InputError: where ``max_fpr`` or ``scale`` is not one of these.

    >>> import torch
    >>> labels = torch.tensor([0.0, 1.0, 1.0, 0.0])
    >>> pauc(torch.tensor([4.0, 3.0, 2.0, 1.0]), labels, max_fpr=0.5)  # nothing above the better irrelevant item
    tensor(0.)
    >>> pauc(torch.tensor([2.0, 3.0, 1.0, 0.0]), labels, max_fpr=0.5)  # one of two
    tensor(0.5000)

    Source: :cite:`mcclish1989`, the partial area and its standard form.
    """
    body = partial(_pauc, rel=rel, max_fpr=max_fpr, scale=scale)
    return evaluate(body, scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)
