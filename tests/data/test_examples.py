"""Examples with classes: files, and what generated ones are made of."""

import numpy as np
import polars as pl
import pytest
import torch

from rankwell.data.batching import BATCHES, ExampleBatches
from rankwell.data.example_files import read_examples
from rankwell.data.examples import Examples, joined_examples, like, synthesise_examples
from rankwell.errors import ConfigError, DataError


def saved(folder, **arrays):
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def test_images_get_their_channels_first(tmp_path):
    grey = read_examples(
        saved(tmp_path, images=np.arange(24).reshape(2, 3, 4).astype(np.uint8), labels=np.array([7, 3]))
    )
    assert grey.shape == (1, 3, 4) and grey.features[1, 0, 0].tolist() == [12, 13, 14, 15]
    assert grey.class_ids.to_list() == ["3", "7"] and grey.classes.tolist() == [1, 0] and grey.rows.tolist() == [1, 2]
    images = np.random.default_rng(0).random((2, 3, 4, 3))
    colour = read_examples(saved(tmp_path, images=images, labels=np.array(["cat", "dog"])))
    assert np.allclose(colour.features[1, 2], images[1, :, :, 2]) and colour.class_ids.to_list() == ["cat", "dog"]


def test_features_of_arrays_and_of_tables_are_the_same(tmp_path):
    features, labels = np.random.default_rng(0).random((4, 2)).astype(np.float32), np.array(["a", "b", "b", "007"])
    of_arrays = read_examples(saved(tmp_path, features=features, labels=labels))
    table = pl.DataFrame({"x": features[:, 0], "kind": labels, "y": features[:, 1], "note": ["."] * 4})
    table.write_parquet(tmp_path / "a.parquet")
    table.write_csv(tmp_path / "a.csv", float_precision=9)
    for name in ("a.parquet", "a.csv"):
        found = read_examples(tmp_path / name, label="kind", ignore=["note"])
        assert np.array_equal(found.features, features) and found.names == ("x", "y")
        assert found.class_ids.to_list() == of_arrays.class_ids.to_list() == ["007", "a", "b"]
        assert np.array_equal(found.classes, of_arrays.classes)
    assert read_examples(saved(tmp_path, features=features), labelled=False).class_ids.to_list() == [""]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"features": np.ones((2, 2))}, "must hold the array images or the array features, and labels: it holds features"),
        ({"labels": np.ones(2)}, "it holds labels"),
        ({"features": np.ones((2, 2)), "images": np.ones((2, 2, 2)), "labels": np.ones(2)}, "must hold the array images or"),
        ({"features": np.ones((2, 2)), "labels": np.array([1, 2, 3])}, r"one whole number or text an example, \(2,\)"),
        ({"features": np.ones((2, 2)), "labels": np.array([1.0, np.nan])}, "one whole number or text an example"),
        ({"features": np.array([[1, np.nan]]), "labels": np.array([1])}, "example 1: features must be finite numbers"),
        ({"features": np.ones((2, 2, 2)), "labels": np.ones(2, int)}, r"must be \[examples, features\]: got \(2, 2, 2\)"),
        ({"images": np.ones((2, 3, 8, 8)), "labels": np.ones(2, int)}, "with at most 4 channels"),
        ({"features": np.array([["x"]]), "labels": np.array([1])}, "features must be numbers: got <U1"),
        ({"features": np.ones((0, 2)), "labels": np.ones(0, int)}, "there must be an example"),
        # Widths that differ make an array of objects, which would have to be unpickled.
        ({"features": np.array([[1], [1, 2]], dtype=object), "labels": np.array([1, 2])}, "arrays of numbers of one shape"),
    ],
)  # fmt: skip
def test_what_is_no_array_of_examples(tmp_path, arrays, said):
    with pytest.raises(DataError, match=said):
        read_examples(saved(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label,x\na,1\nb,nan\n", "a.csv, line 3: column 'x' must hold finite numbers"),
        ("label,x\na,1\n,2\n", "a.csv, line 3: column 'label' must name the class: it is empty"),
        ("label,x,y\na,1,2\nb,1\n", "a.csv, line 3: column 'y' must hold finite numbers"),
        ("label,x\na,1\nb,1,2\n", "a.csv: the file must be readable as csv"),
        ("kind,x\na,1\n", "there is no column 'label': there are kind, x"),
        ("label\na\n", "there is no column of features"),
    ],
)
def test_what_is_no_table_of_examples(tmp_path, text, said):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_examples(tmp_path / "a.csv")


