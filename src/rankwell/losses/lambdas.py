r"""Lambda losses: pairs of a better and a worse item, weighed by what a metric would make of them and summed.

The weights follow the ranks of the present scores, and carry no gradient. Of items with equal scores the less relevant
one ranks first, so that scores that all tie count as the worst order; of equal labels too, the earlier item. A pair
weighs, besides, as its better item: weights multiply its term, and neither gains nor ranks.

A list's value is the sum over its pairs. Elsewhere the batch is summed too (allRank), or averaged over all of its pairs
(sentence-transformers), or the sum is multiplied by the number of items (Rax, TensorFlow Ranking).
"""

import math
from typing import Annotated, Literal, TypeAlias, get_args

from torch import Tensor

from rankwell.errors import InputError
from rankwell.kernels.lambda_pairs import lambda_sums
from rankwell.lists import check_at_least, check_count, check_positive, open_lists
from rankwell.losses.registry import list_loss
from rankwell.registry import Search
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = ["LambdaMetric", "lambda_loss", "lambda_rank_loss", "ndcg_loss1", "ndcg_loss2", "ndcg_loss2pp"]

LambdaMetric: TypeAlias = Literal["ndcg", "mrr", "map", "precision", "arp"]
Temperature: TypeAlias = Annotated[float, Search(0.1, 10.0, log=True)]
Cut: TypeAlias = Annotated[int | None, Search(1, 100, log=True)]


def _check(temperature: float, k: int | None = None) -> None:
    check_positive(temperature, "temperature")
    check_count(k, "k", optional=True)


