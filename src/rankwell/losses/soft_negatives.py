"""Losses of GRU4Rec: each negative counts by itself or by its softmax, and high scores of negatives are pulled to zero."""

from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.kernels.gaps import gap_sums
from rankwell.lists import Dense, Rows, check_at_least, open_rows
from rankwell.losses.registry import Neg, Pos, contrast_loss
from rankwell.registry import Search
from rankwell.types import Mask, Reduction, Weights

__all__ = ["bpr_max_loss", "top1_loss"]

FLAT = 100.0
"""From here on the sigmoid of the square is 1 and has no slope, in float64 too; that of an infinite square would be NaN."""


@contrast_loss(paper="hidasi2016", complexity="m n")
def top1_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    average: Literal["mean", "softmax"] = "mean",
) -> Tensor:
    r"""TOP1 of GRU4Rec: a soft count of the negatives above the positive, and a pull of their scores to zero.

    .. math:: \ell = \operatorname{mean}_i w_i \sum_j v_j \left( \sigma(s_j - s_i) + \sigma(s_j^2) \right)

    with :math:`v_j = 1/n` or, by ``average="softmax"``, the softmax of the negatives' scores: then it is TOP1-max, whose
    gradient does not vanish as the negatives grow in number. The weights have a gradient. Time O(m n), memory O(m + n). No
    second derivatives.

    Weights multiply the positives' terms. A row without negatives has value 0.

    Choose it for inner products of sessions or likes with some false negatives: a pair lost by far is given up, where
    :func:`~rankwell.losses.bpr_loss` pulls on; with hundreds of negatives by ``average="softmax"``. The pull of scores
    to zero is part of it, so not where these mean something. At equal tuning, by the mean, it had NDCG@20 0.3022 on
    ml-latest-small, :func:`~rankwell.losses.sampled_softmax_loss` 0.2994, BPR 0.2968 (``docs/leaderboard.md``).

    Args:
        average: how negatives are averaged.

    Raises:
        InputError: if ``average`` is neither.

    >>> top1_loss(torch.tensor([0.0]), torch.tensor([[0.0, 0.0]]))  # 1/2 + 1/2
    tensor(1.)

    Source: :cite:`hidasi2016`, TOP1; :cite:`hidasi2018`, TOP1-max; equation numbers unchecked. Differs from them: several
    positives, averaged.
    """
    if average not in ("mean", "softmax"):
        raise InputError(f"average must be 'mean' or 'softmax': got {average!r}.")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    shares = _shares(rows) if average == "softmax" else _equal_shares(rows)
    above = gap_sums(partial(_soft_count, constant=average == "mean"), rows, _mean_weights(rows), shares)
    square = torch.sigmoid(_absent_to_zero(rows).clamp(-FLAT, FLAT).square())
    of_neg = rows.by_mean_weight((shares * square).sum(-1))
    return rows.reduce(above + of_neg, reduction)


