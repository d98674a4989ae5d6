"""Judged lists: what the files say, in whichever format; and each fault with its place."""

import numpy as np
import polars as pl
import pytest

from rankwell.data.judged import JudgedLists, aligned, joined, synthesise_judged, with_features
from rankwell.data.judged_files import read_documents, read_judged
from rankwell.errors import ConfigError, DataError

FEATURES = np.array([[0.5, 0.0], [0.0, 1.0], [0.25, -2.0]], dtype=np.float32)
LABELS = [2.0, 0.0, 1.0]
SVMLIGHT = "2 qid:7 1:0.5 # a note\n# a line of its own\n0 qid:7 2:1\n\n1 qid:9 1:0.25 2:-2\n"
CSV = "query,label,first,second\nseven,2,0.5,0\nseven,0,0,1\nnine,1,0.25,-2\n"


@pytest.fixture
def file(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
        return path

    return write


def lists(sizes=(2, 1), width=2, names=()):
    total = sum(sizes)
    features = np.arange(total * width, dtype=np.float32).reshape(total, width)
    offsets = np.array([0, *sizes]).cumsum()
    ids = pl.Series([f"q{number}" for number in range(len(sizes))])
    return JudgedLists(features, np.ones(total, dtype=np.float32), offsets, ids, names)


def same(read, ids):
    assert read.labels.tolist() == LABELS and read.offsets.tolist() == [0, 2, 3]
    assert read.query_ids.to_list() == ids
    assert read.features.dtype == read.labels.dtype == np.float32


def test_svmlight(file):
    read = read_judged([file("a.txt", SVMLIGHT)])
    same(read, ["7", "9"])
    assert np.array_equal(read.features[:, 1:], FEATURES) and not read.features[:, 0].any()


def test_lightgbm_and_its_file_of_sizes(file):
    path = file("rank.train", "2 0:0.5\n0 1:1\n1 0:0.25 1:-2\n")
    file("rank.train.query", "2\n1\n")
    read = read_judged([path])
    same(read, ["rank-1", "rank-2"])
    assert np.array_equal(read.features, FEATURES)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_tables(file, tmp_path, suffix):
    if suffix == ".parquet":
        pl.read_csv(CSV.encode()).write_parquet(path := tmp_path / "a.parquet")
    else:
        path = file(f"a{suffix}", CSV if suffix == ".csv" else CSV.replace(",", "\t"))
    read = read_judged([path])
    same(read, ["seven", "nine"])
    assert np.array_equal(read.features, FEATURES) and read.names == ("first", "second")


def test_ids_of_tables_stay_text(file):
    assert read_judged([file("a.csv", "query,label,x\n007,1,2\n7,1,2\n")]).query_ids.to_list() == ["007", "7"]


def test_named_columns_and_columns_left_out(file):
    path = file("a.csv", "url,q,grade,x\nhttp,1,2,0.5\n")
    read = read_judged([path], query="q", label="grade", ignore=["url"])
    assert read.names == ("x",) and read.labels.tolist() == [2]


def test_several_files_are_one(file):
    whole = read_judged([file("a.txt", SVMLIGHT), file("b.txt", "1 qid:3 1:1 2:1 5:4\n")])
    assert whole.features.shape == (4, 6) and whole.features[3].tolist() == [0, 1, 1, 0, 0, 4]
    assert not whole.features[:3, 3:].any()


def test_columns_go_by_name_not_by_place(file):
    second = file("b.csv", "second,first,label,query\n8,9,1,ten\n")
    assert read_judged([file("a.csv", CSV), second]).features[3].tolist() == [9, 8]


def test_other_columns_are_refused(file):
    second = file("b.csv", "query,label,first,third\nten,1,8,9\n")
    with pytest.raises(
        DataError, match=r"b.csv: documents must have the features of .*a.csv: 'second' is not among both"
    ):
        read_judged([file("a.csv", CSV), second])
    with pytest.raises(DataError, match="'first' is not among both"):
        aligned([lists(names=("first", "second")), lists()], ["a", "b"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 qid:1 1:1\n1 qid:1 1:x\n", "line 2: a line must be 'label qid:query feature:value …'.*got '1 qid:1 1:x'"),
        ("1 qid:1 1:1\n1 qid:one 1:1\n", "line 2: a line must be"),
        ("1 qid:1 2:1 1:1\n", "line 1: .* with features ascending"),
        ("1 qid:1 1:1 1:2\n", "line 1: .* with features ascending"),
        ("1 qid:1 3000000000:1\n", "line 1: a line must be"),
        ("1 qid:1 1:1\n\nx qid:1 1:1\n", "line 3: a line must be"),
        ("# note\n1 qid:1 1:nan\n", "line 2: feature 1 must be a finite number"),
        ("1 qid:1 1:1\n1 qid:1 3:inf\n", "line 2: feature 3 must be a finite number"),
        ("# note\n1 qid:1 1:1\n-1 qid:1 1:1\n", "line 3: labels must be finite numbers, at least 0: got -1"),
        ("nan qid:1 1:1\n", "line 1: labels must be finite"),
        ("1 qid:1 1:1\n1 1:1 # qid:1\n", r"line 2: each line must name its query by qid:, or bad.txt.query"),
        ("1 1:1\n", "line 1: each line must name its query"),
        (
            "1 qid:1 1:1\n1 qid:2 1:1\n# x\n1 qid:1 1:1\n",
            "line 4: the documents of a query must follow.*query '1' comes again",
        ),
        ("# only a note\n", "there is no document"),
        ("", "empty"),
    ],
)
def test_faults_of_svmlight(file, text, said):
    with pytest.raises(DataError, match=f"bad.txt.*{said}"):
        read_judged([file("bad.txt", text)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("query,label,x\na,1,1\na,1,many\n", "line 3: column 'x' must hold finite numbers: got 'many'.*--data.ignore"),
        ('query,label,x\n"a\nb",1,1\nc,1,many\n', "line 4: column 'x'"),
        ("query,label,x\na,1,\n", "line 2: column 'x' must hold finite numbers: got None"),
        ("query,label,x\na,1,NaN\n", "line 2: column 'x' must hold finite"),
        ("query,label,x\na,good,1\n", "line 2: column 'label' must hold"),
        ("query,label,x\na,-1,1\n", "line 2: labels must be finite numbers, at least 0: got -1"),
        ("query,label,x\na,1,1\n,1,1\n", "line 3: column 'query' must name the query: it is empty"),
        ("query,label,x\na,1,1\nb,1,1\na,0,1\n", "line 4: the documents of a query must follow each other: query 'a'"),
        ("query,label,x\na,1,1,1\n", "the file must be readable as csv"),
        ("topic,label,x\na,1,1\n", "there is no column 'query': there are topic, label, x"),
        ("query,label\na,1\n", "there is no column of features"),
        ("query,label,x\n", "there is no document"),
    ],
)
def test_faults_of_tables(file, text, said):
    with pytest.raises(DataError, match=f"bad.csv.*{said}"):
        read_judged([file("bad.csv", text)])


def test_faults_of_parquet_have_rows(tmp_path):
    pl.DataFrame({"query": ["a", "a"], "label": [1, 0], "x": [1.0, None]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet, row 2: column 'x'"):
        read_judged([tmp_path / "a.parquet"])
    pl.DataFrame({"query": ["a"], "label": [1], "x": [[1.0]]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"column 'x' must hold numbers: it holds List"):
        read_judged([tmp_path / "b.parquet"])


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ("2\n0\n1", "line 2: a line must be a number of documents, 1 or more: got '0'"),
        ("2", "must add up to the 3"),
        ("2\nx", "line 2"),
    ],
)
def test_faults_of_sizes(file, sizes, said):
    path = file("a.train", "2 0:0.5\n0 1:1\n1 0:0.25 1:-2\n")
    file("a.train.query", sizes)
    with pytest.raises(DataError, match=f"a.train.query.*{said}"):
        read_judged([path])


def test_a_missing_file_and_none(tmp_path):
    with pytest.raises(DataError, match=r"gone.txt: there is no such file"):
        read_judged([tmp_path / "gone.txt"])
    with pytest.raises(ConfigError, match="at least one file"):
        read_judged([])


def test_a_query_in_two_files(file):
    with pytest.raises(DataError, match=r"query '7' comes in 2 places of .*a.txt, .*b.txt"):
        read_judged([file("a.txt", SVMLIGHT), file("b.txt", "1 qid:7 1:1\n")])


def test_what_lists_must_be():
    features, labels, ids = np.ones((2, 1), dtype=np.float32), np.ones(2, dtype=np.float32), pl.Series(["a", "b"])
    with pytest.raises(DataError, match="each query must have documents: 'b' has none"):
        JudgedLists(features, labels, np.array([0, 2, 2]), ids)
    with pytest.raises(DataError, match="offsets must be one more"):
        JudgedLists(features, labels, np.array([0, 2]), ids)
    with pytest.raises(DataError, match="features must be"):
        JudgedLists(features[:1], labels, np.array([0, 1, 2]), ids)
    with pytest.raises(DataError, match="features must be finite numbers: document 2"):
        JudgedLists(np.array([[1], [np.nan]], dtype=np.float32), labels, np.array([0, 1, 2]), ids)
    with pytest.raises(DataError, match="labels must be at least 0: document 1 has -1"):
        JudgedLists(features, np.array([-1, 0], dtype=np.float32), np.array([0, 1, 2]), ids)
    with pytest.raises(DataError, match="names must be one a feature"):
        JudgedLists(features, labels, np.array([0, 1, 2]), ids, ("x", "y"))


def test_take_and_join():
    whole = lists((2, 1, 3))
    taken = whole.take(np.array([2, 0]))
    assert taken.query_ids.to_list() == ["q2", "q0"] and taken.offsets.tolist() == [0, 3, 5]
    assert np.array_equal(taken.features, whole.features[[3, 4, 5, 0, 1]])
    assert len(whole.take(np.array([], dtype=np.int64))) == 0
    parts = [whole.take(np.array([number])) for number in range(3)]
    assert joined(parts, ["a", "b", "c"]).fingerprint() == whole.fingerprint()


def test_more_features_than_the_training_data():
    with pytest.raises(DataError, match=r"new.txt: must: 1 at most, got 2"):
        with_features(lists(width=2), 1, (), "new.txt: must")
    assert with_features(lists(width=2), 4, (), "").features.shape == (3, 4)


def test_what_is_counted():
    made = JudgedLists(
        np.ones((4, 1), dtype=np.float32),
        np.array([0, 0, 2, 0], dtype=np.float32),
        np.array([0, 2, 4]),
        pl.Series("id", ["a", "b"]),
    )
    assert made.without_relevant() == 1
    assert dict(made.rows())["documents by label"] == "0: 3, 2: 1"


def test_a_fingerprint_sees_everything():
    made = lists()
    others = [
        lists((1, 2)),
        lists(names=("a", "b")),
        JudgedLists(made.features + 1, made.labels, made.offsets, made.query_ids),
        JudgedLists(made.features, made.labels + 1, made.offsets, made.query_ids),
        JudgedLists(made.features, made.labels, made.offsets, pl.Series(["x", "y"])),
    ]
    assert len({each.fingerprint() for each in (made, lists(), *others)}) == 1 + len(others)


def test_generated_lists():
    train, valid, test = synthesise_judged(num_queries=100, documents=10, seed=1)
    assert [len(part) for part in (train, valid, test)] == [60, 20, 20]
    sizes = np.concatenate([np.diff(part.offsets) for part in (train, valid, test)])
    assert sizes.min() >= 5 and sizes.max() <= 15
    labels = np.concatenate([part.labels for part in (train, valid, test)])
    assert abs((labels == 2).mean() - 0.1) < 0.01 and abs((labels == 1).mean() - 0.2) < 0.01
    assert train.fingerprint() == synthesise_judged(num_queries=100, documents=10, seed=1)[0].fingerprint()
    assert train.fingerprint() != synthesise_judged(num_queries=100, documents=10, seed=2)[0].fingerprint()
    with pytest.raises(ConfigError, match="got 4, 10, 12"):
        synthesise_judged(num_queries=4, documents=10)


class TestDocuments:
    """Their ids."""

    def test_of_letor_comments(self, file):
        path = file("a.txt", "0 qid:1 1:1 #docid = GX1 inc = 1\n1 qid:1 1:1 # docid = GX2\n")
        assert read_documents([path], read_judged([path])).to_list() == ["GX1", "GX2"]

    def test_are_numbered_without_comments(self, file):
        path = file("a.txt", SVMLIGHT)
        assert read_documents([path], read_judged([path])).to_list() == ["1", "2", "1"]

    def test_of_a_column(self, file):
        path = file("a.csv", "query,url,x\na,u,1\na,v,1\nb,u,1\n")
        found = read_judged([path], ignore=["url"], labelled=False)
        assert read_documents([path], found, column="url").to_list() == ["u", "v", "u"]
        with pytest.raises(ConfigError, match="has no columns"):
            read_documents([file("a.txt", SVMLIGHT)], found, column="url")

    def test_are_once_in_a_query(self, file):
        path = file("a.txt", "0 qid:1 1:1 #docid = a\n1 qid:1 1:1 #docid = a\n")
        with pytest.raises(DataError, match="'1' has 'a' twice"):
            read_documents([path], read_judged([path]))
