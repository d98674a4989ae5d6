import datetime
import re

import numpy as np
import polars as pl
import pytest

from rankwell.data import read_dataset, read_interactions
from rankwell.errors import ConfigError, DataError

FULL = {"user": "user", "item": "item", "weight": "stars", "timestamp": "when"}


def write(folder, text, name="views.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def listed(data):
    return list(zip(data.user_ids.gather(data.users), data.item_ids.gather(data.items), strict=True))


def test_columns_are_found_by_name_in_any_order(tmp_path):
    path = write(tmp_path, "when,item,note,stars,user\n9,x,,1.5,007\n8,y,n,2,7\n")
    data = read_interactions(path, weight="stars", timestamp="when")
    assert listed(data) == [("007", "x"), ("7", "y")]
    assert data.weights.tolist() == [1.5, 2.0] and data.weights.dtype == np.float32
    assert data.timestamps.tolist() == [9, 8] and data.timestamps.dtype == np.int64


def test_weights_and_timestamps_are_read_only_when_named(tmp_path):
    data = read_interactions(write(tmp_path, "user,item,stars,when\na,x,bad,bad\n"))
    assert data.weights is None and data.timestamps is None


def test_fractional_timestamps_are_float64(tmp_path):
    data = read_interactions(write(tmp_path, "user,item,when\na,x,1\na,y,2.5\n"), timestamp="when")
    assert data.timestamps.tolist() == [1.0, 2.5]


def test_large_integer_timestamps_keep_every_digit(tmp_path):
    nanoseconds = 1_700_000_000_123_456_789
    data = read_interactions(write(tmp_path, f"user,item,when\na,x,{nanoseconds}\n"), timestamp="when")
    assert data.timestamps.tolist() == [nanoseconds]


@pytest.mark.parametrize(
    ("name", "delimiter", "options"),
    [("a.tsv", "\t", {}), ("a.csv", ";", {"delimiter": ";"}), ("a.dat", "|", {"format": "csv", "delimiter": "|"})],
)
def test_delimiters(tmp_path, name, delimiter, options):
    path = write(tmp_path, "user,item\na,x\nb,y\n".replace(",", delimiter), name)
    assert listed(read_interactions(path, **options)) == [("a", "x"), ("b", "y")]


def test_quotes_hide_delimiters_and_line_ends(tmp_path):
    path = write(tmp_path, 'user,item,"a, note"\n"ann ""b"" lee","x,y","two\nlines"\nbo,"z",\n')
    assert listed(read_interactions(path)) == [('ann "b" lee', "x,y"), ("bo", "z")]


def test_ends_of_lines_and_byte_order_mark(tmp_path):
    assert listed(read_interactions(write(tmp_path, "\ufeffuser,item\r\na,x\r\n\r\n"))) == [("a", "x")]


def test_inter_drops_types_and_has_its_own_names(tmp_path):
    text = 'user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t"x\t4\t9.5\n2\ty\t3\t8\n'
    path = write(tmp_path, text, "ml.inter")
    data = read_interactions(path, weight="rating", timestamp="timestamp")
    assert listed(data) == [("1", '"x'), ("2", "y")]
    assert data.weights.tolist() == [4, 3] and data.timestamps.tolist() == [9.5, 8]
    other = write(tmp_path, "who:token\titem:token\na\tx\n", "other.inter")
    assert listed(read_interactions(other, user="who")) == [("a", "x")]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("user,item\na,x\nb\n", 3, "must have the 2 fields of the header: got 1"),
        ("user,item\na,x,y\nb\n", 2, "must have the 2 fields of the header: got 3"),
        ("user,item\na,x\n\nb,y\n", 3, "the line is blank"),
        ('user,item\n"a","x\ny"\n"b"\n', 4, "must have the 2 fields of the header: got 1"),
        ('user,item\na,x\n"b,y\nc,z\n', 3, "must have the 2 fields of the header: got 1"),
        ("user,item\na,x\n,y\n,z\n", 3, "the user id (column 'user') must not be empty: 2 such rows"),
        ("user,item\na,x\nb,  \n", 3, "the item id (column 'item') must not be empty"),
        ('user,item\n"a\nb",x\n"",y\n', 4, "the user id (column 'user') must not be empty"),
        ("name,item\na,x\n", 1, "the user column 'user' must be in the header: its columns are name, item"),
        ("userId,item\na,x\n", 1, "its columns are userId, item. Name the right one: --data.user userId."),
        ("user,item,user\na,x,b\n", 1, "'user' stands in the header twice"),
        ("user;item;stars\na;x;1\n", 1, "looks separated by the semicolon ';'. Give --data.delimiter ';'"),
        ("user\titem\na\tx\n", 1, r"looks separated by the tab '\t'. Give --data.delimiter '\t'"),
        ("userId|movieId\na|x\n", 1, "looks separated by the vertical bar '|'"),
        (b"user,item\na,caf\xe9\n", 2, "must be UTF-8: got the byte 0xe9"),
        ("user,item\na,x\nb,y\x01\n", 3, "control character 0x01"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, line, says):
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=re.escape(f"{path}, line {line}: ") + ".*" + re.escape(says)):
        read_interactions(path)


