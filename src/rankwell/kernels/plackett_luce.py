r"""Log-chances of items against the worse ones of their list, in O(n log n) time and linear memory.

For one list

.. math:: \ell = \sum_i w_i\, a_i \left( \log \sum_{k \in R_i} e^{s_k} - s_i \right)

where :math:`R_i` is what item i is drawn from in a race that the best label wins: itself and the items of lower label, with
those of equal label as ``rivals`` says, and :math:`a_i` is 1 or a weight of the position.

Lists of similar length are sorted by label together, worst first, so that every sum over :math:`R_i` is a prefix sum, and
every slope a suffix sum. Sums are of float64. Each block gives its values and its slopes at once: the backward pass is one
multiplication.
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.kernels.operators import list_sums
from rankwell.lists import Opened, blocks

__all__ = ["Rivals", "log_chance_sums"]

Rivals: TypeAlias = Literal["tied", "order", "worse"]
"""What of equal label an item is drawn against: all of it, what stands behind it in the list, or nothing."""

BLOCK_ITEMS = 1 << 15
"""Padded items sorted at once: a quarter of a megabyte a temporary of float64."""

SAFE_GAP = 600.0
"""Up to here the exponentials of a list, and sums of their inverses, are normal numbers of float64."""


def log_chance_sums(opened: Opened, weights: Tensor, rivals: Rivals, *, by_position: bool = False) -> Tensor:
    """Sums of ``w_i a_i`` times the negative log-chances of the items of each list.

    ``by_position``: the item in position i of n weighs :math:`(2^{n-i} - 1) / 2^{n-1}`; those of equal label share the mean
    of their positions' weights.
    """
    tensors = (opened.scores, opened.labels, weights if weights.ndim else None, opened.where)
    (sums,) = list_log_chance_sums(opened.lists, *tensors, rivals, by_position)
    return sums if weights.ndim else weights * sums


def _log_chance_sums(
    scores: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    where: Tensor | None,
    offsets: Tensor,
    rivals: str,
    by_position: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of each list; its gradients by scores and by weights, empty where there are none."""
    sums = scores.new_zeros(offsets.numel() - 1)
    by_scores, by_weights = torch.zeros_like(scores), torch.zeros_like(scores[:0] if weights is None else scores)
    for chosen, items, valid in blocks(offsets, BLOCK_ITEMS):
        if items.shape[-1] == 1:  # one item is drawn for certain; of heavy-tailed lists, half have no other
            continue
        if rivals == "order":  # of equals the first in the list is the best, and so the last here
            items, valid = items.flip(-1), valid.flip(-1)
        valid = valid if where is None else valid & _taken(where, items)
        # What is absent stands behind the best.
        level = _taken(labels, items).masked_fill_(~valid, torch.inf)
        level, order = level.sort(dim=-1, stable=rivals == "order")
        items = items.gather(-1, order)
        place = torch.arange(items.shape[-1], device=items.device)
        count = valid.sum(-1, keepdim=True)
        absent = place >= count
        score = _taken(scores, items).double().masked_fill_(absent, -torch.inf)
        charge = (~absent).double() if weights is None else _taken(weights, items).double().masked_fill_(absent, 0)
        group = place.expand(items.shape) if rivals == "order" else _groups(level)
        factor = _position_weights(group, count) if by_position else None
        costs, slopes = _costs(score, charge if factor is None else charge * factor, group, rivals == "worse")
        costs = costs.masked_fill_(absent, 0) if factor is None else costs.masked_fill_(absent, 0).mul_(factor)
        # Padding points at a list's first item, and adds 0 to it.
        by_scores.scatter_add_(0, items.flatten(), slopes.to(scores.dtype).flatten())
        if weights is not None:
            by_weights.scatter_add_(0, items.flatten(), costs.to(scores.dtype).flatten())
        sums[chosen] = charge.mul_(costs).sum(-1).to(scores.dtype)
    return sums, by_scores, by_weights


def _taken(x: Tensor, items: Tensor) -> Tensor:
    # A third of the time of x[items].
    return x.index_select(0, items.flatten()).reshape(items.shape)


def _groups(level: Tensor) -> Tensor:
    """Numbers of the groups of equals in each row, from 0."""
    group = torch.zeros_like(level, dtype=torch.int64)
    torch.cumsum(level[:, 1:] != level[:, :-1], -1, out=group[:, 1:])
    return group


def _position_weights(group: Tensor, count: Tensor) -> Tensor:
    r"""Means over ties of :math:`(2^{n-i} - 1) / 2^{n-1} = 2^{1-i} - 2^{1-n}`, which no list is too long for."""
    place = torch.arange(group.shape[-1], device=group.device)
    here = place < count
    weights = torch.where(here, torch.exp2((1.0 + place - count).double()) - torch.exp2(1.0 - count.double()), 0)
    totals, sizes = (
        torch.zeros_like(weights).scatter_add_(-1, group, x).gather(-1, group) for x in (weights, here.double())
    )
    return totals / sizes.clamp_(min=1)


def _costs(score: Tensor, charge: Tensor, group: Tensor, worse: bool) -> tuple[Tensor, Tensor]:
    """Negative log-chance of each item, and the slope of the sum of them times ``charge``; worst label first."""
    top = score.amax(-1, keepdim=True)
    score = score - top.masked_fill_(top == -torch.inf, 0)
    # Elsewhere a look at the numbers would wait for the device.
    if score.device.type != "cpu" or bool(score.masked_fill(score == -torch.inf, 0).amin() < -SAFE_GAP):
        return _costs_by_logarithms(score, charge, group, worse)
    mass, none = score.exp(), torch.zeros_like(score)
    below = none.scatter_add(-1, group, mass).cumsum_(-1)
    if worse:
        total = functional.pad(below[:, :-1], (1, 0)).gather(-1, group).add_(mass)
        share = charge / total.masked_fill_(total == 0, 1)
        above = none.scatter_add_(-1, group, share).flip(-1).cumsum_(-1).flip(-1)
        reach = functional.pad(above[:, 1:], (0, 1)).gather(-1, group).add_(share)
    else:
        share = none.scatter_add_(-1, group, charge).div_(below.masked_fill_(below == 0, 1))
        total, reach = below.gather(-1, group), share.flip(-1).cumsum_(-1).flip(-1).gather(-1, group)
    return total.log_().sub_(score), reach.mul_(mass).sub_(charge)


def _costs_by_logarithms(score: Tensor, charge: Tensor, group: Tensor, worse: bool) -> tuple[Tensor, Tensor]:
    """The same for gaps of any size, at several times the price."""
    none = torch.full_like(score, -torch.inf)
    # Of a group's cumulative sums the largest is the group's own.
    below = none.scatter_reduce(-1, group, score.logcumsumexp(-1), "amax")
    below = functional.pad(below[:, :-1], (1, 0), value=-torch.inf) if worse else below
    total = below.gather(-1, group)
    total = torch.logaddexp(score, total) if worse else total
    slope = -charge
    for sign in (1, -1):
        share = torch.where(sign * charge > 0, (sign * charge).log() - total, -torch.inf)
        above = none.scatter_reduce(-1, group, share.flip(-1).logcumsumexp(-1).flip(-1), "amax")
        above = functional.pad(above[:, 1:], (0, 1), value=-torch.inf) if worse else above
        reach = above.gather(-1, group)
        slope += sign * (score + (torch.logaddexp(share, reach) if worse else reach)).exp()
    return total - score, slope


list_log_chance_sums = list_sums(_log_chance_sums, "losses of label order")
