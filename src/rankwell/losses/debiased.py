"""Contrastive losses that doubt their samples: negatives that may be positives, easy negatives, the balance of both sides."""

import math
from typing import Annotated, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.lists import Dense, Rows, check_at_least, check_positive, open_rows
from rankwell.losses.registry import Neg, Pos, contrast_loss
from rankwell.registry import Search
from rankwell.types import Mask, Reduction, Weights

__all__ = ["debiased_contrastive_loss", "hard_contrastive_loss", "multi_sample_contrastive_loss"]

Temperature: TypeAlias = Annotated[float, Search(0.05, 1.0, log=True)]
PositiveRate: TypeAlias = Annotated[float, Search(0.0, 0.3)]


@contrast_loss(paper="chuang2020", complexity="m + n")
def debiased_contrastive_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    positive_rate: PositiveRate = 0.1,
    temperature: Temperature = 0.5,
) -> Tensor:
    r"""Debiased contrastive loss (DCL): takes out of the negatives' sum what positives among them are expected to add.

    .. math:: \ell = -\sum_i w_i \log \frac{e^{s_i/t}}{e^{s_i/t} + g}, \qquad
        g = \max\left( \frac{\sum_j e^{s_j/t} - \tau^+ n \operatorname{mean}_k e^{s_k/t}}{1 - \tau^+},\; n e^{-1/t} \right)

    With ``positive_rate=0``, cosine scores and one positive it is :func:`~rankwell.losses.sampled_softmax_loss`. The floor,
    :math:`n` times the least exponential of a cosine, keeps the estimate positive: use bounded scores. Where it is reached,
    the negatives have no gradient. Time and memory O(m + n) a row.

    Weights multiply the terms. A row without negatives has value 0.

    Choose it for cosines where a share of the negatives that can be guessed are positives in truth, as with few classes
    or negatives drawn from popular items. Where false negatives are rare, or known and left out by ``where``, take
    :func:`~rankwell.losses.sampled_softmax_loss`, which has one setting less. At equal tuning, ml-latest-small: NDCG@20
    0.2982, sampled softmax 0.2994 (``docs/leaderboard.md``).

    Args:
        positive_rate: :math:`\tau^+`, the share of positives among what is drawn as negatives, from 0 to below 1.
        temperature: :math:`t`, what scores are divided by.

    Raises:
        InputError: if ``positive_rate`` is not from 0 to below 1, or ``temperature`` is not above 0.

    >>> debiased_contrastive_loss(torch.tensor([0.0]), torch.tensor([[0.0, 0.0]]), positive_rate=0.5)  # g = (2 - 1) / .5
    tensor(1.0986)

    Source: :cite:`chuang2020`, the estimator with M positives and N negatives; confirmed in its official code for one positive,
    equation number unchecked. Differs from it: every positive of a row has its term, and they add up.
    """
    _check(positive_rate, temperature)
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    of_neg = rows.logsumexp_neg(temperature, absent=0.0)
    return rows.reduce(_debiased(rows, of_neg, positive_rate, temperature), reduction)


@contrast_loss(paper="robinson2021", complexity="m + n")
def hard_contrastive_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    hardness: Annotated[float, Search(0.1, 3.0, log=True)] = 1.0,
    positive_rate: PositiveRate = 0.1,
    temperature: Temperature = 0.5,
) -> Tensor:
    r"""Contrastive loss with hard negatives (HCL): negatives count by how near they are, and are debiased.

    .. math:: \ell = -\sum_i w_i \log \frac{e^{s_i/t}}{e^{s_i/t} + g}, \qquad
        g = \max\left( \frac{\sum_j v_j\, e^{s_j/t} - \tau^+ n \operatorname{mean}_k e^{s_k/t}}{1 - \tau^+},\; n e^{-1/t}
        \right), \quad v_j = \frac{e^{\beta s_j/t}}{\operatorname{mean}_l e^{\beta s_l/t}}

    With ``hardness=0`` all :math:`v_j` are 1 and it is :func:`debiased_contrastive_loss`, whose remarks hold here too. The
    weights :math:`v` have a gradient. Time and memory O(m + n) a row.

    Weights multiply the terms. A row without negatives has value 0.

    Choose it for cosines and hundreds of easy random negatives of which the nearest should count, some of them being
    positives. It has two settings beside the temperature; lowering that of
    :func:`~rankwell.losses.sampled_softmax_loss` minds the hard ones too. At equal tuning, ml-latest-small: NDCG@20
    0.2933, :func:`debiased_contrastive_loss` 0.2982, sampled softmax 0.2994 (``docs/leaderboard.md``).

    Args:
        hardness: :math:`\beta`, at least 0; the larger, the more the nearest negatives count.
        positive_rate: :math:`\tau^+`, the share of positives among what is drawn as negatives, from 0 to below 1.
        temperature: :math:`t`, what scores are divided by.

    Raises:
        InputError: if ``hardness`` is below 0, ``positive_rate`` is not from 0 to below 1, or ``temperature`` is not above 0.

    >>> hard_contrastive_loss(torch.tensor([0.0]), torch.tensor([[0.0, 0.0]]), positive_rate=0.5)  # equal ones: as debiased
    tensor(1.0986)

    Source: :cite:`robinson2021`; confirmed in its official code, equation number unchecked. Differs from it: several positives
    of a row, whose mean estimates the positives and whose terms add up.
    """
    check_at_least(hardness, "hardness")
    _check(positive_rate, temperature)
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    of_neg = rows.logsumexp_neg(temperature / (1 + hardness), absent=0.0)
    if hardness > 0:
        mean = rows.logsumexp_neg(temperature / hardness, absent=0.0) - _log(rows.count_neg(), of_neg)
        of_neg = of_neg - mean
    return rows.reduce(_debiased(rows, of_neg, positive_rate, temperature), reduction)


