r"""Sums over the pairs of a list that weigh as much as a metric says, in memory that does not grow with their number.

For one list

.. math:: \ell = \sum_{(i,j):\, g_i > g_j} w_i\, (g_i - g_j)\, \omega_{ij} \log\left(1 + e^{-(s_i - s_j) / t}\right)

with gains :math:`g` of the labels and factors :math:`\omega` of the ranks, both from
:mod:`rankwell.kernels.lambda_weights`, and both constants to the gradient. Items whose pairs count come first, as *rows*:
the k best-scored ones when pairs are cut at k, else all but the least relevant. A row meets the *columns* behind it, so
that each pair is met once: time O(n k) with a cut, O(rows x n) without. Rows go in chunks that stay in the cache, and
each chunk gives its values and its slopes at once: the backward pass is one multiplication. A block of lists on another
device is waited for twice.

Of items with equal scores, the less relevant one ranks first: scores that all tie count as the worst order, not as the
one that the items happen to stand in. Of equal scores and equal labels the earlier item ranks first.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from rankwell.kernels.lambda_weights import WEIGHTS, Weighing
from rankwell.kernels.operators import list_sums
from rankwell.lists import Opened, blocks

__all__ = ["lambda_sums"]

CHUNK_PAIRS = 1 << 17
"""Pairs made at once: half a megabyte a temporary, small enough for the cache."""

BLOCK_ITEMS = 1 << 15
"""Padded items sorted at once."""

Slices: TypeAlias = tuple[slice, slice | None, slice | None]
"""What takes the rows ``[g, r, 1]`` or the columns ``[g, 1, c]`` of pairs from tables ``[g, n]``."""


def lambda_sums(
    opened: Opened,
    weight: str,
    own: float = 0.0,
    *,
    weighted: bool,
    k: int | None = None,
    cut: bool = False,
    temperature: float = 1.0,
    norm: bool = False,
) -> Tensor:
    """Sum over the pairs of each list, weighed by ``WEIGHTS[weight]`` with a parameter; 0 for a list without pairs.

    ``k`` is the cut-off of the weights; with ``cut``, besides, only pairs count of which an item is among the ``k``
    best-scored. ``norm`` is LightGBM's. Unless ``weighted``, the items' own weights are all 1.
    """
    scores, where = opened.scores, opened.where
    where = scores.new_ones((), dtype=torch.bool) if where is None else where
    tensors = (scores, opened.labels, opened.weights, where)
    return list_lambda_sums(opened.lists, *tensors, weight, own, weighted, k or 0, cut, temperature, norm)[0]


def _lambda_sums(
    scores: Tensor,
    labels: Tensor,
    weights: Tensor,
    where: Tensor,
    offsets: Tensor,
    weight: str,
    own: float,
    weighted: bool,
    k: int,
    cut: bool,
    temperature: float,
    norm: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of the pairs of each list; gradients of it by scores and by weights."""
    values = scores.new_zeros(offsets.numel() - 1)
    by_scores, by_weights = torch.zeros_like(scores), torch.zeros_like(scores)
    for chosen, items, valid in blocks(offsets, BLOCK_ITEMS):
        n = items.shape[-1]
        valid = valid & _at(where, items)
        grades = torch.where(valid, _at(labels, items), 0)
        values.index_add_(0, chosen, (0 * grades).sum(-1))  # NaN, where a label is: such have no order
        grades.nan_to_num_(0, 0, 0)
        order = _ranking(_at(scores, items), grades, valid)
        items, valid, grades = (x.gather(-1, order) for x in (items, valid, grades))
        weighing = WEIGHTS[weight](grades, valid, k if 0 < k < n else n, own)
        rows = [k] * len(items)
        both_ways = cut and k < n
        if not both_ways:
            order, most, rows = _rows_first(weighing, grades, valid)
            chosen, items, valid = chosen[most], items[most].gather(-1, order), valid[most].gather(-1, order)
            weighing = weighing._replace(tables=[table[most].gather(-1, order) for table in weighing.tables])
        own_weights = _at(weights, items) if weighted else scores.new_ones(())
        block = _Block(_at(scores, items), own_weights, valid, rows, weighing, both_ways)
        slopes, parts = _block_sums(block, weighted, temperature, norm)
        values.index_add_(0, chosen, (block.weights * parts if weighted else parts).sum(-1))
        by_scores.index_add_(0, items.flatten(), slopes.flatten())  # 0 at padding, which points at a first item
        if weighted:
            by_weights.index_add_(0, items.flatten(), parts.flatten())
    return values, by_scores, by_weights


