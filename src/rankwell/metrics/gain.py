"""Graded metrics: gains at discounts."""

from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.kernels.gains import exponential_gains
from rankwell.metrics.ideal import Discount, IdealLabels, discounted
from rankwell.metrics.ranked import Ranked, Ratio, prefix_sums
from rankwell.metrics.registry import evaluate, metric
from rankwell.types import Empty, Labels, Mask, Offsets, Reduction, Scores, Ties, Values, Weights

__all__ = ["Gain", "dcg", "ndcg"]

Gain: TypeAlias = Literal["exponential", "linear"]


LARGE = 64.0
"""Gains of labels above it are over a power of two in a ratio: float32 overflows at 128. Others are as they are, to the bit."""


def _exponential(labels: Tensor, top: Tensor | None) -> Tensor:
    labels = labels.clamp(min=0)
    if top is None:
        return exponential_gains(labels)
    over = (top - LARGE).clamp(min=0)
    return torch.exp2(labels - over) - torch.exp2(-over)


def _linear(labels: Tensor, _: Tensor | None) -> Tensor:
    return labels.clamp(min=0)


_GAINS = {"exponential": _exponential, "linear": _linear}


def _gains(view: Ranked, k: int | None, gain: Gain, discount: Discount, *, relative: bool) -> Ratio:
    """DCG of the ranking and of the ideal one; ``relative``, both may be over a number of each list."""
    if gain not in _GAINS:
        raise InputError(f"gain must be 'exponential' or 'linear': got {gain!r}.")
    at = view.average(prefix_sums(discounted(view.places, k, discount)))
    of_labels = _GAINS[gain](view.labels, view.top()[..., None] if relative else None)
    gained = (view.weights * of_labels * at).sum(-1)
    return Ratio(gained, view.ideal_dcg(k, _GAINS[gain], discount, relative=relative))


def _dcg(view: Ranked, k: int | None, gain: Gain = "exponential", discount: Discount = "shifted") -> Ratio:
    gained, ideal = _gains(view, k, gain, discount, relative=False)
    return Ratio(gained, (ideal > 0).to(gained.dtype))


def _ndcg(view: Ranked, k: int | None, gain: Gain = "exponential", discount: Discount = "shifted") -> Ratio:
    return _gains(view, k, gain, discount, relative=True)


@metric(body=_dcg, paper="jarvelin2002")
def dcg(
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
    gain: Gain = "exponential",
    discount: Discount = "shifted",
) -> Values:
    r"""Discounted cumulative gain: gains of the labels, shared out by position.

    .. math:: \mathrm{DCG@}k(s, y) = \sum_{i:\ \pi_i \le k} \frac{w_i\, g(y_i)}{\log_2(1 + \pi_i)}, \qquad
              g(y) = 2^y - 1 \ \text{or}\ y

    with :math:`\pi_i` the position of item i by score, the highest score at 1.

    - gain: ``"exponential"`` :math:`2^y - 1`, or ``"linear"`` :math:`y`; equal for binary labels; labels below 0 gain
      nothing. In float32 the exponential gain overflows from a label of 128.
    - discount: ``"shifted"`` :math:`1 / \log_2(1 + \pi)`, as is usual, or ``"original"`` :math:`1 / \max(1, \log_2 \pi)`, in
      which positions 1 and 2 both count fully, as in the scripts of LETOR.
    - denominator: none; the value is not bounded by 1.
    - cut-off: positions after k gain nothing.
    - ties: the discount of an item is the mean over the positions of its tie group.
    - empty: lists without a positive gain; ``ideal`` only decides which these are.

    Time O(n log n), memory O(n) a list. See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> import torch
    >>> dcg(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 0.0, 2.0]))
    tensor(2.8928)

    Source: :cite:`jarvelin2002`, discounted cumulated gain, whose discount with base 2 is ``"original"``; the exponential
    gain and the shifted discount are those of :cite:`burges2005`.
    """
    body = partial(_dcg, gain=gain, discount=discount)
    return evaluate(body, scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)


@metric(body=_ndcg, paper="jarvelin2002")
def ndcg(
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
    gain: Gain = "exponential",
    discount: Discount = "shifted",
) -> Values:
    r"""DCG over the DCG of the best order.

    .. math:: \mathrm{NDCG@}k(s, y) = \frac{\mathrm{DCG@}k(s, y)}{\mathrm{DCG@}k(y, y)}

    - gain and discount: those of :func:`dcg`; no label overflows.
    - denominator: the DCG of the min(k, n) highest gains (weight times gain) of the list; with ``ideal``, of all relevant
      items.
    - cut-off: positions after k gain nothing, above and below.
    - ties: the discount of an item is the mean over the positions of its tie group.
    - empty: lists whose best order gains nothing.

    Between 0 and 1, given that ``ideal`` holds whatever is relevant in the list. For binary labels this is what LightGCN
    and BARS report as NDCG@20; trec_eval's ``ndcg`` and scikit-learn's ``ndcg_score`` have the linear gain.

    Time O(n log n), memory O(n) a list. See :class:`~rankwell.metrics.Metric` for the common arguments.

    >>> import torch
    >>> ndcg(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 0.0, 2.0]))
    tensor(0.7967)

    Source: :cite:`jarvelin2002`, relative to the ideal vector, with the gain and discount of :func:`dcg`;
    ties as :cite:`mcsherry2008`.
    """
    body = partial(_ndcg, gain=gain, discount=discount)
    return evaluate(body, scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)
