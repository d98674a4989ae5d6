"""Metric learning as a person meets it."""

import numpy as np
import polars as pl
import pytest

SMALL = ["--task", "classes", "--model.widths", "8", "--training.epochs", "2", "--training.batch_size", "16"]


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    classes = np.arange(80) // 10
    columns = {f"x{at}": classes + rng.normal(size=80) for at in range(3)}
    pl.DataFrame({"label": [f"c{code}" for code in classes], **columns}).write_csv(tmp_path / "a.csv")
    return tmp_path / "a.csv"


@pytest.fixture
def trained(rankwell, table, tmp_path, no_picture):
    said = rankwell("train", table, *SMALL, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    return tmp_path / "run", said


def test_train_evaluate_and_score(rankwell, trained, table, tmp_path):
    folder, said = trained
    assert "encoder, supervised_contrastive" in said.out and "untrained" in said.out and "20 test examples" in said.out
    again = rankwell("evaluate", folder, "--measures", "hit_rate@1,map@r")
    assert again.code == 0 and "ap_at_r" in again.out
    scored = rankwell("score", folder, table, "-o", tmp_path / "near.parquet")
    assert scored.code == 0, scored.err
    near = pl.read_parquet(tmp_path / "near.parquet")
    assert len(near) == 800 and near.filter(pl.col("rank") == 1)["document"].to_list() == [str(n) for n in range(1, 81)]
    assert "no catalogue to recommend from" in rankwell("recommend", folder, "--all").sentence


def test_data_and_a_dry_run(rankwell, table, tmp_path):
    said = rankwell("data", table, "--task", "classes")
    assert said.code == 0 and "examples of a class" in said.out and "3 features" in said.out
    planned = rankwell("train", table, *SMALL, "--dry-run", "--out", tmp_path / "run")
    assert planned.code == 0 and "60 examples, 6 classes" in planned.out and not (tmp_path / "run").exists()
    made = rankwell("data", tmp_path / "made", "--task", "classes", "--generate")
    assert (tmp_path / "made" / "examples.npz").exists(), made.err


@pytest.mark.parametrize(
    "options",
    [
        ["--loss", "triplet", "--loss.mining", "batch_hard"],
        ["--loss", "n_pair"],
        ["--loss", "loop", "--generator", "loop_negatives", "--generator.k", "2"],
        ["--loss", "cross_batch_memory", "--loss.loss", "multi_similarity", "--loss.size", "32"],
        ["--generator", "memory", "--miner", "hardest", "--miner.k", "3"],
        ["--batches", "shuffled"],
    ],
)
def test_losses_miners_generators_and_batches(rankwell, table, tmp_path, no_picture, options):
    said = rankwell("train", table, *SMALL, *options, "--out", tmp_path / "run")
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--loss", "bpr"], "loss 'bpr' is of kind 'contrast': examples with classes take losses of embeddings"),
        (["--sampler", "uniform"], "task classes has no sampler. It has model, loss, miner, generator, batches"),
        (["--model", "mf"], "mf is a model of interactions; task classes has encoder, raw_features"),
        (["--data.test_classes", "c1,c99"], "there is no class 'c99' to take"),
        (["--data.label", "kind"], "there is no column 'kind'"),
        (["--evaluation.monitor", "recall(rel=4)@20"], "rel must be at most 1"),
        (["--batches.column", "genre"], "batches of examples go by their classes"),
    ],
)
def test_what_train_refuses(rankwell, table, tmp_path, options, said):
    assert said in rankwell("train", table, *SMALL, *options, "--out", tmp_path / "run").sentence
    assert not (tmp_path / "run").exists()


def test_a_fault_names_its_line(rankwell, table, tmp_path):
    (tmp_path / "b.csv").write_text(table.read_text() + "c1,1,2,nan\n")
    heard = rankwell("train", tmp_path / "b.csv", *SMALL, "--out", tmp_path / "run").sentence
    assert "b.csv, line 82: column 'x2' must hold finite numbers" in heard
