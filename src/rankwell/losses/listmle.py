"""Likelihood of the order of the labels: the best item is drawn first, then the best of the rest."""

from typing import Literal

from torch import Tensor

from rankwell.errors import InputError
from rankwell.kernels.plackett_luce import Rivals, log_chance_sums
from rankwell.lists import open_lists
from rankwell.losses.registry import list_loss
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = ["listmle_loss", "p_listmle_loss"]

LabelTies = Literal["breslow", "order"]


def _rivals(ties: LabelTies) -> Rivals:
    if ties not in ("breslow", "order"):
        raise InputError(f"ties must be 'breslow' or 'order': got {ties!r}.")
    return "tied" if ties == "breslow" else "order"


@list_loss(paper="xia2008", complexity="n log n")
def listmle_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    ties: LabelTies = "breslow",
) -> Tensor:
    r"""ListMLE: negative log-likelihood of the order of the labels under the Plackett-Luce model.

    .. math:: \ell(s, y) = \sum_i w_i \left( \log \sum_{k:\, y_k \le y_i} e^{s_k} - s_i \right)

    Each item is drawn, in proportion to :math:`e^s`, from those that are no better. Only the order of the labels counts, not
    their size, and the order among the irrelevant as much as that among the best: :func:`p_listmle_loss` makes the top
    matter more, and :func:`~rankwell.losses.unique_softmax_loss` leaves ties out and weighs by grade. Where one item is
    relevant, its own term is :func:`~rankwell.losses.softmax_loss`.

    Time O(n log n), memory O(n). No second derivatives. The sums are taken in float64, or as logarithms where a list's
    scores lie further apart than that holds.

    Weights multiply the terms, not the denominators.

    Choose it for labels that are an order with few ties, such as a teacher's ranking. Where nearly all items are
    irrelevant alike take :func:`~rankwell.losses.softmax_loss`, which asks nothing of their terms; where the first
    places matter, :func:`p_listmle_loss` or :func:`~rankwell.losses.lambda_rank_loss`. On MQ2008 it had NDCG@10 0.5105,
    softmax 0.5152 (``bench/results/mq2008.txt``); of six settings each 0.5173 and 0.5147 (``docs/leaderboard.md``),
    which five folds do not tell apart.

    Args:
        ties: what the likelihood is of, where labels are equal. ``"breslow"``: each of the equals is drawn from all of
            them and the worse ones, whatever their order in the list, as ties are treated in Cox regression.
            ``"order"``: of equals, the first in the list is taken for the better.

    Raises:
        InputError: if ``ties`` is neither.

    >>> import torch
    >>> listmle_loss(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([2, 1, 0]))  # log(1 + 2/e) + log 2
    tensor(1.2446)

    Source: :cite:`xia2008`, its likelihood loss; equation number unchecked. Differs from it: labels may tie. Other libraries
    draw an order of the equals at random, for one term less a rival each; the default here is that of :cite:`breslow1974`,
    an upper bound of all of these, and without chance.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(log_chance_sums(lists, lists.weights, _rivals(ties)), reduction)


@list_loss(paper="lan2014", complexity="n log n")
def p_listmle_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    ties: LabelTies = "breslow",
) -> Tensor:
    r"""Position-aware ListMLE: the draws of the first positions count most.

    .. math:: \ell(s, y) = \sum_i w_i\, \alpha_i \left( \log \sum_{k:\, y_k \le y_i} e^{s_k} - s_i \right),
        \qquad \alpha_i = \frac{2^{n - p_i} - 1}{2^{n - 1}}

    where :math:`p_i` is the position of item i by label, from 1, and n the number of valid items. Each position counts half
    as much as the one before; the last, whose item is drawn for certain, not at all. Otherwise it is
    :func:`listmle_loss`, with its time and memory.

    Weights multiply the terms, not the denominators.

    Choose it instead of :func:`listmle_loss` for short orders whose first places matter: weights halve from place to
    place, so that little beyond the tenth counts. Not where more items than that are relevant: there take listmle, or
    :func:`~rankwell.losses.lambda_rank_loss`, whose discount is milder. On MQ2008 it had NDCG@10 0.5112, listmle 0.5173
    (``docs/leaderboard.md``).

    Args:
        ties: as in :func:`listmle_loss`; by ``"breslow"``, equal labels share the mean weight of their positions.

    Raises:
        InputError: if ``ties`` is neither.

    >>> import torch
    >>> p_listmle_loss(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([2, 1, 0]))  # 3/4 log(1 + 2/e) + 1/4 log 2
    tensor(0.5869)

    Source: :cite:`lan2014`; equation number unchecked. Differs from it: weights are divided by :math:`2^{n-1}`, without which
    they overflow in float32 from 129 items, and labels may tie. In sentence-transformers the weights sum to one.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(log_chance_sums(lists, lists.weights, _rivals(ties), by_position=True), reduction)
