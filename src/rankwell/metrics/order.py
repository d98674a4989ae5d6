"""Metrics of order over the whole list."""

from functools import partial
from typing import Annotated

from rankwell.errors import InputError
from rankwell.metrics.ideal import IdealLabels
from rankwell.metrics.ranked import Ranked, Ratio, prefix_sums
from rankwell.metrics.registry import evaluate, metric
from rankwell.registry import Search
from rankwell.types import Empty, Labels, Mask, Offsets, Reduction, Scores, Ties, Values, Weights

__all__ = ["auc"]


def _auc(view: Ranked, k: int | None, rel: float = 1.0, top: int = 0) -> Ratio:
    view.check_whole("auc", k)
    if top < 0:
        raise InputError(f"top must be at least 1, or 0 for the whole list: got {top}.")
    relevant = view.relevant(rel)
    irrelevant = 1 - relevant if view.valid is None else view.valid * (1 - relevant)
    counts = prefix_sums(irrelevant)
    tied = view.inside(counts)
    below = counts[..., -1:] - view.before(counts) - tied
    won = below + tied / 2
    if top:
        # A pair of two groups is in order for certain where the better one is among the first, and in half of the orders else.
        behind = 1 - ((top - view.start) / view.size).clamp(0, 1)
        won = won - (below * behind - view.before(prefix_sums(irrelevant * behind))) / 2
    # Divided before summing: the number of pairs may be beyond what float32 counts exactly.
    won = won / counts[..., -1:].clamp(min=1)
    weight = view.weights * relevant
    return Ratio((weight * won).sum(-1), weight.sum(-1) * (counts[..., -1] > 0))


@metric(body=_auc, kind="whole", paper="hanley1982")
def auc(
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
    top: Annotated[int, Search(1, 10)] = 0,
) -> Values:
    r"""Share of (relevant, irrelevant) pairs in the right order: the area under the ROC curve of one list.

    .. math:: \mathrm{AUC}(s, y) = \frac{1}{N \sum_{y_i \ge rel} w_i} \sum_{y_i \ge rel} w_i
              \sum_{y_j < rel} [s_i > s_j] + \tfrac{1}{2} [s_i = s_j]

    with N the irrelevant items. A pair weighs as its relevant item.

    - gain: 1 for labels of at least ``rel``; graded labels are cut there, not compared with each other.
    - denominator: all pairs. Cut-off: none; ``k`` and ``ideal`` are errors, since the list must be whole. With ``top`` only the
      order of so many positions is known, and all items behind them are tied: implicit's AUC at K is ``auc(top=K)``.
    - ties: a tied pair counts one half; with ``ties="order"`` it counts by the input order.
    - empty: lists without a relevant or without an irrelevant item.

    Time O(n log n), memory O(n) a list; no pairs are made.
    See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> import torch
    >>> auc(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 0.0, 1.0]))
    tensor(1.)

    Raises:
        InputError: if ``top`` is below 0, or the list is not whole.

    Source: :cite:`hanley1982`, as the Wilcoxon statistic.
    """
    body = partial(_auc, rel=rel, top=top)
    return evaluate(body, scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)
