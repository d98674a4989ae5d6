"""Contrast losses: the positives of a row against its negatives, by a logistic or a softmax."""

# mypy: allow-untyped-calls

import math
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.lists import Dense, Rows, check_positive, in_chunks, open_rows, with_slopes
from rankwell.losses.pairwise import logistic_loss
from rankwell.losses.registry import OVERWRITE, Neg, Pos, Temperature, contrast_loss
from rankwell.losses.styles import contrast
from rankwell.registry import Input, Search
from rankwell.types import Mask, Overwrite, Reduction, Weights

__all__ = ["bpr_loss", "bsl_loss", "decoupled_softmax_loss", "in_softmax", "sampled_softmax_loss"]

FACTORS = 32
"""Numbers of a half to one that are multiplied, and then have one logarithm: their product is far from underflow."""


@contrast_loss(paper="rendle2009", complexity="m n", inputs=OVERWRITE)
def bpr_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    overwrite: Overwrite | None = None,
) -> Tensor:
    r"""Bayesian personalised ranking: logistic loss of the gap between each positive and each negative.

    .. math:: \ell = \frac{1}{m n} \sum_i \sum_j w_i \log\left(1 + e^{-(s_i - s_j)}\right)

    It is ``contrast(logistic_loss)``. All negatives below the positive share the pull by their number; a softmax lets
    the hardest ones take it. Time O(m n); memory O(n), or O(m + n) with several positives.

    A pair weighs as its positive. A row without negatives has value 0.

    Choose it for likes of any kind with few sampled negatives a positive, one to ten, and inner products: there is
    nothing to set. With time for hundreds of negatives take :func:`sampled_softmax_loss` or :func:`bsl_loss`, which
    mind the hardest. On Gowalla with ten, after one pass, it had NDCG@20 0.1155, sampled softmax 0.0580
    (``bench/results/negatives.txt``); on Beauty with 256, at equal tuning, 0.0588 and 0.0643 (``docs/leaderboard.md``).

    Args:
        overwrite: leave to write over ``neg``. Absent negatives are then minus infinity already, and the value is
            differentiated once.

    >>> bpr_loss(torch.tensor([0.0]), torch.tensor([[0.0, 0.0]]))  # log 2
    tensor(0.6931)

    Source: :cite:`rendle2009`, section 4.1, BPR-Opt. Differs from it: a mean over the pairs of a row, and the regulariser
    is the optimiser's.
    """
    if pos.ndim == neg.ndim:  # several positives
        rows_loss = contrast(logistic_loss)
        return rows_loss(pos, neg, pos_where=pos_where, where=where, weights=weights, reduction=reduction)
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights, overwrite=overwrite)
    if rows.overwrite is not None:
        sums = _softplus_in_place(rows.given_neg, rows.pos)
    else:  # torch's default threshold, 20, is too low for float64
        sums = functional.softplus(rows.neg - rows.pos, threshold=40).sum(-1)
    terms = sums / rows.count_neg().clamp(min=1)
    return rows.reduce(rows.mean_pos(terms[..., None]), reduction)


def _softplus_in_place(neg: Tensor, pos: Tensor) -> Tensor:
    """Sums over the negatives of the softplus of gaps, which leave their slopes in ``neg``. To 1e-7 a term in float32, not of
    the term."""
    slopes, above, one = neg.detach(), pos.detach().view(-1, 1), neg.new_ones(())
    values, totals = torch.empty_like(above[:, 0]), torch.empty_like(above)
    n = neg.shape[-1]
    factors = FACTORS if n % FACTORS == 0 else 1
    for some, part, room in in_chunks(slopes):
        torch.clamp(part.sub_(above[some]), min=0, out=room)
        torch.sum(room, -1, out=values[some])
        part.sigmoid_()  # the softplus is the relu less the logarithm of the larger of the sigmoid and its complement
        torch.maximum(part, torch.sub(one, part, out=room), out=room)
        values[some] -= room.view(len(room), factors, n // factors).prod(1).log_().sum(-1)
        torch.sum(part, -1, keepdim=True, out=totals[some])
    values = values.view(neg.shape[:-1])
    of_pos = with_slopes(pos, torch.zeros_like(values), totals.view(pos.shape), -1.0)
    return with_slopes(neg, values, slopes) + of_pos


@contrast_loss(paper="wu2024", complexity="m + n", softmax=True, inputs=OVERWRITE)
def sampled_softmax_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    overwrite: Overwrite | None = None,
    temperature: Temperature = 1.0,
) -> Tensor:
    r"""Cross-entropy of the softmax over the positive and the negatives, the positive in the denominator.

    .. math:: \ell = -\sum_i w_i \log \frac{e^{s_i/\tau}}{\sum_k e^{s_k/\tau} + \sum_j e^{s_j/\tau}}

    It is ``contrast(softmax_loss, temperature=τ)``: the sum over k is over all positives. Without the positives in the
    denominator it is :func:`decoupled_softmax_loss`. It estimates the softmax over the catalogue when the negatives are
    corrected by :func:`~rankwell.transforms.correct_log_q`. Time and memory O(m + n) a row.

    Weights multiply the terms, not the denominator. A row without negatives keeps its positives' denominator: with one
    positive it is 0.

    Choose it for likes with hundreds of negatives a positive: the temperature mines the hard ones, and with log q
    corrected it nears the softmax over the catalogue, which :func:`~rankwell.losses.linear_softmax_loss` takes whole
    where there is time. With ten negatives take :func:`bpr_loss`, or a sampler of hard ones: on Gowalla, after one
    pass, it had NDCG@20 0.0580 with uniform ones, 0.0775 with those of ``genni``, BPR 0.1155
    (``bench/results/negatives.txt``).

    Args:
        overwrite: leave to write over ``neg``. Absent negatives are then minus infinity already, and the value is
            differentiated once.
        temperature: what scores are divided by; lower minds the hardest negatives more. Near 0.1 for cosine scores.

    Raises:
        InputError: if ``temperature`` is not above 0.

    >>> sampled_softmax_loss(torch.tensor([2.0]), torch.tensor([[1.0, 3.0]]))  # log(1 + 1/e + e)
    tensor(1.4076)

    Source: :cite:`wu2024`; its text was not at hand, the formula is confirmed by other papers' code. Differs from it: any
    scores, not only cosines.
    """
    check_positive(temperature, "temperature")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights, overwrite=overwrite)
    return rows.reduce(in_softmax(rows, temperature), reduction)


