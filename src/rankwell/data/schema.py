"""What every reader, split and generator hands out: interactions as codes, with their vocabularies."""

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankwell.errors import DataError
from rankwell.types import Ragged

__all__ = ["Interactions", "codes_of"]

Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """Who interacted with what: one row a pair of user and item, no pair twice.

    ``users`` and ``items`` are int64 codes ``[n]``; ``user_ids[code]`` and ``item_ids[code]`` are the ids in the file,
    text or integers. ``weights`` is float32 ``[n]`` or None, ``timestamps`` int64 or float64 ``[n]`` or None, in the
    file's own unit. A vocabulary may hold ids without a row here: train and test share theirs. Do not write to the arrays:
    what is computed from them is kept.

    Raises :class:`DataError` where arrays disagree in length or type, a code lies outside its vocabulary, or a pair occurs
    twice. Time O(n log n) for that check, about 10 ms a million rows.

    >>> data = Interactions(np.array([0, 0, 1]), np.array([1, 0, 1]), pl.Series(["ann", "bo"]), pl.Series(["tea", "jam"]))
    >>> data
    Interactions(3 interactions of 2 users with 2 items)
    >>> data.known().values
    tensor([0, 1, 1])
    """

    users: Codes
    items: Codes
    user_ids: pl.Series
    item_ids: pl.Series
    weights: NDArray[np.float32] | None = None
    timestamps: NDArray[np.int64] | NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for name, codes, ids in (("users", self.users, self.user_ids), ("items", self.items, self.item_ids)):
            _check_codes(name, codes, len(ids))
        _check_column("items", self.items, len(self), ("int64",))
        _check_column("weights", self.weights, len(self), ("float32",))
        _check_column("timestamps", self.timestamps, len(self), ("int64", "float64"))
        keys = self.sorted_keys
        if (repeats := int((keys[1:] == keys[:-1]).sum())) > 0:
            raise DataError(
                f"each pair of user and item must occur once: got {repeats:,} repeats. Merge them first, as the readers do."
            )

    def __len__(self) -> int:
        return len(self.users)

    def __repr__(self) -> str:
        return f"Interactions({len(self):,} interactions of {self.num_users:,} users with {self.num_items:,} items)"

    @property
    def num_users(self) -> int:
        """How many users the vocabulary holds, with or without rows here."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """How many items the vocabulary holds, with or without rows here."""
        return len(self.item_ids)

    @property
    def keys(self) -> Codes:
        """One integer a pair, ``user * num_items + item``, int64 ``[n]``."""
        return self.users * np.int64(self.num_items) + self.items

    @cached_property
    def sorted_keys(self) -> Codes:
        """The keys in ascending order; kept. Sorting values is several times faster than sorting rows by two columns."""
        return np.sort(self.keys)

    @cached_property
    def _known(self) -> Ragged:
        lengths = np.bincount(self.users, minlength=self.num_users)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
        items = self.sorted_keys % max(self.num_items, 1)
        return Ragged(torch.from_numpy(offsets), torch.from_numpy(items))

    def known(self) -> Ragged:
        """The items of each user: offsets ``[num_users + 1]`` and item codes, ascending within a user; int64, kept."""
        return self._known

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Users and items as int64 tensors ``[n]`` that share memory with the arrays: what ``batches`` takes."""
        return torch.from_numpy(self.users), torch.from_numpy(self.items)

    def popularity(self) -> Codes:
        """How many interactions each item has, int64 ``[num_items]``."""
        return np.bincount(self.items, minlength=self.num_items).astype(np.int64, copy=False)

    def activity(self) -> Codes:
        """How many interactions each user has, int64 ``[num_users]``."""
        return np.bincount(self.users, minlength=self.num_users).astype(np.int64, copy=False)

    def take(self, rows: NDArray[np.bool_] | Codes) -> "Interactions":
        """The rows that a mask ``[n]`` or row numbers choose, in that order, with the same vocabularies."""
        return Interactions(
            self.users[rows],
            self.items[rows],
            self.user_ids,
            self.item_ids,
            None if self.weights is None else self.weights[rows],
            None if self.timestamps is None else self.timestamps[rows],
        )

    def with_items(self, order: Codes) -> "Interactions":
        """The same interactions, with the items' codes in this order: old codes, each once."""
        places = np.empty(len(order), dtype=np.int64)
        places[order] = np.arange(len(order))
        ids = self.item_ids.gather(order)
        return Interactions(self.users, places[self.items], self.user_ids, ids, self.weights, self.timestamps)

    def user_codes(self, ids: Sequence[Any] | pl.Series) -> Codes:
        """The codes of original user ids; :class:`DataError` names the unknown ones."""
        return codes_of(self.user_ids, ids, "user")

    def item_codes(self, ids: Sequence[Any] | pl.Series) -> Codes:
        """The codes of original item ids; :class:`DataError` names the unknown ones.

        >>> data = Interactions(np.array([0, 0]), np.array([0, 1]), pl.Series(["ann"]), pl.Series(["tea", "jam"]))
        >>> data.item_codes(["jam", "tea"])
        array([1, 0])
        """
        return codes_of(self.item_ids, ids, "item")

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name in ("users", "items", "weights", "timestamps"):
            array = getattr(self, name)
            digest.update(f"{name} {None if array is None else (array.dtype.str, array.shape)};".encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        for ids in (self.user_ids, self.item_ids):
            # JSON, so that neither ("ab", "c") and ("a", "bc") nor 7 and "7" share a fingerprint.
            digest.update(pl.DataFrame({"id": ids}).write_json().encode())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """SHA-256, in hex, over every row in order, weights, timestamps and ids: the same data, the same text; kept."""
        return self._fingerprint


def _check_codes(name: str, codes: Codes, count: int) -> None:
    if codes.ndim != 1 or codes.dtype != np.int64:
        raise DataError(f"{name} must be int64 codes in one dimension: got {codes.dtype} of shape {codes.shape}.")
    if codes.size and (int(codes.min()) < 0 or int(codes.max()) >= count):
        raise DataError(
            f"{name} must lie in 0 … {count - 1}, the codes of {name[:-1]}_ids: got {codes.min()} … {codes.max()}."
        )


def _check_column(name: str, array: NDArray[Any] | None, rows: int, dtypes: tuple[str, ...]) -> None:
    if array is not None and (array.shape != (rows,) or str(array.dtype) not in dtypes):
        raise DataError(
            f"{name} must be {' or '.join(dtypes)} of shape ({rows},), one a row: got {array.dtype} of shape {array.shape}."
        )


def codes_of(vocabulary: pl.Series, ids: Sequence[Any] | pl.Series, what: str) -> Codes:
    """Original ids to codes; unknown ones are a :class:`DataError` that offers the nearest. ``what`` names them there."""
    values = ids.to_list() if isinstance(ids, pl.Series) else list(ids)
    # Text from a command line finds integer ids and integers find text ids; "7" never finds "007".
    wanted = pl.Series([str(value) for value in values], dtype=pl.String)
    known = vocabulary.cast(pl.String)
    codes = wanted.replace_strict(known, np.arange(len(known)), default=-1, return_dtype=pl.Int64).to_numpy()
    if (codes < 0).any():
        unknown = wanted.filter(pl.Series(codes < 0)).unique(maintain_order=True).to_list()
        named = ", ".join(repr(value) for value in unknown[:3]) + (", …" if len(unknown) > 3 else "")
        raise DataError(
            f"{len(unknown):,} unknown {what} id{'s' * (len(unknown) > 1)}: {named}. {_offer(unknown[0], known)}"
        )
    return np.array(codes, dtype=np.int64)


def _offer(name: str, known: pl.Series) -> str:
    # difflib compares with every candidate: a vocabulary of millions is narrowed to ids of about the same length.
    close_in_length = (known.str.len_chars().cast(pl.Int64) - len(name)).abs() <= 1
    candidates = known.filter(close_in_length).head(20_000).to_list()
    close = difflib.get_close_matches(name, candidates, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known ids look like {', '.join(map(repr, known.head(3)))}."
