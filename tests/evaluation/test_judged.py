"""Evaluation of judged lists: by blocks, against the metric itself."""

import math

import pytest
import torch

from rankwell.errors import InputError
from rankwell.evaluation import evaluate_lists, score_lists
from rankwell.metrics import Measure

OFFSETS = torch.tensor([0, 3, 4, 9, 11])
FEATURES = torch.arange(11.0)[:, None]
LABELS = torch.tensor([1.0, 0, 0, 1, 0, 2, 0, 0, 1, 0, 0])


def falling(features, offsets):
    return -features[:, 0]


@pytest.mark.parametrize("block", [1, 4, 5, 100])
def test_blocks_are_whole_lists_and_change_nothing(block):
    seen, told = [], []

    def model(features, offsets):
        seen.append(offsets.tolist())
        return falling(features, offsets)

    scores = score_lists(model, FEATURES, OFFSETS, block=block, progress=lambda done, of: told.append((done, of)))
    assert scores.equal(falling(FEATURES, OFFSETS))
    assert [size for part in seen for size in torch.tensor(part).diff().tolist()] == [3, 1, 5, 2]
    assert all(part[0] == 0 and (part[-1] <= block or len(part) == 2) for part in seen)
    assert told[-1] == (4, 4) and told == sorted(told)


def test_values_are_the_metrics_and_nan_where_nothing_is_relevant():
    measures = [Measure.parse("ndcg@10"), Measure.parse("mrr"), Measure.parse("ap")]
    found = evaluate_lists(falling, measures, FEATURES, LABELS, OFFSETS)
    assert found.users.tolist() == [0, 1, 2, 3]
    assert found.values["mrr"].tolist() == pytest.approx([1, 1, 1 / 2, math.nan], nan_ok=True)
    assert found.values["ap"].tolist() == pytest.approx([1, 1, (1 / 2 + 2 / 5) / 2, math.nan], nan_ok=True)
    assert found.means()["mrr"] == pytest.approx(2.5 / 3)


def test_what_is_refused():
    measure = Measure.parse("mrr")
    with pytest.raises(InputError, match="each once"):
        evaluate_lists(falling, [measure, measure], FEATURES, LABELS, OFFSETS)
    with pytest.raises(InputError, match="at least one query"):
        evaluate_lists(falling, [measure], FEATURES[:0], LABELS[:0], torch.tensor([0]))
    with pytest.raises(InputError, match="must not be NaN"):
        evaluate_lists(lambda f, o: falling(f, o) * math.nan, [measure], FEATURES, LABELS, OFFSETS)
    assert score_lists(falling, FEATURES[:0], torch.tensor([0])).numel() == 0
