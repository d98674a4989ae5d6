"""Values that libraries publish in their tests and examples: their inputs, and what they expect of them.

TensorFlow Ranking states its own as formulas (``losses_test.py`` at 5b1d133), allRank formulas and numbers (``tests/losses`` at
c884756), rax numbers (examples of its transformations, 0.4.0). None of the libraries is needed.
"""

import math

import pytest
import torch
from torch import Tensor

from rankwell.losses import (
    approx_mrr_loss,
    approx_ndcg_loss,
    gumbel_neural_ndcg_loss,
    hinge_loss,
    lambda_rank_loss,
    listmle_loss,
    listnet_loss,
    logistic_loss,
    mse_loss,
    ndcg_loss1,
    ndcg_loss2pp,
    neural_ndcg_loss,
    ordinal_loss,
    p_listmle_loss,
    pairwise_mse_loss,
    poly1_softmax_loss,
    sigmoid_loss,
    soft_zero_one_loss,
    softmax_loss,
    unique_softmax_loss,
)
from rankwell.transforms import bound

ln = math.log
lists = torch.tensor


def close(value: Tensor, expected: float, rel: float = 1e-6) -> None:
    assert value.item() == pytest.approx(expected, rel=rel)


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def bce(score: float, label: float) -> float:
    return max(score, 0) - score * label + math.log1p(math.exp(-abs(score)))


SCORES, LABELS = [[1.0, 3.0, 2.0], [1.0, 2.0, 3.0]], [[0.0, 0.0, 1.0], [0.0, 0.0, 2.0]]
WEIGHTS = [[2.0, 3.0, 4.0], [1.0, 1.0, 1.0]]
SPREAD = [[1.4, -2.8, -0.4], [0.0, 1.8, 10.2], [1.0, 1.2, -3.2]]


