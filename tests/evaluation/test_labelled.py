"""Labels ranked for each row."""

import math

import pytest
import torch

from rankwell.errors import InputError
from rankwell.evaluation import evaluate_labels, score_labels
from rankwell.metrics import Measure
from rankwell.types import Features, Ragged

NONE = Ragged(torch.zeros(4, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
FEATURES = Features(torch.tensor([[0.0], [1.0], [2.0]]), NONE, 0)
LABELS = Ragged(torch.tensor([0, 1, 3, 4]), torch.tensor([0, 1, 2, 0]))


def model(features):
    """Labels 0, 1, 2 in this order for the first two rows, in the other order for the third."""
    falling = torch.tensor([3.0, 2.0, 1.0])
    return torch.where(features.numbers < 2, falling, falling.flip(0))


@pytest.mark.parametrize("block", [1, 2, 1024])
def test_values_of_each_row(block):
    measures = [Measure.parse(text) for text in ("ap", "recall@2", "ndcg@3")]
    found = evaluate_labels(model, measures, FEATURES, LABELS, 3, block=block)
    assert found.values["ap"].tolist() == pytest.approx([1, (1 / 2 + 2 / 3) / 2, 1 / 3])
    assert found.values["recall@2"].tolist() == pytest.approx([1, 1 / 2, 0])
    second = (1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3))
    assert found.values["ndcg@3"].tolist() == pytest.approx([1, second, 1 / 2])
    assert found.users.tolist() == [0, 1, 2]


def test_blocks_come_in_order_and_tell_how_far_they_are():
    told = []
    found = list(score_labels(model, FEATURES, block=2, progress=lambda *at: told.append(at)))
    assert [at for at, _ in found] == [slice(0, 2), slice(2, 3)] and told == [(2, 3), (3, 3)]
    assert torch.cat([scores for _, scores in found]).equal(model(FEATURES))


def test_what_it_refuses():
    ap = Measure.parse("ap")
    with pytest.raises(InputError, match="each once"):
        evaluate_labels(model, [ap, ap], FEATURES, LABELS, 3)
    with pytest.raises(InputError, match="there is none"):
        evaluate_labels(model, [ap], FEATURES, Ragged(torch.zeros(1, dtype=torch.int64), LABELS.values[:0]), 3)
    with pytest.raises(InputError, match="must not be NaN"):
        evaluate_labels(lambda features: model(features) * torch.nan, [ap], FEATURES, LABELS, 3)
