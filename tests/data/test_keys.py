import numpy as np
import polars as pl

from rankwell.data.keys import hash_ids, splitmix64

WORD = (1 << 64) - 1


def reference(state: int) -> int:
    """SplitMix64 in integers of any size, from its publication."""
    z = (state + 0x9E3779B97F4A7C15) & WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def test_splitmix64_equals_integers_of_any_size():
    states = [0, 1, 2, WORD, 1 << 63, 123456789]
    assert splitmix64(np.array(states, dtype=np.uint64)).tolist() == [reference(state) for state in states]


def test_ids_hash_as_words_of_their_bytes():
    ids = ["7", "007", "exactly8", "nine chars", "héé"]
    expected = []
    for text in ids:
        data, state = text.encode(), 0
        for start in range(0, len(data), 8):
            state = reference(state ^ int.from_bytes(data[start : start + 8], "little"))
        expected.append(state)
    assert hash_ids(pl.Series(ids)).tolist() == expected


def test_an_ids_hash_does_not_depend_on_its_neighbours():
    assert hash_ids(pl.Series(["a", "b" * 100]))[0] == hash_ids(pl.Series(["a"]))[0]


def test_integers_hash_by_value_and_nothing_hashes_to_nothing():
    assert hash_ids(pl.Series([5, -1])).tolist() == [reference(5), reference(WORD)]
    assert len(hash_ids(pl.Series([], dtype=pl.String))) == 0