@list_loss(paper="burges2006", complexity="n k")
def lambda_rank_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    k: Cut = None,
    metric: LambdaMetric = "ndcg",
    temperature: Temperature = 1.0,
    norm: bool = False,
) -> Tensor:
    r"""LambdaRank: logistic loss of each pair, times what its metric loses or gains when the two change places.

    .. math:: \ell(s, y) = \sum_{\substack{y_i > y_j \\ \min(\pi_i, \pi_j) \le k}}
        w_i\, |\Delta M_{ij}| \log\left(1 + e^{-(s_i - s_j) / t}\right)

    with :math:`\pi_i` the rank of item i by the present scores, the highest at 1. A pair counts when either of its items is
    among the first k, so that a relevant item far down is drawn up past these. :math:`\Delta M_{ij}` is, for ``metric``,

    - ``"ndcg"``: :math:`(G_i - G_j)\,|1/D_i - 1/D_j|` with :math:`D_i = \log_2(1 + \pi_i)` and :math:`G_i = (2^{y_i} - 1)` over
      the DCG of the best order cut at k; labels below 0 gain nothing. For linear gains pass ``log2(1 + labels)``;
    - ``"mrr"`` and ``"map"``: the change of 1 over the first relevant rank, and of the average precision, both uncut;
      a label of at least 1 is relevant, and only pairs of a relevant and another item count;
    - ``"precision"``: the change of precision at k, 1/k for a relevant item outside the first k and another one inside, or
      the other way round;
    - ``"arp"``: :math:`y_i - y_j`, what a pair in the wrong order adds to the sum of label times rank, the average relevance
      position before division.

    With ``"arp"`` and no k this is :func:`~rankwell.losses.logistic_loss` with pairs weighed by the difference of their labels,
    and a sum. :func:`ndcg_loss2pp` adds a second weight to ``"ndcg"``'s. Time O(n log n + n k), without k O(relevant x n);
    memory O(n): see :mod:`rankwell.kernels.lambda_pairs`. No second derivatives. Weights and ties: see the module,
    :mod:`rankwell.losses.lambdas`. A list without pairs has value 0, and counts in the mean.

    Choose it for graded lists judged by their first places, long ones too: with k it takes O(n k); or for another
    ``metric`` than NDCG. On small data start with :func:`~rankwell.losses.softmax_loss`, which was not behind: on
    MQ2008 it had NDCG@10 0.5096, softmax 0.5152 (``bench/results/mq2008.txt``). Where all pairs can be paid for,
    :func:`lambda_loss` bounds the NDCG at k.

    Args:
        k: how deep the ranks go that one item of a pair must have; None for all pairs. LightGBM's truncation level.
        metric: what the pairs are weighed for; ``"precision"`` needs k.
        temperature: what gaps of scores are divided by; 1 over the papers' and LightGBM's sigma.
        norm: LightGBM's normalisation: each pair's weight over 0.01 plus the size of its gap (where the scores of the list
            are not all equal), then the list times :math:`\log_2(1 + S) / S`, with S twice the sum of all pairs' forces
            before ``weights``. All of it is constant to the gradient.

    Raises:
        InputError: if k is below 1 or missing for ``"precision"``, the metric unknown, or the temperature not above 0.

    >>> import torch
    >>> # Gains 1 and 0, ranks 2 and 1: (1 - 1 / log2(3)) log(1 + e)
    >>> lambda_rank_loss(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    tensor(0.4847)

    Source: :cite:`burges2006`, the weighed pairwise gradient, here as the loss that has it; ``"mrr"`` and ``"map"`` after
    :cite:`donmez2009`, ``"arp"`` after :cite:`wang2018` (ARP-Loss2, there with base 2), equation numbers unchecked; the cut
    and ``norm`` as in LightGBM (``rank_objective.hpp``), whose gradient ``"ndcg"`` has. Differs from LightGBM, whose
    training is ``k=30, norm=True, reduction="sum"``: a pair weighs as its better item where LightGBM multiplies each item's
    gradient by its own weight, and ties of scores rank by label instead of by position. Rax's cut keeps such pairs, with
    discounts of 0 beyond k.
    """
    _check(temperature, k)
    if metric not in get_args(LambdaMetric):
        raise InputError(f"metric must be one of {', '.join(get_args(LambdaMetric))}: got {metric!r}.")
    if metric == "precision" and k is None:
        raise InputError("metric 'precision' needs k: without a cut-off no order is more precise than another.")
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    values = lambda_sums(
        lists, metric, k=k, cut=k is not None, weighted=weights is not None, temperature=temperature, norm=norm
    )
    return lists.reduce(values, reduction)


@list_loss(paper="wang2018", complexity="n^2")
def ndcg_loss1(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    temperature: Temperature = 1.0,
) -> Tensor:
    r"""NDCG-Loss1: each relevant item against every other item of its list, weighed by its present share of the NDCG.

    .. math:: \ell(s, y) = \sum_i \sum_{j \ne i} w_i \frac{G_i}{D_i} \log_2\left(1 + e^{-(s_i - s_j) / t}\right)

    with gains :math:`G_i = (2^{y_i} - 1)` over the DCG of the best order and discounts :math:`D_i = \log_2(1 + \pi_i)` of the
    ranks. It bounds :math:`1 - \mathrm{NDCG}` from above, less tightly than :func:`ndcg_loss2`: pairs of equally relevant
    items count too, and pull each of the two over the other. Time O(relevant x n), memory O(n).
    No second derivatives. Weights and ties: see the module, :mod:`rankwell.losses.lambdas`.

    Choose it only to compare with :func:`ndcg_loss2` and :func:`lambda_loss`, whose bounds are tighter at the same
    cost, and which do not set equally relevant items against each other. On MQ2008 NDCG@10 was 0.5113, 0.5102 and
    0.5155 (``docs/leaderboard.md``), which five folds hardly tell apart.

    Args:
        temperature: what gaps of scores are divided by; 1 over the paper's sigma.

    Raises:
        InputError: if the temperature is not above 0.

    >>> import torch
    >>> # Only the first item gains; it ranks second: log2(1 + e) / log2(3)
    >>> ndcg_loss1(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    tensor(1.1954)

    Source: :cite:`wang2018`, NDCG-Loss1; equation number unchecked. Differs from it: an item is not paired with itself,
    which would add a constant.
    """
    _check(temperature)
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(
        lambda_sums(lists, "ndcg_loss1", weighted=weights is not None, temperature=temperature) / math.log(2), reduction
    )


