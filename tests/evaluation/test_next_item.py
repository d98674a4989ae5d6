"""Full ranking of the next item: by hand, in blocks, and with the history left out."""

import math

import pytest
import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.evaluation import top_items
from rankwell.evaluation.next_item import HistoryRanker, distinct_items, evaluate_next
from rankwell.metrics import Measure
from rankwell.models.sasrec import SASRec
from rankwell.types import Ragged

ITEMS = 70
MEASURES = [Measure.parse(text) for text in ("recall(ties=order)@3", "ndcg(ties=order)@3", "mrr(ties=order)@20")]


def questions(count: int = 40) -> tuple[Ragged, Tensor]:
    generator = torch.Generator().manual_seed(4)
    lengths = torch.randint(0, 9, (count,), generator=generator)
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    items = torch.randint(ITEMS, (int(offsets[-1]),), generator=generator)
    return Ragged(offsets, items), torch.randint(ITEMS, (count,), generator=generator)


@pytest.fixture
def model():
    made = SASRec(ITEMS, dim=8, max_length=6)
    made.initialise(seed=0)
    return made.eval()


@pytest.mark.parametrize("exclude", [False, True])
def test_values_equal_a_sorted_list(model, exclude):
    histories, targets = questions()
    found = evaluate_next(model, MEASURES, histories, targets, exclude_history=exclude)
    scores = model.score_next(histories)
    hits = 0
    for row, target in enumerate(targets.tolist()):
        own = histories.values[histories.offsets[row] : histories.offsets[row + 1]].tolist()
        left = [item for item in range(ITEMS) if not (exclude and item in own)]
        ranked = sorted(left, key=lambda item: (-float(scores[row, item]), item))
        place = ranked.index(target) + 1 if target in ranked else math.inf
        hits += place <= 3
        wanted = [float(place <= 3), 1 / math.log2(1 + place) if place <= 3 else 0, 1 / place if place <= 20 else 0]
        got = [float(found.values[str(measure)][row]) for measure in MEASURES]
        assert got == pytest.approx(wanted, abs=1e-6)
    assert hits > 0 and found.users.equal(torch.arange(40)) and found.without_held_out == 0


def test_an_item_that_comes_again_is_missed_where_the_history_is_left_out(model):
    histories, _ = questions()
    rows = (histories.offsets.diff() > 0).nonzero().flatten()
    targets = torch.zeros(40, dtype=torch.int64)
    targets[rows] = histories.values[histories.offsets[:-1][rows]]
    found = evaluate_next(model, [Measure.parse("recall@70")], histories, targets, exclude_history=True)
    assert not found.values["recall@70"][rows].any()
    assert evaluate_next(model, [Measure.parse("recall@70")], histories, targets).means()["recall@70"] == 1


def test_blocks_change_nothing(model):
    histories, targets = questions()
    whole = evaluate_next(model, MEASURES, histories, targets).values
    for block in (1, 7):
        parts = evaluate_next(model, MEASURES, histories, targets, block=block).values
        assert all(parts[name].equal(values) for name, values in whole.items())


def test_the_model_keeps_its_mode(model):
    histories, targets = questions()
    evaluate_next(model, MEASURES, histories, targets)
    assert not model.training
    before = evaluate_next(model.train(), MEASURES, histories, targets).means()
    assert model.training and before == evaluate_next(model.eval(), MEASURES, histories, targets).means()


def test_recommendations_of_what_comes_next(model):
    histories, _ = questions()
    ranker = HistoryRanker(model, histories)
    found = top_items(ranker, torch.tensor([5, 3]), 4, known=distinct_items(histories, ITEMS))
    scores = model.score_next(histories)
    for row, ids in zip([5, 3], found.ids.tolist(), strict=True):
        left = scores[row].clone()
        left[histories.values[histories.offsets[row] : histories.offsets[row + 1]]] = -math.inf
        assert ids == left.topk(4).indices.tolist()


def test_distinct_items():
    found = distinct_items(Ragged(torch.tensor([0, 3, 3, 5]), torch.tensor([4, 2, 4, 9, 0])), 10)
    assert found.offsets.tolist() == [0, 2, 2, 4] and found.values.tolist() == [2, 4, 0, 9]


def test_arguments_that_cannot_be(model):
    histories, targets = questions()
    with pytest.raises(InputError, match=r"targets must be one item code a history, \[40\]"):
        evaluate_next(model, MEASURES, histories, targets[:3])
    with pytest.raises(InputError, match="at least one user must have held-out items"):
        evaluate_next(model, MEASURES, Ragged(torch.tensor([0]), targets[:0]), targets[:0])
    with pytest.raises(InputError, match="codes from 0 to 69"):
        evaluate_next(model, MEASURES, histories, targets + ITEMS)
