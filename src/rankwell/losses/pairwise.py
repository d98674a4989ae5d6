"""Pairwise losses: a term a pair of a better and a worse item, averaged over the pairs of a list."""

from typing import Annotated, TypeAlias

from torch import Tensor

from rankwell.kernels.pairs import pair_means
from rankwell.lists import Opened, check_at_least, check_positive, open_lists
from rankwell.losses.registry import list_loss
from rankwell.registry import Search
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = [
    "exponential_loss",
    "hinge_loss",
    "logistic_loss",
    "pairwise_mse_loss",
    "soft_zero_one_loss",
    "squared_hinge_loss",
]

Margin: TypeAlias = Annotated[float, Search(0.05, 5.0, log=True)]
Scale: TypeAlias = Annotated[float, Search(0.1, 10.0, log=True)]


@list_loss(paper="burges2005", complexity="n^2")
def logistic_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    scale: Scale = 1.0,
) -> Tensor:
    r"""RankNet: logistic loss of the gap between each better and each worse item.

    .. math:: \ell(s, y) = \frac{1}{|P|} \sum_{(i,j) \in P} w_i \log\left(1 + e^{-\sigma(s_i - s_j)}\right),
        \qquad P = \{(i, j): y_i > y_j\}

    With one positive and one negative this is BPR, and ``contrast(logistic_loss)`` is :func:`~rankwell.losses.bpr_loss`. Only
    the order of the labels counts, not their size. Against :func:`exponential_loss` a lost pair pulls with a bounded slope.
    There is no exact form without pairs. Time O(pairs), for binary labels positives x negatives; memory O(n): see
    :mod:`rankwell.kernels.chunked_pairs`. No second derivatives.

    A pair weighs as its better item. A list without pairs has value 0, and counts in the mean.

    Choose it for judged lists, binary or graded, of up to some thousand items, where the order alone counts and the
    baseline that everybody knows is wanted. On longer lists take :func:`hinge_loss`, which needs no pairs;
    :func:`~rankwell.losses.softmax_loss` is O(n) and was not behind. On MQ2008 it had NDCG@10 0.5112, softmax 0.5152
    (``bench/results/mq2008.txt``); of six settings each 0.5028 and 0.5147 (``docs/leaderboard.md``).

    Args:
        scale: :math:`\sigma`, per unit of the scores: how sharply a gap counts as won or lost.

    Raises:
        InputError: if ``scale`` is not above 0.

    >>> import torch
    >>> logistic_loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))  # log 2
    tensor(0.6931)

    Source: :cite:`burges2005`, section 3, with target probability 1; equation number unchecked. Differs from it: a mean
    over the pairs of a list, and ties of labels are left out.
    """
    lists = _scaled(open_lists(scores, labels, where=where, weights=weights, offsets=offsets), scale)
    return lists.reduce(pair_means(lists, "logistic"), reduction)


@list_loss(paper="herbrich2000", complexity="n log n")
def hinge_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    margin: Margin = 1.0,
) -> Tensor:
    r"""Hinge of the gap between each better and each worse item: pairs that are a margin apart cost nothing.

    .. math:: \ell(s, y) = \frac{1}{|P|} \sum_{(i,j) \in P} w_i \left[ m - (s_i - s_j) \right]_+,
        \qquad P = \{(i, j): y_i > y_j\}

    The loss of the ranking SVM. Over negative squared Euclidean similarity it is the triplet loss. Against
    :func:`logistic_loss` it has a finite reach: beyond the margin the gradient is zero, and so it is where a pair stands
    at the margin exactly. All pairs count, and none is made: time O(n log n) for binary labels, times the logarithm of the
    number of levels for graded ones; memory O(n): see :mod:`rankwell.kernels.sorted_pairs`. No second derivatives.

    A pair weighs as its better item. A list without pairs has value 0, and counts in the mean.

    Choose it for long lists, binary or graded: all pairs of 100,000 items take milliseconds, and pairs that are right
    by the margin cost nothing. The margin must suit the scale of the scores; where these must be comparable between
    lists, take :func:`~rankwell.losses.sigmoid_loss`. On MQ2008 it had NDCG@10 0.5122 with the default margin, softmax
    0.5152 (``bench/results/mq2008.txt``), and 0.5017 with one of six settings that a single fold chose
    (``docs/leaderboard.md``).

    Args:
        margin: the gap, in units of the scores, beyond which a pair costs nothing.

    Raises:
        InputError: if ``margin`` is below 0.

    >>> import torch
    >>> hinge_loss(torch.tensor([0.8, 0.3, 0.6]), torch.tensor([1, 0, 1]))  # ([1 - .5] + [1 - .3]) / 2
    tensor(0.6000)

    Source: :cite:`herbrich2000`, the soft margin of its pairwise classifier; equation number unchecked. Sorting as in
    :cite:`joachims2006`, graded labels by our own rounds of bits. Differs from both: a mean over the pairs of a list, and no
    regulariser.
    """
    check_at_least(margin, "margin")
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(pair_means(lists, "hinge", margin), reduction)


