"""Labelled rows: what the files say, in whichever format; what is left out, counted; each fault with its place."""

import polars as pl
import pytest

from rankwell.data.label_files import read_labelled
from rankwell.errors import ConfigError, DataError

CSV = 'id,title,year,genres\n1,"Jumanji, again",1995,Adventure|Children\n2,Heat,1996,Crime\n3,Solaris,,\n'


@pytest.fixture
def file(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def pairs(table):
    return [(table.ids[row], label) for row, label in table.pairs.select("row", "label").rows()]


EXPECTED = [("1", "Adventure"), ("1", "Children"), ("2", "Crime")]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_formats(file, tmp_path, suffix):
    if suffix == ".parquet":
        pl.read_csv(CSV.encode()).write_parquet(path := tmp_path / "films.parquet")
    else:
        path = file(
            f"films{suffix}", CSV if suffix == ".csv" else CSV.replace('"Jumanji, again"', "J").replace(",", "\t")
        )
    table = read_labelled(path, labels="genres")
    assert pairs(table) == EXPECTED and table.ids.to_list() == ["1", "2", "3"]
    assert table.features.columns == ["title", "year"] and not table.notes


def test_arrays_of_parquet(tmp_path):
    labels = pl.Series([["b", "a"], ["a", "c"]], dtype=pl.Array(pl.String, 2))
    pl.DataFrame({"id": [7, 8], "x": [1.0, 2.0], "labels": labels}).write_parquet(tmp_path / "a.parquet")
    assert pairs(read_labelled(tmp_path / "a.parquet")) == [("7", "b"), ("7", "a"), ("8", "a"), ("8", "c")]


def test_lists_of_parquet(tmp_path):
    pl.DataFrame({"id": [7, 8], "x": [1.0, 2.0], "labels": [["b", "a"], None]}).write_parquet(tmp_path / "a.parquet")
    assert pairs(read_labelled(tmp_path / "a.parquet")) == [("7", "b"), ("7", "a")]


def test_another_separator_and_chosen_columns(file):
    path = file("a.csv", "id;x,labels,y,z\n".replace(";", ",") + "1,5,a; b,6,7\n")
    table = read_labelled(path, separator=";", features=["z", "x"])
    assert pairs(table) == [("1", "a"), ("1", "b")] and table.features.rows() == [("7", "5")]
    assert read_labelled(path, separator=";", ignore=["y"]).features.columns == ["x", "z"]


def test_pairs_beside_a_column_and_alone(file):
    films = file("films.csv", CSV)
    tags = file("tags.csv", 'user,id,tag\n1,3,space\n2,3,space\n2,1,"in, out"\n2,9,gone\n2,1,\n2,2,Crime\n')
    both = read_labelled(films, labels="genres", pairs=tags, pairs_label="tag")
    assert sorted(pairs(both)) == sorted([*EXPECTED, ("3", "space"), ("1", "in, out")])
    assert [note.partition(": ")[2] for note in both.notes] == [
        "1 label without a text left out",
        "1 label repeated within one row, counted once",
        "1 pair of rows that " + str(films) + " does not have left out",
    ]
    alone = read_labelled(films, features=["year"], pairs=tags, pairs_label="tag")
    assert sorted(pairs(alone)) == [("1", "in, out"), ("2", "Crime"), ("3", "space")]
    other = file("other.csv", "film,label\n3,space\n")
    assert ("3", "space") in pairs(read_labelled(films, features=["year"], pairs=other, pairs_id="film"))


def test_empty_and_repeated_labels_are_counted(file):
    table = read_labelled(file("a.csv", "id,x,labels\n1,1,a||a| \n2,1,none\n3,1,b\n"), not_labels=["none"])
    assert pairs(table) == [("1", "a"), ("3", "b")]
    assert [note.partition(": ")[2] for note in table.notes] == [
        "2 labels without a text left out",
        "1 label repeated within one row, counted once",
    ]


def test_texts_for_nothing_do_not_make_a_column_of_numbers_one_of_texts(file):
    table = read_labelled(file("a.csv", "id,x,labels\n1,nan,a\n2,2,a\n3,NA,b\n4,,b\n"))
    assert table.features["x"].to_list() == [None, "2", None, None]


def test_new_rows_need_no_labels(file):
    table = read_labelled(file("a.csv", "id,x\n1,2\n"), labels="genres", labelled=False, ignore=["gone"])
    assert table.features.columns == ["x"] and table.pairs.is_empty()


@pytest.mark.parametrize(
    ("text", "own", "error", "said"),
    [
        ("id,x,labels\n1,1,a\n,2,b\n", {}, DataError, "a.csv, line 3: column 'id' must name the row: it is empty"),
        ('id,x,labels\n1,"1\n1",a\n1,2,b\n', {}, DataError, "a.csv, line 4: each row must have an id of its own: '1'"),
        ("id,x,genres\n1,1,a\n", {}, ConfigError, "rows must have labels: name their column by --data.labels"),
        ("id,x,labels\n1,1,a\n", {"labels": "genre"}, ConfigError, "a.csv has no column 'genre'"),
        ("id,year,labels\n1,1,a\n", {"features": ["yaer"]}, ConfigError, "has no column 'yaer'. Did you mean 'year'"),
        ("id,x,labels\n1,1,a\n", {"ignore": ["z"]}, ConfigError, "has no column 'z'"),
        ("film,x,labels\n1,1,a\n", {}, ConfigError, "has no column 'id'"),
        ("id,labels\n1,a\n", {}, ConfigError, "rows must have features: no column is left"),
        ("id,x,labels\n1,1\n", {}, DataError, "a.csv, line 2: each line must have the 3 fields"),
        ("id,x,labels\n", {}, DataError, "the file must have rows"),
    ],
)  # fmt: skip
def test_faults_of_the_table(file, text, own, error, said):
    path = file("a.csv", text)
    with pytest.raises(error) as raised:
        read_labelled(path, **own)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("text", "own", "error", "said"),
    [
        ("id,tag\n1,a\n", {}, ConfigError, "tags.csv has no column 'label'"),
        ("film,label\n1,a\n", {}, ConfigError, "tags.csv has no column 'id'"),
        ("id,label\n1,a\n,b\n", {}, DataError, "tags.csv, line 3: column 'id' must name a row: it is empty"),
    ],
)
def test_faults_of_pairs(file, text, own, error, said):
    films, tags = file("films.csv", CSV), file("tags.csv", text)
    with pytest.raises(error) as raised:
        read_labelled(films, labels="genres", pairs=tags, **own)
    assert said in str(raised.value)


def test_faults_of_files(tmp_path, file):
    with pytest.raises(DataError, match="there is no such file"):
        read_labelled(tmp_path / "gone.csv")
    with pytest.raises(ConfigError, match=r"must end in .csv, .tsv or .parquet: got '.txt'"):
        read_labelled(file("a.txt", CSV))
    with pytest.raises(DataError, match="must be readable as Parquet"):
        read_labelled(file("a.parquet", CSV))
    pl.DataFrame({"id": [], "x": [], "labels": []}).write_parquet(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="must have rows"):
        read_labelled(tmp_path / "none.parquet")
