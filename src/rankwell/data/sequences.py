"""Sequences: the items of each user in the order of time, repeats kept; and the files that hold them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from rankwell.data.columns import Columns
from rankwell.data.encode import factorise
from rankwell.data.readers import Format, read_raw
from rankwell.data.schema import Interactions
from rankwell.errors import DataError
from rankwell.types import Ragged

__all__ = ["Sequences", "read_sequences", "sequences_of", "synthesise_sequences"]

Codes = NDArray[np.int64]
Times = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Sequences:
    """What each user did, in the order of time: user ``u``'s items are ``items[offsets[u]:offsets[u + 1]]``.

    ``offsets`` ``[users + 1]`` and ``items`` ``[n]`` are int64; ``item_ids[code]`` are the ids of the file. An item may come
    several times, which is what :class:`~rankwell.data.Interactions` does not allow. ``timestamps`` ``[n]``, in the
    file's unit, or None, do not fall within a user. A user may have no event here. Do not write to the arrays.

    Raises :class:`DataError` where arrays disagree in length or type, a code lies outside its vocabulary, or a user's
    timestamps fall.

    >>> data = Sequences(np.array([0, 3, 4]), np.array([1, 0, 1, 0]), pl.Series(["ann", "bo"]), pl.Series(["tea", "jam"]))
    >>> data
    Sequences(4 events of 2 users with 2 items)
    >>> data.known().values  # each item once, ascending
    tensor([0, 1, 0])
    """

    offsets: Codes
    items: Codes
    user_ids: pl.Series
    item_ids: pl.Series
    timestamps: Times | None = None

    def __post_init__(self) -> None:
        rows = len(self.items)
        for name, codes in (("offsets", self.offsets), ("items", self.items)):
            if codes.ndim != 1 or codes.dtype != np.int64:
                raise DataError(f"{name} must be int64 in one dimension: got {codes.dtype} of shape {codes.shape}.")
        cut = len(self.offsets) == self.num_users + 1 and self.offsets[0] == 0 and self.offsets[-1] == rows
        if not cut or (np.diff(self.offsets) < 0).any():
            raise DataError(
                f"offsets must be one more than the {self.num_users} users, start at 0, not fall and end at the {rows}"
                f" events: got {len(self.offsets)}."
            )
        if rows and (self.items.min() < 0 or self.items.max() >= self.num_items):
            raise DataError(
                f"items must lie in 0 … {self.num_items - 1}, the codes of item_ids: got {self.items.min()} …"
                f" {self.items.max()}."
            )
        if self.timestamps is not None:
            self._check_times(self.timestamps)

    def _check_times(self, times: Times) -> None:
        if times.shape != self.items.shape or str(times.dtype) not in ("int64", "float64"):
            raise DataError(
                f"timestamps must be int64 or float64, one an event [{len(self.items)}]: got {times.dtype} of shape"
                f" {times.shape}."
            )
        falls = np.flatnonzero(times[1:] < times[:-1]) + 1
        inside = falls[~np.isin(falls, self.offsets)]
        if len(inside):
            user = int(self.users[inside[0]])
            raise DataError(
                f"timestamps must not fall within a user: they do for {self.user_ids[user]!r}. Sort by user and time."
            )

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"Sequences({len(self):,} events of {self.num_users:,} users with {self.num_items:,} items)"

    @property
    def num_users(self) -> int:
        """How many users there are, with or without events."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """How many items the vocabulary holds, with or without events."""
        return len(self.item_ids)

    @cached_property
    def users(self) -> Codes:
        """The user of each event; kept."""
        return np.repeat(np.arange(self.num_users), np.diff(self.offsets))

    def lengths(self) -> Codes:
        """How many events each user has."""
        return np.diff(self.offsets)

    def lists(self) -> Ragged:
        """The sequences as tensors that share memory with the arrays."""
        return Ragged(torch.from_numpy(self.offsets), torch.from_numpy(self.items))

    def known(self) -> Ragged:
        """The items of each user, each once and ascending: what samplers leave out. Time O(n log n)."""
        width = max(self.num_items, 1)
        keys = np.unique(self.users * np.int64(width) + self.items)
        ends = np.searchsorted(keys, np.arange(self.num_users + 1) * np.int64(width))
        return Ragged(torch.from_numpy(ends.astype(np.int64)), torch.from_numpy(keys % width))

    def popularity(self) -> Codes:
        """How many events each item has."""
        return np.bincount(self.items, minlength=self.num_items).astype(np.int64, copy=False)

    def take(self, users: Codes) -> "Sequences":
        """The sequences of these users, in that order, as users of their own; the same items."""
        lengths = self.lengths()[users]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), lengths.cumsum()])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[users] - offsets[:-1], lengths)
        times = None if self.timestamps is None else self.timestamps[rows]
        return Sequences(offsets, self.items[rows], self.user_ids[users], self.item_ids, times)

    def keep(self, events: NDArray[np.bool_]) -> "Sequences":
        """The events that a mask ``[n]`` chooses, of the same users and items."""
        counts = np.bincount(self.users[events], minlength=self.num_users)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), counts.cumsum()]).astype(np.int64)
        times = None if self.timestamps is None else self.timestamps[events]
        return Sequences(offsets, self.items[events], self.user_ids, self.item_ids, times)

    def fingerprint(self) -> str:
        """SHA-256, in hex, over everything in order."""
        digest = hashlib.sha256()
        for array in (self.offsets, self.items, self.timestamps):
            digest.update(f"{None if array is None else (array.dtype.str, array.shape)};".encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        for ids in (self.user_ids, self.item_ids):
            digest.update(pl.DataFrame({"id": ids}).write_json().encode())
        return digest.hexdigest()


def read_sequences(
    path: str | Path,
    *,
    format: Format | None = None,
    user: str = "user",
    item: str = "item",
    timestamp: str | None = None,
    delimiter: str | None = None,
) -> Sequences:
    r"""Read one file of any form that :func:`read_interactions` reads, and keep repeats.

    With ``timestamp`` a user's events are ordered by that column, ties as in the file. Without, and in adjacency text
    (``user item item …``, where a user's lines follow each other in time), the order of the file is the order of time.
    Codes number users and items in the order of first appearance.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "views.txt"
    >>> _ = file.write_text("ann tea jam tea\nbo jam\n")
    >>> read_sequences(file).lists()
    Ragged(offsets=tensor([0, 3, 4]), values=tensor([0, 1, 0, 1]))
    """
    raw = read_raw(Path(path), format, Columns(user, item, None, timestamp), delimiter)
    users, user_ids = factorise("user", [raw.users])
    items, item_ids = factorise("item", [raw.items])
    return _in_time(users, items, raw.timestamps, user_ids, item_ids)


def sequences_of(data: Interactions) -> Sequences:
    """The interactions of each user by timestamp, ties in the order of rows.

    Interactions hold no pair twice, so that nothing comes twice here: read a file with repeats by :func:`read_sequences`.
    Raises :class:`DataError` without timestamps.
    """
    if data.timestamps is None:
        raise DataError(
            "sequences must have an order: the interactions have no timestamps. Name their column (--data.timestamp COLUMN),"
            " or read a file whose order is that of time by read_sequences."
        )
    return _in_time(data.users, data.items, data.timestamps, data.user_ids, data.item_ids)


def _in_time(users: Codes, items: Codes, times: Any, user_ids: pl.Series, item_ids: pl.Series) -> Sequences:
    """Events sorted by user and time; a stable sort keeps ties as they are."""
    order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
    counts = np.bincount(users, minlength=len(user_ids))
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), counts.cumsum()]).astype(np.int64)
    return Sequences(offsets, items[order], user_ids, item_ids, None if times is None else times[order])


def synthesise_sequences(
    num_users: int = 400, num_items: int = 60, length: int = 12, noise: float = 0.2, seed: int = 0
) -> Sequences:
    """Users who walk through the items in one order, from a random one on; with the share ``noise`` a step goes anywhere.

    After item i comes the next one: a model of sequences ranks it first, and popularity knows nothing. Sequences have a half
    to one and a half times as many events as ``length``.

    >>> synthesise_sequences(num_users=3, num_items=5)
    Sequences(20 events of 3 users with 5 items)
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(num_items)
    sizes = rng.integers(max(length // 2, 3), length + length // 2 + 1, num_users)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), sizes.cumsum(dtype=np.int64)])
    jumps = rng.random(offsets[-1]) < noise
    jumps[offsets[:-1]] = True
    landed = np.maximum.accumulate(np.where(jumps, np.arange(offsets[-1]), 0))
    places = rng.integers(0, num_items, offsets[-1])[landed] + np.arange(offsets[-1]) - landed
    user_ids, item_ids = (
        pl.Series([f"{letter}{number}" for number in range(count)])
        for letter, count in (("u", num_users), ("i", num_items))
    )
    return Sequences(offsets, order[places % num_items].astype(np.int64), user_ids, item_ids)
