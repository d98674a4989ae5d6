import numpy as np
import polars as pl
import pytest
import torch

from rankwell.data import ItemColumns, read_items, read_users
from rankwell.errors import ConfigError, DataError

IDS = pl.Series(["007", "b", "7"])


@pytest.fixture
def write(tmp_path):
    def put(text: str, name: str = "shop.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return put


def test_rows_are_matched_by_id_as_text(write):
    columns = read_items(write("item,price,kind\n7,1.5,tea\nzz,9,jam\n007, 2 ,jam\nb,0,tea\n"), IDS)
    assert columns.weights("price").tolist() == [2.0, 0.0, 1.5]
    assert columns.groups("kind").tolist() == [0, 1, 1]  # by first appearance among the items, not in the file
    assert columns.notes == ("shop.csv: 1 of its 4 items have no interaction and are left out",)
    assert columns.frame.columns == ["price", "kind"]


@pytest.mark.parametrize("dtype", [pl.Int64, pl.String])
def test_integer_ids_find_text_and_the_other_way_round(write, tmp_path, dtype):
    ids = pl.Series([3, 1]).cast(dtype)
    assert read_items(write("item,price\n1,10\n3,30\n"), ids).weights("price").tolist() == [30.0, 10.0]
    pl.DataFrame({"item": [1, 3], "price": [10, 30]}).write_parquet(tmp_path / "shop.parquet")
    columns = read_items(tmp_path / "shop.parquet", ids)
    assert columns.weights("price").tolist() == [30.0, 10.0] and columns.groups("price").tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "text", "item"),
    [
        ("shop.tsv", "item\tprice\nb\t2\n7\t3\n007\t1\n", None),
        ("shop.item", "item_id:token\tprice:float\nb\t2\n7\t3\n007\t1\n", None),
        ("shop.csv", 'code,price,"a, name"\nb,2,"x, y"\n7,3,\n007,1,\n', "code"),
    ],
)
def test_formats(write, name, text, item):
    assert read_items(write(text, name), IDS, item=item).weights("price").tolist() == [1.0, 2.0, 3.0]


def test_items_that_the_file_lacks(write):
    path = write("item,price,kind\nb,2,\n7,3,tea\n")
    with pytest.raises(DataError, match=r"every item must have a row: 1 of 3 have none \('007'\)\. Add them, or give"):
        read_items(path, IDS)
    columns = read_items(path, IDS, missing="default")
    assert columns.weights("price").tolist() == [0.0, 2.0, 3.0]
    assert columns.groups("kind").tolist() == [0, 0, 1]  # no row and an empty cell: one group of their own
    assert columns.notes == ("shop.csv: 1 of 3 items have no row: 0, or a group of their own",)
    assert columns.rows() == [("price", "numbers, 2 to 3, 1 missing"), ("kind", "text, 1 values, 2 missing")]


def test_an_empty_cell_is_an_error_once_its_column_is_asked_for(write):
    columns = read_items(write("item,price,kind\nb,2,\n7,3,tea\n007,1,jam\n"), IDS)
    assert columns.weights("price").sum() == 6
    with pytest.raises(DataError, match=r"column 'kind' must have a value for every item: 1 have none \(first: 'b'\)"):
        columns.groups("kind")


@pytest.mark.parametrize("bad", ["-1", "inf", "nan", "cheap", "1e999"])
def test_weights_are_finite_numbers_of_at_least_0(write, bad):
    columns = read_items(write(f"item,price\nb,2\n7,{bad}\n007,1\n"), IDS)
    with pytest.raises(DataError, match=f"must hold finite numbers of at least 0: item '7' has '{bad}'"):
        columns.weights("price")
    assert len(columns.groups("price").unique()) == 3


def test_groups_of_a_value_that_looks_missing():
    columns = ItemColumns("x", pl.DataFrame({"kind": ["", None, "=", "", None]}), pl.Series(list("abcde")), "default")
    assert columns.groups("kind").tolist() == [0, 1, 2, 0, 1]
    assert columns.groups("kind").dtype == torch.int64


@pytest.mark.parametrize(
    ("name", "text", "error", "sentence"),
    [
        (
            "shop.csv",
            "code,price\nb,2\n",
            DataError,
            r"ids, 'item', must be in the header: its columns are code, price",
        ),
        ("shop.csv", "item,price\nb,2\nb,3\n", DataError, r"each item must have one row: 'b' has several"),
        ("shop.csv", "item,price,price\nb,2,3\n", DataError, r"column names must differ: 'price'"),
        ("shop.csv", "item,price\nb\n", DataError, r"line 2: each line must have the 2 fields of the header: got 1"),
        ("shop.json", "{}", ConfigError, r"must end in \.csv, \.tsv, \.item, \.user or \.parquet: got '\.json'"),
        ("shop.parquet", "no", DataError, r"must be readable as Parquet"),
    ],
)
def test_files_that_cannot_be_read(write, name, text, error, sentence):
    with pytest.raises(error, match=sentence):
        read_items(write(text, name), IDS)