def in_softmax(rows: Rows, temperature: float, scale: float = 1.0) -> Tensor:
    """Cross-entropy of the softmax, the positives in the denominator beside ``scale`` times the negatives; one a row."""
    scores, of_neg = rows.pos / temperature, rows.logsumexp_neg(temperature)
    of_neg = of_neg + math.log(scale) if scale != 1 else of_neg
    if scores.shape[-1] == 1:  # the same by fewer operators, and exact where it is small; torch's threshold is too low
        return rows.sum_pos(functional.softplus(of_neg[..., None] - scores, threshold=40))
    of_pos = Dense(scores, rows.pos_where).logsumexp(scores)
    return rows.sum_pos(torch.logaddexp(of_pos, of_neg)[..., None] - scores)


@contrast_loss(paper="yeh2022", complexity="m + n", softmax=True, inputs=OVERWRITE)
def decoupled_softmax_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    overwrite: Overwrite | None = None,
    temperature: Temperature = 1.0,
) -> Tensor:
    r"""Softmax loss whose denominator holds the negatives only.

    .. math:: \ell = \sum_i w_i \left( -\frac{s_i}{\tau} + \log \sum_j e^{s_j/\tau} \right)

    The "SL" of BSL and PSL. :func:`sampled_softmax_loss` adds the positives to the denominator, and its pull then fades
    as the positive wins; here it never does, and the loss has no lower bound: use bounded scores (cosine). Time and memory
    O(m + n) a row.

    Weights multiply the terms. A row without negatives keeps the pull :math:`-s_i/\tau`.

    Choose it instead of :func:`sampled_softmax_loss` for cosines and sparse data, where positives should be pulled on
    however far ahead they are. Not for inner products, which it drives apart without end. At equal tuning it had
    NDCG@20 0.0673 on Beauty, sampled softmax 0.0643, and both 0.2994 on ml-latest-small (``docs/leaderboard.md``).

    Args:
        overwrite: leave to write over ``neg``. Absent negatives are then minus infinity already, and the value is
            differentiated once.
        temperature: what scores are divided by; lower minds the hardest negatives more. Near 0.1 for cosine scores.

    Raises:
        InputError: if ``temperature`` is not above 0.

    >>> decoupled_softmax_loss(torch.tensor([2.0]), torch.tensor([[2.0, 2.0]]))  # log 2
    tensor(0.6931)

    Source: :cite:`yeh2022`, the decoupled loss; equation number unchecked. As :cite:`yang2024`, eq. 4.1, with the exponential
    as activation. Differs from both: a sum over several positives, not one.
    """
    check_positive(temperature, "temperature")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights, overwrite=overwrite)
    of_neg = rows.logsumexp_neg(temperature, absent=0.0)
    return rows.reduce(rows.sum_pos(of_neg[..., None] - rows.pos / temperature), reduction)


