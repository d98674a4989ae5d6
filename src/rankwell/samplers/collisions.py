"""What rows know, in compact structures: known positives are found, marked, or drawn around."""

import functools
import itertools
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rankwell.errors import InputError, UnknownName
from rankwell.kernels.few import few_nonzero
from rankwell.lists import take_lists
from rankwell.types import Ragged

__all__ = ["Collisions", "KnownItems", "UnknownItems", "check_collisions", "marked"]

Collisions: TypeAlias = Literal["auto", "redraw", "mask", "keep"]
"""What to do where a draw is a known positive of the row: draw another, mark it, or let it be. ``auto`` is ``redraw`` for
draws of a row, ``mask`` for a pool."""

FILTER_SLOTS, MOST_SLOTS = 16, 1 << 26
"""Slots of the filter for each known pair, and for all of them (a byte each; up to twice that, as sizes are powers of two)."""

BLOCK = 8
"""Known items that are looked up together."""

_ODD = 0x9E3779B97F4A7C15 - (1 << 64)


def check_collisions(num_items: int, n: int, shared: bool, collisions: str) -> str:
    """The way with collisions, resolved; :class:`InputError` for what cannot be."""
    if num_items < 1 or n < 1:
        raise InputError(f"a sampler needs at least one item and one negative: got {num_items} items, n = {n}.")
    if shared and collisions == "redraw":
        raise InputError(
            "a pool shared by the batch cannot redraw for one row: mask collisions, or set shared to false, where"
            " the sampler has it."
        )
    if collisions not in ("auto", "redraw", "mask", "keep"):
        raise UnknownName("way with collisions", collisions, ("auto", "redraw", "mask", "keep"))
    return ("mask" if shared else "redraw") if collisions == "auto" else collisions


