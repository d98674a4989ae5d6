"""Binary preference: relevant items against judged irrelevant ones, for lists in which most items are not judged."""

from functools import partial

import torch
from torch import Tensor

from rankwell.metrics.ideal import IdealLabels
from rankwell.metrics.ranked import Ranked, Ratio, prefix_sums
from rankwell.metrics.registry import evaluate, metric
from rankwell.types import Empty, Labels, Mask, Offsets, Reduction, Scores, Ties, Values, Weights

__all__ = ["bpref"]


def _bpref(view: Ranked, k: int | None, rel: float = 1.0) -> Ratio:
    view.check_uncut("bpref", k)
    counts = prefix_sums(view.irrelevant(rel)).double()
    number = view.number(rel).double()[..., None]
    before, found = view.before(counts), view.inside(counts)
    # Among the m irrelevant items of its group, a relevant item has 0, 1, … m above it, each as often.
    above = (_bounded_sum(before + found, number) - _bounded_sum(before - 1, number)) / (found + 1)
    lost = above / torch.minimum(view.irrelevant_number(rel).double()[..., None], number).clamp(min=1)
    kept = (1 - lost).to(view.labels.dtype)
    return Ratio((view.weights * view.relevant(rel) * kept).sum(-1), view.positives(rel))


def _bounded_sum(last: Tensor, bound: Tensor) -> Tensor:
    """The sum of min(t, bound) over t = 0, 1, … last; 0 where last is -1."""
    below = torch.minimum(last, bound)
    return below * (below + 1) / 2 + (last - below) * bound


@metric(body=_bpref, kind="uncut", paper="buckley2004")
def bpref(
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
    r"""Binary preference: how few judged irrelevant items stand above the relevant ones; unjudged items do not count.

    .. math:: \mathrm{bpref}(s, y) = \frac{1}{\sum_{y_i \ge rel} w_i} \sum_{y_i \ge rel} w_i
              \left(1 - \frac{\min(n_i, R)}{\min(N, R)}\right), \qquad
              n_i = |\{j : 0 \le y_j < rel,\ \pi_j < \pi_i\}|

    with :math:`\pi_i` the position of item i by score, R the relevant items and N the judged irrelevant ones. A label below
    0 says that an item is not judged.

    - gain: 1 for labels of at least ``rel``.
    - denominator: all relevant items; with ``ideal``, R and N are those of all judged items, retrieved or not. Unlike for
      other metrics a 0 in ``ideal`` is a judgement, so that a dense ``ideal`` must be padded by -1, not by 0.
    - cut-off: none; ``k`` is an error.
    - ties: the exact mean over all orders; with m judged irrelevant items in its tie group, a relevant item has 0 to m of
      them above it, each number as often.
    - empty: lists without a relevant item.

    With all items judged and no more irrelevant than relevant ones it is :func:`~rankwell.metrics.auc`. Equal to trec_eval's
    ``bpref``. Time O(n log n), memory O(n) a list. See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> bpref(torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([0.0, 1.0, -1.0, 1.0]))  # of two relevant, both below the 0
    tensor(0.)
    >>> bpref(torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([1.0, -1.0, 0.0, 1.0]))
    tensor(0.5000)

    Source: :cite:`buckley2004`. Differs from it, as trec_eval does: divides by min(N, R) where the paper has R, so that it
    reaches 0 where fewer than R irrelevant items are judged.
    """
    return evaluate(partial(_bpref, rel=rel), scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)
