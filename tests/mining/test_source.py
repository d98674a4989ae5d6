"""Reading retrieval data sets: what is taken, counted and refused."""

import json

import polars as pl
import pytest

from rankwell.errors import ConfigError, DataError
from rankwell.mining.source import Files, read_retrieval

CORPUS = [
    {"_id": "10", "title": "Cats", "text": "purr"},
    {"_id": "007", "title": "", "text": "dogs bark"},
    {"_id": "7", "text": "birds sing"},
]
QUERIES = [{"_id": "1", "text": "what purrs"}, {"_id": "2", "text": "what barks", "metadata": {}}]
QRELS = "query-id\tcorpus-id\tscore\n1\t10\t1\n2\t007\t2\n"


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def beir(tmp_path):
    """Write a folder as BEIR has it, from rows or text, and read it."""

    def call(corpus=CORPUS, queries=QUERIES, qrels=QRELS, **options):
        (tmp_path / "qrels").mkdir(exist_ok=True)
        for name, content in (("corpus.jsonl", corpus), ("queries.jsonl", queries), ("qrels/train.tsv", qrels)):
            text = content if isinstance(content, str) else jsonl(content)
            (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return read_retrieval(Files.beir(tmp_path), **options)

    return call


def test_a_folder_as_beir_has_it(beir):
    data = beir()
    assert data.queries == ["what purrs", "what barks"]
    assert data.documents == ["Cats purr", "dogs bark", "birds sing"]
    assert data.positives.offsets.tolist() == [0, 1, 2] and data.positives.values.tolist() == [0, 1]
    assert data.notes == () and data.file_rows == (2, 3)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl"])
def test_files_with_columns_of_other_names(tmp_path, suffix):
    tables = {
        "q": pl.DataFrame({"qid": ["1", "2"], "question": ["what purrs", "what barks"]}),
        "c": pl.DataFrame({"key": ["10", "007", "7"], "body": ["purr", "dogs bark", "birds sing"]}),
        "p": pl.DataFrame({"q": ["1", "2"], "d": ["10", "007"]}),
    }
    for name, table in tables.items():
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "parquet":
            table.write_parquet(path)
        elif suffix == "jsonl":
            table.write_ndjson(path)
        else:
            table.write_csv(path, separator="," if suffix == "csv" else "\t")
    paths = [tmp_path / f"{name}.{suffix}" for name in "qcp"]
    data = read_retrieval(Files(*paths, ("qid", "question"), ("key", "body"), ("q", "d")))
    assert data.documents == ["purr", "dogs bark", "birds sing"] and data.positives.values.tolist() == [0, 1]


def test_ids_are_text(beir):
    data = beir(corpus=[{"_id": 10, "text": "a"}, *CORPUS[1:]])
    assert data.positives.values.tolist() == [0, 1]  # "007" is not 7


def test_quoted_texts_of_csv_hold_line_ends(tmp_path):
    (tmp_path / "c.csv").write_text('id,text\n1,"one\ntwo, three"\n2,' + "long " * 40_000 + "\n")
    (tmp_path / "q.csv").write_text("id,text\n1,x\n")
    (tmp_path / "p.csv").write_text("query-id,corpus-id\n1,1\n")
    data = read_retrieval(Files(*(tmp_path / f"{name}.csv" for name in "qcp")))
    assert data.documents[0] == "one\ntwo, three" and len(data.documents[1]) == 199_999


def test_queries_without_positives_are_left_out_and_said(beir):
    data = beir(queries=[{"_id": "0", "text": "nobody knows"}, *QUERIES])
    assert data.queries == ["what purrs", "what barks"] and data.query_rows.tolist() == [1, 2]
    assert data.notes == ("1 query without a positive left out",)


def test_scores_of_zero_are_no_positives(beir):
    data = beir(qrels=QRELS + "1\t7\t0\n")
    assert data.positives.values.tolist() == [0, 1]
    assert data.notes == ("train.tsv: 1 pair without a score above 0 left out",)


def test_empty_texts_are_left_out_and_said(beir):
    data = beir(corpus=[{"_id": "5", "title": " ", "text": None}, *CORPUS], qrels=QRELS + "1\t5\t1\n")
    assert data.document_rows.tolist() == [1, 2, 3] and data.positives.values.tolist() == [0, 1]
    assert data.notes == ("corpus.jsonl: 1 empty text left out", "train.tsv: 1 pair with an empty text left out")


def test_repeats_are_merged_and_said(beir):
    data = beir(corpus=[*CORPUS, CORPUS[0]], qrels=QRELS + "1\t10\t1\n")
    assert len(data.documents) == 3 and data.positives.values.tolist() == [0, 1]
    assert data.notes[0] == "corpus.jsonl: 1 repeated line merged"
    assert data.notes[1].startswith("train.tsv: 1 pair that stood before")


def test_documents_of_one_text_are_one(beir):
    corpus = [*CORPUS, {"_id": "copy", "text": "dogs bark"}]
    data = beir(corpus=corpus, qrels=QRELS + "1\tcopy\t1\n")
    assert len(data.documents) == 3 and data.positives.values.tolist() == [0, 1, 1]
    assert data.notes == ("corpus.jsonl: 1 document with the text of an earlier one merged into it",)
    kept = beir(corpus=corpus, qrels=QRELS + "1\tcopy\t1\n", drop_same_text=False)
    assert len(kept.documents) == 4 and kept.positives.values.tolist() == [0, 3, 1] and kept.notes == ()


def test_queries_of_one_text_are_one(beir):
    queries = [*QUERIES, {"_id": "3", "text": "what purrs"}]
    data = beir(queries=queries, qrels=QRELS + "3\t7\t1\n")
    assert data.queries == ["what purrs", "what barks"]
    assert data.positives.offsets.tolist() == [0, 2, 3] and data.positives.values.tolist() == [0, 2, 1]
    assert data.notes == ("queries.jsonl: 1 query with the text of an earlier one merged into it",)
    assert len(beir(queries=queries, qrels=QRELS + "3\t7\t1\n", drop_same_text=False).queries) == 3


def test_documents_with_the_query_own_text_are_excluded(beir):
    corpus = [*CORPUS, {"_id": "q", "text": "what purrs"}]
    data = beir(corpus=corpus)
    assert data.excluded.offsets.tolist() == [0, 1, 1] and data.excluded.values.tolist() == [3]
    assert data.notes == ("1 document with a query's own text excluded for that query",)
    assert beir(corpus=corpus, drop_same_text=False).excluded.values.numel() == 0
    assert beir(corpus=corpus, qrels=QRELS + "1\tq\t1\n").excluded.values.numel() == 0


def test_unknown_ids_are_an_error_or_counted(beir):
    qrels = QRELS + "1\tno\t1\n9\t10\t1\n9\tno\t1\n"
    with pytest.raises(DataError) as caught:
        beir(qrels=qrels)
    said = str(caught.value)
    assert "1 query ('9') and 1 document ('no') are not, in 3 pairs" in said and "--unknown drop" in said
    data = beir(qrels=qrels, unknown="drop")
    assert data.positives.values.tolist() == [0, 1]
    assert data.notes == ("train.tsv: 3 pairs with 1 query ('9') and 1 document ('no') unknown left out",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"corpus": jsonl(CORPUS[:1]) + "{oops\n"}, "corpus.jsonl, line 2: the line must be a JSON object"),
        ({"corpus": jsonl(CORPUS[:1]) + "\n[1]\n"}, "corpus.jsonl, line 3: the line must be a JSON object: got list"),
        (
            {"corpus": [{"id_": "1", "text": "a"}]},
            "line 1: the column '_id' must be there: there are 'id_', 'text'. Name",
        ),
        ({"queries": [{"_id": "1"}]}, "queries.jsonl, line 1: the column 'text' must be there"),
        ({"queries": [{"_id": 1.5, "text": "a"}]}, "the query's id must be text or a whole number: got 1.5."),
        ({"queries": [{"_id": " ", "text": "a"}]}, "the query's id must be text or a whole number: got ' '."),
        ({"corpus": [{"_id": "1", "text": ["a"]}]}, "corpus.jsonl, line 1: a text must be text: got ['a']."),
        ({"corpus": [*CORPUS, {"_id": "7", "text": "b"}]}, "corpus.jsonl, line 4: ids must differ: '7' stood before"),
        ({"qrels": QRELS + "1\t10\n"}, "train.tsv, line 4: each line must have the 3 fields of the header: got 2."),
        (
            {"qrels": QRELS + "\n"},
            "train.tsv, line 4: each line must have the 3 fields of the header: the line is blank.",
        ),
        ({"qrels": QRELS + "1\t7\tmany\n"}, "train.tsv, line 4: a score must be a finite number: got 'many'."),
        ({"qrels": "1\t10\t2\n2\t10\t1\n"}, "train.tsv, line 2: the column 'query-id' must be there"),
        ({"qrels": QRELS.replace("1\n", "0\n").replace("2\n", "0\n")}, "at least one query must have a positive"),
        ({"corpus": ""}, "corpus.jsonl: there must be at least one document with a text: there is none."),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_what_is_wrong_is_said_with_its_place(beir, change, says):
    with pytest.raises(DataError) as caught:
        beir(**change)
    assert says in str(caught.value)


