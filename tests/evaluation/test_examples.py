"""Embeddings judged by whom they find, against a plain count and another library."""

import pytest
import torch

from rankwell.errors import InputError
from rankwell.evaluation import embed, evaluate_examples, neighbours
from rankwell.metrics import Measure
from rankwell.models import RawFeatures

MEASURES = [Measure.parse(text) for text in ("hit_rate@1", "r_precision", "map@r")]


def scene(n=60, classes=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    return torch.randn(n, 3, generator=generator) + labels[:, None], labels


def by_counting(features, labels):
    """The three measures of each example, its class having others."""
    found = []
    for place in range(len(labels)):
        distances = (features - features[place]).square().sum(-1)
        order = [other for other in distances.argsort().tolist() if other != place]
        hits = [bool(labels[other] == labels[place]) for other in order]
        r = sum(hits)
        if r:
            precisions = [sum(hits[: k + 1]) / (k + 1) * hits[k] for k in range(r)]
            found.append([float(hits[0]), sum(hits[:r]) / r, sum(precisions) / r])
    return torch.tensor(found)


@pytest.mark.parametrize("block", [1, 16, 1000])
def test_measures_are_those_of_a_plain_count_in_any_blocks(block):
    features, labels = scene()
    seen = []
    found = evaluate_examples(
        RawFeatures((3,)), MEASURES, features, labels, block=block, progress=lambda done, of: seen.append((done, of))
    )
    expected = by_counting(features, labels)
    torch.testing.assert_close(torch.stack(list(found.values.values()), 1), expected)
    assert seen[-1] == (len(expected), len(expected)) and found.without_held_out == 0


def test_a_class_of_one_asks_nothing_and_still_confuses():
    features, labels = torch.tensor([[0.0], [1.0], [0.4]]), torch.tensor([0, 0, 5])
    found = evaluate_examples(RawFeatures((1,)), MEASURES, features, labels)
    assert found.users.tolist() == [0, 1] and found.without_held_out == 1
    assert found.values["hit_rate@1"].tolist() == [0, 0]
    with pytest.raises(InputError, match="at least two examples, so that one can be found: none of 3 has"):
        evaluate_examples(RawFeatures((1,)), MEASURES, features, torch.arange(3))


def test_it_is_what_pytorch_metric_learning_measures():
    calculators = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    features, labels = scene(80, 5, seed=2)
    found = evaluate_examples(RawFeatures((3,)), MEASURES, features, labels).means()
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    theirs = calculators.AccuracyCalculator(include=names, k="max_bin_count").get_accuracy(features, labels)
    assert list(found.values()) == pytest.approx([theirs[name] for name in names], abs=1e-6)


def test_neighbours_come_in_order():
    among, asked = torch.rand(50, 3), torch.rand(7, 3)
    places, scores = neighbours(RawFeatures((3,)), asked, among, 4, block=3)
    distances = torch.cdist(asked, among)
    assert places.equal(distances.argsort(1)[:, :4])
    torch.testing.assert_close(-scores, distances.gather(1, places), atol=1e-4, rtol=1e-4)
    assert neighbours(RawFeatures((3,)), asked, among[:2], 4)[0].shape == (7, 2)


def test_faults():
    features, labels = scene()
    with pytest.raises(InputError, match="at least one, each once"):
        evaluate_examples(RawFeatures((3,)), [MEASURES[0]] * 2, features, labels)
    with pytest.raises(InputError, match="embeddings must not be NaN"):
        embed(RawFeatures((1,)), torch.tensor([[float("nan")]]))
    with pytest.raises(InputError, match="block must be at least 1"):
        evaluate_examples(RawFeatures((3,)), MEASURES, features, labels, block=-1)
