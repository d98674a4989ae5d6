"""From ids as the file has them to codes: shared vocabularies, and pairs that occur once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rankwell.data.schema import Interactions
from rankwell.errors import DataError

__all__ = ["Raw", "encode", "factorise"]


@dataclass(frozen=True)
class Raw:
    """One file as it was read: a row an interaction, ids of type String or integer, none of them null."""

    users: pl.Series
    items: pl.Series
    weights: NDArray[np.float32] | None = None
    timestamps: NDArray[np.int64] | NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()


def encode(parts: list[Raw]) -> tuple[list[Interactions], list[int]]:
    """Interactions with shared vocabularies, a part each, and how many repeated pairs each part lost.

    Codes number the ids in the order of first appearance, through the parts in turn. Of a pair that occurs again in a part,
    the row with the earliest timestamp stays with its own weight (without timestamps, or at equal ones, the first in the
    file): weights are not summed, since a second rating is not twice the first. Time O(n), and a sort.
    """
    users, user_ids = factorise("user", [part.users for part in parts])
    items, item_ids = factorise("item", [part.items for part in parts])
    ends = np.cumsum([0, *(len(part.users) for part in parts)])
    coded, merged = [], []
    for part, start, end in zip(parts, ends[:-1], ends[1:], strict=True):
        keep = _first_of_each_pair(users[start:end], items[start:end], len(item_ids), part.timestamps)
        columns: list[Any] = [users[start:end], items[start:end], part.weights, part.timestamps]
        if keep is not None:
            columns = [None if column is None else column[keep] for column in columns]
        coded.append(Interactions(columns[0], columns[1], user_ids, item_ids, columns[2], columns[3]))
        merged.append(int(end - start) - len(coded[-1]))
    return coded, merged


def factorise(what: str, parts: list[pl.Series]) -> tuple[NDArray[np.int64], pl.Series]:
    """Codes in order of first appearance, and the vocabulary."""
    kinds = [part.dtype for part in parts]
    if len(set(kinds)) > 1 and pl.String in kinds:
        raise DataError(
            f"train and test must have the same type of {what} ids: got {' and '.join(str(kind) for kind in kinds)}. "
            "Write both files with text ids, or both with integer ids."
        )
    ids = (
        pl.concat([part.rename("id") for part in parts], how="vertical", rechunk=True)
        if len(set(kinds)) == 1
        else (pl.concat([part.rename("id").cast(pl.Int64) for part in parts], rechunk=True))
    )
    vocabulary = ids.unique(maintain_order=True)
    if ids.dtype == pl.String:
        return ids.cast(pl.Enum(vocabulary)).to_physical().to_numpy().astype(np.int64), vocabulary
    _, first, inverse = np.unique(ids.to_numpy(), return_index=True, return_inverse=True)
    code_of_rank = np.empty(len(first), dtype=np.int64)
    code_of_rank[np.argsort(first)] = np.arange(len(first))
    return code_of_rank[inverse], vocabulary


def _first_of_each_pair(
    users: NDArray[np.int64], items: NDArray[np.int64], num_items: int, timestamps: NDArray[Any] | None
) -> NDArray[np.int64] | None:
    """The rows to keep, ascending, or None when no pair repeats, which one sort of the values tells."""
    keys = users * np.int64(num_items) + items
    ordered = np.sort(keys)
    if not (ordered[1:] == ordered[:-1]).any():
        return None
    by_time = np.arange(len(keys)) if timestamps is None else np.argsort(timestamps, kind="stable")
    _, first = np.unique(keys[by_time], return_index=True)  # the first occurrence, for it sorts stably
    return np.sort(by_time[first])
