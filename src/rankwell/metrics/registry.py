"""The registry of metrics, what their arguments mean, and the way from a body to a value."""

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, SupportsIndex, TypeVar

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import open_lists, reduce
from rankwell.metrics.ideal import IdealLabels, open_ideal
from rankwell.metrics.ranked import Body, Ratio, ranked_blocks
from rankwell.registry import Entry, Input, Registry
from rankwell.types import Empty, Labels, Mask, Offsets, Reduction, Scores, Ties, Values, Weights

__all__ = [
    "BODIES",
    "METRICS",
    "RESULTS",
    "Metric",
    "checked_cut",
    "evaluate",
    "filled_by_column",
    "metric",
    "ratios",
    "settle",
]

F = TypeVar("F", bound=Callable[..., Tensor])

_CONTRACT = ("scores", "labels", "where", "weights", "offsets", "reduction", "k", "ties", "ideal", "empty")

METRICS: Registry[Callable[..., Tensor]] = Registry(
    "metric",
    {
        "list": _CONTRACT,
        "uncut": _CONTRACT,
        "whole": _CONTRACT,
        "user": ("items", "reduction", "uncounted"),
        "catalogue": ("items",),
    },
)
"""Metrics by name. Of scores and labels: kind ``list`` takes a cut-off; ``uncut`` has a depth of its own and takes no k;
``whole`` needs the whole list and takes neither k nor ideal. Of recommended items: ``user`` is one value a user,
``catalogue`` one number for all."""

RESULTS = ("user", "catalogue")
"""Kinds of metrics that look at recommended items, not at scores and labels."""

_OF_COLUMNS = ("number", "share")
"""What columns of items hold."""

BODIES: dict[str, Body] = {}
"""Bodies of metrics by name, for several measures on one ranking. A metric from outside needs none."""


def filled_by_column(entry: Entry[Any]) -> str | None:
    """The input of a metric of recommended items that a column of items fills; counts and ids the interactions tell."""
    filled = (
        name for name, each in entry.inputs.items() if each.alignment == "catalogue" and each.holds in _OF_COLUMNS
    )
    return next(filled, None) if entry.kind in RESULTS else None