@list_loss(paper="chapelle2010", complexity="n log n")
def squared_hinge_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    margin: Margin = 1.0,
) -> Tensor:
    r"""Squared hinge of the gap between each better and each worse item.

    .. math:: \ell(s, y) = \frac{1}{|P|} \sum_{(i,j) \in P} w_i \left[ m - (s_i - s_j) \right]_+^2,
        \qquad P = \{(i, j): y_i > y_j\}

    :func:`hinge_loss` with a slope that grows with what a pair is short of: smooth at the margin, and led by the worst
    pairs. Time and memory as there: O(n log n) exactly, without pairs. No second derivatives.

    A pair weighs as its better item. A list without pairs has value 0, and counts in the mean.

    Choose it instead of :func:`hinge_loss` where the worst pairs should lead, or a slope without a jump is wanted: it
    is as fast on long lists. Not where labels are often wrong, since such pairs pull without bound: there take hinge.
    On MQ2008 it had NDCG@10 0.5084, hinge 0.5017, softmax 0.5147 (``docs/leaderboard.md``).

    Args:
        margin: the gap, in units of the scores, beyond which a pair costs nothing.

    Raises:
        InputError: if ``margin`` is below 0.

    >>> import torch
    >>> squared_hinge_loss(torch.tensor([0.8, 0.3, 0.6]), torch.tensor([1, 0, 1]))  # (.5^2 + .7^2) / 2
    tensor(0.3700)

    Source: :cite:`chapelle2010`, its differentiable loss; equation number unchecked. Sorting as in :cite:`rust2023`, graded
    labels by our own rounds of bits. Differs from both: a mean over the pairs of a list, and no regulariser.
    """
    check_at_least(margin, "margin")
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(pair_means(lists, "squared_hinge", margin), reduction)


@list_loss(paper="freund2003", complexity="n^2")
def exponential_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""RankBoost: exponential loss of the gap between each better and each worse item.

    .. math:: \ell(s, y) = \frac{1}{|P|} \sum_{(i,j) \in P} w_i\, e^{-(s_i - s_j)},
        \qquad P = \{(i, j): y_i > y_j\}

    Against :func:`logistic_loss`, which equals it where pairs are won by far, the worst pair takes nearly all of the
    gradient. Time O(pairs), memory O(n): see :mod:`rankwell.kernels.chunked_pairs`. No second derivatives.

    A pair weighs as its better item. A list without pairs has value 0, and counts in the mean.

    Choose it only for small scores and clean labels, where the worst pair of a list may lead: one wrong label takes
    nearly all of the gradient. Else take :func:`logistic_loss`, at the same cost, or :func:`hinge_loss` on lists of
    thousands. On MQ2008 it had NDCG@10 0.5089, logistic 0.5028, softmax 0.5147 (``docs/leaderboard.md``).

    >>> import torch
    >>> exponential_loss(torch.tensor([0.0, 0.6931472]), torch.tensor([1.0, 0.0]))  # e^(log 2)
    tensor(2.0000)

    Source: :cite:`freund2003`, the bound that RankBoost minimises; equation number unchecked. Differs from it: a mean over
    the pairs of a list; and where a pair is lost by more than 64 the exponential goes on as its tangent,
    :math:`e^{64}(1 - 64 - (s_i - s_j))`, because float32 overflows at 88.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(pair_means(lists, "exponential"), reduction)


