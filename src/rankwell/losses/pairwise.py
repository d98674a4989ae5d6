"""Pairwise losses: a term a pair of a better and a worse item, averaged over the pairs of a list."""

from typing import Annotated

from torch import Tensor

from rankwell.lists import open_lists
from rankwell.losses.registry import list_loss
from rankwell.pairs import pair_means
from rankwell.registry import Search
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = ["hinge_loss", "logistic_loss"]


@list_loss(paper="burges2005", complexity="n^2")
def logistic_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""RankNet: logistic loss of the gap between each better and each worse item.

    .. math:: \ell(s, y) = \frac{1}{|P|} \sum_{(i,j) \in P} w_i \log\left(1 + e^{-(s_i - s_j)}\right),
        \qquad P = \{(i, j): y_i > y_j\}

    With one positive and one negative this is BPR, and ``contrast(logistic_loss)`` is :func:`~rankwell.losses.bpr_loss`. Only
    the order of the labels counts, not their size. Time O(pairs), for binary labels positives x negatives; memory O(n):
    see :mod:`rankwell.pairs`. No second derivatives.

    A pair weighs as its better item. A list without pairs has value 0, and counts in the mean.

    >>> import torch
    >>> logistic_loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))  # log 2
    tensor(0.6931)

    Source: :cite:`burges2005`, section 3, with target probability 1; equation number unchecked. Differs from it: a mean
    over the pairs of a list, scale 1, and ties of labels are left out.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(pair_means(lists, "logistic"), reduction)


@list_loss(paper="herbrich2000", complexity="n^2")
def hinge_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    margin: Annotated[float, Search(0.05, 5.0, log=True)] = 1.0,
) -> Tensor:
    r"""Hinge of the gap between each better and each worse item: pairs that are a margin apart cost nothing.

    .. math:: \ell(s, y) = \frac{1}{|P|} \sum_{(i,j) \in P} w_i \left[ m - (s_i - s_j) \right]_+,
        \qquad P = \{(i, j): y_i > y_j\}

    The loss of the ranking SVM. Over negative squared Euclidean similarity it is the triplet loss. Against
    :func:`logistic_loss` it has a finite reach: beyond the margin the gradient is zero. Time and memory as there.

    A pair weighs as its better item. A list without pairs has value 0, and counts in the mean.

    Args:
        margin: the gap, in units of the scores, beyond which a pair costs nothing.

    >>> import torch
    >>> hinge_loss(torch.tensor([0.8, 0.3, 0.6]), torch.tensor([1, 0, 1]))  # ([1 - .5] + [1 - .3]) / 2
    tensor(0.6000)

    Source: :cite:`herbrich2000`, the soft margin of its pairwise classifier; equation number unchecked. Differs from it: a
    mean over the pairs of a list, and no regulariser.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(pair_means(lists, "hinge", margin), reduction)
