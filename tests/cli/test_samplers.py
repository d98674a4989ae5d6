"""Samplers from the command line: by name, with their own parameters."""

import pytest

from rankwell.samplers import SAMPLERS


def test_samplers_are_listed_and_shown(rankwell):
    said = rankwell("samplers")
    assert said.code == 0
    for entry in SAMPLERS:
        assert entry.name in said.out
    shown = rankwell("samplers", "popularity")
    assert "exponent" in shown.out and "0.75" in shown.out and "mikolov2013" in shown.out
    assert "item_weights" not in rankwell("samplers", "weighted").out.rpartition("parameter")[2]  # data, not an option


def test_a_samplers_own_parameters_are_options(rankwell, tiny):
    said = rankwell("train", tiny, "--dry-run", "--sampler", "popularity", "--sampler.exponent", "0.5")
    assert said.code == 0
    assert 'name = "popularity"' in said.out and "exponent = 0.5" in said.out and "smoothing = 1.0" in said.out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--sampler", "populrity"], "unknown sampler 'populrity'. Did you mean 'popularity'?"),
        (
            ["--sampler", "popularity", "--sampler.exponnt", "1"],
            "popularity has no such parameter. Did you mean 'exponent'?",
        ),
        (["--sampler", "in_batch", "--sampler.shared", "false"], "in_batch has no such parameter."),
        (["--sampler", "weighted"], "sampler weighted needs item_weights, which interactions do not tell: give a file"),
        (["--sampler", "by_group"], "and name its column, --data.items FILE --sampler.column NAME."),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(rankwell, tiny, tmp_path, options, sentence):
    assert sentence in rankwell("train", tiny, "--out", tmp_path / "run", *options).sentence


@pytest.mark.parametrize(
    "options",
    [
        ["popularity", "--sampler.n", "8", "--sampler.shared", "false"],
        ["log_uniform", "--sampler.n", "8"],
        ["in_batch", "--sampler.frequencies", "streaming"],
        ["mixed", "--sampler.n", "8"],
        ["dns", "--sampler.candidates", "32"],
        ["dns", "--sampler.form", "softmax", "--sampler.n", "4"],
        ["cached", "--sampler.pick", "softmax"],
        ["genni", "--sampler.candidates", "0"],
    ],
)
def test_training_with_each(rankwell, tiny, tmp_path, no_picture, options):
    said = rankwell(
        "train", tiny, "--out", tmp_path / "run", "--loss", "sampled_softmax", "--model.dim", "4", "--training.epochs", "2",
        "--training.batch_size", "64", "--sampler", *options,
    )  # fmt: skip
    assert said.code == 0, said.err