def test_what_is_no_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_examples(tmp_path / "gone.npz")
    (tmp_path / "a.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"must be readable as \.npz"):
        read_examples(tmp_path / "a.npz")
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(DataError, match="must hold several arrays by name"):
        read_examples(tmp_path / "one.npy")


def test_other_sizes_and_columns_are_refused():
    def of(features, names=()):
        return Examples(
            features.astype(np.float32),
            np.zeros(len(features), np.int64),
            pl.Series(["a"]),
            np.arange(len(features)),
            names,
        )

    image, table = of(np.ones((2, 1, 8, 8))), of(np.array([[1.0, 2.0]]), ("x", "y"))
    assert like(image, (1, 8, 8), (), "new") is image
    with pytest.raises(DataError, match=r"trained on, \(1, 9, 8\): got images of 8 x 8"):
        like(image, (1, 9, 8), (), "new")
    with pytest.raises(DataError, match=r"\(3,\): got 2 features"):
        like(of(np.ones((1, 2))), (3,), (), "new")
    assert like(table, (2,), ("y", "x"), "new").features.tolist() == [[2.0, 1.0]]
    with pytest.raises(DataError, match="'x' is not among both"):
        like(table, (2,), ("y", "z"), "new")


def test_generated_classes_lie_apart_where_the_truth_says_so():
    made = synthesise_examples(num_classes=10, per_class=50, spread=8.0, seed=1)
    features, classes = made.examples.tensors()
    useful = features @ made.truth
    means = torch.stack([useful[classes == code].mean(0) for code in range(10)])
    within = (useful - means[classes]).square().sum(-1).mean()
    assert within.item() == pytest.approx(6, rel=0.1)  # six directions, of variance one
    assert torch.cdist(means, means)[~torch.eye(10, dtype=torch.bool)].min() > 6
    assert (features.square().sum(-1) - useful.square().sum(-1)).mean().item() == pytest.approx(26 * 9, rel=0.1)
    with pytest.raises(ConfigError, match="need 4 classes of 2 examples"):
        synthesise_examples(num_classes=3)


def test_parts_and_fingerprints():
    whole = synthesise_examples(num_classes=4, per_class=3).examples
    first, second = whole.take(np.array([3, 1])), whole.take(np.array([0]))
    both = joined_examples([first, second])
    assert both.rows.tolist() == [4, 2, 1] and both.classes.tolist() == [1, 0, 0]
    assert (
        both.fingerprint()
        == whole.take(np.array([3, 1, 0])).fingerprint()
        != whole.take(np.array([1, 3, 0])).fingerprint()
    )
    assert dict(both.described())["classes of one example"] == "1"


def test_examples_come_as_their_pairs_do():
    classes = torch.arange(30) % 5
    pairs = BATCHES["class_balanced"].function((torch.arange(30), classes), 6, seed=3, per_class=3)
    features = torch.rand(30, 2)
    batches = ExampleBatches(features, pairs)
    assert len(batches) == 30 and batches.steps(0) == 5
    for batch, pair in zip(batches.of_epoch(2, 1), pairs.of_epoch(2, 1), strict=True):
        assert batch.index.equal(pair.users) and batch.classes.equal(pair.items)
        assert batch.features.equal(features[pair.index])