class Metric(Protocol):
    """The call of every metric of scores and labels: higher is better, one value a list.

    ``scores, labels``: dense ``[*batch, list]``, or flat beside ``offsets``. Labels above 0 are relevance; binary
    metrics take a label of at least their ``rel`` as relevant. A label below 0 says that an item is not judged: that is as
    irrelevant as 0, except to bpref, which leaves it out, and to metrics that compare all grades. A NaN score ranks last,
    tied with -inf. A NaN label, here or in ``ideal``, makes the value of its list NaN.

    ``where``: false where an item is absent; it takes no position.

    ``weights``: gain metrics multiply the gain of each item by its weight, binary ones the credit of each relevant item;
    ratios (ndcg, recall, ap, auc) do so above and below, so that one weight for a whole list cancels.
    In metrics of pairs a pair weighs as its better item, where the docstring says nothing else.

    ``reduction``: ``"none"`` is one value a list, 0 for lists that do not count; ``"mean"`` is over lists that count.

    ``k``: only the first k positions earn anything. Never changes how ties are met.

    ``ties``: ``"expected"`` is the exact mean over all orders of each group of equal scores; ``"order"`` lets the input
    order decide, the earlier item first.

    ``ideal``: labels of *all* relevant items, retrieved or not, ``[*batch, m]`` padded with zeros, or
    :class:`~rankwell.types.Ragged`, or a plain pair of its offsets and labels; for lists that hold only what was retrieved.
    Denominators, and whether a list has positives at all, come from it. It does not go with ``weights``: the weights of what
    was not retrieved are unknown.

    ``empty``: lists without positives. ``"skip"`` does not count them, ``"zero"`` and ``"one"`` count them with that
    value. A list with nothing valid (and nothing in ``ideal``) never counts; one that retrieved nothing of what ``ideal``
    names counts as 0.
    """

    def __call__(
        self,
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
        """One value a list, reduced."""
        ...


def metric(
    *,
    body: Body | None = None,
    kind: str = "list",
    paper: str | None = None,
    complexity: str = "n log n",
    inputs: Mapping[str, Input] | None = None,
) -> Callable[[F], F]:
    """Enter a metric; with its body, it shares one ranking with the other measures of an evaluation."""

    def enter(function: F) -> F:
        METRICS.register(kind, paper=paper, complexity=complexity, inputs=inputs)(function)
        if body is not None:
            BODIES[METRICS.of(function).name] = body
        return function

    return enter


def evaluate(
    body: Body,
    scores: Scores,
    labels: Labels,
    where: Mask | None,
    weights: Weights | None,
    offsets: Offsets | None,
    reduction: Reduction,
    k: int | None,
    ties: Ties,
    ideal: IdealLabels | None,
    empty: Empty,
) -> Values:
    """One metric: its body on every block, settled and reduced. Arguments in the order of the contract."""
    cut = partial(body, k=checked_cut(k))
    (ratio,), present = ratios(
        [cut], scores, labels, where=where, weights=weights, offsets=offsets, ties=ties, ideal=ideal
    )
    return settle(ratio, present, empty, reduction)


def ratios(
    bodies: Sequence[Callable[..., Ratio]],
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None,
    weights: Weights | None,
    offsets: Offsets | None,
    ties: Ties,
    ideal: IdealLabels | None,
    unlisted: Tensor | None = None,
) -> tuple[list[Ratio], Tensor]:
    """Bodies with their cut-offs on one ranking: a ratio each, and which lists hold a valid item."""
    _check_arguments(scores, ties, weights, ideal)
    if offsets is None and scores.ndim and scores.shape[-1] == 0:
        # A list of width 0 is one absent item: sorting and prefix sums then need no special case.
        scores, labels = (x.new_zeros(*x.shape[:-1], 1) for x in (scores, labels))
        where, weights = torch.zeros_like(scores, dtype=torch.bool), None
    opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    present = opened.lists.count() > 0
    whole = None if ideal is None else open_ideal(ideal, present.shape, opened.scores.dtype)
    out = [Ratio(*opened.scores.new_zeros(2, present.numel())) for _ in bodies]
    for view in ranked_blocks(opened, offsets, ties, whole, unlisted):
        for body, ratio in zip(bodies, out, strict=True):
            ratio.numerator[view.rows], ratio.denominator[view.rows] = body(view)
    spoilt = opened.lists.sum(opened.labels).isnan().flatten()
    spoilt = spoilt if whole is None else spoilt | whole.spoilt()
    out = [Ratio(x.masked_fill(spoilt, torch.nan), y.masked_fill(spoilt, 1)) for x, y in out]
    return [Ratio(*(x.reshape(present.shape) for x in ratio)) for ratio in out], present


def settle(ratio: Ratio, present: Tensor, empty: Empty, reduction: Reduction) -> Values:
    """Divide, give lists without positives what ``empty`` says, and reduce over the lists that count."""
    if empty not in ("skip", "zero", "one"):
        raise InputError(f"empty must be 'skip', 'zero' or 'one': got {empty!r}.")
    some = ratio.denominator > 0
    values = ratio.numerator / torch.where(some, ratio.denominator, 1)
    values = torch.where(some, values, float(empty == "one"))
    return reduce(values, some if empty == "skip" else some | present, reduction)


def checked_cut(k: SupportsIndex | None) -> int | None:
    """The cut-off, if it is one: an int, or a whole number of another type, as NumPy's."""
    if k is None:
        return None
    try:
        whole = 0 if isinstance(k, bool) else operator.index(k)
    except TypeError:
        whole = 0
    if whole < 1:
        raise InputError(f"k must be a whole number of at least 1, or None: got {k!r}.")
    return whole


def _check_arguments(scores: Tensor, ties: Ties, weights: Tensor | None, ideal: IdealLabels | None) -> None:
    if not scores.is_floating_point():
        raise InputError(f"scores must be floating point: got {scores.dtype}.")
    if ties not in ("expected", "order"):
        raise InputError(f"ties must be 'expected' or 'order': got {ties!r}.")
    if weights is not None and ideal is not None:
        raise InputError("weights do not go with ideal: the weights of items that were not retrieved are unknown.")