def _check(rate: float, heat: float) -> None:
    if not 0 <= rate < 1:
        raise InputError(f"positive_rate must be from 0 to below 1: got {rate}.")
    check_positive(heat, "temperature")


def _debiased(rows: Rows, of_neg: Tensor, rate: float, heat: float) -> Tensor:
    """The weighted sum over positives of ``log(1 + g / e^{s_i/t})``, where ``g`` is made in logarithms."""
    scores, count = rows.pos / heat, rows.count_neg()
    log_count = _log(count, scores)
    floor, estimate = log_count - 1 / heat, of_neg
    if rate > 0:
        positives = Dense(scores, rows.pos_where)
        mean = positives.logsumexp(scores) - _log(positives.count(), scores)
        estimate = _log_difference(of_neg, log_count + math.log(rate) + mean) - math.log1p(-rate)
    log_sum = torch.where(estimate > floor, estimate, floor)
    log_sum = torch.where(count > 0, log_sum, -torch.inf)
    return rows.sum_pos(functional.softplus(log_sum[..., None] - scores, threshold=40))


def _log(count: Tensor, like: Tensor) -> Tensor:
    """Logarithm of a number of items, 0 for none, in the other tensor's precision."""
    return count.clamp(min=1).to(like.dtype).log()


def _log_difference(a: Tensor, b: Tensor) -> Tensor:
    """``log(e^a - e^b)``; minus infinity, without a gradient, where that is not positive."""
    positive = b < a
    gap = torch.where(positive, b - a, -1).clamp(max=-1e-30)  # 0 times its slope stays 0
    return torch.where(positive, a + torch.log(-torch.expm1(gap)), -torch.inf)


@contrast_loss(paper="tang2021", complexity="m + n", softmax=True)
def multi_sample_contrastive_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    alpha: Annotated[float, Search(0.3, 0.7)] = 0.45,
    temperature: Temperature = 0.2,
) -> Tensor:
    r"""Multi-sample contrastive loss (MSCL): InfoNCE over several positives, with weights on its two halves.

    .. math:: \ell = \sum_i w_i \left( -\alpha\, \frac{s_i}{t}
        + (1 - \alpha) \log\Big( e^{s_i/t} + \sum_j e^{s_j/t} \Big) \right)

    With one positive and ``alpha=0.5`` it is half of :func:`~rankwell.losses.sampled_softmax_loss`; several positives do not
    enter each other's denominators. Below one half, a positive whose softmax exceeds :math:`\alpha / (1 - \alpha)` is pushed
    back: the loss is not monotone. Above, it has no lower bound: use bounded scores (cosine). Time and memory O(m + n) a row.

    Weights multiply the terms. A row without negatives keeps :math:`(1 - 2\alpha)\, s_i/t`.

    Choose it for dense likes with cosines, a pool of negatives and time to tune ``alpha``, below one half, so that
    positives already ahead are let go. Above one half it has no bound but that of cosines; without time to tune it take
    :func:`~rankwell.losses.sampled_softmax_loss`. At equal tuning on ml-latest-small it was the first of 22 losses:
    NDCG@20 0.3122, sampled softmax 0.2994, with an alpha of 0.444 (``docs/leaderboard.md``).

    Args:
        alpha: the positive half's weight, between 0 and 1. Published: 0.45 (Yelp, Books), 0.6 (iFashion).
        temperature: :math:`t`, what scores are divided by. Published: 0.1 to 0.2.

    Raises:
        InputError: if ``alpha`` is not between 0 and 1, or ``temperature`` is not above 0.

    >>> multi_sample_contrastive_loss(torch.tensor([0.0]), torch.tensor([[0.0]]), alpha=0.4)  # .6 log 2
    tensor(0.4159)

    Source: :cite:`tang2021`; read in its official code, equation number unchecked. Differs from it: no constant inside the
    logarithms, positives and negatives are given and not drawn from the batch.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha must be between 0 and 1: got {alpha}.")
    check_positive(temperature, "temperature")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    scores = rows.pos / temperature
    of_all = torch.logaddexp(scores, rows.logsumexp_neg(temperature)[..., None])
    return rows.reduce(rows.sum_pos((1 - alpha) * of_all - alpha * scores), reduction)
