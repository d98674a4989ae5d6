"""Lists by length in padded blocks of bounded size, and the lists of some queries."""

# mypy: allow-untyped-calls

import bisect
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from rankwell.types import Mask, Offsets, Ragged

__all__ = [
    "BLOCK_ITEMS",
    "Block",
    "blocks",
    "take_lists",
]

BLOCK_ITEMS = 1 << 18
"""Padded items that one block of lists may hold: what is made per block stays below a few megabytes."""


class Block(NamedTuple):
    """Lists of similar length, padded: where each list stands, and each of its items."""

    lists: Tensor
    """``[g]``: which lists these are."""
    items: Tensor
    """``[g, n]``: positions in the flat tensors; padding points at the list's first item."""
    valid: Mask
    """``[g, n]``: false at padding."""


def blocks(offsets: Offsets, limit: int = BLOCK_ITEMS) -> Iterator[Block]:
    """Lists grouped by length into padded blocks of at most ``limit`` items (one list at least). Empty lists are left out.

    Lengths in a block differ by less than a quarter, so that padding adds at most a quarter. Waits for the device before
    the first block.
    """
    lengths = None if offsets.numel() == 2 else offsets.diff()
    if lengths is None or (lengths.numel() and bool((lengths == lengths[0]).all())):
        yield from _equal_blocks(offsets, limit)
        return
    in_order, by_length = lengths.sort(stable=True)
    sizes, counts = (x.tolist() for x in torch.unique_consecutive(in_order, return_counts=True))
    ends = list(itertools.accumulate(counts))  # where the lists of each size end, by length
    first = ends[0] if sizes[:1] == [0] else 0
    while first < len(by_length):
        largest = sizes[bisect.bisect_right(ends, first)] * 5 // 4
        last = ends[bisect.bisect_right(sizes, largest) - 1]
        width = sizes[bisect.bisect_left(ends, last)]
        last = min(last, first + max(1, limit // width))
        width = sizes[bisect.bisect_left(ends, last)]
        chosen = by_length[first:last]
        place = torch.arange(width, device=offsets.device)
        valid = place < lengths[chosen, None]
        yield Block(chosen, offsets[chosen, None] + place * valid, valid)
        first = last


def _equal_blocks(offsets: Offsets, limit: int) -> Iterator[Block]:
    """Lists of one length need no sort and no padding."""
    lists, width = offsets.numel() - 1, int(offsets[1])
    for first in range(0, lists if width else 0, max(1, limit // max(width, 1))):
        last = min(first + max(1, limit // width), lists)
        yield Block(
            torch.arange(first, last, device=offsets.device),
            torch.arange(first * width, last * width, device=offsets.device).view(-1, width),
            torch.ones(last - first, width, dtype=torch.bool, device=offsets.device),
        )


def take_lists(ragged: Ragged, queries: Int[Tensor, " q"]) -> Ragged:
    """The lists of these queries, one behind the other, in their order. Time O(values taken).

    >>> take_lists(Ragged(torch.tensor([0, 2, 2, 3]), torch.tensor([7, 8, 9])), torch.tensor([2, 0, 1]))
    Ragged(offsets=tensor([0, 1, 3, 3]), values=tensor([9, 7, 8]))
    """
    # index_select, for tensor indexing takes several times as long.
    starts, ends = (ragged.offsets.index_select(0, at) for at in (queries, queries + 1))
    offsets = torch.cat([starts.new_zeros(1), (ends - starts).cumsum(0)])
    # A place is the one before plus one, but where a list begins: quicker than to repeat the starts.
    jumps = starts.clone()
    jumps[:1] -= 1
    jumps[1:] -= ends[:-1]
    steps = starts.new_ones(int(offsets[-1]) + 1).index_add_(0, offsets[:-1], jumps)
    return Ragged(offsets, ragged.values.index_select(0, steps[:-1].cumsum(0)))
