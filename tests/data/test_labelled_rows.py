"""Labelled rows in memory, their batches, and generated ones."""

import numpy as np
import polars as pl
import pytest
import torch

from rankwell.data.batching import LabelBatches
from rankwell.data.features import FeatureEncoder
from rankwell.data.labelled_rows import LabelledRows, indicators, synthesise_labelled, take_features
from rankwell.errors import ConfigError, DataError
from rankwell.types import Features, Ragged

LABELS = Ragged(torch.tensor([0, 2, 3, 5]), torch.tensor([0, 2, 1, 1, 2]))
FEATURES = Features(torch.tensor([[1.0], [2.0], [3.0]]), Ragged(torch.tensor([0, 1, 1, 3]), torch.tensor([1, 0, 1])), 2)
DENSE = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]])


def rows(labels=LABELS, ids=("a", "b", "c"), features=FEATURES):
    names = pl.Series(["x", "y", "z"])
    return LabelledRows(
        features, labels, pl.Series(list(ids)), names, FeatureEncoder({"n": 1}, {"c": {"p": 0, "q": 1}})
    )


def test_indicators_and_counts():
    assert indicators(LABELS, 3).equal(DENSE)
    assert rows().counts().tolist() == [1, 2, 2]


def test_rows_taken_keep_their_features_and_labels():
    taken = rows().take(np.array([2, 0]))
    assert taken.ids.to_list() == ["c", "a"]
    assert indicators(taken.labels, 3).equal(DENSE[[2, 0]])
    assert taken.features.numbers.tolist() == [[3.0], [1.0]]
    assert indicators(taken.features.categories, 2).tolist() == [[1, 1], [0, 1]]
    assert take_features(FEATURES, torch.tensor([1])).categories.values.tolist() == []


def test_the_fingerprint_sees_every_part():
    other = [
        rows(ids="abd"),
        rows(labels=LABELS._replace(values=torch.tensor([0, 1, 1, 1, 2]))),
        rows(features=FEATURES._replace(numbers=FEATURES.numbers + 1)),
    ]
    prints = {each.fingerprint() for each in (rows(), *other)}
    assert len(prints) == 4 and rows().fingerprint() in prints


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (Ragged(torch.tensor([0, 2, 2, 5]), LABELS.values), "each row must have a label: 'b' has none"),
        (Ragged(LABELS.offsets, torch.tensor([0, 2, 1, 1, 3])), "codes of labels must be from 0 to 2: got 3"),
        (Ragged(LABELS.offsets, torch.tensor([0, 2, 1, 1, 1])), "must ascend, none twice"),
        (Ragged(LABELS.offsets, torch.tensor([2, 0, 1, 1, 2])), "must ascend, none twice"),
        (Ragged(LABELS.offsets[:3], LABELS.values[:3]), "must be those of the 3 ids: got 3 and 2 rows"),
    ],
)
def test_what_rows_refuse(labels, said):
    with pytest.raises(DataError) as raised:
        rows(labels=labels)
    assert said in str(raised.value)


def test_batches_have_each_row_once_with_its_labels():
    weights = torch.tensor([1.0, 2.0, 3.0])
    batches = LabelBatches(FEATURES, LABELS, 3, 2, seed=0, weights=weights)
    for epoch in range(3):
        found = list(batches.of_epoch(epoch))
        assert [len(batch.index) for batch in found] == [2, 1]
        assert sorted(torch.cat([batch.index for batch in found]).tolist()) == [0, 1, 2]
        for batch in found:
            assert batch.labels.equal(DENSE[batch.index]) and batch.weights.equal(weights) and batch.offsets is None
            assert batch.features.numbers.equal(FEATURES.numbers[batch.index])
    again = LabelBatches(FEATURES, LABELS, 3, 2, seed=0)
    assert next(again.of_epoch(2, start=1)).index.equal(found[1].index)


def test_generated_labels_come_as_often_as_their_chances():
    table, effects = synthesise_labelled(num_rows=20_000, num_labels=5, seed=3)
    numbers = table.select(f"x{place}" for place in range(6)).to_numpy()
    sums = effects[""] + numbers @ np.stack([effects[f"x{place}"] for place in range(6)])
    for kind in range(6):
        has = table["kind"].str.split("|").list.contains(f"kind {kind}").to_numpy()
        sums[has] += effects[f"kind {kind}"]
    chances = 1 / (1 + np.exp(-sums))
    for label in range(5):
        drawn = table["labels"].str.split("|").list.contains(f"label {label}").to_numpy()
        for of in (chances[:, label] < 0.3, chances[:, label] > 0.6):
            deviation = (chances[of, label] * (1 - chances[of, label])).sum() ** 0.5
            assert abs(drawn[of].sum() - chances[of, label].sum()) < 4 * deviation


def test_generated_rows_have_a_least_size():
    with pytest.raises(ConfigError, match="generated rows need 5 rows and labels"):
        synthesise_labelled(num_rows=4)
