r"""Sums over the pairs of a list by chunks of rows, in memory that does not grow with the number of pairs.

Each list is sorted by label, best first, so that the worse items of a row are the columns behind it; rows that have
nothing worse are skipped, and binary labels cost positives x negatives. Rows go in chunks that stay in the cache, and
each chunk gives its values and its slopes at once. In one long list most chunks are rectangles, all of whose rows meet all
of their columns; those of the logistic go eight pairs at a time (:mod:`rankwell.kernels.rectangles`). The sizes of the chunks
follow from the labels, so a block of lists on another device is waited for twice.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.kernels.rectangles import GROUP, Rectangles
from rankwell.lists import blocks
from rankwell.types import Offsets

__all__ = ["PHI", "chunked_sums"]

CHUNK_PAIRS = 1 << 16
"""Pairs made at once: a quarter of a megabyte a temporary, small enough for the cache."""

BLOCK_ITEMS = 1 << 15
"""Padded items sorted at once."""

TILE_ROWS, GROUPED_TILE_ROWS = 64, 128
"""Rows of the rectangles of a list: the more, the fewer places their sums are spread over, and the more pairs are none."""

MANY_PAIRS = 1 << 20
"""Fewer pairs are done before the polynomials of their groups are."""

STEEPEST = 64.0
"""From this gap on, in the wrong direction, the exponential goes on as its tangent: float32 holds e^88."""

Phi = Callable[[Tensor, float], tuple[Tensor, Tensor]]


def _logistic(gap: Tensor, _: float) -> tuple[Tensor, Tensor]:
    return functional.softplus(-gap, threshold=40), torch.sigmoid(-gap).neg_()


def _hinge(gap: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    value = (margin - gap).relu_()
    return value, value.sign().neg_()


def _squared_hinge(gap: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    short = (margin - gap).relu_()
    return short.square(), short.mul_(-2)


def _exponential(gap: Tensor, _: float) -> tuple[Tensor, Tensor]:
    beyond = torch.relu(-gap - STEEPEST)
    slope = (gap + beyond).neg_().exp_()
    return beyond.add_(1).mul_(slope), slope.neg_()


def _soft_zero_one(gap: Tensor, _: float) -> tuple[Tensor, Tensor]:
    value = torch.sigmoid(-gap)
    return value, value * torch.sigmoid(gap).neg_()  # not value * (1 - value), which loses what is near one


PHI: dict[str, Phi] = {
    "logistic": _logistic,
    "hinge": _hinge,
    "squared_hinge": _squared_hinge,
    "exponential": _exponential,
    "soft_zero_one": _soft_zero_one,
}
"""Value and slope by the gap ``s_i - s_j`` and a parameter, each a new tensor."""


def _logistic_of(odds: Tensor) -> tuple[Tensor, Tensor]:
    return odds.log1p(), odds.div_(-1 - odds)


def _exponential_of(odds: Tensor) -> tuple[Tensor, Tensor]:
    return odds, -odds


def _soft_zero_one_of(odds: Tensor) -> tuple[Tensor, Tensor]:
    total = -1 - odds
    value = odds.div_(total).neg_()
    return value, value / total


OF_ODDS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "logistic": _logistic_of,
    "exponential": _exponential_of,
    "soft_zero_one": _soft_zero_one_of,
}
"""The same by ``e^(s_j - s_i)``: a product of an exponential a row and one a column, which saves those of pairs."""


def chunked_sums(
    scores: Tensor, labels: Tensor, weights: Tensor, where: Tensor, offsets: Offsets, phi: str, parameter: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted sum and number of pairs of each list; gradients of the sum by scores and by weights."""
    lists = offsets.numel() - 1
    if lists == 1 and len(scores) and scores.device.type == "cpu":
        levels = _two_levels(labels, where)
        if levels is not None:
            return _sums_of_two(scores, weights, *levels, phi, parameter)
    sums, counts = scores.new_zeros(lists), scores.new_zeros(lists)
    by_scores, by_weights = torch.zeros_like(scores), torch.zeros_like(scores)
    for chosen, items, valid in blocks(offsets, BLOCK_ITEMS):
        valid = valid & where[items]
        # Labels as the better item of a pair and as the worse one: what is masked is neither.
        better = torch.where(valid, labels[items], -torch.inf)
        order = better.argsort(dim=-1, descending=True, stable=True)
        items, valid, better = (x.gather(-1, order) for x in (items, valid, better))
        worse = torch.where(valid, better, torch.inf)
        first = torch.searchsorted(-better, -better, right=True)  # the first column that is worse than each row
        wins = (valid.sum(-1, keepdim=True) - first).clamp(min=0)
        # Lists with many rows first: a chunk of rows then needs a prefix of the lists only.
        rank = (wins > 0).sum(-1).argsort(descending=True)
        block = _Block(*(x[rank] for x in (scores[items], weights[items], better, worse, first, wins)))
        for total, part in zip((by_scores, by_weights), block.slopes(phi, parameter), strict=True):
            total.index_add_(
                0, items[rank].flatten(), part.flatten()
            )  # padding points at a first item, and adds 0 to it
        counts[chosen] = wins.sum(-1).to(counts.dtype)
        sums[chosen] = (weights[items] * by_weights[items] * valid).sum(-1)
    return sums, counts, by_scores, by_weights