class KnownItems:
    """The items that each row knows: O(interactions) of memory, never rows × items.

    ``known`` lists them in ascending order, no item twice; anything else is an :class:`InputError`.

    >>> known = KnownItems(Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1])), num_items=3)
    >>> known.contains(torch.tensor([0, 1]), torch.tensor([[0, 1], [0, 1]]))
    tensor([[ True, False],
            [False,  True]])
    """

    def __init__(self, known: Ragged, num_items: int) -> None:
        self.known, self.num_items = known, num_items
        self.sizes = known.offsets.diff()
        self.rows = torch.repeat_interleave(self.sizes)
        self.pairs = self.rows * num_items + known.values
        self._zeros: dict[torch.dtype, Tensor] = {}
        inside = ((known.values >= 0) & (known.values < num_items)).all()
        if not bool(inside) or bool((self.pairs.diff() <= 0).any()):
            raise InputError(
                f"known must list each row's items once, in ascending order, as codes from 0 to {num_items - 1}."
                " Sort them, as Interactions.known does."
            )

    def contains(self, rows: Int[Tensor, " b"], items: Int[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
        """Whether the row knows the item.

        A table of hashes clears nearly all draws at one look each; one binary search settles each of the rest.
        """
        found = torch.zeros(items.shape, dtype=torch.bool, device=items.device)
        if len(self.pairs):
            table, starts, masks = self._filter
            suspects = table.take(_slots(items, starts[rows, None], masks[rows, None])).view(-1).nonzero().squeeze(1)
            owners = rows[torch.div(suspects, items.shape[1], rounding_mode="floor")]
            wanted = owners * self.num_items + items.flatten()[suspects]
            at = torch.searchsorted(self.pairs, wanted).clamp(max=len(self.pairs) - 1)
            found.view(-1)[suspects] = self.pairs[at] == wanted
        return found

    def below(self, rows: Int[Tensor, " b"], items: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """How many items with a lower code the row knows."""
        return torch.searchsorted(self.pairs, rows * self.num_items + items) - self.known.offsets[rows]

    def of(self, rows: Int[Tensor, " b"]) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"]]:
        """All known pairs of these rows: their places in ``rows``, and the items."""
        lists = take_lists(self.known, rows)
        return torch.repeat_interleave(lists.offsets.diff()), lists.values

    def in_pool(
        self, pool: Int[Tensor, " n"], num_rows: int, places: Int[Tensor, " k"], items: Int[Tensor, " k"]
    ) -> Bool[Tensor, "b n"]:
        """``[num_rows, n]``: true where the row's pair (place, item) meets a column of the sorted pool.

        Time O(k + n + what is marked), and the n × num_rows bytes that hold it.
        """
        there = self._met(pool, items)
        columns = _columns(pool, places.index_select(0, there), items.index_select(0, there), len(pool))
        return marked(num_rows, pool, columns)

    def places_in_pools(self, pools: Int[Tensor, "s n"], rows: Ragged) -> tuple[Int[Tensor, " k"], ...]:
        """For each sorted pool and its list of rows, the flat places of ``[rows, n]`` where a row knows what is in a column.

        For all pools by as many operators as for one. Time and memory O(s (m + n) + what the rows know), m items.
        """
        (count, n), items = pools.shape, self._blocks.values
        starts, ends = (self._blocks.offsets.index_select(0, at) for at in (rows.values, rows.values + 1))
        offsets = torch.cat([starts.new_zeros(1), (ends - starts).cumsum(0)])  # of the rows' blocks, taken together
        owner = torch.repeat_interleave(ends - starts)
        place = torch.arange(len(owner), device=owner.device).add_((starts - offsets[:-1]).index_select(0, owner))
        left = self._left(pools, items.index_select(0, place), offsets.index_select(0, rows.offsets).tolist())
        there = few_nonzero(left)
        row = owner.index_select(0, there >> (BLOCK.bit_length() - 1))
        pool_of = torch.repeat_interleave(rows.offsets.diff())  # of each row
        # The column of all pools, side by side.
        column = (pool_of.index_select(0, row) + 1) * n - left.view(-1).index_select(0, there)
        places = [row * n + column]
        again = torch.zeros_like(pools, dtype=torch.bool)
        again[:, :-1] = pools[:, 1:] == pools[:, :-1]
        while len(more := again.view(-1).index_select(0, column).nonzero().squeeze(1)):
            row, column = row.index_select(0, more), column.index_select(0, more) + 1
            places.append(row * n + column)
        firsts = (rows.offsets + torch.arange(count + 1, device=pools.device)) * n
        cuts = [torch.searchsorted(each, firsts).tolist() for each in places]
        return tuple(
            torch.cat([each[cut[k] : cut[k + 1]] for each, cut in zip(places, cuts, strict=True)]) - first
            for k, first in enumerate(firsts[:-1].tolist())
        )

    def _left(
        self, pools: Int[Tensor, "s n"], items: Int[Tensor, "k block"], bounds: list[int]
    ) -> Int[Tensor, "k block"]:
        """Where items first stand in their sorted pool: how many columns are left from there on, 0 where they do not."""
        n = pools.shape[1]
        left = torch.arange(n, 0, -1, dtype=torch.int16 if n < 1 << 15 else torch.int32, device=pools.device)
        table, found = self._nothing(left.dtype), left.new_empty(items.shape)
        for pool, (a, b) in zip(pools, itertools.pairwise(bounds), strict=True):
            table.scatter_reduce_(0, pool, left, "amax")  # the first of equal items has the most columns left
            torch.index_select(table, 0, items[a:b].view(-1), out=found[a:b].view(-1))
            table.index_fill_(0, pool, 0)
        return found

    def _met(self, pool: Tensor, items: Tensor) -> Tensor:
        """Which of the items stand in the pool."""
        table = self._nothing(torch.bool).index_fill_(0, pool, True)
        met = table.index_select(0, items)  # which takes a fraction of the time of indexing
        table.index_fill_(0, pool, False)
        return met.nonzero().squeeze(1)

    def _nothing(self, dtype: torch.dtype) -> Tensor:
        """A zero for each item and for none; who sets some sets them back."""
        if dtype not in self._zeros:
            self._zeros[dtype] = torch.zeros(self.num_items + 1, dtype=dtype, device=self.pairs.device)
        return self._zeros[dtype]

    @functools.cached_property
    def _blocks(self) -> Ragged:
        """Each row's items in blocks, padded by the number of all items: fewer and longer things to look up."""
        sizes = (self.sizes + BLOCK - 1) // BLOCK
        offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        ranks = torch.arange(len(self.rows), device=sizes.device) - self.known.offsets.index_select(0, self.rows)
        blocks = torch.full((int(offsets[-1]), BLOCK), self.num_items, dtype=torch.int32, device=sizes.device)
        blocks.view(-1).index_copy_(0, offsets.index_select(0, self.rows) * BLOCK + ranks, self.known.values.int())
        return Ragged(offsets, blocks)

    @functools.cached_property
    def _filter(self) -> tuple[Tensor, Tensor, Tensor]:
        """A table of hashes, and where in it each row's region starts and what its slots are numbered by.

        A region of its own, a power of two, keeps what the draws of one row look at in the nearest cache.
        """
        slots = min(FILTER_SLOTS, max(MOST_SLOTS // max(len(self.pairs), 1), 1))
        sizes = 1 << (self.sizes.clamp(min=1) * slots).double().log2().ceil().long()
        starts = sizes.cumsum(0) - sizes
        table = torch.zeros(int(sizes.sum()), dtype=torch.bool, device=sizes.device)
        table[_slots(self.known.values, starts[self.rows], sizes[self.rows] - 1)] = True
        return table, starts, sizes - 1


def marked(num_rows: int, pool: Int[Tensor, " n"], places: Int[Tensor, " k"]) -> Bool[Tensor, "b n"]:
    """``[num_rows, n]``, true at these flat places."""
    found = torch.zeros((num_rows, len(pool)), dtype=torch.bool, device=pool.device)
    found.view(-1).index_fill_(0, places, True)
    return found


def _columns(pool: Tensor, places: Tensor, items: Tensor, n: int) -> Tensor:
    """Flat places, in rows of n, of these rows and the columns that hold the item, as many as it was drawn times."""
    first = torch.searchsorted(pool, items)
    times = torch.searchsorted(pool, items, right=True) - first
    which = torch.repeat_interleave(times)
    further = torch.arange(len(which), device=pool.device) - (times.cumsum(0) - times).index_select(0, which)
    return (places * n + first).index_select(0, which).add_(further)


def _slots(items: Tensor, starts: Tensor, masks: Tensor) -> Tensor:
    return ((items * _ODD) >> 33).bitwise_and_(masks).add_(starts)  # the upper bits are the well mixed ones


class UnknownItems:
    """What rows do not know, numbered: an item stands for as many numbers as it weighs.

    ``weights`` are whole numbers (all ones: number = rank of an unknown item). The r-th number that a row has left is found
    by one binary search over (numbers below each known item that the row has left), and one over the running sum of the
    weights: no loop, whatever share of the catalogue a row knows. Memory O(interactions + items).

    >>> known = KnownItems(Ragged(torch.tensor([0, 2]), torch.tensor([0, 2])), num_items=4)
    >>> unknown = UnknownItems(known, torch.tensor([5, 1, 5, 2]))  # left: item 1 once, item 3 twice
    >>> int(unknown.left), unknown.find(torch.tensor([0, 0, 0]), torch.tensor([0, 1, 2])).tolist()
    (3, [1, 3, 3])
    """

    def __init__(self, known: KnownItems, weights: Int[Tensor, " m"]) -> None:
        self.known = known
        self.below = torch.cat([weights.new_zeros(1), weights.cumsum(0)])
        self.total = int(self.below[-1])
        self._mass = torch.cat([weights.new_zeros(1), weights[known.known.values].cumsum(0)])
        self._at_start = self._mass[known.known.offsets]
        self.left = self.total - self._at_start.diff()
        """``[rows]``: how many numbers each row has left."""
        before = self.below[known.known.values] - (self._mass[:-1] - self._at_start[known.rows])
        # Ascending over the whole array: within a row it does not fall, and it stays at or below the total.
        self._left_before = known.rows * self.total + before

    def find(self, rows: Int[Tensor, "*k"], ranks: Int[Tensor, "*k"]) -> Int[Tensor, "*k"]:
        """The item with that number among what the row has left; ``ranks`` are in ``[0, left)``."""
        passed = torch.searchsorted(self._left_before, rows * self.total + ranks, right=True)
        numbers = ranks + self._mass[passed] - self._at_start[rows]
        return torch.searchsorted(self.below, numbers, right=True) - 1

    def refuse_full(self, what: str) -> None:
        """Raise :class:`InputError` if a row has nothing left; ``what`` names what it knows all of."""
        full = (self.left <= 0).nonzero()
        if len(full):
            raise InputError(
                f"nothing is left to draw for {len(full):,} users who know {what} (first: row {int(full[0])})."
                " Leave them out, or set collisions to keep."
            )
