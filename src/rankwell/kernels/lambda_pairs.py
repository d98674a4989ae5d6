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

import numpy as np
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

SURE = 40
"""A lead from which the logarithm of 1 + e^lead is the lead, to all digits of a double."""

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
    tensors = (opened.scores, opened.labels, opened.weights if weighted else None, opened.where)
    return list_lambda_sums(opened.lists, *tensors, weight, own, k or 0, cut, temperature, norm)[0]


def _lambda_sums(
    scores: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    where: Tensor | None,
    offsets: Tensor,
    weight: str,
    own: float,
    k: int,
    cut: bool,
    temperature: float,
    norm: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of the pairs of each list; gradients of it by scores and by weights."""
    values, by_scores = scores.new_zeros(offsets.numel() - 1), torch.zeros_like(scores)
    by_weights = scores.new_zeros(0 if weights is None else len(scores))
    for chosen, items, inside in blocks(offsets, BLOCK_ITEMS):
        n = items.shape[-1]
        full = where is None and len(chosen) == len(values) and items.numel() == scores.numel()  # so in their order
        valid = None if full else inside if where is None else inside & _at(where, items)
        given, grades = (x.view(items.shape) if full else _at(x, items) for x in (scores, labels))
        if valid is not None:
            grades.masked_fill_(~valid, 0)
        spoiled = (0 * grades).sum(-1)  # NaN, where a label is: such have no order
        grades = grades.nan_to_num(0, 0, 0)
        order = _ranking(given, grades, valid)
        items, grades, given = (x.gather(-1, order) for x in (items, grades, given))
        valid = None if valid is None else valid.gather(-1, order)
        weighing = WEIGHTS[weight](grades, k if 0 < k < n else n, own)
        rows = [k] * len(items)
        both_ways = cut and k < n
        if not both_ways:
            order, most, rows = _rows_first(weighing, grades, valid)
            chosen, spoiled = chosen[most], spoiled[most]
            items, given = (x[most].gather(-1, order) for x in (items, given))
            valid = None if valid is None else valid[most].gather(-1, order)
            weighing = weighing._replace(tables=[table[most].gather(-1, order) for table in weighing.tables])
        own_weights = None if weights is None else _at(weights, items)
        block = _Block(given, own_weights, valid, rows, weighing, both_ways)
        slopes, parts = _block_sums(block, temperature, norm)
        values.index_add_(0, chosen, (parts if own_weights is None else own_weights * parts).sum(-1).add_(spoiled))
        by_scores.index_add_(0, items.view(-1), slopes.view(-1))  # 0 at padding, which points at a first item
        if weights is not None:
            by_weights.index_add_(0, items.view(-1), parts.view(-1))
    return values, by_scores, by_weights


def _at(x: Tensor, items: Tensor) -> Tensor:
    return x.index_select(0, items.flatten()).view(items.shape)  # a quarter of the time of x[items]


# --------------------------------------------------------------------------------------------------------------- layout


def _ranking(scores: Tensor, labels: Tensor, valid: Tensor | None) -> Tensor:
    """The order of the scores, best first; of equal ones the lower label first; absent items last."""
    worst_last = scores.neg() if valid is None else scores.neg().masked_fill_(~valid, torch.inf)
    order = _argsort(worst_last)
    gaps = worst_last.gather(-1, order).diff()  # NaN between absent ones
    if int(gaps.count_nonzero()) < gaps.numel():  # ties are rare once training has begun
        by_label = _argsort(labels)
        order = by_label.gather(-1, _argsort(worst_last.gather(-1, by_label)))
    return order


def _argsort(x: Tensor) -> Tensor:
    """Stable order of the rows, least first. On a CPU by sorting bits and places in one integer, in numpy: 7 times as fast."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return x.argsort(dim=-1, stable=True)
    bits = (x.detach().numpy() + np.float32(0)).view(np.int32)  # -0 to 0
    bits ^= (bits >> 31) & 0x7FFF_FFFF  # in the order of the numbers, negative ones too
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= np.arange(x.shape[-1])
    keys.sort(axis=-1)
    keys &= 0xFFFF_FFFF
    return torch.from_numpy(keys)


def _rows_first(weighing: Weighing, labels: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, list[int]]:
    """For all pairs: an order of the lists, many rows first, one of the items of each, and the numbers of rows.

    Rows are the items that gain more than the least one. More relevant items come first, so that a row gains over all that is
    behind it.
    """
    valid = torch.ones_like(labels, dtype=torch.bool) if valid is None else valid
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
    weights: Tensor | None
    valid: Tensor | None
    """None where no item is absent."""
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


def _block_sums(block: _Block, temperature: float, norm: bool) -> tuple[Tensor, Tensor]:
    """Gradients of the sums of lists by scores and by weights; the latter is also the value."""
    scores, weights, every = block.scores / temperature, block.weights, block.weighing.every
    by_scores, by_weights = torch.zeros_like(scores), torch.zeros_like(scores)
    force, spread = scores.new_zeros(len(scores), 1), _spread(block) if norm else None
    present = None if block.valid is None else block.valid.to(scores.dtype)
    # Memory for all chunks: fresh pages would take longer than what is computed in them.
    room = scores.new_empty(3, max(CHUNK_PAIRS, scores.shape[-1]))
    for lists, rows in _chunks(block.rows, scores.shape[-1], every):
        columns = slice(0 if every else rows.start + 1, None)
        row, column = (lists, rows, None), (lists, None, columns)
        ahead, behind = scores[row], scores[column]
        shape = (*ahead.shape[:2], behind.shape[-1])
        lead, size, slope = room[:, : math.prod(shape)].view(3, *shape).unbind()
        torch.sub(behind, ahead, out=lead)
        _sizes(block.weighing, row, column, size)
        # No item is met by itself, none by one behind it, and absent ones by none.
        if every:
            size[..., rows].diagonal(dim1=-2, dim2=-1).zero_()
        else:
            size[..., : shape[1]].triu_()
        if present is not None:
            size *= present[column]
        if spread is not None:
            size /= 1 + spread[lists, :, None] * (lead.abs() * temperature - 0.99)
        if block.both_ways:
            # The row leads, if the column is not absent. Finite: an item at minus infinity need not be the better one.
            lead.clamp_(torch.finfo(lead.dtype).min, 0).copysign_(size)  # of the worse item before the better one
        torch.sigmoid(lead, out=slope).mul_(size)
        value = torch.ops.aten.softplus.out(lead, 1, SURE, out=lead).mul_(size).abs_()
        if norm:
            force[lists] += slope.abs().sum((-2, -1))[:, None]
        if weights is not None and block.both_ways:
            better = (size > 0).to(size.dtype)  # where it is the column
            slope *= torch.lerp(weights[row], weights[column], better)
            by_weights[lists, columns] += better.mul_(value).sum(-2)
            value -= better
        elif weights is not None:
            slope *= weights[row]
        by_weights[lists, rows].add_(value.sum(-1))  # where all weights are 1, it does not matter whose it is
        by_scores[lists, rows].add_(slope.sum(-1))
        by_scores[lists, columns].sub_(slope.sum(-2))
    if norm:
        factor = _norm(force * 2 / temperature)
        by_scores, by_weights = by_scores * factor, by_weights * factor
    return by_scores.div_(temperature), by_weights


def _norm(force: Tensor) -> Tensor:
    """LightGBM's factor for lists, from the sums of their forces."""
    return torch.where(force > 0, torch.log1p(force) / (math.log(2) * force), 1)


def _sizes(weighing: Weighing, rows: Slices, columns: Slices, size: Tensor) -> None:
    """What the pairs of a chunk weigh, all met; below zero where the row is the better item."""
    tables, factor, every = weighing
    row, column = [x[rows] for x in tables], [x[columns] for x in tables]
    if every:
        size.copy_(row[0]).neg_()
    else:
        torch.sub(column[0], row[0], out=size)
    if factor is not None:
        size *= factor(row, column)


def _spread(block: _Block) -> Tensor:
    """``[g, 1]``: 1 where the scores of a list differ, else 0."""
    scores, valid = block.scores, block.valid
    top = (scores if valid is None else torch.where(valid, scores, -torch.inf)).amax(-1, keepdim=True)
    bottom = (scores if valid is None else torch.where(valid, scores, torch.inf)).amin(-1, keepdim=True)
    return (top > bottom).to(top.dtype)


list_lambda_sums = list_sums(_lambda_sums, "lambda losses")