@list_loss(paper="wang2018", complexity="n^2")
def ndcg_loss2(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    temperature: Temperature = 1.0,
) -> Tensor:
    r"""NDCG-Loss2: pairs weighed by how far apart they rank; a bound of the NDCG that is lost.

    .. math:: \ell(s, y) = \sum_{y_i > y_j} w_i\, \delta_{ij}\, (G_i - G_j) \log_2\left(1 + e^{-(s_i - s_j) / t}\right),
        \qquad \delta_{ij} = \frac{1}{\log_2(1 + |\pi_i - \pi_j|)} - \frac{1}{\log_2(2 + |\pi_i - \pi_j|)}

    with gains :math:`G_i = (2^{y_i} - 1)` over the DCG of the best order and :math:`\pi_i` the rank of item i. Neighbours
    weigh most, wherever they stand; :func:`ndcg_loss2pp` minds the top as well. Together with
    :math:`\sum_{i < j} \delta_{ij} \min(G_i, G_j)`, constant while the ranks are, it bounds :math:`1 - \mathrm{NDCG}` from
    above. At k: :func:`lambda_loss`. Time O(relevant x n), memory O(n). No second derivatives.
    Weights and ties: see the module, :mod:`rankwell.losses.lambdas`. A list without pairs has value 0, and counts in the mean.

    Choose it for graded lists of some hundred items judged by NDCG over all places; with a cut take
    :func:`lambda_loss`, whose case without k this is, for lists of thousands :func:`lambda_rank_loss` with k. On MQ2008
    it had NDCG@10 0.5102, lambda_loss 0.5155, the O(n) :func:`~rankwell.losses.softmax_loss` 0.5147
    (``docs/leaderboard.md``).

    Args:
        temperature: what gaps of scores are divided by; 1 over the paper's sigma.

    Raises:
        InputError: if the temperature is not above 0.

    >>> import torch
    >>> # One rank apart, gains 1 and 0: (1 - 1 / log2(3)) log2(1 + e)
    >>> ndcg_loss2(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    tensor(0.6993)

    Source: :cite:`wang2018`, NDCG-Loss2; equation number unchecked.
    """
    _check(temperature)
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(
        lambda_sums(lists, "ndcg_loss2", weighted=weights is not None, temperature=temperature) / math.log(2), reduction
    )


@list_loss(paper="wang2018", complexity="n^2")
def ndcg_loss2pp(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    mu: Annotated[float, Search(0.1, 100.0, log=True)] = 10.0,
    temperature: Temperature = 1.0,
) -> Tensor:
    r"""NDCG-Loss2++: the weights of LambdaRank and of NDCG-Loss2 together.

    .. math:: \ell(s, y) = \sum_{y_i > y_j} w_i\, (\rho_{ij} + \mu\, \delta_{ij})\, (G_i - G_j)
        \log_2\left(1 + e^{-(s_i - s_j) / t}\right), \qquad \rho_{ij} = \left|\frac{1}{D_i} - \frac{1}{D_j}\right|

    with :math:`\delta_{ij}`, gains and discounts of :func:`ndcg_loss2`. It is :func:`lambda_rank_loss` over log 2 plus mu times
    :func:`ndcg_loss2`. Time O(relevant x n), memory O(n). No second derivatives. Weights and ties: see the module,
    :mod:`rankwell.losses.lambdas`. A list without pairs has value 0, and counts in the mean.

    Choose it where :func:`lambda_rank_loss` and :func:`ndcg_loss2` have both been tried and ``mu`` between them can be
    tuned, on lists of some hundred items. With a cut at k take :func:`lambda_loss`, which has one setting less to
    weigh. On MQ2008 NDCG@10 was 0.5113, lambda_rank 0.5094, ndcg_loss2 0.5102, lambda_loss 0.5155
    (``docs/leaderboard.md``), which five folds hardly tell apart.

    Args:
        mu: how much the second weight counts; at 0 LambdaRank is left.
        temperature: what gaps of scores are divided by; 1 over the paper's sigma.

    Raises:
        InputError: if mu is below 0 or the temperature not above 0.

    >>> import torch
    >>> # Of ranks 1 and 2 both weights are 1 - 1 / log2(3): (1 + 10) (1 - 1 / log2(3)) log2(1 + e)
    >>> ndcg_loss2pp(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    tensor(7.6918)

    Source: :cite:`wang2018`, NDCG-Loss2++; equation number unchecked.
    """
    _check(temperature)
    check_at_least(mu, "mu")
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(
        lambda_sums(lists, "ndcg_loss2pp", mu, weighted=weights is not None, temperature=temperature) / math.log(2),
        reduction,
    )


