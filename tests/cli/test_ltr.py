"""Learning to rank as a person meets it."""

import polars as pl
import pytest

LINES = "".join(f"{n % 3} qid:{n // 5} 1:{n % 3 / 2} 2:{n % 7} #docid = d{n}\n" for n in range(100))
SMALL = ["--task", "ltr", "--model.widths", "8", "--training.epochs", "3", "--training.learning_rate", "0.05"]


@pytest.fixture
def lists(tmp_path):
    file = tmp_path / "lists.txt"
    file.write_text(LINES)
    return file


@pytest.fixture
def trained(rankwell, lists, tmp_path, no_picture):
    said = rankwell("train", lists, *SMALL, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    return tmp_path / "run", said


def test_train_and_evaluate(rankwell, trained):
    folder, said = trained
    assert "mlp, softmax" in said.out and "best feature" in said.out and "4 test queries" in said.out
    again = rankwell("evaluate", folder, "--measures", "ndcg@10,mrr")
    first, second = (next(line for line in each.out.splitlines() if line.startswith("mlp")) for each in (said, again))
    assert second.split()[1] == first.split()[2]  # the name of a loss is a word more
    assert "recommend" in rankwell("recommend", folder, "--all").sentence


def test_data_and_a_dry_run(rankwell, lists, tmp_path):
    said = rankwell("data", lists, "--task", "ltr")
    assert said.code == 0 and "documents of a query" in said.out and "training" in said.out
    planned = rankwell("train", lists, *SMALL, "--dry-run", "--out", tmp_path / "run")
    assert planned.code == 0 and "20" not in planned.err and "16 queries, 80 documents" in planned.out
    assert not (tmp_path / "run").exists()
    made = rankwell("data", tmp_path / "made", "--task", "ltr", "--generate")
    assert made.code == 0 and (tmp_path / "made" / "valid.parquet").exists()


def test_score_writes_a_run_file(rankwell, trained, lists, tmp_path):
    folder, _ = trained
    said = rankwell("score", folder, lists, "-o", tmp_path / "out.tsv", "--tag", "mine")
    assert said.code == 0 and "100 documents of 20 queries" in said.out
    rows = [line.split(" ") for line in (tmp_path / "out.tsv").read_text().splitlines()]
    assert {row[1] for row in rows} == {"Q0"} and {row[5] for row in rows} == {"mine"}
    assert [int(row[3]) for row in rows] == [1, 2, 3, 4, 5] * 20
    assert sorted(row[2] for row in rows) == sorted(f"d{n}" for n in range(100))
    for query in range(20):
        scores = [float(row[4]) for row in rows if row[0] == str(query)]
        assert scores == sorted(scores, reverse=True)
    assert rankwell("score", folder, lists, "-o", tmp_path / "out.parquet").code == 0
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table["document"].to_list() == [row[2] for row in rows] and table.columns == [
        "query",
        "document",
        "rank",
        "score",
    ]


def test_trec_eval_reads_the_run_file(rankwell, trained, lists, tmp_path):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    folder, _ = trained
    rankwell("score", folder, lists, "-o", tmp_path / "out.run")
    qrels = {str(q): {f"d{n}": n % 3 for n in range(5 * q, 5 * q + 5)} for q in range(20)}
    with (tmp_path / "out.run").open() as file:
        ranked = pytrec_eval.parse_run(file)
    found = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(ranked)
    assert len(found) == 20 and all(0 < each["recip_rank"] <= 1 for each in found.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 qid:1 1:1 2:1 3:1\n", "documents must have the features of the training data: 3 at most, got 4"),
        ("1 qid:1 1:x\n", "new.txt, line 1"),
        ("1 1:1\n", "name its query by qid:"),
    ],
)
def test_what_score_refuses(rankwell, trained, tmp_path, text, said):
    folder, _ = trained
    (tmp_path / "new.txt").write_text(text)
    (tmp_path / "out.tsv").write_text("before")
    assert said in rankwell("score", folder, tmp_path / "new.txt", "-o", tmp_path / "out.tsv").sentence
    assert (tmp_path / "out.tsv").read_text() == "before"


def test_score_needs_an_output_that_it_can_write(rankwell, trained, lists, tmp_path):
    folder, _ = trained
    assert "must end in .parquet" in rankwell("score", folder, lists, "-o", tmp_path / "out.doc").sentence
    assert (
        "'two words' must be one word"
        in rankwell("score", folder, lists, "-o", tmp_path / "a.tsv", "--tag", "two words").sentence
    )
    assert "has no columns" in rankwell("score", folder, lists, "-o", tmp_path / "a.tsv", "--document", "url").sentence
    assert rankwell("score", tmp_path / "gone", lists, "-o", tmp_path / "a.tsv").sentence


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sampler", "uniform"], "task ltr has no sampler. It has model, loss"),
        (["--model", "mf"], "mf is a model of interactions; task ltr has best_feature, lambdamart, mlp"),
        (["--loss", "bpr"], "loss 'bpr' is of kind 'contrast': judged lists take list losses"),
        (["--loss", "margin_mse"], "needs teacher, which judged lists do not tell"),
        (["--data.user", "u"], "unknown key data.user"),
        (["--data.format", "xml"], "data.format"),
        (["--data.test", "gone.txt"], "gone.txt: there is no such file"),
        (["--data.label", "x", "--data.format", "csv"], "there is no column 'query'"),
        (["--model.dropout", "2"], "dropout must be in [0, 1)"),
        (["--data.valid_fraction", "0.99"], "leaves none to train on"),
    ],
)
def test_what_train_refuses(rankwell, lists, tmp_path, options, said):
    heard = rankwell("train", lists, "--task", "ltr", *options, "--out", tmp_path / "run").sentence
    assert said in heard
    assert not (tmp_path / "run").exists()


def test_a_divided_file_names_its_line(rankwell, tmp_path):
    (tmp_path / "a.txt").write_text(LINES + "1 qid:3 1:1\n")
    heard = rankwell("train", tmp_path / "a.txt", *SMALL, "--out", tmp_path / "run").sentence
    assert "a.txt, line 101: the documents of a query must follow each other: query '3' comes again" in heard


def test_validation_without_anything_relevant(rankwell, tmp_path):
    (tmp_path / "train.txt").write_text(LINES)
    (tmp_path / "test.txt").write_text("1 qid:900 1:1\n")
    (tmp_path / "valid.txt").write_text("0 qid:901 1:1\n0 qid:901 1:2\n")
    said = rankwell("train", tmp_path, *SMALL, "--out", tmp_path / "run")
    assert said.code == 2 and "at least one validation query must have a relevant document: none has." in said.err
