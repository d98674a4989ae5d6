import itertools
import math

import pytest
import torch

from rankwell.errors import InputError
from rankwell.metrics import auc, kendall_tau, opa, spearman
from rankwell.metrics.inversions import lower_behind

SCORES = torch.tensor([3.0, 1.0, 2.0, 2.0])
LABELS = torch.tensor([1.0, 0.0, 2.0, 0.0])
# Pairs of different labels: (0,1) right, (0,2) wrong, (0,3) right, (1,2) right, (2,3) tied in score.


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


def tau_b(scores: list[float], labels: list[float], weights: list[float]) -> float:
    pairs = list(itertools.combinations(range(len(scores)), 2))
    agreed, by_score, by_label = 0.0, 0.0, 0.0
    for i, j in pairs:
        w, s, y = weights[i] * weights[j], sign(scores[i] - scores[j]), sign(labels[i] - labels[j])
        agreed, by_score, by_label = agreed + w * s * y, by_score + w * s * s, by_label + w * y * y
    return agreed / math.sqrt(by_score * by_label) if by_score else 0.0


def mean_ranks(x: list[float]) -> list[float]:
    return [sum(other < value for other in x) + (sum(other == value for other in x) + 1) / 2 for value in x]


def rho(scores: list[float], labels: list[float], weights: list[float]) -> float:
    r, q = mean_ranks(scores), mean_ranks(labels)
    total = sum(weights)
    a, b = (sum(w * x for w, x in zip(weights, ranks, strict=True)) / total for ranks in (r, q))
    cov = sum(w * (x - a) * (y - b) for w, x, y in zip(weights, r, q, strict=True))
    spread = [sum(w * (x - m) ** 2 for w, x in zip(weights, ranks, strict=True)) for ranks, m in ((r, a), (q, b))]
    return cov / math.sqrt(spread[0] * spread[1]) if spread[0] > 1e-12 else 0.0


def test_opa_by_hand() -> None:
    assert opa(SCORES, LABELS).item() == pytest.approx((3 + 1 / 2) / 5)
    # Weighed by the better item: (0,1), (0,3) by item 0, the others by item 2.
    weights = torch.tensor([1.0, 9.0, 4.0, 9.0])
    assert opa(SCORES, LABELS, weights=weights).item() == pytest.approx((1 + 1 + 4 + 4 / 2) / (2 * 1 + 3 * 4))


def test_opa_of_binary_labels_is_auc() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 9, (5, 40), generator=generator).double()
    labels = (torch.rand(5, 40, generator=generator) < 0.3).double()
    weights = torch.rand(5, 40, generator=generator, dtype=torch.float64)
    for ties in ("expected", "order"):
        found = [m(scores, labels, weights=weights, ties=ties, reduction="none") for m in (opa, auc)]
        torch.testing.assert_close(*found)


def test_kendall_by_hand() -> None:
    # Three right, one wrong; five of six pairs apart in score, five of six in label.
    assert kendall_tau(SCORES, LABELS).item() == pytest.approx((3 - 1) / 5)
    assert kendall_tau(-SCORES, LABELS).item() == pytest.approx(-(3 - 1) / 5)
    # The input order puts item 2 above item 3: four right, six pairs apart in score.
    assert kendall_tau(SCORES, LABELS, ties="order").item() == pytest.approx((4 - 1) / math.sqrt(6 * 5))


def test_spearman_by_hand() -> None:
    # Ranks 4, 1, 2.5, 2.5 and 3, 1.5, 4, 1.5, both with mean 2.5.
    cov = 1.5 * 0.5 + 1.5 * 1
    assert spearman(SCORES, LABELS).item() == pytest.approx(cov / math.sqrt((2.25 + 2.25) * (0.25 + 1 + 2.25 + 1)))


@pytest.mark.parametrize(("metric", "definition"), [(kendall_tau, tau_b), (spearman, rho)])
def test_equals_the_definition(metric, definition) -> None:
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        n = 2 + seed
        scores = torch.randint(0, 2 + seed // 2, (n,), generator=generator).double()
        labels = torch.randint(-1, 3, (n,), generator=generator).double()
        labels[0], labels[1] = 3, 0
        weights = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
        expected = definition(scores.tolist(), labels.tolist(), weights.tolist())
        assert metric(scores, labels, weights=weights).item() == pytest.approx(expected, abs=1e-12)
        order = scores - torch.arange(n) / (n + 1)
        expected = definition(order.tolist(), labels.tolist(), [1.0] * n)
        assert metric(scores, labels, ties="order").item() == pytest.approx(expected, abs=1e-12)


def test_equal_scores_say_nothing_and_equal_labels_ask_nothing() -> None:
    scores, labels = torch.tensor([[1.0, 1.0, 1.0], [0.1, 0.2, 0.3]]), torch.tensor([[2.0, 1.0, 0.0], [0.3, 0.3, 0.3]])
    weights = torch.tensor([0.1, 0.7, 0.2])
    for metric in (kendall_tau, spearman):
        assert metric(scores, labels, weights=weights, reduction="none").tolist() == [0, 0]
        assert metric(scores, labels, weights=weights, empty="one", reduction="none").tolist() == [0, 1]


def test_twice_the_weight_is_the_item_twice() -> None:
    weights = torch.tensor([1.0, 2.0, 1.0, 3.0])
    times = weights.long()
    twice = [x.repeat_interleave(times) for x in (SCORES, LABELS)]
    torch.testing.assert_close(kendall_tau(SCORES, LABELS, weights=weights), kendall_tau(*twice))


@pytest.mark.parametrize("n", [1, 15, 16, 17, 100, 257])
def test_pairs_behind_are_counted_exactly(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    labels = torch.randint(0, 20, (3, n), generator=generator).double()
    weights = torch.rand(3, n, generator=generator, dtype=torch.float64)
    behind = torch.ones(n, n).triu(1)
    lower = (labels[:, None, :] < labels[:, :, None]) * behind
    torch.testing.assert_close(lower_behind(labels, weights), (lower * weights[:, None, :]).sum(-1))
    assert torch.equal(lower_behind(labels, None), lower.sum(-1).double())


def test_long_lists_are_counted_exactly() -> None:
    # A permutation of 2^17 items with a known number of inversions: all pairs inside blocks of 2^9 turned round.
    n, length = 1 << 17, 1 << 9
    labels = torch.arange(n, dtype=torch.float64).view(-1, length).flip(-1).flatten()
    inversions = n // length * (length * (length - 1) // 2)
    pairs = n * (n - 1) // 2
    scores = torch.arange(n, dtype=torch.float64)
    assert opa(scores, labels).item() == pytest.approx(1 - inversions / pairs, abs=1e-15)
    assert kendall_tau(scores, labels).item() == pytest.approx(1 - 2 * inversions / pairs, abs=1e-15)


def test_they_need_the_whole_list() -> None:
    for metric in (opa, kendall_tau, spearman):
        with pytest.raises(InputError, match=f"{metric.__name__} needs the whole list"):
            metric(SCORES, LABELS, k=3)
        with pytest.raises(InputError, match="takes neither k nor ideal"):
            metric(SCORES, LABELS, ideal=LABELS)