@list_loss(name="lambda_loss", paper="jagerman2022", complexity="n^2")
def lambda_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    k: Cut = None,
    temperature: Temperature = 1.0,
) -> Tensor:
    r"""LambdaLoss at k: NDCG-Loss2 with the pairs that reach beyond rank k weighed up, a bound of the NDCG at k that is lost.

    .. math:: \ell(s, y) = \sum_{y_i > y_j} w_i\, \mu_{ij}\, \delta_{ij}\, (G_i - G_j)
        \log_2\left(1 + e^{-(s_i - s_j) / t}\right), \qquad
        \mu_{ij} = \begin{cases} 1 / \left(1 - 1 / \log_2(1 + \pi_{ij})\right) & \pi_{ij} > k \\ 1 & \text{else} \end{cases}

    with :math:`\pi_{ij} = \max(\pi_i, \pi_j)` the worse rank of the two, :math:`\delta_{ij}` of :func:`ndcg_loss2`, and gains
    over the DCG of the best order cut at k. All pairs count: an item beyond k has all of its gain to win. The cut of
    :func:`lambda_rank_loss` leaves pairs out instead. Without k it is :func:`ndcg_loss2`. Time O(relevant x n), memory O(n).
    No second derivatives. Weights and ties: see the module, :mod:`rankwell.losses.lambdas`. A list without pairs has
    value 0, and counts in the mean.

    Choose it for thousands of queries with graded judgements and NDCG at k as the measure, in lists of up to some
    hundred items. With fewer queries take :func:`~rankwell.losses.softmax_loss`, with lists of thousands
    :func:`lambda_rank_loss`, at O(n k). On MQ2008, 471 queries a fold, it had NDCG@10 0.5097, softmax 0.5152
    (``bench/results/mq2008.txt``); of six settings each 0.5155 and 0.5147 (``docs/leaderboard.md``).

    Args:
        k: the cut-off of the NDCG; None for the whole list.
        temperature: what gaps of scores are divided by; 1 over sigma.

    Raises:
        InputError: if k is below 1 or the temperature not above 0.

    >>> import torch
    >>> # The pair reaches to rank 2, which undoes delta's 1 - 1 / log2(3): log2(1 + e)
    >>> lambda_loss(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), k=1)
    tensor(1.8946)

    Source: :cite:`jagerman2022`, the loss for NDCG at k, as written out in Rax and TensorFlow Ranking; equation number
    unchecked. Differs from these: no factor n, gains are over the best DCG, and the logarithm is that of :cite:`wang2018`,
    of base 2.
    """
    _check(temperature, k)
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(
        lambda_sums(lists, "lambda_loss", k=k, weighted=weights is not None, temperature=temperature) / math.log(2),
        reduction,
    )
