"""Listwise losses of the softmax: the chance of each item to be drawn first."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.kernels.gains import exponential_gains
from rankwell.kernels.plackett_luce import log_chance_sums
from rankwell.lists import check_at_least, check_count, check_positive, open_lists
from rankwell.losses.registry import list_loss
from rankwell.registry import Search
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = [
    "kl_loss",
    "listnet_loss",
    "listwise_softmax_at_k_loss",
    "poly1_softmax_loss",
    "softmax_loss",
    "unique_softmax_loss",
]


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

    With labels that sum to one this is top-one ListNet, whose own labels are a softmax, :func:`listnet_loss`; with one
    relevant item, InfoNCE. ``contrast(softmax_loss)`` is
    :func:`~rankwell.losses.sampled_softmax_loss`. Several relevant items pull against each other: at best their probabilities
    are in the ratio of their labels. Time and memory O(n) a list.

    Weights multiply the terms, not the denominator.

    Choose it first, for judged lists, graded or binary, and for a positive among hard negatives: it is O(n), has
    nothing to set, and was the best of fourteen losses on MQ2008 (NDCG@10 0.5152, as LambdaMART;
    ``bench/results/mq2008.txt``). Where a list has many items of one grade take :func:`unique_softmax_loss`; where
    scores must be probabilities, :func:`~rankwell.losses.sigmoid_loss`; with thousands of queries and a cut at k, try
    :func:`~rankwell.losses.lambda_loss`.

    >>> import torch
    >>> softmax_loss(torch.tensor([2.0, 1.0, 3.0]), torch.tensor([1.0, 0.0, 0.0]))  # log(1 + 1/e + e)
    tensor(1.4076)

    Source: :cite:`cao2007`, the top-one cross-entropy; equation number unchecked. Differs from it: labels are not normalised.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(lists.cross_entropy(lists.labels, lists.scores), reduction)


@list_loss(paper="cao2007", complexity="n")
def listnet_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""ListNet, top one: cross-entropy between the softmax of the labels and that of the scores.

    .. math:: \ell(s, y) = -\sum_i w_i\, P_y(i) \log P_s(i), \qquad P_x(i) = \frac{e^{x_i}}{\sum_j e^{x_j}}

    Its least value is the entropy of the labels' distribution; :func:`kl_loss` is the same less that entropy, with
    temperatures. An irrelevant item has a share of the labels' distribution too: for binary labels give
    :func:`softmax_loss` labels that are divided by their sum. Time and memory O(n) a list.

    Weights multiply the terms, not the denominators.

    Choose it for labels that are scores of some units' spread, such as a teacher's. Not for binary labels, whose
    softmax gives every irrelevant item a share: there take :func:`softmax_loss`; nor for scores of a wide spread, whose
    softmax is one item: there take :func:`kl_loss` and its label temperature. On MQ2008 it had NDCG@10 0.5077, softmax
    0.5152 (``bench/results/mq2008.txt``).

    >>> import torch
    >>> listnet_loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))  # log 2, whatever the labels
    tensor(0.6931)

    Source: :cite:`cao2007`, its loss for k = 1; equation number unchecked.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    wanted = lists.lists.log_softmax(lists.labels).exp()
    return lists.reduce(lists.cross_entropy(wanted, lists.scores), reduction)


@list_loss(paper="hinton2015", complexity="n")
def kl_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    temperature: Annotated[float, Search(0.01, 10.0, log=True)] = 1.0,
    label_temperature: Annotated[float, Search(0.01, 10.0, log=True)] = 1.0,
) -> Tensor:
    r"""Kullback-Leibler divergence of the scores' distribution over the list from that of the labels.

    .. math:: \ell(s, y) = \sum_i w_i\, P_y(i) \left( \log P_y(i) - \log P_s(i) \right), \qquad
        P_s = \text{softmax}(s / \tau), \quad P_y = \text{softmax}(y / \tau_y)

    For labels that are a teacher's scores, or grades. Zero where the distributions are equal. Its gradient, at temperatures
    of one, is that of :func:`listnet_loss`. Time and memory O(n) a list.

    Weights multiply the terms; unless they are equal in a list, the least value is no longer zero.

    Choose it to learn a teacher's scores over each list, whatever their scale, with cosines too: each side has its
    temperature. Where the size of gaps matters, take :func:`~rankwell.losses.margin_mse_loss`; for grades
    :func:`softmax_loss` (MQ2008: NDCG@10 0.5051 and 0.5147; ``docs/leaderboard.md``). It copies a weak teacher too:
    from BM25, SciFact's NDCG@10 fell from 0.6239 before training to 0.5800 (``bench/results/scifact.txt``).

    Args:
        temperature: divides the scores.
        label_temperature: divides the labels; a small one leaves the best label alone.

    Raises:
        InputError: if a temperature is not above 0.

    >>> import torch
    >>> kl_loss(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]))
    tensor(0.)

    Source: :cite:`hinton2015`, its soft targets; equation number unchecked. Differs from it: a list stands for the classes,
    and the value is not multiplied by the squared temperature.
    """
    check_positive(temperature, "temperature")
    check_positive(label_temperature, "label_temperature")
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    wanted = lists.lists.log_softmax(lists.labels / label_temperature)
    gaps = wanted - lists.lists.log_softmax(lists.scores / temperature)
    return lists.reduce(lists.lists.sum(lists.weights * wanted.exp() * gaps), reduction)


@list_loss(paper="leng2022", complexity="n", softmax=True)
def poly1_softmax_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    epsilon: Annotated[float, Search(-1.0, 6.0)] = 1.0,
) -> Tensor:
    r"""Softmax cross-entropy whose first-order term weighs otherwise.

    .. math:: \ell(s, y) = \sum_i w_i\, y_i \left[ -\log p_i + \epsilon (1 - p_i) \right], \qquad
        p_i = \frac{e^{s_i}}{\sum_j e^{s_j}}

    The cross-entropy is :math:`\sum_j (1 - p)^j / j`; this adds epsilon to the first coefficient. At 0 it is
    :func:`softmax_loss`; its pointwise sister is :func:`~rankwell.losses.poly1_loss`. Time and memory O(n) a list.

    Weights multiply the terms, not the denominator.

    Choose it where :func:`softmax_loss` is tuned and one setting more can be paid for: above 0, epsilon pulls longer on
    relevant items that lead already, below 0 shorter. Start with softmax, which has nothing to set. On MQ2008 it had
    NDCG@10 0.5150, softmax 0.5147 (``docs/leaderboard.md``).

    Args:
        epsilon: what is added to the first coefficient, which is 1; from -1, where the term vanishes.

    Raises:
        InputError: if ``epsilon`` is below -1.

    >>> import torch
    >>> poly1_softmax_loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))  # log 2 + 1/2
    tensor(1.1931)

    Source: :cite:`leng2022`, its Poly-1 loss; equation number unchecked. Differs from it: several items may be relevant, each
    with its own term, and labels are not normalised. Rax has one term for them: epsilon times one less the mean of p that
    the labels weigh.
    """
    check_at_least(epsilon, "epsilon", -1)
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    log_p = lists.lists.log_softmax(lists.scores)
    return lists.reduce(
        -lists.lists.sum(lists.weights * lists.labels * (log_p + epsilon * torch.expm1(log_p))), reduction
    )


@list_loss(paper="zhu2020", complexity="n log n", softmax=True)
def unique_softmax_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    gain: Literal["exponential", "linear"] = "exponential",
) -> Tensor:
    r"""Softmax of each relevant item against itself and the strictly worse ones only.

    .. math:: \ell(s, y) = \sum_i w_i\, g(y_i) \log \frac{e^{s_i} + \sum_{j:\, y_j < y_i} e^{s_j}}{e^{s_i}}, \qquad
        g(y) = 2^y - 1

    Unlike in :func:`softmax_loss`, relevant items do not pull against their equals or betters. For one relevant item of
    grade 1 it is the same. :func:`~rankwell.losses.listmle_loss` draws each item from its equals too, and weighs all the
    same. Time O(n log n), memory O(n). No second derivatives.

    Weights multiply the terms, not the denominators.

    Choose it for graded lists with many relevant items, which compete under :func:`softmax_loss`; a sort makes it some
    ten times as slow on lists of 100 (``bench/results/losses.txt``). With one relevant item, or few, stay with
    softmax; for an order without grades take :func:`~rankwell.losses.listmle_loss`. On MQ2008 it had NDCG@10 0.5158,
    softmax 0.5147 (``docs/leaderboard.md``).

    Args:
        gain: what a grade counts: ``"exponential"``, 2^y - 1, or ``"linear"``, y. In float32 the first is infinite from a
            grade of 128 on, and the list's value infinite or NaN: the loss is no ratio.

    Raises:
        InputError: if ``gain`` is neither.

    >>> import torch
    >>> unique_softmax_loss(torch.tensor([0.0, 0.0, 5.0]), torch.tensor([1.0, 0.0, 1.0]))  # log 2 + log(1 + e^-5)
    tensor(0.6999)

    Source: :cite:`zhu2020`; equation number unchecked. The gains are as in TensorFlow Ranking.
    """
    if gain not in ("exponential", "linear"):
        raise InputError(f"gain must be 'exponential' or 'linear': got {gain!r}.")
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    gains = exponential_gains(lists.labels) if gain == "exponential" else lists.labels
    return lists.reduce(log_chance_sums(lists, lists.weights * gains, "worse"), reduction)


@list_loss(paper="yang2025", complexity="n log k")
def listwise_softmax_at_k_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    k: Annotated[int, Search(1, 100, log=True)] = 10,
    temperature: Annotated[float, Search(0.01, 10.0, log=True)] = 1.0,
    weight_temperature: Annotated[float, Search(0.01, 10.0, log=True)] = 1.0,
) -> Tensor:
    r"""Softmax at k (SL@K) in list form: an item counts by how surely it is among the first k.

    .. math:: \ell(s, y) = \sum_i w_i\, y_i\, \sigma\!\left(\frac{s_i - \beta}{\tau_w}\right) \log \sum_j e^{(s_j - s_i) / \tau}

    where :math:`\beta` is the k-th largest score of the list, a constant to the gradient; in a list of fewer than k all are in
    the top k, and the sigmoid is 1. Without the sigmoid it is :func:`softmax_loss`; a relevant item that falls far below the
    threshold is given up, and costs less. The contrast form, :func:`~rankwell.losses.softmax_at_k_loss`, has the negatives
    alone in the sum. Time O(n log k), memory O(n).

    Weights multiply the terms, not the denominator.

    Choose it for lists much longer than k, cut there, with labels of which some are wrong: a relevant item far below
    the cut is given up, and with clean labels that is a loss. There take :func:`softmax_loss`, or
    :func:`~rankwell.losses.lambda_loss`, which draws such items up; with sampled negatives
    :func:`~rankwell.losses.softmax_at_k_loss`. On MQ2008 it had NDCG@10 0.5090, softmax 0.5147
    (``docs/leaderboard.md``).

    Args:
        k: the cut-off, from 1.
        temperature: divides the gaps in the softmax.
        weight_temperature: divides the distance to the threshold; the smaller, the sharper the cut-off.

    Raises:
        InputError: if ``k`` is no whole number from 1 or a temperature not above 0.

    >>> import torch
    >>> listwise_softmax_at_k_loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]), k=1)  # 1/2 log 2
    tensor(0.3466)

    Source: :cite:`yang2025`; equation number unchecked. Differs from it: the threshold is the list's own, taken anew at each
    call, not a user's quantile over sampled items; graded labels multiply the terms.
    """
    check_count(k, "k")
    check_positive(temperature, "temperature")
    check_positive(weight_temperature, "weight_temperature")
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    threshold = lists.lists.spread(lists.lists.kth_largest(lists.scores, k))
    inside = torch.sigmoid((lists.scores - threshold) / weight_temperature)
    return lists.reduce(lists.cross_entropy(lists.labels * inside, lists.scores / temperature), reduction)