@pytest.mark.parametrize("role", ["weight", "timestamp"])
@pytest.mark.parametrize(
    ("value", "says"),
    [("nan", "got 'nan'"), ("inf", "got 'inf'"), ("four", "got 'four'"), ("", "it is empty"), ("1e999", "got '1e999'")],
)
def test_numbers_must_be_finite(tmp_path, role, value, says):
    path = write(tmp_path, f"user,item,n\na,x,1\nb,x,2.5\nc,x,{value}\n")
    with pytest.raises(
        DataError, match=re.escape(f"{path}, line 4: the {role} (column 'n') must be a finite number: {says}")
    ):
        read_interactions(path, **{role: "n"})


def test_a_weight_beyond_float32_is_not_finite(tmp_path):
    path = write(tmp_path, "user,item,n\na,x,1e39\n")
    with pytest.raises(
        DataError, match=re.escape("line 2: the weight (column 'n') must be a finite number: got '1e39'")
    ):
        read_interactions(path, weight="n")


def test_a_date_as_text_says_what_a_timestamp_is(tmp_path):
    path = write(tmp_path, "user,item,when\na,x,2020-01-02\n")
    with pytest.raises(DataError, match=r"line 2.*got '2020-01-02'.*seconds since 1970"):
        read_interactions(path, timestamp="when")


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", "  \n"])
def test_an_empty_file(tmp_path, text):
    for name in ("a.csv", "a.txt", "a.inter"):
        with pytest.raises(DataError, match=f"{name}: the file is empty"):
            read_interactions(write(tmp_path, text, name))


def test_a_header_alone(tmp_path):
    with pytest.raises(DataError, match=r"views.csv: the file must have rows below its header: there are none"):
        read_interactions(write(tmp_path, "user,item\n"))


def test_a_missing_weight_column(tmp_path):
    with pytest.raises(DataError, match=r"weight column 'rating' must be in the header.*--data.weight weights"):
        read_interactions(write(tmp_path, "user,item,weights\na,x,1\n"), weight="rating")


def test_the_delimiter_must_be_one_character(tmp_path):
    with pytest.raises(ConfigError, match=r"--data.delimiter must be one ASCII character: got '::'"):
        read_interactions(write(tmp_path, "user,item\na,x\n"), delimiter="::")


def parquet(folder, **columns):
    path = folder / "views.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Int32, pl.UInt64, pl.String])
