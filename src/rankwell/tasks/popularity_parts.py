"""Parts of a test by how often training had its items."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["popularity_parts"]

NAMES = "head", "middle", "tail", "new"


def popularity_parts(counts: NDArray[np.int64], asked: NDArray[np.int64]) -> Mapping[str, NDArray[np.bool_]]:
    """Which items are head, middle, tail or new, by their counts in training ``[items]``; a mask of items each.

    Head, middle and tail hold the first, second and last third of all training interactions, most popular items first; new
    items have none. There is no part that none of the ``asked`` items is in, and no part at all where one would have them all.

    >>> parts = popularity_parts(np.array([1, 4, 0, 2, 5]), asked=np.array([1, 2, 4, 4]))
    >>> {name: items.nonzero()[0].tolist() for name, items in parts.items()}
    {'1 head item': [4], '1 middle item': [1], '1 new item': [2]}
    """
    order = np.argsort(-counts, kind="stable")
    before = np.empty(len(counts), dtype=np.int64)
    before[order] = np.cumsum(counts[order]) - counts[order]
    part = np.where(counts > 0, 3 * before // max(int(counts.sum()), 1), len(NAMES) - 1)
    found = {}
    for number in np.unique(part[asked]):
        items = part == number
        count = int(items.sum())
        found[f"{count:,} {NAMES[number]} item{'' if count == 1 else 's'}"] = items
    return found if len(found) > 1 else {}