def test_bytes_that_are_not_utf8(beir, tmp_path):
    beir()
    (tmp_path / "corpus.jsonl").write_bytes(jsonl(CORPUS[:1]).encode() + b'{"_id": "2", "text": "\xff"}\n')
    with pytest.raises(DataError, match=r"corpus.jsonl, line 2: the file must be UTF-8: got the byte 0xff"):
        read_retrieval(Files.beir(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("c.txt", "x", "the suffix must tell the format: '.txt'"),
        ("c.csv", 'id,text\n1,"open\n', "c.csv, line 2: the line must be valid CSV"),
        ("c.csv", "id,id\n1,2\n", "c.csv, line 1: column names must differ"),
        ("c.parquet", "no", "the file must be readable as Parquet"),
    ],
    ids=["suffix", "quote", "names", "parquet"],
)
def test_files_that_are_wrong(tmp_path, name, content, says):
    (tmp_path / "q.jsonl").write_text(jsonl(QUERIES))
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=says):
        read_retrieval(Files(tmp_path / "q.jsonl", tmp_path / name, tmp_path / "p.tsv"))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"queries.jsonl: there is no such file"):
        read_retrieval(Files.beir(tmp_path))


@pytest.mark.parametrize("columns", [("a",), ("a", "b", "c"), ("a", "")], ids=["one", "three", "empty"])
def test_columns_that_are_wrong(tmp_path, columns):
    with pytest.raises(ConfigError, match="--query-columns must be two names, separated by commas"):
        read_retrieval(Files(tmp_path / "q.csv", tmp_path / "c.csv", tmp_path / "p.csv", query_columns=columns))
