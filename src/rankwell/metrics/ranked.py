"""Lists in score order: what every metric body reads.

A body is written once, for rows: ``body(view, k, **own)`` takes a :class:`Ranked` (a block of lists, best score first,
absent items last) and gives a :class:`Ratio`, one numerator and one denominator a row. Ragged lists come as padded
blocks of bounded size, dense ones as slices of rows, so that no body knows the layout.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple, TypeAlias, final

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import BLOCK_ITEMS, Opened, blocks
from rankwell.metrics.ideal import Discount, GainOf, Ideal, discounted
from rankwell.types import Mask, Offsets, Ties

__all__ = [
    "Body",
    "Ranked",
    "Ratio",
    "prefix_sums",
    "ranked_blocks",
]


class Ratio(NamedTuple):
    """A metric before division: where the denominator is 0, the list has no positives to rank."""

    numerator: Tensor
    denominator: Tensor


@final
class Ranked:
    """A block of lists in score order, with the tie group of each position."""

    def __init__(
        self,
        rows: slice | Tensor,
        scores: Tensor,
        labels: Tensor,
        weights: Tensor,
        valid: Mask | None,
        ties: Ties,
        ideal: Ideal | None,
        unlisted: Tensor | None = None,
    ) -> None:
        self.rows = rows
        """Which lists these are."""
        least = torch.finfo(scores.dtype).min
        # NaN and -inf rank last among the valid, as the least finite number; only absent items are at -inf.
        scores = torch.nan_to_num(scores, nan=least, posinf=torch.inf, neginf=least)
        scores = scores if valid is None else torch.where(valid, scores, -torch.inf)
        self._scores, order = torch.sort(scores, dim=-1, descending=True, stable=True)
        self.labels = labels.gather(-1, order)
        """Labels, best score first; 0 where absent."""
        self.weights = weights.gather(-1, order) if weights.ndim else weights
        """Weights in the same order, or one number for all."""
        self.valid = None if valid is None else valid.gather(-1, order)
        self.places = torch.arange(scores.shape[-1], device=scores.device)
        """Positions, counted from 0."""
        self._ties, self._ideal, self._unlisted = ties, ideal, unlisted
        self._relevant: dict[float, tuple[Tensor, Tensor]] = {}

    # ------------------------------------------------------------------------------------------------------ tie groups

    @cached_property
    def start(self) -> Tensor:
        """First position of each position's tie group: ``[rows, n]``, or ``[n]`` where input order decides ties."""
        if self._ties == "order":
            return self.places
        opens = torch.nn.functional.pad(self._changes, (1, 0), value=True)
        return torch.where(opens, self.places, 0).cummax(-1).values

    @cached_property
    def end(self) -> Tensor:
        """One past the last listed position of each position's tie group."""
        if self._ties == "order":
            return self.places + 1
        closes = torch.nn.functional.pad(self._changes, (0, 1), value=True)
        until_end = torch.where(closes.flip(-1), self.places, 0).cummax(-1).values
        return self.places.numel() - until_end.flip(-1)

    @cached_property
    def _changes(self) -> Tensor:
        return self._scores[..., 1:] != self._scores[..., :-1]

    @cached_property
    def size(self) -> Tensor:
        """Items in each position's tie group, the last one's unlisted items included."""
        size = self.end - self.start
        if self._unlisted is not None and self._ties == "expected":
            size = size + self._unlisted[:, None] * (self.end == self.count[:, None])
        return size.to(self.labels.dtype)

    def inside(self, prefix: Tensor, k: int | None = None) -> Tensor:
        """Sums over the tie group of each of the first ``k`` positions, from prefix sums ``[n + 1]`` or ``[rows, n + 1]``."""
        return _at(prefix, self.end[..., :k]) - self.before(prefix, k)

    def before(self, prefix: Tensor, k: int | None = None) -> Tensor:
        """Sums over what stands before the tie group of each of the first ``k`` positions."""
        return _at(prefix, self.start[..., :k])

    def average(self, prefix: Tensor) -> Tensor:
        """A function of the position, averaged over the tie group of each position: its expectation over all orders."""
        # Differences of prefix sums lose digits: these tables are in float64, and short.
        return (self.inside(prefix) / self.size).to(self.labels.dtype)

    # ------------------------------------------------------------------------------------------------------- relevance

    def relevant(self, rel: float) -> Tensor:
        """1 where an item is relevant, 0 elsewhere."""
        return self._relevance(rel)[0]

    def counts(self, rel: float) -> Tensor:
        """Relevant items among the first ``i``, ``[rows, n + 1]``."""
        return self._relevance(rel)[1]

    def _relevance(self, rel: float) -> tuple[Tensor, Tensor]:
        if not rel > 0:
            raise InputError(f"rel must be above 0, the label of padding: got {rel}.")
        if rel not in self._relevant:
            relevant = (self.labels >= rel).to(self.labels.dtype)
            self._relevant[rel] = relevant, prefix_sums(relevant)
        return self._relevant[rel]

    def inside_weight(self, rel: float, k: int | None = None) -> Tensor:
        """Weight of the relevant items in the tie group of each of the first ``k`` positions."""
        if not self.weights.ndim:
            return self.inside(self.counts(rel), k) * self.weights
        # In float64, since differences of long sums of weights lose digits; counts below 2^24 are exact as they are.
        return self.inside(prefix_sums((self.weights * self.relevant(rel)).double()), k).to(self.labels.dtype)

    def positives(self, rel: float) -> Tensor:
        """Weight of all relevant items of each list, also of those not retrieved where ``ideal`` names them."""
        if self._ideal is not None:
            return self._ideal.positives(rel)[self.rows]
        return (self.weights * self.relevant(rel)).sum(-1)

    def number(self, rel: float) -> Tensor:
        """How many items of each list are relevant, also of those not retrieved where ``ideal`` names them."""
        if self._ideal is not None:
            return self._ideal.positives(rel)[self.rows]
        return self.counts(rel)[..., -1]

    def highest(self) -> Tensor:
        """The highest label of each list, also of what was not retrieved where ``ideal`` names it."""
        labels = self.labels.amax(-1)
        return labels if self._ideal is None else torch.maximum(labels, self._ideal.highest()[self.rows])

    def top(self) -> Tensor:
        """The highest label that the best order of each list has: of ``ideal`` where there is one."""
        return self.labels.amax(-1) if self._ideal is None else self._ideal.highest()[self.rows]

    def irrelevant(self, rel: float) -> Tensor:
        """1 where an item is judged and not relevant: labels from 0 to below ``rel``."""
        irrelevant = ((self.labels >= 0) & (self.labels < rel)).to(self.labels.dtype)
        return irrelevant if self.valid is None else self.valid * irrelevant

    def irrelevant_number(self, rel: float) -> Tensor:
        """How many items of each list are judged and not relevant, retrieved or not."""
        if self._ideal is not None:
            return self._ideal.irrelevant(rel)[self.rows]
        return self.irrelevant(rel).sum(-1)

    def ideal_dcg(self, k: int | None, gain: GainOf, discount: Discount = "shifted", *, relative: bool) -> Tensor:
        """DCG of the best order of each list, or of all its relevant items where ``ideal`` names them."""
        if self._ideal is not None:
            return self._ideal.dcg(k, gain, discount, relative=relative)[self.rows]
        n = self.places.numel()
        gained = gain(self.labels, self.top()[..., None] if relative else None)
        best = (self.weights * gained).topk(n if k is None else min(k, n), dim=-1).values
        return (best * discounted(self.places[:k], k, discount).to(best.dtype)).sum(-1)

    @property
    def has_ideal(self) -> bool:
        """Whether the lists hold only what was retrieved."""
        return self._ideal is not None

    def check_whole(self, name: str, k: int | None) -> None:
        """Raise where a metric that needs every item of its lists gets a cut-off, or only what was retrieved."""
        if k is not None or self.has_ideal:
            raise InputError(
                f"{name} needs the whole list: it takes neither k nor ideal. Cut-off metrics are ndcg, ap, recall."
            )

    def check_uncut(self, name: str, k: int | None) -> None:
        """Raise where a metric with a depth of its own gets a cut-off."""
        if k is not None:
            raise InputError(f"{name} has a depth of its own: it takes no k. Cut-off metrics are ndcg, ap, recall.")

    @property
    def count(self) -> Tensor:
        """Valid items of each list."""
        if self.valid is not None:
            return self.valid.sum(-1)
        return torch.full_like(self.labels[..., 0], self.places.numel())


