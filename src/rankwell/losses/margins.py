"""Margin losses of bounded scores: a pull on the positive, and a push on each negative above a margin."""

# mypy: allow-untyped-calls, allow-untyped-decorators

from collections.abc import Iterator
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rankwell.errors import InputError
from rankwell.kernels.few import true_places
from rankwell.kernels.operators import batch_operator
from rankwell.lists import Rows, check_finite, in_chunks, open_rows, with_slopes
from rankwell.losses.registry import OVERWRITE, Neg, Pos, contrast_loss
from rankwell.registry import Search
from rankwell.types import Mask, Overwrite, Reduction, Weights

__all__ = ["ccl_loss", "mml_loss"]

BLOCK = 8
"""Scores of which the highest is looked at first: nearly all are below the margins."""

CHUNK_ITEMS = 1 << 16
"""Scores worked on at once: a quarter of a megabyte a temporary, small enough for the cache."""


@contrast_loss(paper="mao2021", complexity="m + n", inputs=OVERWRITE)
def ccl_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    overwrite: Overwrite | None = None,
    margin: Annotated[float, Search(0.0, 1.0)] = 0.9,
    neg_weight: Annotated[float, Search(1.0, 1000.0, log=True)] = 150.0,
) -> Tensor:
    r"""Cosine contrastive loss: pull the positive to 1, push the negatives that are above the margin.

    .. math:: \ell = \operatorname{mean}_i w_i [1 - s_i]_+ + \frac{\lambda \bar w}{n} \sum_j [s_j - m]_+

    :func:`mml_loss` with one margin of weight one. Unlike the softmax it leaves negatives below the margin alone, and
    pushes all others alike. For cosine scores. Time and memory O(m + n) a row. Piecewise linear:
    second derivatives are zero.

    A positive's weight multiplies its term; the negatives' sum weighs their mean :math:`\bar w`. A row without negatives
    keeps its pull.

    Choose it for cosines and hundreds of negatives of which most are easy and should cost nothing. With ten negatives
    :func:`mml_loss` learns from more of them at the same weight: on Gowalla NDCG@20 0.0900, this 0.0721; with 800
    shared ones 0.1076 and 0.1139. :func:`~rankwell.losses.bsl_loss` was ahead of both there, 0.0979 and 0.1325
    (``bench/results/mml_claim.txt``).

    Args:
        overwrite: leave to write over ``neg``. Absent negatives are then minus infinity already, and the value is
            differentiated once.
        margin: the cosine above which a negative is pushed.
        neg_weight: :math:`\lambda`, the weight of the negatives' mean.

    Raises:
        InputError: if ``margin`` or ``neg_weight`` is not finite.

    >>> ccl_loss(torch.tensor([0.8]), torch.tensor([[0.95, 0.5]]), margin=0.9, neg_weight=10.0)  # .2 + 10 * .05 / 2
    tensor(0.4500)

    Source: :cite:`mao2021`, the loss of SimpleX; confirmed in its code, equation number unchecked. Differs from the code: an
    unset ``neg_weight`` does not turn the mean into a sum.
    """
    check_finite(margin, "margin")
    check_finite(neg_weight, "neg_weight")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights, overwrite=overwrite)
    return rows.reduce(_pull_and_push(rows, (margin,), (1.0,), 1.0, neg_weight), reduction)


