"""What is written: the rows of each form, in Parquet and JSON lines, whole or not at all."""

import json

import pyarrow.parquet
import pytest
import torch

from rankwell.errors import ConfigError, DataError
from rankwell.mining import Mined, rows
from rankwell.mining.rows import check_output, rows_of, write_rows

QUERIES, DOCUMENTS = ["q0", "q1"], ["d0", "d1", "d2", "d3"]
MINED = Mined(  # the first query has two positives, of which the second is one negative short; the second has none
    queries=torch.tensor([0, 0, 1]),
    positives=torch.tensor([0, 1, 3]),
    positive_scores=torch.tensor([0.75, 0.5, 1.0]),
    negatives=torch.tensor([[2, 3], [2, -1], [-1, -1]]),
    negative_scores=torch.tensor([[0.5, 0.25], [0.5, -torch.inf], [-torch.inf, -torch.inf]]),
    candidates=4,
    dropped={},
)

TRIPLETS = {"anchor": ["q0", "q0", "q0"], "positive": ["d0", "d0", "d1"], "negative": ["d2", "d3", "d2"]}
TUPLES = {"anchor": ["q0"], "positive": ["d0"], "negative_1": ["d2"], "negative_2": ["d3"]}
PAIRS = {"anchor": ["q0", "q0", "q0", "q0", "q1"], "document": ["d0", "d2", "d3", "d1", "d3"]}
LISTS = {"anchor": ["q0", "q0"], "documents": [["d0", "d2", "d3"], ["d1", "d2"]]}

EXPECTED = {
    ("triplet", False): TRIPLETS,
    ("triplet", True): TRIPLETS | {"scores": [[0.75, 0.5], [0.75, 0.25], [0.5, 0.5]]},
    ("n-tuple", False): TUPLES,
    ("n-tuple", True): TUPLES | {"scores": [[0.75, 0.5, 0.25]]},
    ("labeled-pair", False): PAIRS | {"label": [1, 0, 0, 1, 1]},
    ("labeled-pair", True): PAIRS | {"score": [0.75, 0.5, 0.25, 0.5, 1.0]},
    ("labeled-list", False): LISTS | {"labels": [[1, 0, 0], [1, 0]]},
    ("labeled-list", True): LISTS | {"scores": [[0.75, 0.5, 0.25], [0.5, 0.5]]},
}
each_form = pytest.mark.parametrize(("form", "scores"), EXPECTED, ids=lambda value: str(value))


@each_form
def test_rows_by_hand(form, scores):
    assert rows_of(MINED, QUERIES, DOCUMENTS, form, scores=scores) == EXPECTED[form, scores]


@each_form
def test_both_kinds_of_files_hold_the_rows(tmp_path, monkeypatch, form, scores):
    monkeypatch.setattr(rows, "GROUP", 2)
    table = EXPECTED[form, scores]
    number = len(table["anchor"])
    for name in ("a.parquet", "a.jsonl"):
        assert write_rows(tmp_path / name, iter([table, table])) == 2 * number
    expected = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)] * 2
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == expected
    file = pyarrow.parquet.ParquetFile(tmp_path / "a.parquet")
    assert file.read().to_pylist() == expected
    assert file.metadata.num_row_groups == 2 * -(-number // 2)  # written as they came


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_an_error_on_the_way_leaves_what_was_there(tmp_path, name):
    (tmp_path / name).write_text("before")

    def tables():
        yield TRIPLETS
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(tmp_path / name, tables())
    assert [file.name for file in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "before"


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
@pytest.mark.parametrize("tables", [[], [{"anchor": [], "positive": [], "negative": []}]], ids=["none", "empty"])
def test_nothing_found_writes_nothing(tmp_path, name, tables):
    with pytest.raises(DataError, match="no negatives were found: nothing was written"):
        write_rows(tmp_path / name, tables)
    assert list(tmp_path.iterdir()) == []


def test_texts_are_written_as_they_are(tmp_path):
    odd = 'a\n"b"\u2028ü🐈'
    table = {"anchor": [odd], "positive": ["p"], "negative": ["n"]}
    for name in ("a.parquet", "a.jsonl"):
        write_rows(tmp_path / name, [table])
    assert json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8"))["anchor"] == odd
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet")["anchor"].to_pylist() == [odd]


@pytest.mark.parametrize(
    ("name", "says"),
    [("a.csv", "--output must end in .parquet or .jsonl: got"), ("folder.jsonl", "--output must be a file")],
    ids=["suffix", "folder"],
)
def test_outputs_that_are_wrong(tmp_path, name, says):
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ConfigError, match=says):
        check_output(tmp_path / name)
