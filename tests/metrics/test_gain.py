from math import log2

import pytest
import torch

from rankwell.errors import InputError
from rankwell.metrics import dcg, ndcg

SCORES = torch.tensor([0.1, 0.9, 0.5, 0.7])
LABELS = torch.tensor([3.0, 1.0, 0.0, 2.0])
# By score: labels 1, 2, 0, 3.
EXPONENTIAL = 1 + 3 / log2(3) + 7 / log2(5)
LINEAR = 1 + 2 / log2(3) + 3 / log2(5)


def test_dcg_by_hand() -> None:
    assert dcg(SCORES, LABELS).item() == pytest.approx(EXPONENTIAL)
    assert dcg(SCORES, LABELS, gain="linear").item() == pytest.approx(LINEAR)
    assert dcg(SCORES, LABELS, k=2).item() == pytest.approx(1 + 3 / log2(3))


def test_ndcg_by_hand() -> None:
    assert ndcg(SCORES, LABELS).item() == pytest.approx(EXPONENTIAL / (7 + 3 / log2(3) + 1 / 2))
    assert ndcg(SCORES, LABELS, gain="linear").item() == pytest.approx(LINEAR / (3 + 2 / log2(3) + 1 / 2))
    assert ndcg(SCORES, LABELS, k=2).item() == pytest.approx((1 + 3 / log2(3)) / (7 + 3 / log2(3)))


def test_the_original_discount_starts_at_position_three() -> None:
    # Järvelin and Kekäläinen with base 2, and LETOR: positions 1 and 2 both count fully.
    found = 1 + 3 + 7 / log2(4)
    assert dcg(SCORES, LABELS, discount="original").item() == pytest.approx(found)
    assert ndcg(SCORES, LABELS, discount="original").item() == pytest.approx(found / (7 + 3 + 1 / log2(3)))
    best = 7 + 7 + 3 / log2(3)
    value = ndcg(SCORES, LABELS, discount="original", ideal=torch.tensor([3.0, 3.0, 2.0]))
    assert value.item() == pytest.approx(found / best)


def test_ideal_is_cut_at_k_too() -> None:
    # LightGCN's NDCG@k: ones at min(k, number of test items) positions.
    scores, labels = torch.tensor([3.0, 2.0]), torch.tensor([1.0, 0.0])
    for known, best in ((1, 1.0), (2, 1 + 1 / log2(3)), (5, 1 + 1 / log2(3))):
        assert ndcg(scores, labels, k=2, ideal=torch.ones(known)).item() == pytest.approx(1 / best)


def test_a_relevant_item_outside_the_cut_earns_nothing() -> None:
    assert ndcg(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0]), k=1).item() == 0


def test_labels_below_zero_gain_nothing() -> None:
    for gain in ("exponential", "linear"):
        with_judged = ndcg(SCORES, torch.tensor([3.0, 1.0, -1.0, 2.0]), gain=gain)
        assert with_judged == ndcg(SCORES, LABELS, gain=gain)


def test_weights_weigh_gains() -> None:
    weights = torch.tensor([0.5, 2.0, 9.0, 1.0])
    gained = 2 * 1 + 3 / log2(3) + 0.5 * 7 / log2(5)
    assert dcg(SCORES, LABELS, weights=weights).item() == pytest.approx(gained)
    best = 3.5 + 3 / log2(3) + 2 / 2  # weighted gains 3.5, 3, 2 in descending order
    assert ndcg(SCORES, LABELS, weights=weights).item() == pytest.approx(gained / best)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_ndcg_of_labels_whose_gains_overflow(dtype) -> None:
    """Gains of 200 and 199 are as 2 to 1; what is 100 below is nothing beside them."""
    scores, labels = torch.tensor([1.0, 2.0, 3.0], dtype=dtype), torch.tensor([2000.0, 1999.0, 1900.0], dtype=dtype)
    expected = (1 / log2(3) + 2 / log2(4)) / (2 + 1 / log2(3))
    scores, labels = torch.stack([scores, SCORES[:3].to(dtype)]), torch.stack([labels, LABELS[:3].to(dtype)])
    usual = ndcg(scores[1], labels[1])
    offsets, flat = torch.tensor([0, 3, 6]), (scores.flatten(), labels.flatten())
    for dense, ragged in (({}, {}), ({"ideal": labels}, {"ideal": (offsets, flat[1])})):
        both = ndcg(scores, labels, reduction="none", **dense), ndcg(*flat, offsets=offsets, reduction="none", **ragged)
        for value, other in both:
            assert value.item() == pytest.approx(expected)
            assert other == usual


def test_unknown_gain_is_an_error() -> None:
    with pytest.raises(InputError, match="gain must be 'exponential' or 'linear': got 'log'"):
        ndcg(SCORES, LABELS, gain="log")