@list_loss(paper="yan2003", complexity="n^2")
def soft_zero_one_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    scale: Scale = 1.0,
) -> Tensor:
    r"""Share of pairs in the wrong order, made smooth by a sigmoid.

    .. math:: \ell(s, y) = \frac{1}{|P|} \sum_{(i,j) \in P} \frac{w_i}{1 + e^{\sigma(s_i - s_j)}},
        \qquad P = \{(i, j): y_i > y_j\}

    For binary labels and a large scale it is 1 less the area under the ROC curve
    (:func:`~rankwell.metrics.auc`). Bounded and not convex: pairs that are lost by far are given up, which helps with wrong
    labels and hinders a bad start. Time O(pairs), memory O(n): see :mod:`rankwell.kernels.chunked_pairs`. No second
    derivatives.

    A pair weighs as its better item. A list without pairs has value 0, and counts in the mean.

    Choose it where some labels are wrong and the area under the ROC curve is what counts, behind a start by
    :func:`logistic_loss`, which is convex: pairs that start far off are never learned here. With clean labels stay with
    logistic or :func:`hinge_loss`. On MQ2008 it had NDCG@10 0.5085, logistic 0.5028, softmax 0.5147
    (``docs/leaderboard.md``).

    Args:
        scale: :math:`\sigma`, per unit of the scores: the larger, the closer to a count of pairs.

    Raises:
        InputError: if ``scale`` is not above 0.

    >>> import torch
    >>> soft_zero_one_loss(torch.tensor([1.0986123, 0.0]), torch.tensor([1.0, 0.0]))  # 1 / (1 + 3)
    tensor(0.2500)

    Source: :cite:`yan2003`, the sigmoid approximation of the Wilcoxon-Mann-Whitney statistic; equation number unchecked.
    Differs from it: graded labels.
    """
    lists = _scaled(open_lists(scores, labels, where=where, weights=weights, offsets=offsets), scale)
    return lists.reduce(pair_means(lists, "soft_zero_one"), reduction)


@list_loss(paper="cortes2007", complexity="n")
def pairwise_mse_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Squared difference between the gap of the scores and the gap of the labels, over all pairs of items.

    .. math:: \ell(s, y) = \frac{2}{n(n-1)} \sum_{i < j} \tfrac{w_i + w_j}{2}
        \left( (s_i - s_j) - (y_i - y_j) \right)^2

    Pairs with equal labels count too: their scores are drawn together. Without weights it is twice the sample variance of
    :math:`s - y`, so that it is :func:`~rankwell.losses.mse_loss` that forgives a shift of a whole list. Time and memory
    O(n), from sums around the mean. No second derivatives.

    A pair weighs the mean of its two items, since those of equal labels have no better one. A list of one item has value
    0, and counts in the mean.

    Choose it where differences of labels mean something, as of ratings or a teacher's scores, but not their level, and
    lists are long. Not where most items of a list are alike in label and the order alone counts: it spends itself on
    drawing these together; there take :func:`~rankwell.losses.softmax_loss`, or
    :func:`~rankwell.losses.margin_mse_loss`, which leaves equal ones alone. On MQ2008 it had NDCG@10 0.5135, softmax
    0.5147 (``docs/leaderboard.md``).

    >>> import torch
    >>> pairwise_mse_loss(torch.tensor([3.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))  # (1 + 4 + 1) / 3
    tensor(2.)

    Source: :cite:`cortes2007`, magnitude-preserving ranking with the squared loss; equation number unchecked. Differs from
    it: a mean over the pairs, and no regulariser. Rax counts an item's pair with itself, and so divides by n more.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    off = lists._replace(scores=lists.scores - lists.labels)
    return lists.reduce(pair_means(off, "any_square"), reduction)


def _scaled(lists: Opened, scale: float) -> Opened:
    check_positive(scale, "scale")
    return lists if scale == 1 else lists._replace(scores=scale * lists.scores)
