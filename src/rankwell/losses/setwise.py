"""Setwise losses: the overlap of what is scored above zero with what is relevant, for lists with few relevant items."""

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.lists import Opened, check_at_least, check_positive, open_lists
from rankwell.losses.registry import list_loss
from rankwell.registry import Search
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Values, Weights

__all__ = ["excessiveness_loss", "soft_dice_loss", "tversky_loss"]


@list_loss(paper="milletari2016", complexity="n")
def soft_dice_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""One less the Dice coefficient (F1) of the scored set and the relevant set.

    .. math:: \ell(s, y) = 1 - \frac{2 \sum_i w_i\, p_i y_i}{\sum_i w_i (p_i + y_i)}, \qquad p_i = \sigma(s_i)

    Counts shares of the two sets, not items: many easy negatives drown nothing, unlike in
    :func:`~rankwell.losses.sigmoid_loss`, with which it is often added. The consistency-enhanced loss of MINet,
    :math:`\sum (p - py) + \sum (y - py)` over :math:`\sum p + \sum y`, is the same number. It is
    :func:`tversky_loss` at one half and one half. Time and memory O(n) a list.

    Weights count items in both sets, so that their scale cancels. A list without relevant items has value 1 and no
    gradient. Labels are meant in [0, 1].

    Choose it in a sum with :func:`~rankwell.losses.sigmoid_loss`, for sets of labels that are cut at 0 without choosing
    a threshold: on labels of films the sum had F1 above 0 of 0.5444, sigmoid 0.4477, and NDCG@10 of 0.7769, sigmoid
    0.7835. Alone it loses the rarer labels and so the order, NDCG@10 0.7217 (``bench/results/set_wise.txt``); for an
    order take sigmoid or :func:`~rankwell.losses.softmax_loss`.

    >>> soft_dice_loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))  # 1 - 2 x 1/2 / (1 + 1)
    tensor(0.5000)

    Source: :cite:`milletari2016`, with plain sums in the denominator instead of squares; :cite:`pang2020`, the
    consistency-enhanced loss, there over a whole batch and with 1e-6 in the denominator. Equation numbers unchecked.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return _tversky(lists, 0.5, 0.5, reduction)


@list_loss(paper="salehi2017", complexity="n")
def tversky_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    alpha: Annotated[float, Search(0.05, 0.95)] = 0.3,
    beta: Annotated[float, Search(0.05, 0.95)] = 0.7,
) -> Tensor:
    r"""One less the Tversky index: a Dice coefficient that weighs false alarms and misses apart.

    .. math:: \ell(s, y) = 1 - \frac{\sum_i w_i\, p_i y_i}
        {\sum_i w_i \left( p_i y_i + \alpha\, p_i (1 - y_i) + \beta\, (1 - p_i) y_i \right)}, \qquad p_i = \sigma(s_i)

    At one half and one half :func:`soft_dice_loss`; at one and one the Jaccard index. The higher beta, the more recall. Time
    and memory O(n) a list.

    Weights count items in every sum, so that their scale cancels. A list without relevant items has value 1 and no
    gradient. Labels are meant in [0, 1].

    Choose it instead of :func:`soft_dice_loss` where a miss costs more than a false alarm, or less, and that is known:
    beta over alpha says by how much. As there, alone it makes sets, not orders: on labels of films F1 above 0 was
    0.5025 and NDCG@10 0.7265, :func:`~rankwell.losses.sigmoid_loss`'s 0.4477 and 0.7835
    (``bench/results/set_wise.txt``).

    Args:
        alpha: what a false alarm counts, from 0.
        beta: what a miss counts, above 0.

    Raises:
        InputError: if ``alpha`` is below 0 or ``beta`` not above 0.

    >>> tversky_loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))  # 1 - 1/2 / (1/2 + .3/2 + .7/2)
    tensor(0.5000)

    Source: :cite:`salehi2017`; equation number unchecked.
    """
    check_at_least(alpha, "alpha")
    check_positive(beta, "beta")
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return _tversky(lists, alpha, beta, reduction)


def _tversky(lists: Opened, alpha: float, beta: float, reduction: Reduction) -> Values:
    y, w, total = lists.labels, lists.weights, lists.lists.sum
    p, missed = torch.sigmoid(lists.scores), torch.sigmoid(-lists.scores)
    costs = total(w * (alpha * p * (1 - y) + beta * missed * y))
    hits = total(w * p * y)
    # The relevant keep the denominator away from zero: each is a hit or a miss.
    some = total(w * y) > 0
    return lists.reduce(torch.where(some, costs / torch.where(some, hits + costs, 1), 1), reduction)


@list_loss(paper="tunanyan2021", complexity="n")
def excessiveness_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""The irrelevant share of what is scored above zero: one less a soft precision.

    .. math:: \ell(s, y) = \frac{\sum_i w_i\, p_i (1 - y_i)}{\sum_i w_i\, p_i}, \qquad p_i = \sigma(s_i)

    Against false alarms, beside a loss that asks for recall: by itself it is content with one relevant item. Where all
    scores are far below zero it is one less the softmax's share of the relevant. The sums are taken from the largest
    ``logsigmoid`` on, so that they do not vanish. Time and memory O(n) a list.

    Weights count items in both sums, so that their scale cancels. A list without relevant items has value 1 and no
    gradient. Labels are meant in [0, 1].

    Choose it only in a sum with a loss that asks for recall, to hold down false alarms; :func:`tversky_loss` with a
    larger alpha does both in one. On labels of films the sum with :func:`~rankwell.losses.sigmoid_loss` lowered NDCG@10
    from 0.7835 to 0.7689 and F1 above 0 from 0.4477 to 0.3556, and alone it had 0.7379 and 0.1832
    (``bench/results/set_wise.txt``).

    >>> excessiveness_loss(torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))
    tensor(0.6667)

    Source: the excessiveness loss of :cite:`tunanyan2021`; formula not confirmed.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    w, log_p = lists.weights, functional.logsigmoid(lists.scores)
    # The ratio does not depend on what the exponents are taken from.
    top = lists.lists.logsumexp(torch.where(w > 0, log_p, torch.finfo(log_p.dtype).min)).detach()
    p = torch.exp((log_p - lists.lists.spread(top)).clamp(max=80))
    claimed = lists.lists.sum(w * p)
    values = lists.lists.sum(w * p * (1 - lists.labels)) / torch.where(claimed == 0, 1, claimed)
    return lists.reduce(values, reduction)
