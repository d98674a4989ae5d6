"""Hashes of original ids, for randomness that depends on what a row says and not on where it stands."""

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from rankwell import keyed

__all__ = ["hash_ids", "splitmix64"]


def splitmix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """:func:`rankwell.keyed.splitmix64` of unsigned words.

    >>> hex(int(splitmix64(np.zeros(1, dtype=np.uint64))[0]))
    '0xe220a8397b1dcdaf'
    """
    words = torch.from_numpy(np.ascontiguousarray(x).view(np.int64))
    return keyed.splitmix64(words).numpy().view(np.uint64)


def hash_ids(ids: pl.Series) -> NDArray[np.uint64]:
    """A 64-bit hash of each id, the same in every file, run and version of Polars.

    Text is hashed as the 64-bit words of its UTF-8 bytes, integers by their value. Time and memory O(n · longest id).
    """
    if ids.dtype != pl.String:
        return splitmix64(ids.to_numpy().astype(np.uint64))
    if ids.is_empty():
        return np.zeros(0, dtype=np.uint64)
    longest = int(ids.str.len_bytes().to_numpy().max())
    width = max(-(-longest // 8), 1) * 8
    text = np.array([value.encode() for value in ids.to_list()], dtype=f"S{width}")
    words = text.view("<u8").reshape(len(ids), -1)
    state = np.zeros(len(ids), dtype=np.uint64)
    for column in words.T:
        # Padding words are skipped, so that a longer id elsewhere in the vocabulary does not change this one's hash.
        state = np.where(column != 0, splitmix64(state ^ column), state)
    return state
