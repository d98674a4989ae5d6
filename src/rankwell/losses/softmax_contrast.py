"""Relatives of the sampled softmax: scaled, softened, at the top k."""

from typing import Annotated

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import Dense, Rows, check_count, check_positive, open_rows
from rankwell.losses.contrast import in_softmax
from rankwell.losses.registry import Neg, Pos, Temperature, contrast_loss
from rankwell.registry import Input, Search
from rankwell.types import Mask, Reduction, Weights

__all__ = ["scaled_cross_entropy_loss", "soft_info_nce_loss", "softmax_at_k_loss"]


@contrast_loss(paper="xu2024", complexity="m + n")
def scaled_cross_entropy_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    scale: Annotated[float, Search(1.0, 1000.0, log=True)] = 100.0,
    temperature: Temperature = 1.0,
) -> Tensor:
    r"""Sampled softmax in which each negative stands for many: its exponential counts ``scale`` times.

    .. math:: \ell = -\sum_i w_i \log \frac{e^{s_i/\tau}}{\sum_k e^{s_k/\tau} + \alpha \sum_j e^{s_j/\tau}}

    With ``scale=1`` it is :func:`~rankwell.losses.sampled_softmax_loss`. With n uniform negatives out of a catalogue of
    :math:`|I|`, :math:`\alpha = |I|/n` is the correction by log q: the scale takes its place, so the loss is not corrected
    again. Time and memory O(m + n) a row.

    Weights multiply the terms, not the denominator. A row without negatives keeps its positives' denominator.

    Choose it for the next item of a sequence, over a catalogue that :func:`~rankwell.losses.linear_softmax_loss` does
    not get through in time, with some hundred negatives that the batch shares. The scale is one setting more than
    :func:`~rankwell.losses.sampled_softmax_loss` has, whose correction by log q does the same without choosing. On
    Beauty, SASRec, a pool of 500, it had NDCG@10 0.0559, the full softmax 0.0573, binary cross-entropy 0.0296
    (``bench/results/sequences.txt``).

    Args:
        scale: :math:`\alpha`, what the negatives' exponentials are multiplied by.
        temperature: what scores are divided by.

    Raises:
        InputError: if ``scale`` or ``temperature`` is not above 0.

    >>> scaled_cross_entropy_loss(torch.tensor([2.0]), torch.tensor([[1.0, 3.0]]), scale=10.0)  # log(1 + 10 (1/e + e))
    tensor(3.4614)

    Source: :cite:`xu2024`, the scaled cross-entropy; read in its official code, equation number unchecked. Differs from it: a
    temperature, and several positives.
    """
    check_positive(scale, "scale")
    check_positive(temperature, "temperature")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    return rows.reduce(in_softmax(rows, temperature, scale), reduction)


@contrast_loss(paper="li2023", complexity="m + n", softmax=True, inputs={"similarities": Input("item", required=True)})
def soft_info_nce_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    similarities: Tensor | None = None,
    alpha: Annotated[float, Search(0.1, 1.0)] = 1.0,
    beta: Annotated[float, Search(1.0, 2.0)] = 1.0,
    sharpness: Annotated[float, Search(0.1, 10.0, log=True)] = 1.0,
    least: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1,
    temperature: Temperature = 1.0,
) -> Tensor:
    r"""InfoNCE whose negatives weigh less the more another model takes them for positives.

    .. math::
        \ell = -\sum_i w_i \log \frac{e^{s_i/\tau}}{\sum_k e^{s_k/\tau} + \sum_j v_j\, e^{s_j/\tau}}, \qquad
        v_j = \max\left(\frac{\beta - \alpha p_j}{\beta - \alpha/n}, v_\text{min}\right), \quad
        p = \operatorname{softmax}(\gamma x)

    The weights of n equal similarities :math:`x` are 1, and so are all with ``alpha=0``: then it is
    :func:`~rankwell.losses.sampled_softmax_loss`. One negative, which has nothing to be compared with, weighs 1. Time and
    memory O(m + n) a row.

    Weights multiply the terms, not the denominator. A row without negatives keeps its positives' denominator.

    Choose it for pairs of texts where several documents may answer a query, and another model can tell which: its
    similarity of each negative is needed at every step. Where each query has one answer, take
    :func:`~rankwell.losses.info_nce_loss`. We saw no gain: on CoSQA MRR 0.5212 with weights from BM25, InfoNCE 0.5226
    (``bench/results/cosqa.txt``), on SciFact NDCG@10 0.6785 and 0.6787 (``bench/results/scifact.txt``).

    Args:
        similarities: like ``neg``, what another model (BM25, a frozen encoder) says of each negative. They carry no gradient.
        alpha: how much the similarities count.
        beta: at least ``alpha``; the larger, the flatter the weights.
        sharpness: :math:`\gamma`, what similarities are multiplied by; the inverse of the paper's temperature of theirs.
        least: :math:`v_\text{min}`, the least weight of a negative.
        temperature: what scores are divided by; 1 in the paper, for dot products.

    Raises:
        InputError: if ``similarities`` are not given or have not the shape of ``neg``, ``alpha`` is not from 0 to ``beta``, or
            ``beta``, ``sharpness``, ``least`` or ``temperature`` is not above 0.

    >>> soft_info_nce_loss(torch.tensor([0.0]), torch.tensor([[0.0, 0.0]]),  # p = (3/4, 1/4): weights 1/2 and 3/2
    ...                    similarities=torch.tensor([[1.0986, 0.0]]))  # log(1 + 1/2 + 3/2)
    tensor(1.0986)

    Source: :cite:`li2023`; read in its official code, equation number unchecked. Differs from it: negatives are given, not the
    rest of the batch, and the weight of a single negative, 0/0 where ``alpha = beta``, is 1.
    """
    for name, value in {"beta": beta, "sharpness": sharpness, "least": least, "temperature": temperature}.items():
        check_positive(value, name)
    if not 0 <= alpha <= beta:
        raise InputError(f"alpha must be from 0 to beta, so that no weight is negative: got {alpha} with beta {beta}.")
    if similarities is None or similarities.shape != neg.shape:
        given = "none" if similarities is None else tuple(similarities.shape)
        raise InputError(f"similarities must be one a negative, {tuple(neg.shape)}: got {given}.")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    share = Dense(rows.given_neg, rows.where).log_softmax(sharpness * similarities.detach().to(rows.given_neg)).exp()
    count = rows.count_neg().clamp(min=1).to(share.dtype)[..., None]
    plain = (beta - alpha / count).where(count > 1, 1)
    log_weights = torch.where(count > 1, (beta - alpha * share) / plain, 1).clamp(min=least).log()
    rows = rows._replace(given_neg=rows.given_neg + temperature * log_weights)
    return rows.reduce(in_softmax(rows, temperature), reduction)


