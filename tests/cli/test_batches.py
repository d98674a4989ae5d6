"""Batches, positives and columns of items from the command line: by name, with their own parameters."""

import json
from pathlib import Path

import pytest

from rankwell.data import BATCHES, read_dataset
from rankwell.samplers import POSITIVES

ONE = ["--model.dim", "4", "--training.batch_size", "64", "--training.epochs", "1", "--training.watch_every", "0"]


@pytest.fixture
def shop(tiny: Path, tmp_path: Path) -> Path:
    """Prices and kinds of the items of the tiny data, and of one that nobody knows."""
    dataset = read_dataset(tiny)
    rows = [
        f"{item},{place + 0.5},{'tea' if place % 3 else 'jam'}" for place, item in enumerate(dataset.train.item_ids)
    ]
    file = tmp_path / "shop.csv"
    file.write_text("\n".join(["item,price,kind", *rows, "nobody's,3,tea"]) + "\n")
    return file


@pytest.mark.parametrize(("command", "registry"), [("batches", BATCHES), ("positives", POSITIVES)])
def test_names_are_listed_and_shown(rankwell, command, registry):
    said = rankwell(command)
    assert said.code == 0
    for entry in registry:
        assert entry.name in said.out
        shown = rankwell(command, entry.name)
        assert shown.code == 0 and all(name in shown.out for name in entry.parameters)


def test_a_column_is_a_parameter_where_there_is_something_to_fill(rankwell):
    for words in (["batches", "class_balanced"], ["samplers", "weighted"], ["samplers", "by_group"]):
        assert "\ncolumn " in rankwell(*words).out
    for words in (["batches", "shuffled"], ["samplers", "uniform"], ["positives", "uniform"]):
        assert "\ncolumn " not in rankwell(*words).out


@pytest.mark.parametrize(
    "options",
    [
        ["--batches", "high_loss", "--batches.unbiased", "true", "--batches.pressure", "3"],
        ["--batches", "class_balanced", "--batches.per_class", "8", "--batches.classes", "user"],
        ["--batches", "no_duplicates", "--batches.users", "true", "--sampler", "in_batch"],
        ["--positives", "uniform", "--positives.m", "3", "--loss", "multi_sample_contrastive"],
        ["--positives", "rarity", "--loss", "variational_bpr", "--batches", "high_loss"],
        ["--positives", "hardness", "--positives.candidates", "4", "--sampler", "in_batch", "--loss", "bsl"],
    ],
)
def test_training_with_each(rankwell, tiny, tmp_path, no_picture, options):
    said = rankwell("train", tiny, "--out", tmp_path / "run", *ONE, *options)
    assert said.code == 0, said.err
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in log] == ["select", "refit"]


@pytest.mark.parametrize(
    "options",
    [
        ["--sampler", "weighted", "--sampler.column", "price"],
        ["--sampler", "by_group", "--sampler.column", "kind"],
        ["--batches", "class_balanced", "--batches.column", "kind", "--batches.per_class", "32"],
    ],
)
def test_training_with_columns_of_items(rankwell, tiny, shop, tmp_path, no_picture, options):
    said = rankwell("train", tiny, "--out", tmp_path / "run", *ONE, "--data.items", shop, *options)
    assert said.code == 0, said.err
    assert "1 of its" in said.err and "have no interaction and are left out" in said.err
    assert len(json.loads((tmp_path / "run" / "run.json").read_text())["data"]["columns"]) == 16


def test_the_data_show_the_columns(rankwell, tiny, shop):
    said = rankwell("data", tiny, "--data.items", shop)
    items = read_dataset(tiny).train.num_items
    assert said.code == 0
    assert f"numbers, 0.5 to {items - 0.5}" in said.out and "text, 2 values" in said.out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--batches", "shufled"], "unknown batch 'shufled'. Did you mean 'shuffled'?"),
        (["--batches.size", "3"], "options: batches.size: shuffled has no such parameter."),
        (["--batches", "high_loss", "--batches.column", "x"], "high_loss has no such parameter."),
        (["--positives", "unifrom"], "unknown positive 'unifrom'. Did you mean 'uniform'?"),
        (["--positives", "uniform", "--positives.m", "0"], "m must be a whole number of at least 1: got 0."),
        (["--batches", "class_balanced", "--batches.column", "kind"], "give their file, --data.items FILE."),
        (["--data.items_id", "code"], "give the file, --data.items FILE."),
        (["--data.items", "nowhere.csv"], "nowhere.csv: there is no such file."),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(rankwell, tiny, tmp_path, options, sentence):
    assert sentence in rankwell("train", tiny, "--out", tmp_path / "run", *options).sentence


def test_a_column_of_the_wrong_sort(rankwell, tiny, shop, tmp_path):
    options = ["--data.items", shop, "--sampler", "weighted", "--sampler.column"]
    assert "has 'jam'. Correct it" in rankwell("train", tiny, "--out", tmp_path / "run", *options, "kind").err
    assert "Did you mean 'price'?" in rankwell("train", tiny, "--out", tmp_path / "run", *options, "prize").err
    assert not (tmp_path / "run").exists()