def _at(x: Tensor, items: Tensor) -> Tensor:
    return x.index_select(0, items.flatten()).view(items.shape)  # a quarter of the time of x[items]


# --------------------------------------------------------------------------------------------------------------- layout


def _ranking(scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """The order of the scores, best first; of equal ones the lower label first; absent items last."""
    worst_last = torch.where(valid, -scores, torch.inf)
    order = _argsort(worst_last)
    ranked = worst_last.gather(-1, order)
    tied = (ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] < torch.inf)
    if bool(tied.any()):  # rare once training has begun
        by_label = _argsort(labels)
        order = by_label.gather(-1, _argsort(worst_last.gather(-1, by_label)))
    return order


def _argsort(x: Tensor) -> Tensor:
    """Stable order of the rows, least first. On a CPU by sorting bits and places in one integer, in numpy: 7 times as fast."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return x.argsort(dim=-1, stable=True)
    bits = (x + 0.0).view(torch.int32)  # -0 to 0
    bits ^= (bits >> 31).bitwise_and_(0x7FFF_FFFF)  # in the order of the numbers, negative ones too
    keys = torch.add(torch.arange(x.shape[-1]), bits, alpha=1 << 32)
    keys.numpy().sort(axis=-1)
    return keys.bitwise_and_(0xFFFF_FFFF)


def _rows_first(weighing: Weighing, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """For all pairs: an order of the lists, many rows first, one of the items of each, and the numbers of rows.

    Rows are the items that gain more than the least one. More relevant items come first, so that a row gains over all that is
    behind it.
    """
    order = _argsort(torch.where(valid, -labels, torch.inf))
    gains = weighing.tables[0].gather(-1, order)
    count = valid.sum(-1, keepdim=True)
    least = 0 if weighing.every else gains.gather(-1, (count - 1).clamp(min=0))
    rows = ((gains > least) & (torch.arange(labels.shape[-1], device=labels.device) < count)).sum(-1)
    most = rows.argsort(descending=True)
    return order[most], most, rows[most].tolist()


class _Block(NamedTuple):
    """Lists ``[g, n]``, rows first and absent items last; no list has more rows than the one before it."""

    scores: Tensor
    weights: Tensor
    """A single one if all are."""
    valid: Tensor
    rows: list[int]
    weighing: Weighing
    both_ways: bool
    """Whether a row may be the worse item of a pair."""


# --------------------------------------------------------------------------------------------------------------- chunks


def _chunks(rows: list[int], n: int, every: bool) -> Iterator[tuple[slice, slice]]:
    """Lists and rows of chunks of bounded size, for columns behind the first row or for every column."""
    first = 0
    while first < len(rows) and rows[first]:
        lists = max(1, CHUNK_PAIRS // (rows[first] * n))
        row = 0
        while row < rows[first]:
            last = min(rows[first], row + max(1, CHUNK_PAIRS // (lists * (n if every else n - row))))
            yield slice(first, first + lists), slice(row, last)
            row = last
        first += lists


def _block_sums(block: _Block, weighted: bool, temperature: float, norm: bool) -> tuple[Tensor, Tensor]:
    """Gradients of the sums of lists by scores and by weights; the latter is also the value."""
    scores, weights = block.scores / temperature, block.weights
    by_scores, by_weights = torch.zeros_like(scores), torch.zeros_like(scores)
    force, places, spread = scores.new_zeros(len(scores), 1), _places(block), _spread(block) if norm else None
    # Memory for all chunks: fresh pages would take longer than what is computed in them.
    room = scores.new_empty(5, max(CHUNK_PAIRS, scores.shape[-1]))
    for lists, rows in _chunks(block.rows, scores.shape[-1], block.weighing.every):
        columns = slice(0 if block.weighing.every else rows.start + 1, None)
        row, column = (lists, rows, None), (lists, None, columns)
        shape = (*scores[lists, rows].shape, scores[lists, columns].shape[-1])
        lead, size, lost, slope, value = room[:, : math.prod(shape)].view(5, *shape)
        torch.sub(scores[column], scores[row], out=lead)
        _sizes(block, places, row, column, size, met=slope)
        if spread is not None:
            size /= 1 + spread[lists, :, None] * (lead.abs() * temperature - 0.99)
        if block.both_ways:
            # The row leads, if the column is not absent. Finite: an item at minus infinity need not be the better one.
            lead.clamp_(torch.finfo(lead.dtype).min, 0)
            torch.clamp(size, max=0, out=lost)  # below 0 where the column is the better item
            size.abs_()
        torch.sigmoid(lead, out=slope).mul_(size)
        # The logarithm of 1 + e^lead; where the column is the better item, of 1 + e^-lead.
        if block.both_ways:  # there it is more by -lead, and the slope is what is left of 1
            torch.exp(lead, out=value).log1p_().mul_(size).addcmul_(lost, lead)
            slope += lost
        else:
            torch.abs(lead, out=value).neg_().exp_().log1p_().add_(lead.relu_()).mul_(size)
        if norm:
            force[lists] += slope.abs().sum((-2, -1))[:, None]
        if weighted and block.both_ways:
            better = lost.sign_().neg_()
            slope *= torch.lerp(weights[row], weights[column], better)
            by_weights[lists, columns] += better.mul_(value).sum(-2)
            value -= better
        elif weighted:
            slope *= weights[row]
        by_weights[lists, rows].add_(value.sum(-1))  # where all weights are 1, it does not matter whose it is
        by_scores[lists, rows].sub_(slope.sum(-1))
        by_scores[lists, columns].add_(slope.sum(-2))
    if norm:
        factor = _norm(force * 2 / temperature)
        by_scores, by_weights = by_scores * factor, by_weights * factor
    return by_scores / temperature, by_weights


def _norm(force: Tensor) -> Tensor:
    """LightGBM's factor for lists, from the sums of their forces."""
    return torch.where(force > 0, torch.log1p(force) / (math.log(2) * force), 1)


