"""WARP: the first negative that violates the margin, weighted by the rank that its number of trials tells."""

from typing import Annotated, Literal, TypeAlias

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import Rows, check_at_least, check_count, open_rows
from rankwell.losses.registry import Margin, Neg, Pos, contrast_loss
from rankwell.registry import Input, Search
from rankwell.types import Mask, Reduction, Weights

__all__ = ["check_num_items", "k_os_warp_loss", "warp_loss"]

EULER = 0.5772156649015329
"""Euler's constant."""

CHUNK_PAIRS = 1 << 18
"""Comparisons of positives with negatives made at once."""

RankWeight: TypeAlias = Literal["harmonic", "lightfm"]


@contrast_loss(
    paper="weston2011", complexity="m n", inputs={"num_items": Input("scalar", holds="count", required=True)}
)
def warp_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    num_items: int | None = None,
    margin: Margin = 1.0,
    rank_weight: RankWeight = "harmonic",
) -> Tensor:
    r"""Weighted approximate-rank pairwise loss: the hinge of the first violator, weighted by the positive's estimated rank.

    .. math:: \ell = \operatorname{mean}_i w_i\, L(r_i) \left[ m - s_i + s_{j(i)} \right]_+, \qquad
        r_i = \left\lfloor \frac{|I| - 1}{t_i} \right\rfloor, \quad L(r) = \sum_{q=1}^r \frac{1}{q}

    The given negatives are taken as drawn one after the other: :math:`j(i)` is the first with :math:`s_j > s_i - m`, and
    :math:`t_i` says the how-manieth it is among the valid ones. Soon found means a bad rank and a large weight. A positive
    without a violator costs 0. So the order of the negatives matters, and the loss is not monotone: a positive that falls a
    little may meet an earlier, smaller violation. The weight :math:`L` carries no gradient. Time O(m n), memory O(m + n).

    Weights multiply the positives' terms. A row without negatives has value 0.

    Choose it for inner products and the top of the list, with negatives drawn uniformly, whose order says the rank. It
    learns from one negative a positive, and one that is positive in truth may be the one: with pools of hundreds take
    :func:`~rankwell.losses.sampled_softmax_loss`, for a smooth loss :func:`~rankwell.losses.bpr_loss`. At equal tuning,
    ml-latest-small: NDCG@20 0.2901, these 0.2994 and 0.2968 (``docs/leaderboard.md``).

    Args:
        num_items: :math:`|I|`, how many items there are to choose from.
        margin: the gap, in units of the scores, beyond which a negative is no violator.
        rank_weight: ``harmonic``, the sum above, or ``lightfm``, :math:`\log r` and at most 10.

    Raises:
        InputError: if ``num_items`` is not given or below 2, ``margin`` is below 0, or ``rank_weight`` is neither.

    >>> warp_loss(torch.tensor([1.0]), torch.tensor([[-1.0, 0.5]]), num_items=5)  # the second: rank 2, (1 + 1/2) * .5
    tensor(0.7500)

    Source: :cite:`weston2011`, equation numbers unchecked; LightFM's code for the other weight. Differs from them: as many
    draws as negatives are given, and several positives, averaged.
    """
    size = check_num_items(num_items)
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    terms = _first_violation(rows, rows.pos, size, margin, rank_weight)
    return rows.reduce(rows.mean_pos(terms), reduction)