def test_names_that_are_not_there(write, tmp_path):
    with pytest.raises(DataError, match=r"there is no such file"):
        read_items(tmp_path / "shop.csv", IDS)
    columns = read_items(write("item,price\nb,2\n7,3\n007,1\n"), IDS)
    with pytest.raises(ConfigError, match=r"shop\.csv has no column 'pirce'\. Did you mean 'price'"):
        columns.weights("pirce")


def test_the_fingerprint_is_of_what_the_columns_say(write):
    rows = ["b,2", "7,3", "007,1"]
    first = read_items(write("item,price\n" + "\n".join(rows)), IDS).fingerprint()
    assert read_items(write("item,price\n" + "\n".join(rows[::-1]) + "\nzz,4"), IDS).fingerprint() == first
    assert read_items(write("item,price\n" + "\n".join(rows).replace("3", "4")), IDS).fingerprint() != first


def test_columns_of_lists_and_of_true_and_false(tmp_path):
    frame = pl.DataFrame({"item": IDS, "tags": [["a"], [], ["b", "c"]], "sold": [True, False, True]})
    frame.write_parquet(tmp_path / "shop.parquet")
    columns = read_items(tmp_path / "shop.parquet", IDS)
    assert columns.rows() == [("tags", "List(String)"), ("sold", "text, 2 values")]
    assert columns.groups("sold").tolist() == [0, 1, 0]
    with pytest.raises(DataError, match=r"column 'tags' must hold one value an item: got List\(String\)"):
        columns.groups("tags")
    with pytest.raises(DataError, match="column 'tags' must hold finite numbers"):
        columns.weights("tags")


def test_users_are_read_as_items(write):
    ids = pl.Series(["b", "a"])
    columns = read_users(write("user,club\na,x\nb,y\nc,z\n"), ids)
    assert columns.frame.rows() == [("y",), ("x",)]
    assert columns.notes == ("shop.csv: 1 of its 3 users have no interaction and are left out",)
    assert read_users(write("user_id:token\tclub:token\na\tx\nb\ty\n", "shop.user"), ids).frame.rows() == [
        ("y",),
        ("x",),
    ]
    with pytest.raises(
        DataError, match=r"every user must have a row: 1 of 2 have none \('b'\).*--data.missing_users default"
    ):
        read_users(write("user,club\na,x\n"), ids)
    with pytest.raises(DataError, match=r"the column of user ids, 'user', must be in the header.*--data.users_id"):
        read_users(write("who,club\na,x\n"), ids)
    with pytest.raises(DataError, match="each user must have one row: 'a' has several"):
        read_users(write("user,club\na,x\na,y\n"), ids)


def test_rows_in_another_order(write):
    columns = read_items(write("item,price\n7,1.5\n007,2\nb,0\n"), IDS).in_order(np.array([2, 0, 1]))
    assert columns.item_ids.to_list() == ["7", "007", "b"] and columns.weights("price").tolist() == [1.5, 2.0, 0.0]


def test_vectors_of_values_of_numbers_and_of_lists(write):
    columns = read_items(write("item,genres,code\n7,war | drama,3\n007,drama,4\nb,|sad||drama,3\n"), IDS)
    # 007, b and 7: drama, sad and war, in the order of the items.
    assert columns.vectors("genres").tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    assert columns.vectors("code").tolist() == [[1, 0], [0, 1], [0, 1]]
    frame = pl.DataFrame({"v": [[1.0, 2.0], None, [0.5, -1.0]], "odd": [[1.0], [1.0, 2.0], [3.0]], "n": [2, None, 2]})
    lists = ItemColumns("shop.parquet", frame, IDS, "default")
    assert lists.vectors("v").tolist() == [[1.0, 2.0], [0.0, 0.0], [0.5, -1.0]]
    assert lists.vectors("n").tolist() == [[1], [0], [1]]
    with pytest.raises(DataError, match="column 'odd' must hold texts, numbers, or lists of as many numbers each"):
        lists.vectors("odd")


def test_vectors_of_what_is_not_there(write, monkeypatch):
    columns = read_items(write("item,genres\n7,war\n007,\nb,sad\n"), IDS)
    with pytest.raises(
        DataError, match=r"column 'genres' must have a value for every item: 1 have none \(first: '007'"
    ):
        columns.vectors("genres")
    with pytest.raises(ConfigError, match="has no column 'genre'"):
        columns.vectors("genre")
    monkeypatch.setattr("rankwell.data.item_columns.LARGEST", 5)
    lacking = read_items(write("item,genres\n7,war\n007,\nb,sad\n"), IDS, missing="default")
    with pytest.raises(DataError, match="column 'genres' has 2 values, too many for categories of 3 items"):
        lacking.vectors("genres")
