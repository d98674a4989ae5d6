"""The list contract: dense or ragged tensors in, one value a list out, reduced.

Loss bodies hold no branch for the layout. They either use the operations of :class:`Lists` (``sum``, ``mean``,
``logsumexp``, ``log_softmax``), which both layouts implement in O(total) memory, or take lists of similar length as padded
blocks of bounded size (:func:`blocks`), where a dense formula is at home.

Masked means absent: :func:`open_lists` replaces masked scores, labels and weights before any operation, so that NaN or
inf there reaches neither value nor gradient. Half precision is computed in float32.
"""

from rankwell.lists.blocks import BLOCK_ITEMS, Block, blocks, take_lists
from rankwell.lists.edges import (
    check_at_least,
    check_count,
    check_finite,
    check_positive,
    in_full_precision,
    offsets_from_ids,
    offsets_from_sizes,
    reduce,
)
from rankwell.lists.flat import Flat
from rankwell.lists.layouts import Dense, Lists
from rankwell.lists.opened import Opened, open_lists
from rankwell.lists.rows import Rows, in_chunks, open_rows, with_slopes

__all__ = [
    "BLOCK_ITEMS",
    "Block",
    "Dense",
    "Flat",
    "Lists",
    "Opened",
    "Rows",
    "blocks",
    "check_at_least",
    "check_count",
    "check_finite",
    "check_positive",
    "in_chunks",
    "in_full_precision",
    "offsets_from_ids",
    "offsets_from_sizes",
    "open_lists",
    "open_rows",
    "reduce",
    "take_lists",
    "with_slopes",
]
