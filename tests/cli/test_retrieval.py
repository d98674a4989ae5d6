"""Retrieval as a person meets it."""

import json

import polars as pl
import pytest

SMALL = ["--task", "retrieval", "--model", "bag_of_words", "--model.dim", "16", "--model.buckets", "512"]
SMALL += ["--training.epochs", "2", "--training.watch_every", "0"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from rankwell.data.synthetic_texts import synthesise_texts, write_beir

    folder = tmp_path_factory.mktemp("texts")
    write_beir(folder, dict(zip(("train", "dev", "test"), synthesise_texts(30, (40, 10, 10), concepts=8), strict=True)))
    return folder


@pytest.fixture
def trained(rankwell, made, tmp_path, no_picture):
    said = rankwell("train", made, *SMALL, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    return tmp_path / "run", said


def test_train_evaluate_and_score(rankwell, trained, made, tmp_path):
    folder, said = trained
    assert all(word in said.out for word in ("bag_of_words, info_nce", "bm25", "before training", "10 test queries"))
    again = rankwell("evaluate", folder, "--measures", "ndcg@10,recall@5")
    first, second = (
        next(line for line in each.out.splitlines() if line.startswith("bag_of_words")) for each in (said, again)
    )
    assert second.split()[1] == first.split()[2]
    (tmp_path / "new.jsonl").write_text(
        "".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in (("007", "bada"), ("7", "zuzu")))
    )
    for name in ("out.run", "out.parquet"):
        heard = rankwell("score", folder, tmp_path / "new.jsonl", "-o", tmp_path / name)
        assert heard.code == 0 and "60 documents of 2 queries" in heard.out, heard.err
    rows = [line.split() for line in (tmp_path / "out.run").read_text().splitlines()]
    assert [row[0] for row in rows] == ["007"] * 30 + ["7"] * 30 and {row[1] for row in rows} == {"Q0"}
    assert [int(row[3]) for row in rows] == [*range(1, 31)] * 2 and len({row[2] for row in rows}) == 30
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table["document"].to_list() == [row[2] for row in rows]
    assert table["score"].to_list()[:30] == sorted(table["score"].to_list()[:30], reverse=True)


def test_trec_eval_finds_what_the_report_says(rankwell, trained, made, tmp_path):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    folder, _ = trained
    rankwell("score", folder, made / "queries.jsonl", "-o", tmp_path / "out.run")
    rows = [line.split("\t") for line in (made / "qrels" / "test.tsv").read_text().splitlines()[1:]]
    qrels = {query: {d: int(grade) for q, d, grade in rows if q == query} for query, _, _ in rows}
    with (tmp_path / "out.run").open() as file:
        found = pytrec_eval.RelevanceEvaluator(qrels, {"map"}).evaluate(pytrec_eval.parse_run(file))
    means = sum(each["map"] for each in found.values()) / len(found)
    report = json.loads((folder / "metrics.json").read_text())
    assert len(found) == report["users"] and means == pytest.approx(report["test"]["ap"], abs=1e-4)


def test_data_a_dry_run_and_generated_files(rankwell, made, tmp_path):
    said = rankwell("data", made, "--task", "retrieval")
    assert said.code == 0 and "words of a document" in said.out and "training" in said.out
    planned = rankwell("train", made, *SMALL, "--dry-run", "--out", tmp_path / "run")
    assert planned.code == 0 and "30 documents, 50 queries" in planned.out and not (tmp_path / "run").exists()
    written = rankwell("data", tmp_path / "made", "--task", "retrieval", "--generate")
    assert written.code == 0 and (tmp_path / "made" / "qrels" / "dev.tsv").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sampler", "dns"], "dns asks the model"),
        (["--data.negatives", "gone.parquet"], "gone.parquet"),
        (["--data.train", "gone"], "gone.tsv"),
        (["--model.micro_batch", "-1"], "micro_batch must be at least 0"),
        (["--model.pooling", "mean"], "bag_of_words has no such parameter"),
    ],
    ids=["sampler", "negatives", "qrels", "micro batch", "parameter"],
)
def test_what_train_refuses(rankwell, made, tmp_path, options, said):
    heard = rankwell("train", made, *SMALL, *options, "--out", tmp_path / "run").sentence
    assert said in heard and not (tmp_path / "run").exists()
