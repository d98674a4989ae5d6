import pytest
import torch

from rankwell.errors import InputError
from rankwell.metrics import ap, auc, hit_rate, mrr, precision, recall

SCORES = torch.tensor([0.1, 0.9, 0.5, 0.7, 0.3])
LABELS = torch.tensor([2.0, 0.0, 1.0, 2.0, 0.0])
# By score: labels 0, 2, 1, 0, 2.


def test_ap_by_hand() -> None:
    assert ap(SCORES, LABELS).item() == pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3)
    assert ap(SCORES, LABELS, k=3).item() == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert ap(SCORES, LABELS, rel=2).item() == pytest.approx((1 / 2 + 2 / 5) / 2)


def test_ap_of_what_is_reachable() -> None:
    assert ap(SCORES, LABELS, k=2, total="reachable").item() == pytest.approx(1 / 2 / 2)
    assert ap(SCORES, LABELS, k=4, total="reachable").item() == pytest.approx((1 / 2 + 2 / 3) / 3)
    weights = torch.tensor([3.0, 9.0, 2.0, 0.5, 9.0])
    # The denominator is two items of the mean weight.
    found = ap(SCORES, LABELS, weights=weights, k=2, total="reachable").item()
    assert found == pytest.approx(0.5 / 2 / (2 * 5.5 / 3))


def test_mrr_by_hand() -> None:
    assert mrr(SCORES, LABELS).item() == 1 / 2
    assert mrr(SCORES, LABELS, k=1).item() == 0
    assert mrr(SCORES, LABELS, k=2).item() == 1 / 2


def test_recall_and_precision_by_hand() -> None:
    assert recall(SCORES, LABELS, k=3).item() == pytest.approx(2 / 3)
    assert recall(SCORES, LABELS, k=3, rel=2).item() == pytest.approx(1 / 2)
    assert recall(SCORES, LABELS).item() == 1
    assert precision(SCORES, LABELS, k=3).item() == pytest.approx(2 / 3)
    assert precision(SCORES, LABELS).item() == pytest.approx(3 / 5)


def test_precision_divides_by_k_beyond_the_list() -> None:
    # As trec_eval does, and unlike implicit, whose precision divides by min(k, liked).
    assert precision(SCORES, LABELS, k=10).item() == pytest.approx(3 / 10)
    liked = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    assert precision(-torch.arange(5.0), liked, k=5).item() == pytest.approx(1 / 5)


def test_recall_divides_by_all_relevant_items() -> None:
    # LightGCN's convention: not by min(k, relevant).
    assert recall(-torch.arange(5.0), torch.ones(5), k=2).item() == pytest.approx(2 / 5)


def test_auc_by_hand() -> None:
    # Relevant at positions 2, 3, 5; the irrelevant ones below them: 1, 1, 0, of two each.
    assert auc(SCORES, LABELS).item() == pytest.approx(2 / 6)
    assert auc(SCORES, LABELS, rel=2).item() == pytest.approx(2 / 6)
    assert auc(torch.zeros(5), LABELS).item() == pytest.approx(1 / 2)


def test_auc_of_one_sort_of_items_is_empty() -> None:
    lists = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    scores = torch.tensor([[1.0, 2.0]] * 3)
    assert auc(scores, lists, reduction="none", empty="one").tolist() == [1, 1, 0]
    assert auc(scores, lists).item() == 0


def test_auc_needs_the_whole_list() -> None:
    with pytest.raises(InputError, match="auc needs the whole list"):
        auc(SCORES, LABELS, k=3)
    with pytest.raises(InputError, match="auc needs the whole list"):
        auc(SCORES, LABELS, ideal=LABELS)


def test_scores_below_zero_still_rank() -> None:
    # torchmetrics: logits below 0 gave a reciprocal rank of 0.
    assert mrr(SCORES - 100, LABELS).item() == 1 / 2
    assert hit_rate(SCORES - 100, LABELS, k=2).item() == 1


def test_tied_hit_rate_and_precision_agree() -> None:
    # torchmetrics: on tied scores hit rate was 1 while precision was 0. With k = 1 both are the chance of a hit.
    labels = torch.tensor([0.0, 1.0, 0.0, 0.0])
    for ties, chance in (("expected", 1 / 4), ("order", 0.0)):
        assert hit_rate(torch.zeros(4), labels, k=1, ties=ties).item() == pytest.approx(chance)
        assert precision(torch.zeros(4), labels, k=1, ties=ties).item() == pytest.approx(chance)


def test_weights_are_the_credit_of_relevant_items() -> None:
    weights = torch.tensor([3.0, 9.0, 2.0, 0.5, 9.0])
    # By score: irrelevant, 0.5, 2, irrelevant, 3.
    assert recall(SCORES, LABELS, weights=weights, k=3).item() == pytest.approx(2.5 / 5.5)
    assert precision(SCORES, LABELS, weights=weights, k=3).item() == pytest.approx(2.5 / 3)
    assert mrr(SCORES, LABELS, weights=weights).item() == pytest.approx(0.5 / 2)
    assert hit_rate(SCORES, LABELS, weights=weights).item() == pytest.approx(0.5)
    assert ap(SCORES, LABELS, weights=weights).item() == pytest.approx((0.5 / 2 + 2 * 2 / 3 + 3 * 3 / 5) / 5.5)
    assert auc(SCORES, LABELS, weights=weights).item() == pytest.approx((0.5 / 2 + 2 / 2) / 5.5)