def test_parquet_ids_keep_their_type(tmp_path, dtype):
    users = pl.Series([30, 10, 30, 20]).cast(dtype)
    data = read_interactions(parquet(tmp_path, user=users, item=pl.Series([5, 5, 4, 9]).cast(dtype)))
    assert data.user_ids.dtype == dtype
    assert data.user_ids.to_list() == users.unique(maintain_order=True).to_list()
    assert data.users.tolist() == [0, 1, 0, 2] and data.items.tolist() == [0, 0, 1, 2]


def test_parquet_times_and_categories(tmp_path):
    moment = datetime.datetime(1970, 1, 2, 0, 0, 0, 500_000)
    item = pl.Series(["x"], dtype=pl.Categorical)
    data = read_interactions(parquet(tmp_path, user=["a"], item=item, when=[moment], stars=[3]), **FULL)
    assert data.timestamps.tolist() == [86_400.5]
    assert data.weights.tolist() == [3.0]
    assert data.item_ids.dtype == pl.String


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"user": [1, None], "item": [1, 2]}, "row 2: the user id (column 'user') must not be empty"),
        ({"user": [1, 2], "item": ["x", ""]}, "row 2: the item id (column 'item') must not be empty"),
        ({"user": [1.5], "item": [1]}, "ids must be text or integers: column 'user' is Float64"),
        ({"name": [1], "item": [1]}, "the user column 'user' must be in the header: its columns are name, item"),
        (
            {"user": pl.Series([], dtype=pl.Int64), "item": pl.Series([], dtype=pl.Int64)},
            "must have rows: there are none",
        ),
    ],
)
def test_bad_parquet_is_named(tmp_path, columns, says):
    path = parquet(tmp_path, **columns)
    with pytest.raises(DataError, match=re.escape(f"{path}") + ".*" + re.escape(says)):
        read_interactions(path)


def test_parquet_numbers_must_be_finite(tmp_path):
    path = parquet(tmp_path, user=[1, 2], item=[1, 2], stars=[1.0, float("nan")], when=[1, None])
    with pytest.raises(
        DataError, match=re.escape("row 2: the weight (column 'stars') must be a finite number: got nan")
    ):
        read_interactions(path, weight="stars")
    with pytest.raises(
        DataError, match=re.escape("row 2: the timestamp (column 'when') must be a finite number: it is empty")
    ):
        read_interactions(path, timestamp="when")


@pytest.mark.parametrize("content", [b"not parquet at all", b"PAR1", b"PAR1" + b"\0" * 50 + b"PAR1"])
def test_a_corrupt_parquet_file(tmp_path, content):
    path = write(tmp_path, content, "views.parquet")
    with pytest.raises(DataError, match=r"views.parquet: the file must be readable as Parquet"):
        read_interactions(path)


def test_an_empty_parquet_file(tmp_path):
    with pytest.raises(DataError, match=r"views.parquet: the file is empty"):
        read_interactions(write(tmp_path, b"", "views.parquet"))


def test_quoted_and_plain_tables_read_alike(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        (f"u{u}", f"i{i}", f"{w:.2f}") for u, i, w in zip(*rng.integers(0, 30, (2, 200)), rng.random(200), strict=True)
    ]
    plain = write(tmp_path, "user,item,w\n" + "".join(f"{','.join(row)}\n" for row in rows), "a.csv")
    quoted = write(tmp_path, "user,item,w\n" + "".join('"' + '","'.join(row) + '"\n' for row in rows), "b.csv")
    first, second = (read_dataset(path, weight="w") for path in (plain, quoted))
    assert first.train.fingerprint() == second.train.fingerprint()
    assert first.merged == second.merged == 200 - len({row[:2] for row in rows})


def test_weights_below_zero_are_refused(tmp_path):
    path = write(tmp_path, "user,item,n\na,x,1\nb,x,0\nc,x,-0.5\n")
    says = f"{path}, line 4: weights must be at least 0: the weight (column 'n') is '-0.5'."
    with pytest.raises(DataError, match=re.escape(says)):
        read_interactions(path, weight="n")
    assert read_interactions(path, timestamp="n").timestamps.tolist() == [1, 0, -0.5]
