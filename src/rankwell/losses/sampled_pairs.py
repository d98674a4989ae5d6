"""Losses of a positive and each of its sampled negatives, or the best of them."""

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.lists import check_at_least, open_rows
from rankwell.losses.pairwise import hinge_loss
from rankwell.losses.registry import Margin, Neg, Pos, contrast_loss
from rankwell.losses.styles import contrast
from rankwell.losses.warp import check_num_items
from rankwell.registry import Input, Search
from rankwell.types import Mask, Reduction, Weights

__all__ = ["contrast_hinge_loss", "gbce_loss", "simce_loss"]


@contrast_loss(paper="herbrich2000", complexity="m n")
def contrast_hinge_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    margin: Margin = 1.0,
) -> Tensor:
    r"""Hinge of the gap between each positive and each negative.

    .. math:: \ell = \frac{1}{m n} \sum_i \sum_j w_i \left[ m - (s_i - s_j) \right]_+

    It is ``contrast(hinge_loss)``; over negative squared Euclidean similarity, the plain triplet loss. Against
    :func:`~rankwell.losses.bpr_loss` it leaves negatives alone that are a margin below. Time O(m n) or better, memory O(m + n).

    A pair weighs as its positive. A row without negatives has value 0.

    Choose it for inner products where negatives below the positive by a margin should cost nothing, and the margin can
    be tuned to the scale of the scores. Where nothing is to be set, take :func:`~rankwell.losses.bpr_loss`; with
    cosines and many negatives, :func:`~rankwell.losses.ccl_loss`. At equal tuning it had NDCG@20 0.2977 on
    ml-latest-small, BPR 0.2968 (``docs/leaderboard.md``).

    Args:
        margin: the gap, in units of the scores, beyond which a pair costs nothing.

    Raises:
        InputError: if ``margin`` is below 0.

    >>> contrast_hinge_loss(torch.tensor([1.0]), torch.tensor([[0.5, -2.0]]))  # (.5 + 0) / 2
    tensor(0.2500)

    Source: :cite:`herbrich2000`, as :func:`~rankwell.losses.hinge_loss`; equation number unchecked. Differs from it: a mean
    over the pairs of a row, and no regulariser.
    """
    check_at_least(margin, "margin")
    if pos.ndim == neg.ndim:  # several positives
        rows_loss = contrast(hinge_loss)
        return rows_loss(
            pos, neg, pos_where=pos_where, where=where, weights=weights, reduction=reduction, margin=margin
        )
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    terms = torch.relu(rows.neg - (rows.pos - margin)).sum(-1) / rows.count_neg().clamp(min=1)
    return rows.reduce(rows.mean_pos(terms[..., None]), reduction)


@contrast_loss(paper="yang2024simce", complexity="m + n")
def simce_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    margin: Margin = 5.0,
) -> Tensor:
    r"""Simplified cross-entropy: hinge of the gap between each positive and the best of the negatives.

    .. math:: \ell = \operatorname{mean}_i w_i \left[ m - s_i + \max_j s_j \right]_+

    With one positive it is :func:`contrast_hinge_loss` of the hardest negative alone; with a margin of 0 it is below
    :func:`~rankwell.losses.sampled_softmax_loss`, by :math:`\log(n + 1)` at most. For dot products: the margin is large. Time
    and memory O(m + n) a row.

    Weights multiply the terms. A row without negatives has value 0.

    Choose it for inner products and a pool of negatives among which are few false ones, since the hardest alone is
    learned from: on ml-latest-small NDCG@20 0.2956, :func:`~rankwell.losses.bpr_loss` 0.2980. Not from a spectral start
    on sparse data, which it unlearns: on Beauty 0.0521, BPR 0.0594, :func:`~rankwell.losses.sampled_softmax_loss`
    0.0692 (``bench/results/encoders.txt``).

    Args:
        margin: the gap, in units of the scores, beyond which nothing is charged.

    Raises:
        InputError: if ``margin`` is below 0.

    >>> simce_loss(torch.tensor([3.0]), torch.tensor([[0.0, 1.0]]))  # 5 - 3 + 1
    tensor(3.)

    Source: :cite:`yang2024simce`; read in the documentation of its official code, equation number unchecked. Differs from it:
    several positives, averaged.
    """
    check_at_least(margin, "margin")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    terms = torch.relu(rows.max_neg()[..., None] - (rows.pos - margin))
    return rows.reduce(rows.mean_pos(terms), reduction)


