"""Pointwise losses: a term an item, averaged over the valid items of a list."""

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.lists import open_lists
from rankwell.losses.registry import list_loss
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = ["mse_loss", "sigmoid_loss"]


@list_loss(paper="he2017", complexity="n")
def sigmoid_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Binary cross-entropy between the sigmoid of each score and its label in [0, 1].

    .. math:: \ell(s, y) = -\frac1n \sum_i w_i \left[ y_i \log \sigma(s_i) + (1 - y_i) \log \sigma(-s_i) \right]

    Each item by itself: scores become calibrated probabilities, and order within the list is only a by-product. The
    pairwise :func:`~rankwell.losses.logistic_loss` has the same curve over gaps of scores. Both logarithms are taken by
    ``logsigmoid``, so that neither value nor gradient dies at large scores. Time and memory O(n) a list.

    Weights multiply the terms. Labels outside [0, 1] are not refused, and leave the loss without a lower bound.

    >>> sigmoid_loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))  # log 2
    tensor(0.6931)

    Source: :cite:`he2017`, its log loss; equation number unchecked. Differs from it: a mean over items, not a sum.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    s, y = lists.scores, lists.labels
    terms = -(y * functional.logsigmoid(s) + (1 - y) * functional.logsigmoid(-s))
    return lists.reduce(lists.mean(lists.weights * terms), reduction)


@list_loss(paper="cossock2006", complexity="n")
def mse_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Squared difference between each score and its label.

    .. math:: \ell(s, y) = \frac1n \sum_i w_i (s_i - y_i)^2

    Regression on the grades. Unlike the pairwise and listwise losses it ties scores to the scale of the labels. Time and
    memory O(n) a list.

    Weights multiply the terms.

    >>> mse_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0]))
    tensor(2.)

    Source: :cite:`cossock2006`, where regression on grades bounds the DCG; recalled, its equation number unchecked. Differs
    from it: uniform weights unless given, and a mean over items.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(lists.mean(lists.weights * torch.square(lists.scores - lists.labels)), reduction)
