"""Generators from the command line: by name, with their own parameters."""

import pytest

from rankwell.generators import GENERATORS


def test_generators_are_listed_and_shown(rankwell):
    said = rankwell("generators")
    assert said.code == 0
    for entry in GENERATORS:
        assert entry.name in said.out
    shown = rankwell("generators", "hard_mixing")
    assert "most_query" in shown.out and "0.05 … 0.5" in shown.out and "kalantidis2020" in shown.out
    assert "item_views" not in rankwell("generators", "esans").out.rpartition("parameter")[2]  # data, not an option


def test_a_generators_own_parameters_are_options(rankwell, tiny):
    said = rankwell("train", tiny, "--dry-run", "--generator", "hard_mixing", "--generator.pairs", "5")
    assert said.code == 0
    assert 'name = "hard_mixing"' in said.out and "pairs = 5" in said.out and "with_query = 32" in said.out


def test_the_plan_counts_what_is_made(rankwell, tiny):
    """Vectors of five pairs for each row of a batch, and 1,000 that all rows share."""
    options = ["--training.batch_size", "100000", "--model.dim", "50", "--sampler.n", "1"]
    plain, mixed, memory = (
        rankwell("train", tiny, "--dry-run", *options, *more).out
        for more in (
            [],
            ["--generator", "hard_mixing", "--generator.pairs", "5", "--generator.with_query", "0"],
            ["--generator", "memory", "--generator.size", "1000"],
        )
    )
    assert "made vectors" not in plain
    assert f"made vectors {4 * 6 * 100_000 * 5 * (50 + 1) / 1e6:,.0f}" in mixed
    assert f"made vectors {4 * 6 * (1_000 * 50 + 100_000 * 1_000) / 1e6:,.0f}" in memory


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--generator", "mixgfc"], "unknown generator 'mixgfc'. Did you mean 'mixgcf'?"),
        (["--generator.k", "3"], "generator.k: the generator is none. Name one: --generator NAME."),
        (["--generator", "mixgcf", "--generator.kk", "1"], "mixgcf has no such parameter. Did you mean 'k'?"),
        (["--generator", "mixgcf", "--generator.k", "0"], "k must be a whole number of at least 1: got 0."),
        (
            ["--generator", "mixgcf", "--generator.k", "9", "--sampler.n", "8"],
            "mixgcf makes k = 9 negatives of at least as many candidates: got 8. Sample more.",
        ),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(rankwell, tiny, tmp_path, options, sentence):
    assert sentence in rankwell("train", tiny, "--out", tmp_path / "run", *options).sentence


@pytest.mark.parametrize(
    "own", [[], ["--sampler.shared", "false"], ["--model.similarity", "dot"]], ids=["pool", "rows", "dot"]
)
@pytest.mark.parametrize("name", GENERATORS.names("vectors"))
def test_training_with_each(rankwell, tiny, tmp_path, no_picture, name, own):
    said = rankwell(
        "train", tiny, "--out", tmp_path / "run", "--loss", "sampled_softmax", "--model.dim", "4", "--training.epochs", "2",
        "--training.batch_size", "64", "--sampler.n", "16", "--generator", name, *own,
    )  # fmt: skip
    assert said.code == 0, said.err