@contrast_loss(
    paper="weston2013", complexity="m log m + n", inputs={"num_items": Input("scalar", holds="count", required=True)}
)
def k_os_warp_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    num_items: int | None = None,
    k: Annotated[int, Search(1, 10)] = 5,
    margin: Margin = 1.0,
    rank_weight: RankWeight = "harmonic",
) -> Tensor:
    r"""WARP of the k-th best positive: which of a user's positives is to be lifted.

    .. math:: \ell = w_{(k)}\, L(r_{(k)}) \left[ m - s_{(k)} + s_{j(k)} \right]_+, \qquad s_{(1)} \ge s_{(2)} \ge \dots

    With one positive it is :func:`warp_loss`, which says what rank, weight and violator are. A small k lifts what is nearly
    at the top (precision), a large one the low positives (recall). A row with fewer positives takes its lowest. Time O(m log m
    + n), memory O(m + n).

    The chosen positive's weight multiplies the value. A row without negatives has value 0.

    Choose it instead of :func:`warp_loss` where rows have several positives and k is to decide between precision and
    recall: it learns from one of them a row, so a step does less. With one positive a row it is warp, as on our
    leaderboard, where the settings drawn for it gave NDCG@20 0.2926 on ml-latest-small, those for warp 0.2901
    (``docs/leaderboard.md``).

    Args:
        num_items: :math:`|I|`, how many items there are to choose from.
        k: which positive, counted from the best. LightFM takes the 5th of 10.
        margin: the gap, in units of the scores, beyond which a negative is no violator.
        rank_weight: ``harmonic`` or ``lightfm``, as in :func:`warp_loss`.

    Raises:
        InputError: if ``num_items`` is not given or below 2, ``k`` is no whole number from 1, ``margin`` is below 0, or
            ``rank_weight`` is neither.

    >>> k_os_warp_loss(torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[0.5]]), k=2, num_items=3)  # the 1.0: 1.5 * .5
    tensor(0.7500)

    Source: :cite:`weston2013`, the k-order statistic loss; equation number unchecked. Differs from it: k is fixed, not drawn.
    """
    size = check_num_items(num_items)
    check_count(k, "k")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    chosen = _kth_best(rows, k)
    kth, weight = rows.pos.gather(-1, chosen), rows.weights.expand_as(rows.pos).gather(-1, chosen)
    terms = weight * _first_violation(rows, kth, size, margin, rank_weight)
    return rows.reduce(terms.squeeze(-1), reduction)


def check_num_items(num_items: int | None) -> int:
    """The number, if it is given and there is an item beside the positive."""
    if not isinstance(num_items, int) or num_items < 2:
        given = "none" if num_items is None else num_items
        raise InputError(f"num_items, how many items there are to choose from, must be at least 2: got {given}.")
    return num_items


def _kth_best(rows: Rows, k: int) -> Tensor:
    """``[*b, 1]``: where the k-th best of each row's valid positives stands, or the lowest of fewer."""
    if rows.pos_where is None:
        return rows.pos.detach().topk(min(k, rows.pos.shape[-1])).indices[..., -1:]
    order = torch.where(rows.pos_where, rows.pos.detach(), -torch.inf).argsort(dim=-1, descending=True, stable=True)
    return order.gather(-1, (rows.pos_where.sum(-1, keepdim=True) - 1).clamp(min=0, max=k - 1))


def _first_violation(rows: Rows, pos: Tensor, size: int, margin: float, rank_weight: str) -> Tensor:
    """The weighted hinge of each positive with its first violator; 0 without one."""
    check_at_least(margin, "margin")
    if rank_weight not in ("harmonic", "lightfm"):
        raise InputError(f"rank_weight must be 'harmonic' or 'lightfm': got {rank_weight!r}.")
    n = rows.given_neg.shape[-1]
    if n == 0:
        return pos - pos
    found, first = _first_above(rows.neg.detach(), pos.detach() - margin)
    trials = first + 1
    if rows.where is not None:
        trials = rows.where.cumsum(-1).gather(-1, first).clamp(min=1)
    rank = ((size - 1) // trials).to(pos.dtype)
    if rank_weight == "harmonic":
        # By the digamma function: H(r) = digamma(r + 1) + EULER. At a rank of 0 rounding leaves less than 0.
        weight = (torch.digamma(rank + 1) + EULER).clamp(min=0)
    else:
        weight = rank.clamp(min=1).log().clamp(max=10)
    violation = torch.relu(rows.neg.gather(-1, first) - (pos - margin))
    return torch.where(found, weight * violation, 0)


def _first_above(neg: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """For each threshold ``[*b, m]`` whether a negative is above it, and the place of the first one (else 0)."""
    step = max(1, CHUNK_PAIRS // max(neg.numel(), 1))
    chunks = [
        (neg[..., None, :] > threshold[..., start : start + step, None]).byte().max(-1)
        for start in range(0, threshold.shape[-1], step)
    ]
    return torch.cat([above for above, _ in chunks], -1) > 0, torch.cat([first for _, first in chunks], -1)