@contrast_loss(paper="hidasi2018", complexity="m n")
def bpr_max_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    neg_penalty: Annotated[float, Search(0.01, 10.0, log=True)] = 1.0,
) -> Tensor:
    r"""BPR against the likely best of the negatives, and a pull of the high negatives to zero.

    .. math:: \ell = \operatorname{mean}_i w_i \left( -\log \sum_j p_j\, \sigma(s_i - s_j) + \lambda \sum_j p_j\, s_j^2 \right),
        \qquad p = \operatorname{softmax}(\{s_j\}_j)

    With one negative and ``neg_penalty=0`` it is :func:`~rankwell.losses.bpr_loss`. There all negatives share the pull; here it
    goes to those that score high, so that many easy ones do not dilute it. Time O(m n), memory O(m + n). No second derivatives.

    Weights multiply the positives' terms. A row without negatives has value 0.

    Choose it instead of :func:`~rankwell.losses.bpr_loss` for sessions with hundreds of negatives, most of them easy,
    which there dilute the pull; it has a penalty to tune. With ten negatives or fewer take bpr, for likes
    :func:`~rankwell.losses.sampled_softmax_loss`. At equal tuning, ml-latest-small: NDCG@20 0.2868, these 0.2968 and
    0.2994 (``docs/leaderboard.md``).

    Args:
        neg_penalty: :math:`\lambda`, the weight of the negatives' squares.

    Raises:
        InputError: if ``neg_penalty`` is below 0.

    >>> bpr_max_loss(torch.tensor([0.0]), torch.tensor([[0.0, 0.0]]))  # log 2
    tensor(0.6931)

    Source: :cite:`hidasi2018`, BPR-max with score regularisation; equation number unchecked. Differs from it: several
    positives, averaged.
    """
    check_at_least(neg_penalty, "neg_penalty")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    values = gap_sums(_max_logistic, rows, _mean_weights(rows))
    penalty = rows.by_mean_weight(_mean_square(rows, _shares(rows)))
    return rows.reduce(values + neg_penalty * penalty, reduction)


def _mean_weights(rows: Rows) -> Tensor:
    """Weights whose sum over positives is a mean."""
    return rows.weights / Dense(rows.pos, rows.pos_where).count().clamp(min=1)[..., None]


def _shares(rows: Rows) -> Tensor:
    """Softmax of the negatives; 0 where masked."""
    if rows.where is None:
        return rows.given_neg.softmax(-1)
    # The minimum, not -inf: rows without negatives then have finite shares, put to 0 behind.
    shares = torch.where(rows.where, rows.given_neg, torch.finfo(rows.given_neg.dtype).min).softmax(-1)
    return torch.where(rows.where, shares, 0)


def _equal_shares(rows: Rows) -> Tensor:
    shares = (1 / rows.count_neg().clamp(min=1).to(rows.neg.dtype))[..., None].expand_as(rows.neg)
    return shares if rows.where is None else torch.where(rows.where, shares, 0)


def _absent_to_zero(rows: Rows) -> Tensor:
    return rows.given_neg if rows.where is None else torch.where(rows.where, rows.given_neg, 0)


def _mean_square(rows: Rows, shares: Tensor) -> Tensor:
    """Mean of the negatives' squares by shares, taken from the best negative's: it would cancel in the shares' gradient."""
    centre = rows.max_neg().detach()[..., None]
    centre = torch.where(centre == -torch.inf, 0, centre)
    neg = torch.where(shares > 0, rows.given_neg, centre)  # a share of 0 is of a negative whose square may be infinite
    return (shares * (neg - centre) * (neg + centre)).sum(-1) + centre.squeeze(-1).square()


def _soft_count(gap: Tensor, shares: Tensor | None, *, constant: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mean by shares of the sigmoids of the gaps."""
    assert shares is not None
    above = torch.sigmoid(gap)
    terms = above * shares
    return terms.sum(-1), terms * torch.sigmoid(-gap), None if constant else above


def _max_logistic(gap: Tensor, _extra: Tensor | None) -> tuple[Tensor, Tensor, None]:
    """``-log Σ p σ(s_i - s_j)``, which is ``log Σ e^gap - log Σ σ(gap)``: that never leaves the gaps, and so never cancels."""
    top = gap.amax(-1, keepdim=True)
    top = torch.where(top == -torch.inf, 0, top)
    above = -functional.softplus(-top, threshold=40)
    shares = (gap - top).exp()
    wins = (-functional.softplus(-gap, threshold=40) - above).exp()
    totals = [x.sum(-1, keepdim=True) for x in (shares, wins)]
    of_shares, of_wins = (torch.where(total > 0, total, 1) for total in totals)
    value = top - above + of_shares.log() - of_wins.log()
    slope = shares / of_shares - wins / of_wins * torch.sigmoid(-gap)
    return torch.where(totals[0] > 0, value, 0).squeeze(-1), slope, None
