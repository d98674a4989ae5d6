"""Counter-based hashing: randomness that is a function of what is drawn for, not of when it is drawn."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["hash_ids", "mix", "splitmix64"]

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1


def splitmix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One step of SplitMix64 on every element: a bijection of 64 bits whose outputs look independent.

    The input is the generator's state before the step, so that ``splitmix64(0), splitmix64(golden), …`` is the published
    stream. Time O(n).

    >>> hex(int(splitmix64(np.zeros(1, dtype=np.uint64))[0]))
    '0xe220a8397b1dcdaf'
    """
    z = x + np.uint64(_GOLDEN)  # arrays of unsigned integers wrap around without a warning, as is meant
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def mix(*numbers: int) -> int:
    """One 64-bit key from several integers; their order matters, and negative ones are allowed.

    >>> mix(0, 1) == mix(0, 1), mix(0, 1) == mix(1, 0)
    (True, False)
    """
    state = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        state = splitmix64(state ^ np.uint64(number & _WORD))
    return int(state[0])


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