@contrast_loss(paper="wu2024bsl", complexity="m + n", inputs={"query_ids": Input("list", "id"), **OVERWRITE})
def bsl_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    query_ids: Tensor | None = None,
    overwrite: Overwrite | None = None,
    temperature: Temperature = 0.1,
    ratio: Annotated[float, Search(0.5, 2.0)] = 1.2,
    form: Literal["code", "paper"] = "code",
) -> Tensor:
    r"""Bilateral softmax: a log of mean exponentials on the side of the positives too, against noisy positives.

    .. math::
        \ell_\text{code} &= -\log \operatorname{mean}_{i \in P} e^{s_i/\tau}
            + \rho \log \operatorname{mean}_j e^{s_j/\tau} \\
        \ell_\text{paper} &= -\tau \log \operatorname{mean}_{i \in P} e^{s_i/\tau}
            + \rho\tau \log \operatorname{mean}_j e^{s_j/(\rho\tau)}

    :math:`P` is the row's positives or, with ``query_ids``, those of all rows of the batch with the same id. With one
    positive and ``ratio=1`` the code's form is :func:`decoupled_softmax_loss` less log n. The forms differ: the code has
    one temperature and an exponent on the negatives' mass, the paper two temperatures. Time and memory O(m + n) a row, and
    a sort of the rows with ``query_ids``.

    A row's value is multiplied by the mean weight of its positives. A row without negatives keeps its positive term.

    Choose it for sparse likes, some of them noise, with cosines and many negatives: on Gowalla it was ahead with 800
    (NDCG@20 0.1325, :func:`sampled_softmax_loss` 0.1181, :func:`~rankwell.losses.ccl_loss` 0.1139) and with ten
    (0.0979, 0.0819, 0.0721; ``bench/results/mml_claim.txt``). Not for inner products, which it drives apart without
    end, nor with its default settings for small dense data: on ml-latest-small it had 0.2422, sampled softmax 0.2994
    (``docs/leaderboard.md``).

    Args:
        query_ids: ``[*batch]``, whose row it is: pools the positives of equal ids.
        overwrite: leave to write over ``neg``. Absent negatives are then minus infinity already, and the value is
            differentiated once.
        temperature: what scores are divided by; the positives' temperature in the paper's form. Published for cosine
            scores: 0.11 (Yelp), 0.08 (Gowalla).
        ratio: the negatives' exponent, or their temperature over the positives'. Published: 1.10 (Yelp), 1.22 (Gowalla).
        form: which of the two formulas.

    Raises:
        InputError: if ``query_ids`` is not one integer a row, ``temperature`` or ``ratio`` is not above 0, or ``form`` is
            neither.

    >>> bsl_loss(torch.tensor([0.3]), torch.tensor([[0.1, 0.1]]), temperature=0.1, ratio=1.0)  # (0.1 - 0.3) / 0.1
    tensor(-2.)

    Source: :cite:`wu2024bsl` for the paper's form, whose text was not at hand: formula not confirmed; its official code for
    the other. Differs from the code: rows of one query are found by id, and negatives are averaged in every mode.
    """
    if form not in ("code", "paper"):
        raise InputError(f"form must be 'code' or 'paper': got {form!r}.")
    check_positive(temperature, "temperature")
    check_positive(ratio, "ratio")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights, overwrite=overwrite)
    of_pos = Dense(rows.pos, rows.pos_where)
    pull = of_pos.logsumexp(rows.pos / temperature)
    count = of_pos.count() if pos.ndim == neg.ndim or pos_where is not None else None
    if query_ids is not None:
        pull = _pooled(pull, count, query_ids)
    elif count is not None:
        pull = pull - count.clamp(min=1).log()
    hot = temperature * ratio if form == "paper" else temperature
    push = rows.logsumexp_neg(hot, absent=0.0) - rows.count_neg().clamp(min=1).log()
    values = ratio * push - pull if form == "code" else hot * push - temperature * pull
    return rows.reduce(rows.by_mean_weight(values), reduction)


def _pooled(total: Tensor, count: Tensor | None, query_ids: Tensor) -> Tensor:
    """Log of the mean exponential of the positives of all rows with the row's id, by one sort.

    From the rows' logsumexps and their numbers of positives, None for one each.
    """
    if query_ids.shape != total.shape:
        raise InputError(f"query_ids must be one a row: got {tuple(query_ids.shape)} for rows {tuple(total.shape)}.")
    if query_ids.is_floating_point() or query_ids.dtype == torch.bool:
        raise InputError(f"query_ids must be integers: got {query_ids.dtype}.")
    group = _group_numbers(query_ids.reshape(-1))
    ones = torch.ones_like(total) if count is None else count.to(total.dtype)
    counts = _sums(ones.reshape(-1), group).clamp(min=1)
    pooled: Tensor = _PooledLogMeanExp.apply(total.reshape(-1), counts, group)
    return pooled.reshape(total.shape)


class _PooledLogMeanExp(torch.autograd.Function):
    """Log of the sum of exponentials over the count of each group, at each of its members.

    What differentiates it can be differentiated again.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, counts: Tensor, group: Tensor) -> Tensor:
        # As many groups as rows at most: shapes do not depend on the ids.
        top = torch.full_like(x, torch.finfo(x.dtype).min).scatter_reduce(0, group, x, "amax").gather(0, group)
        return top + (_sums((x - top).exp(), group) / counts).log()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, counts, group, value = ctx.saved_tensors
        return (x - value).exp() / counts * _sums(grad, group), None, None


def _sums(x: Tensor, group: Tensor) -> Tensor:
    """Sums over groups, at each member."""
    return torch.zeros_like(x).scatter_add(0, group, x).gather(0, group)


def _group_numbers(ids: Tensor) -> Tensor:
    """For each id ``[n]`` the number of its value among the distinct ones."""
    ascending, order = ids.sort()
    return torch.zeros_like(order).scatter(0, order[1:], (ascending[1:] != ascending[:-1]).cumsum(0))
