"""Losses of embeddings from the command line."""

import pytest

from rankwell.losses import LOSSES


@pytest.mark.parametrize("name", LOSSES.names("embedding"))
def test_each_trains(rankwell, tiny, tmp_path, no_picture, name):
    said = rankwell(
        "train", tiny, "--out", tmp_path / "run", "--loss", name, "--model.dim", "4", "--training.epochs", "1",
        "--training.batch_size", "16",
    )  # fmt: skip
    assert said.code == 0, said.err


def test_with_a_memory_and_resumed(rankwell, tiny, tmp_path, no_picture):
    run = tmp_path / "run"
    options = ["--loss", "info_nce", "--generator", "memory", "--generator.size", "50", "--training.epochs", "2"]
    said = rankwell("train", tiny, "--out", run, *options)
    assert said.code == 0, said.err
    (run / "metrics.json").unlink()
    again = rankwell("train", "--resume", run)
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--sampler", "popularity"], "whose negatives are the batch's other items. Leave the sampler out."),
        (["--sampler.n", "8"], "whose negatives are the batch's other items. Leave the sampler out."),
        (["--positives", "uniform"], "info_nce takes one a row, the row's own. Leave the positives out."),
        (["--batches", "high_loss"], "batches high_loss learn from the loss of each row"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(rankwell, tiny, tmp_path, options, sentence):
    said = rankwell("train", tiny, "--out", tmp_path / "run", "--loss", "info_nce", *options)
    assert sentence in said.sentence
