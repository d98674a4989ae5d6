"""Choices that do not go together are refused before data are read, by a dry run as by the run."""

import pytest

NEUMF = "and model neumf has none. Choose one that has some (lightgcn, mf, simplex, two_tower, ultragcn), or"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--model neumf --loss info_nce", f"loss info_nce compares vectors, {NEUMF} a loss of scores."),
        (
            "--model neumf --generator mixgcf",
            f"generator mixgcf makes negatives of vectors, {NEUMF} leave the generator out.",
        ),
        (
            "--loss hierarchical",
            "loss hierarchical needs groups, which interactions do not tell: give a file of items and name its column,"
            " --data.items FILE --loss.column NAME.",
        ),
        (
            "--loss hierarchical --loss.column kind",
            "loss.column names a column of items: give their file, --data.items FILE.",
        ),
        ("--sampler by_group", "sampler by_group needs item_groups, which interactions do not tell: give a file"),
        ("--sampler by_group --sampler.column kind", "sampler.column names a column of items: give their file"),
        ("--batches class_balanced --batches.column kind", "batches.column names a column of items: give their file"),
        ("--loss info_nce --positives uniform", "positives uniform: info_nce takes one a row, the row's own."),
        ("--loss info_nce --batches high_loss", "batches high_loss learn from the loss of each row"),
        ("--loss margin_mse", "loss margin_mse needs teacher, which interactions do not tell. Choose another loss."),
        ("--loss soft_info_nce", "loss soft_info_nce needs similarities, which interactions do not tell."),
        (
            "--loss irgan_generator --generator mixgcf",
            "loss irgan_generator is a game, whose negatives are items: leave",
        ),
        (
            "--generator semantic",
            "generator semantic needs a table of described negatives: make one by 'rankwell describe'",
        ),
        ("--task sequences --loss margin_mse", "loss margin_mse needs teacher, which sequences do not tell."),
        (
            "--task sequences --loss bpr --sampler weighted",
            "sampler weighted needs item_weights, which sequences do not tell.",
        ),
        ("--task ltr --loss hierarchical", "loss hierarchical needs groups, which judged lists do not tell."),
        (
            "--task retrieval --loss bpr --sampler by_group",
            "sampler by_group needs item_groups, which texts do not tell.",
        ),
        ("--task retrieval --positives uniform", "positives uniform: info_nce takes one a row, the row's own."),
        ("--task retrieval --loss margin_mse", "loss margin_mse needs teacher, which texts do not tell."),
        ("--task retrieval --generator semantic", "generator semantic needs described"),
        (
            "--task classes --generator semantic",
            "generator semantic makes negatives of texts, which examples have none of.",
        ),
        (
            "--task classes --loss cross_batch_memory --generator memory",
            "loss cross_batch_memory has a memory of its own and takes no",
        ),
    ],
)
def test_a_dry_run_says_what_the_run_says_and_before_data_are_read(rankwell, tmp_path, options, sentence):
    words = ["train", tmp_path / "none.csv", *options.split()]
    dry = rankwell(*words, "--dry-run").sentence
    assert dry.startswith(f"options: {sentence}")
    assert rankwell(*words, "--out", tmp_path / "run").sentence == dry
    assert not (tmp_path / "run").exists()


def test_what_is_not_trained_asks_for_nothing(rankwell, tiny):
    """A closed form looks at no loss, and a comparison gives all contenders the same one."""
    said = rankwell("train", tiny, "--model", "popularity", "--loss", "hierarchical", "--dry-run")
    assert said.code == 0 and "closed form" in said.out


def test_likeness_of_features_needs_features(rankwell, tiny):
    said = rankwell("train", tiny, "--model", "feature_knn", "--dry-run").sentence
    assert said.startswith("model feature_knn needs features of items: name columns of their file, --data.items FILE")
