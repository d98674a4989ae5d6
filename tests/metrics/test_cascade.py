import pytest
import torch

from rankwell.errors import InputError
from rankwell.metrics import Measure, err, mrr, rbp

SCORES = torch.tensor([0.1, 0.9, 0.5, 0.7])
LABELS = torch.tensor([4.0, 1.0, 0.0, 2.0])
# By score: labels 1, 2, 0, 4; chances 1/16, 3/16, 0, 15/16.


def test_err_by_hand() -> None:
    expected = 1 / 16 + 15 / 16 * 3 / 16 / 2 + 15 / 16 * 13 / 16 * 15 / 16 / 4
    assert err(SCORES, LABELS).item() == pytest.approx(expected)
    assert err(SCORES, LABELS, k=2).item() == pytest.approx(1 / 16 + 15 / 16 * 3 / 16 / 2)
    # Of at most 2: chances 1/4, 3/4, 0, 3/4.
    assert err(SCORES, LABELS, max_label=2).item() == pytest.approx(
        1 / 4 + 3 / 4 * 3 / 4 / 2 + 3 / 4 * 1 / 4 * 3 / 4 / 4
    )


def test_err_of_a_tie_is_the_mean_of_its_orders() -> None:
    # Chances 1/2 and 0 at positions 2 and 3 behind a chance of 1/2.
    scores, labels = torch.tensor([2.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 0.0])
    assert err(scores, labels, max_label=1).item() == pytest.approx(1 / 2 + 1 / 2 * 1 / 2 * (1 / 2 + 1 / 3) / 2)


def test_err_that_surely_stops_is_reciprocal_rank() -> None:
    # From a label so high that the chance is one in float32.
    labels = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert err(SCORES, labels * 60, max_label=60).item() == pytest.approx(mrr(SCORES, labels).item())


def test_rbp_by_hand() -> None:
    assert rbp(SCORES, LABELS).item() == pytest.approx(0.2 * (1 + 0.8 + 0.8**3))
    assert rbp(SCORES, LABELS, p=0.5, rel=2).item() == pytest.approx(0.5 * (0.5 + 0.5**3))
    assert rbp(SCORES, LABELS, p=0.5, k=1).item() == pytest.approx(0.5)


def test_weights_are_credit() -> None:
    weights = torch.tensor([2.0, 3.0, 9.0, 0.5])
    expected = 3 / 16 + 15 / 16 * 0.5 * 3 / 16 / 2 + 15 / 16 * 13 / 16 * 2 * 15 / 16 / 4
    assert err(SCORES, LABELS, weights=weights).item() == pytest.approx(expected)
    assert rbp(SCORES, LABELS, weights=weights).item() == pytest.approx(0.2 * (3 + 0.5 * 0.8 + 2 * 0.8**3))


def test_labels_outside_the_scale() -> None:
    assert err(SCORES, LABELS * 9) == err(SCORES, (LABELS > 0) * 4.0)
    assert err(SCORES, LABELS - 1) == err(SCORES, (LABELS - 1).clamp(min=0))


@pytest.mark.parametrize("p", [0.0, 1.0, -0.5, 2.0, float("nan")])
def test_persistence_is_between_zero_and_one(p: float) -> None:
    with pytest.raises(InputError, match="p must be between 0 and 1: got"):
        rbp(SCORES, LABELS, p=p)


def test_the_highest_label_is_above_zero() -> None:
    with pytest.raises(InputError, match=r"max_label must be above 0: got 0\."):
        err(SCORES, LABELS, max_label=0.0)


def test_as_measures() -> None:
    assert str(Measure.parse("RBP(p=0.8,rel=1)@10")) == "rbp@10"
    assert str(Measure.parse("ERR(max_label=1)@20")) == "err(max_label=1)@20"
    assert Measure.parse("rbp", preset="trec").settings["p"] == 0.9