def _two_levels(labels: Tensor, where: Tensor) -> tuple[Tensor, Tensor] | None:
    """The better and the worse items of a list with two labels, unless their pairs are many: then the order pays."""
    top = torch.where(where, labels, -torch.inf).amax()
    better, worse = ((where & of).nonzero().squeeze(1) for of in (labels == top, labels < top))
    if not 0 < len(better) * len(worse) < MANY_PAIRS or bool((labels[worse] != labels[worse[:1]]).any()):
        return None
    return better, worse


def _odds(scores: Tensor) -> tuple[Tensor, Tensor] | None:
    """Factors of the odds for rows and columns, unless they would leave the range of float32."""
    low, high = scores.aminmax(dim=-1, keepdim=True)
    if not bool((high - low <= STEEPEST).all()):
        return None
    centred = scores - (low + high) / 2
    return (-centred).exp_(), centred.exp()


def _sums_of_two(
    scores: Tensor, weights: Tensor, better: Tensor, worse: Tensor, phi: str, own: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What :func:`chunked_sums` gives, of each of some items against each of others, without an order."""
    ahead, behind, own_weights = scores[better], scores[worse], weights[better]
    of_rows, of_columns, values = torch.empty_like(ahead), torch.zeros_like(behind), torch.empty_like(ahead)
    odds = _odds(torch.cat([ahead, behind])) if phi in OF_ODDS else None
    step = max(1, CHUNK_PAIRS // len(worse))
    for first in range(0, len(better), step):
        rows = slice(first, first + step)
        if odds is None:
            value, slope = PHI[phi](ahead[rows, None] - behind, own)
        else:
            value, slope = OF_ODDS[phi](odds[0][: len(ahead)][rows, None] * odds[1][len(ahead) :])
        torch.sum(value, 1, out=values[rows])
        slope.mul_(own_weights[rows, None])
        torch.sum(slope, 1, out=of_rows[rows])
        of_columns -= slope.sum(0)
    by_scores, by_weights = torch.zeros_like(scores), torch.zeros_like(scores)
    by_scores[better], by_scores[worse], by_weights[better] = of_rows, of_columns, values
    pairs = len(better) * len(worse)
    return (own_weights @ values)[None], scores.new_full((1,), pairs), by_scores, by_weights


class _Block(NamedTuple):
    """Lists ``[g, n]`` that are sorted by label, those with many rows first."""

    scores: Tensor
    weights: Tensor
    better: Tensor
    worse: Tensor
    first: Tensor
    wins: Tensor

    def slopes(self, phi: str, own: float) -> tuple[Tensor, Tensor]:
        """Gradients by scores and by weights; the latter is also the value."""
        scores, weights = self.scores, self.weights
        by_scores, by_weights = torch.zeros_like(scores), torch.zeros_like(scores)
        odds = _odds(scores) if phi in OF_ODDS else None
        rectangles = None
        if phi == "logistic" and odds is not None and len(scores) == 1 and int(self.wins.sum()) >= MANY_PAIRS:
            rectangles = self._rectangles()
        for some, rows, columns, whole in self._chunks(rectangles is not None):
            if whole and rectangles is not None:
                rectangles.add(rows, columns)
                continue
            if odds is None:
                value, slope = PHI[phi](scores[some, rows, None] - scores[some, None, columns], own)
            else:
                value, slope = OF_ODDS[phi](odds[0][some, rows, None] * odds[1][some, None, columns])
            if not whole:
                # Comparing into a float tensor and multiplying takes a tenth of the time of a boolean mask.
                counts = torch.empty_like(value)
                torch.gt(self.better[some, rows, None], self.worse[some, None, columns], out=counts)
                value.mul_(counts)
                slope.mul_(counts)
            by_weights[some, rows] += value.sum(-1)
            slope.mul_(weights[some, rows, None])
            by_scores[some, rows] += slope.sum(-1)
            by_scores[some, columns] -= slope.sum(-2)
        if rectangles is not None:
            values, by_rows, by_columns = rectangles.sums()
            by_weights += values
            by_scores += by_columns - weights * by_rows
        return by_scores, by_weights

    def _rectangles(self) -> Rectangles:
        """Of one list."""
        scores = self.scores[0].double()
        low, high = scores.aminmax()
        centred = scores - (low + high) / 2
        above = torch.where(self.wins[0] > 0, (-centred).exp(), 0)
        return Rectangles(above, torch.where(self.better[0] > -torch.inf, centred.exp(), 0), self.weights[0])

    def _chunks(self, grouped: bool) -> Iterator[tuple[slice, slice, slice, bool]]:
        """Lists, rows and columns; and whether all of these are pairs."""
        if len(self.wins) == 1:
            yield from self._chunks_of_one(grouped)
            return
        active, n = self.wins > 0, self.wins.shape[-1]
        lists = active.sum(0).tolist()
        columns = torch.where(active, self.first, n).amin(0).tolist()
        ends = lists.index(0) if 0 in lists else len(lists)
        row = 0
        while row < ends:
            low, width = columns[row], n - columns[row]
            last = min(ends, row + max(1, CHUNK_PAIRS // (lists[row] * width)))
            step = max(1, CHUNK_PAIRS // ((last - row) * width))
            for start in range(0, lists[row], step):
                yield slice(start, min(start + step, lists[row])), slice(row, last), slice(low, n), False
            row = last

    def _chunks_of_one(self, grouped: bool) -> Iterator[tuple[slice, slice, slice, bool]]:
        """Tiles of some rows; the columns that some of these rows meet, and then those that all do."""
        columns, wins = self.first[0].tolist(), self.wins[0].tolist()
        ends, n = wins.index(0), columns[0] + wins[0]  # what is masked stands behind the last worse item
        tile, pairs = (GROUPED_TILE_ROWS, CHUNK_PAIRS * GROUP) if grouped else (TILE_ROWS, CHUNK_PAIRS)
        for row in range(0, ends, tile):
            last = min(row + tile, ends)
            low, edge = columns[row], min(n, -(-columns[last - 1] // GROUP) * GROUP)
            for first, end, whole, most in ((low, edge, False, CHUNK_PAIRS), (edge, n, True, pairs)):
                step = max(1, most // (last - row) // GROUP) * GROUP
                for start in range(first, end, step):
                    yield slice(None), slice(row, last), slice(start, min(start + step, end)), whole
