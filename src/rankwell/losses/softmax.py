"""Listwise cross-entropy of the softmax."""

from torch import Tensor

from rankwell.lists import open_lists
from rankwell.losses.registry import list_loss
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = ["softmax_loss"]


@list_loss(paper="cao2007", complexity="n", softmax=True)
def softmax_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Cross-entropy between the softmax of the scores and the labels.

    .. math:: \ell(s, y) = -\sum_i w_i\, y_i \log \frac{e^{s_i}}{\sum_j e^{s_j}}

    With labels that sum to one this is top-one ListNet; with one relevant item, InfoNCE. ``contrast(softmax_loss)`` is
    :func:`~rankwell.losses.sampled_softmax_loss`. Several relevant items pull against each other: at best their probabilities
    are in the ratio of their labels. Time and memory O(n) a list.

    Weights multiply the terms, not the denominator.

    >>> import torch
    >>> softmax_loss(torch.tensor([2.0, 1.0, 3.0]), torch.tensor([1.0, 0.0, 0.0]))  # log(1 + 1/e + e)
    tensor(1.4076)

    Source: :cite:`cao2007`, the top-one cross-entropy; equation number unchecked. Differs from it: labels are not normalised.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    terms = lists.weights * lists.labels * lists.lists.log_softmax(lists.scores)
    return lists.reduce(-lists.lists.sum(terms), reduction)