class TestTensorFlowRanking:
    @pytest.mark.parametrize("row", [0, 1])
    @pytest.mark.parametrize(
        ("loss", "phi"),
        [
            (hinge_loss, lambda gap: max(0.0, 1 - gap)),
            (logistic_loss, lambda gap: ln(1 + math.exp(-gap))),
            (soft_zero_one_loss, lambda gap: 1 / (1 + math.exp(gap))),
        ],
    )
    def test_pairwise(self, loss, phi, row) -> None:
        """Item 2 over items 0 and 1. Their mean divides by the weights, which cancels one that all pairs share."""
        s = SCORES[row]
        expected = (phi(s[2] - s[0]) + phi(s[2] - s[1])) / 2
        scores, labels, weights = lists(s), lists(LABELS[row]), lists(WEIGHTS[row])
        close(loss(scores, labels), expected)
        close(loss(scores, labels, weights=weights) / weights[2], expected)

    def test_pairs_of_two_lists(self) -> None:
        """One mean over the pairs of both, of which either list has two."""
        pairs = [(2, 1), (2, 3), (3, 1), (3, 2)]
        expected = sum(max(0.0, 1 - (better - worse)) for better, worse in pairs) / 4
        close(hinge_loss(lists(SCORES), lists(LABELS)), expected)

    def test_pairwise_mse(self) -> None:
        """Each pair once, equal labels too."""
        first = ((2 - 3) - (1 - 0)) ** 2 + ((2 - 1) - (1 - 0)) ** 2 + ((3 - 1) - (0 - 0)) ** 2
        second = ((3 - 2) - (2 - 0)) ** 2 + ((3 - 1) - (2 - 0)) ** 2 + ((2 - 1) - (0 - 0)) ** 2
        close(pairwise_mse_loss(lists(SCORES), lists(LABELS)), (first + second) / 6)
        weighted = pairwise_mse_loss(lists(SCORES), lists(LABELS), weights=lists([[1.0], [2.0]]))
        close(weighted * 6 / 9, (first + 2 * second) / 9)

    @pytest.mark.parametrize("weights", [None, [[2.0], [1.0]]])
    def test_softmax(self, weights) -> None:
        first, second = (-ln(softmax(s)[2]) for s in SCORES)
        of_first = 1 if weights is None else 2
        given = None if weights is None else lists(weights)
        close(softmax_loss(lists(SCORES), lists(LABELS), weights=given), (of_first * first + 2 * second) / 2)

    def test_poly_one_softmax(self) -> None:
        first, second = (1 - ln(softmax(s)[2]) - softmax(s)[2] for s in SCORES)
        close(poly1_softmax_loss(lists(SCORES), lists(LABELS)), (first + 2 * second) / 2)

    def test_unique_softmax(self) -> None:
        first, second = SCORES
        labels = lists([[0.0, 0.0, 1.0], [0.0, 1.0, 2.0]])
        terms = ln(softmax(first)[2]), ln(softmax(second[:2])[1]) + 3 * ln(softmax(second)[2])
        close(unique_softmax_loss(lists(SCORES), labels), -sum(terms) / 2)
        weighted = unique_softmax_loss(lists(SCORES), labels, weights=lists([[2.0], [1.0]]))
        close(weighted, -(2 * terms[0] + terms[1]) / 2)

    @pytest.mark.parametrize(
        ("loss", "term"), [(sigmoid_loss, bce), (mse_loss, lambda score, label: (score - label) ** 2)]
    )
    def test_pointwise(self, loss, term) -> None:
        scores, labels = [[0.2, 0.5, 0.3], [0.2, 0.3, 0.5]], [[0.0, 0.0, 1.0]] * 2
        first, second = (sum(map(term, s, y)) for s, y in zip(scores, labels, strict=True))
        close(loss(lists(scores), lists(labels)), (first + second) / 6)
        close(loss(lists(scores), lists(labels), weights=lists([[2.0], [1.0]])), (2 * first + second) / 6)

    def test_list_mle(self) -> None:
        scores = [[0.0, ln(3), ln(2)], [0.0, ln(2), ln(3)]]
        labels = lists([[0.0, 2.0, 1.0], [1.0, 0.0, 2.0]])
        first, second = ln(3 / (3 + 2 + 1)) + ln(2 / (2 + 1)), ln(3 / (3 + 2 + 1)) + ln(1 / (1 + 2))
        close(listmle_loss(lists(scores), labels), -(first + second) / 2)
        close(listmle_loss(lists(scores), labels, weights=lists([[2.0], [1.0]])), -(2 * first + second) / 2)

    def test_weights_of_p_list_mle(self) -> None:
        """Of two positions 1 and 0; ours is divided by 2 to the power n - 1."""
        close(p_listmle_loss(lists([0.3, 0.0]), lists([1.0, 2.0])), ln(1 + math.exp(0.3)) / 2)

    def test_approx_ndcg(self) -> None:
        """A list without gains is 0 here and there; their value is the negative."""
        labels = lists([[0.0, 2.0, 1.0], [1.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
        first = (3 / ln(4) + 1 / ln(3)) / (3 / ln(2) + 1 / ln(3))
        second = (7 / ln(2) + 1 / ln(4)) / (7 / ln(2) + 1 / ln(3))
        close(approx_ndcg_loss(lists(SPREAD), labels, reduction="sum"), 2 - (first + second), rel=1e-4)

    def test_approx_mrr(self) -> None:
        labels = lists([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
        expected = 1 / 2 + (1 / 3 + 1 / 1) / 2
        close(approx_mrr_loss(lists(SPREAD), labels, reduction="sum"), 2 - expected, rel=1e-4)

    def test_neural_sort_ndcg(self) -> None:
        """Theirs without Sinkhorn's scaling, at a temperature where the permutation is all but hard."""
        labels = lists([[0.0, 2.0, 1.0], [1.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
        first = (3 / ln(4) + 1 / ln(3)) / (3 / ln(2) + 1 / ln(3))
        second = (7 / ln(2) + 1 / ln(4)) / (7 / ln(2) + 1 / ln(3))
        values = neural_ndcg_loss(lists(SPREAD), labels, temperature=0.1, iterations=0, reduction="none")
        close(values.sum(), 2 - (first + second), rel=1e-3)

    def test_ndcg_lambda_weight(self) -> None:
        """Of grades 2 and 1 at ranks 1 and 2, before the factor n."""
        best = 3 / ln(2) + 1 / ln(3)
        expected = 2 * (1 / ln(2) - 1 / ln(3)) / best
        close(lambda_rank_loss(lists([1.0, 0.0]), lists([2.0, 1.0])), expected * ln(1 + math.exp(-1.0)))


class TestAllRank:
    scores, labels = lists([0.5, 0.3, 0.5]), lists([0.5, 0.3, 0.5])

    def test_approx_ndcg(self) -> None:
        close(approx_ndcg_loss(self.scores, self.labels, temperature=1.0), 1 - 0.8499219417)

    def test_ndcg_loss1(self) -> None:
        """Theirs pairs an item with itself too, which adds its gain over its discount: together the list's NDCG, here 1."""
        close(ndcg_loss1(self.scores, self.labels), 2.9272110462 - 1)

    def test_ndcg_loss2pp(self) -> None:
        close(ndcg_loss2pp(self.scores, self.labels), 1.1244146823)

    def test_ranknet_is_a_sum(self) -> None:
        """Over two pairs."""
        close(2 * logistic_loss(self.scores, self.labels), 1.1962778568)

    def test_padding_is_left_out(self) -> None:
        scores, labels = lists([0.5, 0.3, 0.5, 1.0]), lists([0.5, 0.3, 0.5, -1.0])
        where = lists([True, True, True, False])
        close(ndcg_loss2pp(scores, labels, where=where), 1.1244146823)
        close(approx_ndcg_loss(scores, labels, where=where, temperature=1.0), 1 - 0.8499219417)
        close(listmle_loss(lists([0.5, 0.3, 0.5]), lists([1.0, 0.0, -1.0]), where=where[1:]), 0.5981389284133911)

    @pytest.mark.parametrize(
        ("scores", "labels", "gaps"),
        [
            ([0.5, 0.2], [1.0, 0.0], [0.3]),
            ([0.2, 0.5], [1.0, 0.0], [-0.3]),
            ([0.5, 0.2, 0.1], [1.0, 0.0, 0.0], [0.3, 0.4]),
            ([0.2, 0.5], [0.0, 2.0], [0.3]),
        ],
    )
    def test_ranknet(self, scores, labels, gaps) -> None:
        close(logistic_loss(lists(scores), lists(labels)), sum(bce(gap, 1.0) for gap in gaps) / len(gaps))

    def test_ranknet_weighed_by_the_difference_of_labels(self) -> None:
        """Theirs is a mean over the three pairs."""
        value = lambda_rank_loss(lists([0.5, 0.2, 0.1]), lists([2.0, 1.0, 0.0]), metric="arp")
        close(value / 3, (1 * bce(0.3, 1) + 2 * bce(0.4, 1) + 1 * bce(0.1, 1)) / 3)

    def test_listnet(self) -> None:
        log_shares = [ln(p) for p in softmax([0.5, 0.2])]
        expected = -sum(y * p for y, p in zip(softmax([1.0, 0.0]), log_shares, strict=True))
        close(listnet_loss(lists([0.5, 0.2]), lists([1.0, 0.0])), expected)
        close(softmax_loss(lists([0.5, 0.2]), lists([1.0, 0.0])), -log_shares[0])

    def test_ordinal(self) -> None:
        """Theirs takes probabilities; a mean over items of the sum over steps."""
        shares = torch.tensor([[0.8, 0.7], [0.4, 0.3], [0.2, 0.1]])
        passed = [(1, 1), (1, 0), (0, 0)]
        terms = [
            -ln(p if up else 1 - p)
            for row, ups in zip(shares.tolist(), passed, strict=True)
            for p, up in zip(row, ups, strict=True)
        ]
        close(ordinal_loss(torch.logit(shares), lists([2.0, 1.0, 0.0])), sum(terms) / 3)

    def test_root_of_the_mean_square(self) -> None:
        """Theirs scales scores in [0, 1] by the number of levels."""
        value = mse_loss(3 * lists([0.5, 0.2, 0.7, 0.8]), lists([1.0, 0.0, 2.0, 3.0])).sqrt()
        close(value, math.sqrt((0.5**2 + 0.6**2 + 0.1**2 + 0.6**2) / 4))

    @pytest.mark.parametrize(
        ("scores", "labels", "k"),
        [
            ([0.5, 0.2], [1.0, 0.0], None),
            ([0.5, 0.2, 0.1, 0.4, 1.0, -1.0, 0.63], [1.0, 2.0, 2.0, 4.0, 1.0, 4.0, 3.0], None),
            ([0.5, 0.2, 0.1, 0.4, 1.0, -1.0, 0.63], [1.0, 2.0, 2.0, 4.0, 1.0, 4.0, 3.0], 3),
        ],
    )
    def test_neural_ndcg_at_a_low_temperature_is_ndcg(self, scores, labels, k) -> None:
        def dcg(grades: list[float]) -> float:
            return sum((2**grade - 1) / math.log2(rank + 2) for rank, grade in enumerate(grades[:k]))

        ranked = [label for _, label in sorted(zip(scores, labels, strict=True), reverse=True)]
        expected = 1 - dcg(ranked) / dcg(sorted(labels, reverse=True))
        close(1 - neural_ndcg_loss(lists(scores), lists(labels), k=k, temperature=1e-4), 1 - expected)
        noisy = gumbel_neural_ndcg_loss(lists(scores), lists(labels), k=k, temperature=1e-4, beta=1e-3)
        close(1 - noisy, 1 - expected)


class TestRax:
    def test_approximate_mrr(self) -> None:
        """Their MRR is that of the best relevant item, ours the mean over them; so of the first alone."""
        scores, alone = lists([0.0, 1.0, 3.0, 2.0]), lists([0.0, 0.0, 1.0, 0.0])
        close(approx_mrr_loss(scores, alone, temperature=1.0), 1 - 0.6965873)

    def test_bounded_mrr(self) -> None:
        """Items 1 and 3 have bounds 1 + 3 + 2 and 1 + 2 + 0. Theirs takes the better one, 1/3; ours the mean over them."""
        scores, labels = lists([0.0, 1.0, 3.0, 2.0]), lists([0.0, 1.0, 0.0, 1.0])
        close(bound("mrr")(scores, lists([0.0, 0.0, 0.0, 1.0])), 1 - 0.33333334)
        close(bound("mrr")(scores, labels), 1 - (1 / 3 + 1 / 6) / 2)
