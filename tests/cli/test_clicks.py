"""Clicks as a person simulates them and trains on them."""

import polars as pl
import pytest

LINES = "".join(f"{n % 3} qid:{n // 5} 1:{n % 3 / 2} 2:{n % 7}\n" for n in range(100))
SMALL = ["--task", "ltr", "--model.widths", "8", "--training.epochs", "3", "--training.learning_rate", "0.05"]


@pytest.fixture
def lists(tmp_path):
    file = tmp_path / "lists.txt"
    file.write_text(LINES)
    return file


def test_clicks_are_written_and_trained_on(rankwell, lists, tmp_path, no_picture):
    out = tmp_path / "clicks.parquet"
    said = rankwell("clicks", lists, "-o", out, "--sessions", 500, "--production", 0.1)
    assert said.code == 0 and said.out == f"100 documents of 20 lists: {out}\n"
    assert "500 of 20 queries" in said.err and f"train {out} --task ltr --data.weight weight" in said.err
    table = pl.read_parquet(out)
    assert table.columns == ["query", "label", "weight", "0", "1", "2"]
    assert set(table["weight"].round(3)) <= {1.0, 2.0, 3.0, 4.0, 5.0} and table["label"].sum() > 1
    (tmp_path / "valid.txt").write_text(LINES.replace("qid:", "qid:9"))
    judged = ["--data.valid", tmp_path / "valid.txt", "--data.test", tmp_path / "valid.txt"]
    trained = rankwell("train", out, *SMALL, "--data.weight", "weight", *judged, "--out", tmp_path / "run")
    assert trained.code == 0, trained.err
    assert "20 test queries" in trained.out
    naive = rankwell("train", out, *SMALL, "--data.ignore", "weight", *judged, "--dry-run")
    assert naive.code == 0, naive.err
    forgotten = rankwell("train", out, *SMALL, *judged, "--dry-run")
    assert "'weight' is not among both" in forgotten.sentence


def test_the_same_seed_writes_the_same_bytes_and_sessions_are_lists(rankwell, lists, tmp_path):
    files = [tmp_path / f"{name}.parquet" for name in "abc"]
    more = ["--model", "cascade", "--continuation", 0, "--sessions", 50, "--per", "session", "--propensity", "none"]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        assert rankwell("clicks", lists, "-o", file, *more, "--seed", seed).code == 0
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()
    table = pl.read_parquet(files[0])
    assert table["query"].n_unique() == 50 and table["weight"].unique().to_list() == [1]
    assert table.group_by("query").agg(pl.col("label").sum())["label"].max() == 1  # the first click ends the session
    assert table["query"].str.contains(r"^\d+#\d+$").all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "a.csv"], "--output must end in .parquet"),
        (["--eta", "-1"], "eta must be"),
        (["--model", "cascade", "--continuation", "2"], "continuation must be in [0, 1]"),
        (["--noise", "1"], "noise must be in [0, 1)"),
        (["--production", "0"], "share of queries must be in (0, 1]"),
        (["--clip", "2"], "clip must be in [0, 1]"),
        (["--shuffled", "2"], "shuffled in [0, 1]"),
        (["--propensity", "estimated", "--sessions", "50"], "Simulate more sessions"),
        (["--format", "xml"], "xml"),
        (["--model", "mine"], "mine"),
    ],
    ids=["output", "eta", "continuation", "noise", "production", "clip", "shuffled", "estimated", "format", "model"],
)
def test_what_is_refused(rankwell, lists, tmp_path, options, said):
    given = options if "-o" in options else [*options, "-o", tmp_path / "out.parquet"]
    assert said in rankwell("clicks", lists, *given).sentence
    assert not (tmp_path / "out.parquet").exists()


def test_lists_without_anything_relevant(rankwell, tmp_path):
    (tmp_path / "none.txt").write_text("0 qid:1 1:1\n0 qid:1 1:2\n")
    said = rankwell("clicks", tmp_path / "none.txt", "-o", tmp_path / "out.parquet")
    assert "a query with a relevant document: there is none" in said.sentence