@contrast_loss(paper="ozsoy2024", complexity="m + n", inputs=OVERWRITE)
def mml_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    overwrite: Overwrite | None = None,
    margins: Annotated[tuple[float, ...], Search(0.0, 0.99, ascending=True)] = (0.7, 0.8, 0.9),
    margin_weights: Annotated[tuple[float, ...], Search(0.01, 1.0, log=True)] = (0.10, 0.15, 0.75),
    pos_weight: Annotated[float, Search(0.1, 10.0, log=True)] = 1.0,
    neg_weight: Annotated[float, Search(1.0, 1000.0, log=True)] = 700.0,
) -> Tensor:
    r"""Multi-margin loss: each negative is charged by every margin that it is above.

    .. math:: \ell = \lambda^+ \operatorname{mean}_i w_i [1 - s_i]_+
        + \frac{\lambda^- \bar w}{n} \sum_j \sum_k v_k\, [s_j - m_k]_+

    A convex, piecewise linear push that steepens at each margin: a negative at :math:`s` is pushed by
    :math:`\lambda^- \sum_{k:\, m_k < s} v_k / n`. One margin of weight one is :func:`ccl_loss`. The steepest slope is
    :math:`\lambda^- \sum_k v_k`: compare with CCL at that ``neg_weight``, not at CCL's own. For cosine scores. Time
    O(m + n) a row for each margin, memory O(m + n). Second derivatives are zero.

    A positive's weight multiplies its term; the negatives' sum weighs their mean :math:`\bar w`. A row without negatives
    keeps its pull.

    Choose it for cosines with about ten negatives of its own for each positive, and a ``neg_weight`` near 150: on
    Gowalla it had NDCG@20 0.0900 so, 0.0762 as published, :func:`ccl_loss` 0.0721. Take
    :func:`~rankwell.losses.bsl_loss` where more negatives can be had, ahead there with ten (0.0979) and with 800
    (0.1325, this as published 0.1098; ``bench/results/mml_claim.txt``). Not to train an encoder of texts: at each of
    four settings SciFact's NDCG@10 fell, at best from 0.6239 to 0.6065 (``bench/results/scifact.txt``).

    Args:
        overwrite: leave to write over ``neg``. Absent negatives are then minus infinity already, and the value is
            differentiated once.
        margins: :math:`m_k`, cosines. The defaults are those published for Gowalla; for Yelp2018 it is margins
            (.6, .7, .8, .9), margin weights (.05, .15, .20, .60) and ``neg_weight=400``.
        margin_weights: :math:`v_k`, one a margin; they need not sum to one.
        pos_weight: :math:`\lambda^+`.
        neg_weight: :math:`\lambda^-`, the weight of the negatives' mean.

    Raises:
        InputError: if there are not as many ``margin_weights`` as ``margins``, or a number is not finite.

    >>> mml_loss(torch.tensor([1.0]), torch.tensor([[0.8, 0.0]]), margins=(0.5, 0.7), margin_weights=(1.0, 2.0),
    ...          neg_weight=10.0)  # 10 * (.3 + 2 * .1) / 2
    tensor(2.5000)

    Source: :cite:`ozsoy2024`; read in its official code, equation number unchecked. Differs from it: several positives, masks
    and weights, and no tensor of negatives by margins.
    """
    if len(margins) != len(margin_weights):
        raise InputError(
            f"margin_weights must be as many as margins: got {len(margin_weights)} for {len(margins)} margins."
        )
    named = {
        "margins": margins,
        "margin_weights": margin_weights,
        "pos_weight": (pos_weight,),
        "neg_weight": (neg_weight,),
    }
    for name, values in named.items():
        for value in values:
            check_finite(value, name)
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights, overwrite=overwrite)
    return rows.reduce(_pull_and_push(rows, margins, margin_weights, pos_weight, neg_weight), reduction)


def _pull_and_push(
    rows: Rows, margins: tuple[float, ...], margin_weights: tuple[float, ...], pos_weight: float, neg_weight: float
) -> Tensor:
    # Not 1 - s: dropout after the normalisation can bring a cosine above 1.
    pull = rows.mean_pos(torch.relu(1 - rows.pos))
    sums = _hinges_in_place if rows.overwrite is not None and margins and rows.neg.numel() else _HingeSums.apply
    push = sums(rows.neg, list(margins), list(margin_weights)) / rows.count_neg().clamp(min=1)
    return pos_weight * pull + neg_weight * rows.by_mean_weight(push)


