import polars as pl
import pytest
import torch

from rankwell.data import FeatureEncoder
from rankwell.errors import ConfigError, DataError

TABLE = pl.DataFrame(
    {
        "genres": ["Drama|War", " War | Drama|War", None, "", "Comedy"],
        "year": ["1995", " 2001 ", None, "", "7"],
        "price": [1.5, None, float("nan"), 3.0, 4.0],
        "maker": ["War", "b", "b", None, "War"],
        "vector": [[1.0, 2.0], None, [3.0, 4.0], [5.0, None], [0.0, 0.0]],
    }
)


def test_texts_are_categories_and_numbers_numbers():
    encode = FeatureEncoder.fit(TABLE, ["genres", "year", "maker", "price"])
    assert encode.numbers == {"year": 1, "price": 1}
    features = encode(TABLE)
    # Drama, War, Comedy of genres; War, b of makers: the same text in two columns is two categories.
    lists = [
        features.categories.values[a:b].tolist()
        for a, b in zip(*[features.categories.offsets[at:].tolist() for at in (0, 1)], strict=False)
    ]
    assert lists == [[0, 1, 3], [0, 1, 4], [4], [], [2, 3]] and features.num_categories == 5
    nan = float("nan")
    expected = torch.tensor([[1995.0, 1.5], [2001.0, nan], [nan, nan], [nan, 3.0], [7.0, 4.0]])
    torch.testing.assert_close(features.numbers, expected, equal_nan=True)


def test_lists_of_numbers_are_as_many_numbers():
    features = FeatureEncoder.fit(TABLE, ["vector", "year"])(TABLE)
    assert features.numbers.shape == (5, 3) and features.num_categories == 0
    assert features.numbers[2, :2].tolist() == [3.0, 4.0] and features.numbers[1].isnan().tolist() == [
        True,
        True,
        False,
    ]
    array = TABLE.with_columns(pl.Series("vector", [[1.0, 2.0]] * 5, dtype=pl.Array(pl.Float32, 2)))
    assert FeatureEncoder.fit(array, ["vector"])(array).numbers.tolist() == [[1.0, 2.0]] * 5


def test_new_values_are_left_out():
    encode = FeatureEncoder.fit(TABLE, ["genres", "maker"])
    features = encode(pl.DataFrame({"genres": ["Western|Drama", None], "maker": ["c", "b"]}))
    assert features.categories.offsets.tolist() == [0, 1, 2] and features.categories.values.tolist() == [0, 4]


def test_no_columns_are_no_features():
    features = FeatureEncoder.fit(TABLE, [])(TABLE)
    assert (
        features.numbers.shape == (5, 0)
        and not features.num_categories
        and features.categories.offsets.tolist() == [0] * 6
    )


def test_bad_columns():
    with pytest.raises(ConfigError, match=r"items\.csv has no column 'genre'. Did you mean 'genres'"):
        FeatureEncoder.fit(TABLE, ["genre"], source="items.csv")
    ragged = pl.DataFrame({"vector": [[1.0], [1.0, 2.0]]})
    with pytest.raises(DataError, match="column 'vector' must hold texts, numbers, or lists of as many numbers each"):
        FeatureEncoder.fit(ragged, ["vector"])
    with pytest.raises(DataError, match="column 'vector' must hold texts"):
        FeatureEncoder.fit(pl.DataFrame({"vector": [["a"], ["b"]]}), ["vector"])
    encode = FeatureEncoder.fit(TABLE, ["vector", "genres"])
    with pytest.raises(DataError, match="the table must have the column 'genres'"):
        encode(TABLE.drop("genres"))
    with pytest.raises(DataError, match="column 'vector' must hold 2 numbers a row, as in training: row 1 has 3"):
        encode(pl.DataFrame({"vector": [[1.0, 2.0, 3.0]], "genres": [None]}))


def test_numbers_that_are_not_finite_are_missing_and_no_texts():
    table = pl.DataFrame({"year": ["1995", "NaN", "inf", " "], "price": [1.0, float("inf"), float("nan"), None]})
    features = FeatureEncoder.fit(table, ["year", "price"])(table)
    assert features.num_categories == 0 and features.numbers.isnan().tolist() == [[False] * 2, *[[True] * 2] * 3]
    unread = FeatureEncoder.fit(pl.DataFrame({"year": ["NaN", ""]}), ["year"])
    assert unread.categories == {"year": {"NaN": 0}}  # nothing there is a number


def test_a_text_among_new_numbers_is_an_error():
    encode = FeatureEncoder.fit(TABLE, ["year", "vector"])
    with pytest.raises(DataError, match="column 'year' must hold numbers, as in training: row 2 has 'soon'"):
        encode(pl.DataFrame({"year": ["1999", "soon"], "vector": [None, None]}))
    with pytest.raises(DataError, match="column 'vector' must hold lists of 2 numbers, as in training: got String"):
        encode(pl.DataFrame({"year": ["1999"], "vector": ["1 2"]}))


def test_a_new_column_of_another_kind_is_an_error():
    encode = FeatureEncoder.fit(TABLE, ["vector", "genres"])
    with pytest.raises(DataError, match=r"column 'genres' must hold texts, as in training: got List"):
        encode(pl.DataFrame({"vector": [None], "genres": [["a", "b"]]}))
    for lists in ([["a", "b"]], [[["a"], ["b"]]]):
        with pytest.raises(DataError, match=r"column 'vector' must hold numbers, as in training: got List"):
            encode(pl.DataFrame({"vector": lists, "genres": ["Drama"]}))


@pytest.mark.parametrize("empty", [None, " "])
def test_an_empty_column_of_new_rows_tells_nothing(empty):
    encode = FeatureEncoder.fit(TABLE, ["vector", "year"])
    assert encode(pl.DataFrame({"vector": [empty], "year": [empty]})).numbers.isnan().all()