def _places(block: _Block) -> tuple[Tensor, Tensor]:
    """Places as a row and as a column: a row meets the columns behind it. Absent ones are met by none."""
    place = torch.arange(block.scores.shape[-1], device=block.scores.device, dtype=block.scores.dtype)
    rows = place.expand_as(block.scores)
    # Where items are met by all but themselves, the second table is 0 where one is absent.
    return rows, rows if block.weighing.every else torch.where(block.valid, place, -1)


def _sizes(
    block: _Block, places: tuple[Tensor, Tensor], rows: Slices, columns: Slices, size: Tensor, met: Tensor
) -> None:
    """What the pairs of a chunk weigh; below zero where the column is the better item."""
    tables, factor, every = block.weighing
    row, column = [x[rows] for x in tables], [x[columns] for x in tables]
    (torch.mul if every else torch.sub)(row[0], column[int(every)], out=size)
    if factor is not None:
        size *= factor(row, column)
    # Comparing into a float tensor and multiplying takes a tenth of the time of a boolean mask.
    size *= (torch.ne if every else torch.gt)(places[1][columns], places[0][rows], out=met)


def _spread(block: _Block) -> Tensor:
    """``[g, 1]``: 1 where the scores of a list differ, else 0."""
    top = torch.where(block.valid, block.scores, -torch.inf).amax(-1, keepdim=True)
    bottom = torch.where(block.valid, block.scores, torch.inf).amin(-1, keepdim=True)
    return (top > bottom).to(top.dtype)


list_lambda_sums = list_sums(_lambda_sums, "lambda losses")