def _hinge_sums(x: Tensor, margins: list[float], weights: list[float]) -> Tensor:
    """Sums of ``v_k [x - m_k]_+`` along the last axis."""
    sums = x.new_zeros(x.shape[:-1].numel())
    for some, part in _chunks(x):
        for margin, weight in zip(margins, weights, strict=True):
            sums[some].add_((part - margin).relu_().sum(-1), alpha=weight)
    return sums.reshape(x.shape[:-1])


def _hinge_slopes(x: Tensor, scale: Tensor, margins: list[float], weights: list[float]) -> Tensor:
    """Slopes of the sums, times one number a row. Not kept from the forward pass: making them again is faster."""
    scale = scale.reshape(-1, 1)
    slopes = x.new_empty(scale.shape[0], x.shape[-1])
    for some, part in _chunks(x):
        slopes[some].zero_()
        above = torch.empty_like(part)
        for margin, weight in zip(margins, weights, strict=True):
            slopes[some].add_(torch.gt(part, margin, out=above), alpha=weight)
        slopes[some].mul_(scale[some])
    return slopes.reshape(x.shape)


def _hinges_in_place(x: Tensor, margins: list[float], weights: list[float]) -> Tensor:
    """The sums, with slopes of the few scores above the lowest margin; of many, these are left in ``x``."""
    n, rows = x.shape[-1], x.shape[:-1].numel()
    scores = x.detach().view(-1)
    places = _few_above(scores, min(margins))
    if places is None:
        sums = _turned_to_slopes(scores.view(rows, n), margins, weights)
        return with_slopes(x, sums.view(x.shape[:-1]), x.detach())
    slopes = scores.take(places)
    of_places = _turned_to_slopes(slopes[:, None], margins, weights)
    sums = x.new_zeros(rows).index_add_(0, places // n, of_places)
    return with_slopes(x, sums.view(x.shape[:-1]), slopes, places=places)


def _few_above(x: Tensor, margin: float) -> Tensor | None:
    """Ascending places of what is above the margin, or NaN, if that is little. What is below costs one look."""
    if len(x) % BLOCK:
        return None
    tops = x.view(BLOCK, -1).amax(0)
    some = true_places((tops <= margin).logical_not_())
    if 4 * len(some) > len(tops):
        return None
    places = (some + torch.arange(0, len(x), len(tops), device=x.device)[:, None]).view(-1)
    return places.index_select(0, true_places((x.take(places) <= margin).logical_not_()))


def _turned_to_slopes(x: Tensor, margins: list[float], weights: list[float]) -> Tensor:
    """The sums of rows; where these stood, their slopes are then."""
    sums = x.new_zeros(len(x))
    for some, part, room in in_chunks(x):
        above = torch.zeros_like(part)
        for margin, weight in zip(margins, weights, strict=True):
            sums[some].add_(torch.sub(part, margin, out=room).relu_().sum(-1), alpha=weight)
            above.add_(room.gt_(0), alpha=weight)
        part.copy_(above)
    return sums


def _chunks(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows in chunks that stay in the cache."""
    rows = x.reshape(x.shape[:-1].numel(), x.shape[-1])
    step = max(1, CHUNK_ITEMS // max(rows.shape[1], 1))
    for start in range(0, rows.shape[0], step):
        some = slice(start, start + step)
        yield some, rows[some]


hinge_sums = batch_operator(_hinge_sums, lambda x, *_: x.new_empty(x.shape[:-1]))
hinge_slopes = batch_operator(_hinge_slopes, lambda x, *_: x.new_empty(x.shape))


class _HingeSums(torch.autograd.Function):
    """The sums. They are piecewise linear in the scores, so the second derivative by them is zero, as it is given; one
    by what multiplies the sums (a function of the loss, weights that are learned) is an error.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, margins: list[float], weights: list[float]) -> Tensor:
        sums: Tensor = hinge_sums(x, margins, weights)
        return sums

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        x, *ctx.own = inputs
        ctx.save_for_backward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return hinge_slopes(x, grad, *ctx.own), None, None
