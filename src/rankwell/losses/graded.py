"""Losses of several scores an item: the grade as a class, or as steps passed. Not ranking, but what it is compared with."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.lists import Opened, in_full_precision, open_lists
from rankwell.losses.registry import GradedScores, graded_loss
from rankwell.types import Labels, Mask, Offsets, Reduction, Weights

__all__ = ["classification_loss", "expected_grade", "ordinal_loss"]


def _open_graded(
    scores: Tensor, labels: Tensor, where: Mask | None, weights: Weights | None, offsets: Offsets | None
) -> Opened:
    """As :func:`~rankwell.lists.open_lists`, for scores with an axis more than the labels."""
    if scores.ndim < 2 or scores.shape[-1] == 0 or labels.shape != scores.shape[:-1]:
        raise InputError(
            "scores must be [*batch, list, grades] and labels [*batch, list]:"
            f" got scores {tuple(scores.shape)} and labels {tuple(labels.shape)}."
        )
    opened = open_lists(scores[..., 0], labels, where=where, weights=weights, offsets=offsets)
    scores = in_full_precision(scores)
    return opened._replace(scores=scores if opened.where is None else torch.where(opened.where[..., None], scores, 0))


@graded_loss(paper="li2007", complexity="n grades")
def classification_loss(
    scores: GradedScores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Cross-entropy over grades: each item has one score for each grade it may have.

    .. math:: \ell(s, y) = -\frac1n \sum_i w_i \log \frac{e^{s_{i, y_i}}}{\sum_g e^{s_{ig}}}

    Grades are classes without order: a grade missed by one costs as much as one missed by four. :func:`ordinal_loss` knows
    the order. Rank by :func:`expected_grade`. Time and memory O(n) times the grades.

    Weights multiply the terms. Labels are whole numbers from 0, below the number of scores an item; a label that is none of
    these makes its list NaN, since an error would have to wait for the device.

    Choose it for few grades where the probability of each is wanted, and there are labels enough to learn them apart,
    at a score for each grade and item. Where grades are in order and labels few, take :func:`ordinal_loss`; where the
    order of items is all that is asked, :func:`~rankwell.losses.softmax_loss` needs one score an item.

    >>> classification_loss(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([1, 0]))  # log 2
    tensor(0.6931)

    Source: :cite:`li2007`, ranking by multiple classification; equation number unchecked. Differs from it: a mean over items.
    """
    lists = _open_graded(scores, labels, where, weights, offsets)
    grade = lists.labels.nan_to_num(-1).clamp(0, lists.scores.shape[-1] - 1).long()
    # Less the item's own score, so that what is near 0 keeps its digits; half the time of log_softmax on so short an axis.
    gaps = lists.scores - lists.scores.gather(-1, grade[..., None])
    terms = torch.where(grade == lists.labels, torch.logsumexp(gaps, -1), torch.nan)
    return lists.reduce(lists.mean(lists.weights * terms), reduction)


@graded_loss(paper="li2006", complexity="n grades")
def ordinal_loss(
    scores: GradedScores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Binary cross-entropy of each step between grades: whether the item is above it.

    .. math:: \ell(s, y) = -\frac1n \sum_i w_i \sum_g \left( [y_i > g] \log \sigma(s_{ig}) + [y_i \le g] \log \sigma(-s_{ig})
        \right), \qquad g = 0, 1, \dots

    Five grades have four steps, and so four scores an item. With one step it is :func:`~rankwell.losses.sigmoid_loss`.
    Unlike in :func:`classification_loss`, a grade missed by far passes the wrong side of more steps. Rank by
    :func:`expected_grade` with form ``"ordinal"``. Time and memory O(n) times the steps.

    Weights multiply the terms. A label above all steps is as good as the highest.

    Choose it for few ordered grades where the probability of being above each is wanted: errors by two grades then cost
    more than by one, unlike in :func:`classification_loss`. Where the order of items is all that is asked, take
    :func:`~rankwell.losses.softmax_loss` or :func:`~rankwell.losses.lambda_rank_loss`, with one score an item; grades
    whose distances mean something go to :func:`~rankwell.losses.mse_loss`.

    >>> ordinal_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))  # above one step, not the other: 2 log 2
    tensor(1.3863)

    Source: :cite:`li2006`, its reduction to binary classification, with the logistic loss; equation number unchecked. As
    TensorFlow Ranking's ordinal loss, but a mean over items.
    """
    lists = _open_graded(scores, labels, where, weights, offsets)
    steps = torch.arange(lists.scores.shape[-1], device=lists.scores.device)
    # One logarithm a step, of the side that the label is on: softplus, in half the time of logsigmoid.
    signs = 1 - 2 * (lists.labels[..., None] > steps).to(lists.scores.dtype)
    terms = functional.softplus(signs * lists.scores, threshold=40).sum(-1)
    return lists.reduce(lists.mean(lists.weights * terms), reduction)


def expected_grade(
    scores: GradedScores, form: Literal["classification", "ordinal"] = "classification"
) -> Float[Tensor, "*batch list"]:
    r"""One score an item to rank by, from several: the grade expected.

    .. math:: \sum_g g \, \text{softmax}(s_i)_g, \qquad \text{or, for ordinal scores,} \quad \sum_g \sigma(s_{ig})

    Args:
        scores: ``[*batch, list, grades]``, as trained by :func:`classification_loss` or :func:`ordinal_loss`.
        form: which of the two.

    Raises:
        InputError: if ``form`` is neither.

    >>> expected_grade(torch.tensor([[0.0, 0.0, 0.0]]))  # each of 0, 1, 2 a third
    tensor([1.])
    >>> expected_grade(torch.tensor([[0.0, 0.0]]), "ordinal")  # each of two steps a half
    tensor([1.])
    """
    if form == "classification":
        chances = torch.softmax(in_full_precision(scores), -1)
        return chances @ torch.arange(scores.shape[-1], dtype=chances.dtype, device=scores.device)
    if form == "ordinal":
        return torch.sigmoid(in_full_precision(scores)).sum(-1)
    raise InputError(f"form must be 'classification' or 'ordinal': got {form!r}.")