@contrast_loss(
    paper="petrov2023", complexity="m + n", inputs={"num_items": Input("scalar", holds="count", required=True)}
)
def gbce_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    num_items: int | None = None,
    calibration: Annotated[float, Search(0.0, 1.0)] = 0.75,
) -> Tensor:
    r"""Generalised binary cross-entropy: the positive's term shrinks with the share of negatives that were sampled.

    .. math:: \ell = \frac{1}{n + 1} \left( \beta \operatorname{mean}_i w_i \log(1 + e^{-s_i})
        + \bar w \sum_j \log(1 + e^{s_j}) \right), \qquad \beta = 1 - t \left(1 - \frac{n}{|I| - 1}\right)

    Few negatives make a plain binary cross-entropy overconfident; :math:`\beta` corrects the sigmoid for it. With
    ``calibration=0`` it is the plain one, ``contrast(sigmoid_loss)`` with one positive. Of more negatives than there are other
    items, which only drawing with repetition gives, n is above :math:`|I| - 1` and :math:`\beta` above 1. Time and memory O(m +
    n) a row.

    A positive's weight multiplies its term; the negatives' sum weighs their mean :math:`\bar w`. A row without negatives
    keeps its positives' term.

    Training first makes all items equally unlikely, and may stand there for tens of epochs (SASRec on Beauty: 25) before it
    learns: give it negatives of its own for each row, not a pool that the batch shares, and no early stop.

    Choose it for sequences over a large catalogue where scores should stay near probabilities, with many negatives of
    its own for each event and long training. On Beauty, SASRec, it had NDCG@10 0.0464 so,
    :func:`~rankwell.losses.linear_softmax_loss` 0.0573, and 0.0058 with a pool that the batch shared
    (``bench/results/sequences.txt``). For likes take :func:`~rankwell.losses.sampled_softmax_loss`: on ml-latest-small,
    shared pool, NDCG@20 0.1545 and 0.2994 (``docs/leaderboard.md``).

    Args:
        num_items: :math:`|I|`, how many items there are to choose from.
        calibration: :math:`t`, from 0 (binary cross-entropy) to 1 (scores that are calibrated).

    Raises:
        InputError: if ``num_items`` is not given or below 2, or ``calibration`` is not from 0 to 1.

    >>> gbce_loss(torch.tensor([0.0]), torch.tensor([[0.0]]), num_items=3, calibration=1.0)  # (log(2) / 2 + log(2)) / 2
    tensor(0.5199)

    Source: :cite:`petrov2023`; confirmed in its official code, equation number unchecked. Differs from it: :math:`\beta`, there
    :math:`a(t(1 - 1/a) + 1/a)` of :math:`a = n / (|I| - 1)`, is multiplied out, and n is the row's number of valid negatives.
    """
    if not 0 <= calibration <= 1:
        raise InputError(f"calibration must be from 0 to 1: got {calibration}.")
    size = check_num_items(num_items)
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    count = rows.count_neg().to(rows.pos.dtype)
    beta = 1 - calibration * (1 - count / (size - 1))
    # torch's default threshold, 20, is too low for float64.
    pull = rows.mean_pos(functional.softplus(-rows.pos, threshold=40))
    push = rows.by_mean_weight(functional.softplus(rows.neg, threshold=40).sum(-1))
    return rows.reduce((beta * pull + push) / (count + 1), reduction)