# No correction by log q: it would move the threshold too.
@contrast_loss(paper="yang2025", complexity="m + n", inputs={"threshold": Input("list")})
def softmax_at_k_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    threshold: Tensor | None = None,
    k: Annotated[int, Search(1, 100, log=True)] = 20,
    temperature: Temperature = 0.1,
    weight_temperature: Annotated[float, Search(0.1, 10.0, log=True)] = 1.0,
) -> Tensor:
    r"""Softmax loss of the top k (SL@K): a positive counts by how far it is above the row's k-th score.

    .. math:: \ell = \sum_i w_i\, \sigma\left(\frac{s_i - \beta}{\tau_w}\right) \log \sum_j e^{(s_j - s_i)/\tau}

    :func:`~rankwell.losses.decoupled_softmax_loss` with a weight that gives up positives far below the threshold
    :math:`\beta`; the weight has a gradient, the threshold none. So it is not monotone: a positive that falls far enough costs
    less. Without ``threshold`` it is the k-th largest of the row's positives and negatives; in a row that has fewer than k,
    all are in the top k and the weight is 1. Time O(m + n), and a selection of k; memory O(m + n).

    Weights multiply the terms. A row without negatives keeps the pull :math:`-s_i/\tau`.

    Choose it for recommendations that are cut at k, with cosines, many negatives and positives of which some are noise:
    those far below the cut are given up. With fewer than k scores a row and no threshold it is
    :func:`~rankwell.losses.decoupled_softmax_loss`; where every positive must be found, take
    :func:`~rankwell.losses.sampled_softmax_loss`. At equal tuning it had NDCG@20 0.3027 on ml-latest-small and 0.0644
    on Beauty, sampled softmax 0.2994 and 0.0643 (``docs/leaderboard.md``).

    Args:
        threshold: ``[*batch]``, :math:`\beta` of each row, say the k-th score of the user over the catalogue.
        k: where the list is cut, if there is no threshold.
        temperature: what gaps are divided by. Near 0.1 for cosine scores.
        weight_temperature: :math:`\tau_w`; the lower, the sharper the cut. Published: 0.5 to 3.

    Raises:
        InputError: if ``threshold`` is not one a row, ``k`` is no whole number from 1, or a temperature is not above 0.

    >>> softmax_at_k_loss(torch.tensor([0.2]), torch.tensor([[0.2, 0.2]]), threshold=torch.tensor([0.2]))  # log(2) / 2
    tensor(0.3466)

    Source: :cite:`yang2025`, the loss SL@K; confirmed in its code, equation number unchecked. Differs from it: the default
    threshold is taken anew at every call, from the row alone.
    """
    check_positive(temperature, "temperature")
    check_positive(weight_temperature, "weight_temperature")
    check_count(k, "k")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    if threshold is None:
        cut = _kth(rows, k)
    elif threshold.shape == neg.shape[:-1]:
        cut = threshold.detach().to(rows.pos)
    else:
        raise InputError(f"threshold must be one a row, {tuple(neg.shape[:-1])}: got {tuple(threshold.shape)}.")
    share = torch.sigmoid((rows.pos - cut[..., None]) / weight_temperature)
    of_neg = rows.logsumexp_neg(temperature, absent=0.0)
    return rows.reduce(rows.sum_pos(share * (of_neg[..., None] - rows.pos / temperature)), reduction)


def _kth(rows: Rows, k: int) -> Tensor:
    """The k-th largest of each row's positives and negatives; minus infinity where there are fewer."""
    pos = rows.pos if rows.pos_where is None else torch.where(rows.pos_where, rows.pos, -torch.inf)
    scores = torch.cat([pos.detach(), rows.neg.detach()], -1)
    if scores.shape[-1] < k:
        return scores.new_full(scores.shape[:-1], -torch.inf)
    return scores.topk(k, sorted=False).values.amin(-1)