Body: TypeAlias = Callable[..., Ratio]
"""``body(view, k, **own)``."""


def prefix_sums(x: Tensor) -> Tensor:
    """Sums of the first 0, 1, … n numbers of each row."""
    return torch.nn.functional.pad(x.cumsum(-1), (1, 0))


def _at(prefix: Tensor, place: Tensor) -> Tensor:
    """Entries of a shared or a row's own table, at shared or a row's own places."""
    if place.ndim == 1 or prefix.ndim == 1:
        return prefix[..., place]
    return prefix.gather(-1, place)


def ranked_blocks(
    opened: Opened, offsets: Offsets | None, ties: Ties, ideal: Ideal | None, unlisted: Tensor | None = None
) -> Iterator[Ranked]:
    """Every list once, in blocks of rows of bounded size."""
    weights = opened.weights
    weights = weights.expand(opened.scores.shape) if weights.ndim else weights
    cut = _dense_blocks(opened, weights) if offsets is None else _ragged_blocks(opened, weights, offsets)
    for rows, scores, labels, weight, valid in cut:
        beside = None if unlisted is None else unlisted.reshape(-1)[rows]
        yield Ranked(rows, scores, labels, weight, valid, ties, ideal, beside)


_Rows: TypeAlias = tuple[slice | Tensor, Tensor, Tensor, Tensor, Mask | None]


def _dense_blocks(opened: Opened, weights: Tensor) -> Iterator[_Rows]:
    n = opened.scores.shape[-1]
    scores, labels = opened.scores.reshape(-1, n), opened.labels.reshape(-1, n)
    where = None if opened.where is None else opened.where.reshape(-1, n)
    weights = weights.reshape(-1, n) if weights.ndim else weights
    step = max(1, BLOCK_ITEMS // n)
    for first in range(0, scores.shape[0], step):
        rows = slice(first, first + step)
        valid = None if where is None else where[rows]
        yield rows, scores[rows], labels[rows], weights[rows] if weights.ndim else weights, valid


def _ragged_blocks(opened: Opened, weights: Tensor, offsets: Offsets) -> Iterator[_Rows]:
    for block in blocks(offsets):
        valid = block.valid if opened.where is None else block.valid & opened.where[block.items]
        labels = torch.where(valid, opened.labels[block.items], 0)
        weight = weights[block.items] if weights.ndim else weights
        yield block.lists, opened.scores[block.items], labels, weight, valid
    # Lists that retrieved nothing still have positives to miss: a row with one absent item each.
    missing = (offsets.diff() == 0).nonzero()[:, 0]
    if not missing.numel():
        return
    nothing = opened.scores.new_zeros(missing.numel(), 1)
    yield missing, nothing, nothing, weights if not weights.ndim else nothing, nothing.bool()
