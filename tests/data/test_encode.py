import numpy as np
import polars as pl
import pytest

from rankwell.data.encode import Raw, encode
from rankwell.errors import DataError


def raw(users, items, weights=None, timestamps=None):
    return Raw(
        pl.Series(list(users)),
        pl.Series(list(items)),
        None if weights is None else np.array(weights, dtype=np.float32),
        None if timestamps is None else np.array(timestamps),
    )


@pytest.mark.parametrize("kind", [str, int])
def test_codes_follow_first_appearance_through_the_parts(kind):
    rng = np.random.default_rng(1)
    columns = [[kind(value) for value in rng.integers(0, 50, 80)] for _ in range(4)]
    (first, second), _ = encode([raw(columns[0], columns[1]), raw(columns[2], columns[3])])
    assert first.user_ids.to_list() == list(dict.fromkeys(columns[0] + columns[2]))
    assert first.item_ids.to_list() == list(dict.fromkeys(columns[1] + columns[3]))
    for part, users, items in ((first, *columns[:2]), (second, *columns[2:])):
        pairs = list(zip(part.user_ids.gather(part.users), part.item_ids.gather(part.items), strict=True))
        assert pairs == list(dict.fromkeys(zip(users, items, strict=True)))


def test_without_timestamps_the_first_row_of_a_pair_stays():
    (data,), merged = encode([raw("aabab", "xyxxx", weights=[1, 2, 3, 4, 5])])
    assert data.weights.tolist() == [1, 2, 3]
    assert merged == [2]


def test_with_timestamps_the_earliest_row_of_a_pair_stays_in_file_order():
    (data,), merged = encode([raw("aabab", "xyxxx", weights=[1, 2, 3, 4, 5], timestamps=[9, 8, 5, 2, 5])])
    assert data.weights.tolist() == [2, 3, 4]
    assert data.timestamps.tolist() == [8, 5, 2]
    assert merged == [2]


def test_integer_types_may_differ_but_text_and_integers_may_not():
    small = Raw(pl.Series([1], dtype=pl.Int32), pl.Series([2], dtype=pl.Int32))
    (_, second), _ = encode([small, raw([3], [2])])
    assert second.user_ids.to_list() == [1, 3]
    with pytest.raises(DataError, match=r"same type of user ids: got Int64 and String"):
        encode([raw([1], [2]), raw("a", "b")])
