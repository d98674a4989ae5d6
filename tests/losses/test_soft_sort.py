"""Relaxed sorting, against the matrices and recursions written out."""

from math import erfc, log2, sqrt

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.kernels import comparisons, neural_sort
from rankwell.kernels.neural_sort import relaxed_discounts
from rankwell.lists import open_lists
from rankwell.losses import fast_soft_rank_loss, neural_ndcg_loss, pirank_loss, soft_rank_loss
from rankwell.metrics import ndcg


def example(n=9, rows=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, n, generator=draw, dtype=torch.double)
    labels = torch.randint(0, 4, (rows, n), generator=draw)
    weights = torch.rand(rows, n, generator=draw, dtype=torch.double) + 0.1
    return scores.requires_grad_(), labels, weights


def neural_sort_matrix(scores, temperature):
    n = scores.shape[-1]
    spread = (scores[..., None] - scores[..., None, :]).abs().sum(-1)
    slope = n + 1 - 2 * torch.arange(1, n + 1, dtype=scores.dtype)
    return torch.softmax((slope[:, None] * scores[..., None, :] - spread[..., None, :]) / temperature, -1)


def sinkhorn(matrix, iterations):
    for _ in range(iterations):
        matrix = matrix / matrix.sum(-2, keepdim=True)
        matrix = matrix / matrix.sum(-1, keepdim=True)
    return matrix


def one_less(matrix, gains, k):
    """By positions, and by items (the transposed form)."""
    n = gains.shape[-1]
    discount = (torch.arange(n) < k) / torch.log2(2 + torch.arange(n, dtype=gains.dtype))
    best = (gains.sort(descending=True).values * discount).sum(-1)
    by_positions = ((matrix @ gains[..., None]).squeeze(-1) * discount).sum(-1)
    by_items = (gains * (matrix.mT @ discount)).sum(-1)
    return 1 - by_positions / best, 1 - by_items / best


@pytest.mark.parametrize("chunk", ["whole", "rows", "made again"])
@pytest.mark.parametrize(("k", "iterations"), [(9, 5), (3, 20), (9, 0), (1, 1)])
def test_neural_ndcg(k, iterations, chunk, monkeypatch):
    """Value and gradient of both of the paper's forms, whatever of the matrix is kept."""
    if chunk != "whole":
        monkeypatch.setattr(neural_sort, "CHUNK_ENTRIES", 30)
    if chunk == "made again":
        monkeypatch.setattr(neural_sort, "KEPT_ENTRIES", 0)
    scores, labels, weights = example()
    matrix = sinkhorn(neural_sort_matrix(scores, 0.7), iterations)
    value = neural_ndcg_loss(
        scores, labels, weights=weights, temperature=0.7, k=k, iterations=iterations, reduction="none"
    )
    for expected in one_less(matrix, weights * (2.0**labels - 1), k):
        assert_close(value, expected)
        slopes = [torch.autograd.grad(x.sum(), scores, retain_graph=True)[0] for x in (value, expected)]
        assert_close(*slopes)


def test_tied_scores_share_their_slopes():
    """Where scores tie, the slope of |s_i - s_j| is 0, as torch has it."""
    scores = tensor([[0.5, 0.2, 0.5, -1.0, 0.2]], dtype=torch.double, requires_grad=True)
    labels = tensor([[1, 0, 0, 2, 1]])
    value = neural_ndcg_loss(scores, labels, iterations=3)
    expected, _ = one_less(sinkhorn(neural_sort_matrix(scores, 1.0), 3), 2.0 ** labels.double() - 1, 5)
    assert_close(*(torch.autograd.grad(x.sum(), scores)[0] for x in (value, expected)))


@pytest.mark.parametrize("k", [None, 2])
def test_cold_neural_ndcg_is_ndcg(k):
    """Also with ties, whose places are shared."""
    scores, labels, weights = example(rows=20)
    scores = (scores.detach() * 2).round()
    cold = neural_ndcg_loss(scores, labels, weights=weights, temperature=1e-4, k=k, reduction="none")
    assert_close(cold, 1 - ndcg(scores, labels, weights=weights, k=k, reduction="none"))


def test_scaled_discounts_are_all_handed_out():
    scores, labels, _ = example()
    where = tensor([[True] * 6 + [False] * 3, [True] * 9, [True] * 2 + [False] * 7])
    opened = open_lists(scores.detach(), labels, where=where, weights=None, offsets=None)
    discounts = relaxed_discounts(opened, None, 0.5, iterations=10)
    assert_close(discounts.sum(-1), tensor([sum(1 / log2(1 + r) for r in range(1, n + 1)) for n in (6, 9, 2)]).double())
    assert not discounts[~where].any()


@pytest.mark.parametrize("temperature", [0.1, 5.0])
@pytest.mark.parametrize("k", [None, 1, 4])
def test_pirank_is_ndcg_in_value_and_relaxed_in_gradient(k, temperature):
    scores, labels, weights = example()
    value = pirank_loss(scores, labels, weights=weights, temperature=temperature, k=k, reduction="none")
    assert_close(value, 1 - ndcg(scores.detach(), labels, weights=weights, k=k, reduction="none"))
    soft, _ = one_less(neural_sort_matrix(scores, temperature), weights * (2.0**labels - 1), k or 9)
    assert_close(*(torch.autograd.grad(x.sum(), scores)[0] for x in (value, soft)))
    tied = scores.detach().round()
    assert_close(pirank_loss(tied, labels, k=k), (1 - ndcg(tied, labels, k=k, reduction="none")).mean())


def expected_discount(chances):
    """Rivals are added one by one; the rank is one more than how many of them stand above."""
    p = [1.0]
    for chance in chances:
        p = [a * (1 - chance) + b * chance for a, b in zip([*p, 0.0], [0.0, *p], strict=True)]
    return sum(q / log2(1 + rank) for rank, q in enumerate(p, 1))


@pytest.mark.parametrize("n", [2, 9, 60])
def test_soft_rank_by_the_recursion(n):
    scores, labels, weights = example(n=n, rows=1)
    value = soft_rank_loss(scores, labels, weights=weights, deviation=0.4)
    s, gains = scores[0].tolist(), (weights * (2.0**labels - 1))[0].tolist()
    best = sum(gain / log2(1 + rank) for rank, gain in enumerate(sorted(gains, reverse=True), 1))
    chances = [[erfc((s[i] - s[j]) / (2 * 0.4)) / 2 for j in range(n) if j != i] for i in range(n)]
    expected = sum(gain * expected_discount(row) for gain, row in zip(gains, chances, strict=True))
    assert_close(value, tensor(1 - expected / best, dtype=torch.double), rtol=0.0, atol=1e-6)
    means = sum(gain / log2(2 + sum(row)) for gain, row in zip(gains, chances, strict=True))
    value = soft_rank_loss(scores, labels, weights=weights, deviation=0.4, form="expected_rank")
    assert_close(value, tensor(1 - means / best, dtype=torch.double))


@pytest.mark.parametrize("form", ["distribution", "expected_rank"])
def test_soft_rank_gradient_is_numerical_in_chunks(form, monkeypatch):
    monkeypatch.setattr(comparisons, "CHUNK_PAIRS", 25)
    scores, labels, _ = example()
    assert torch.autograd.gradcheck(lambda x: soft_rank_loss(x, labels, form=form, reduction="none"), scores)


def test_discount_is_a_mixture_of_exponentials():
    """To a part in a million at all ranks of lists of any length."""
    for size in (1024, 1 << 14, 1 << 17):
        rank = torch.arange(size, dtype=torch.double)
        mixture = sum(weight * (1 - c) ** rank for c, weight in comparisons._exponentials(size))
        assert_close(mixture * torch.log2(2 + rank), torch.ones_like(rank), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("form", ["distribution", "expected_rank"])
def test_certain_soft_rank_is_ndcg(form):
    scores, labels, _ = example(rows=20)
    value = soft_rank_loss(scores, labels, deviation=1e-6, form=form, reduction="none")
    assert_close(value, 1 - ndcg(scores.detach(), labels, reduction="none"), rtol=1e-6, atol=1e-6)


def test_discount_at_the_mean_rank_is_lower_than_the_mean_discount():
    scores, labels, _ = example(rows=20)
    mean, at_mean = (
        soft_rank_loss(scores, labels, form=form, reduction="none") for form in ("distribution", "expected_rank")
    )
    assert (at_mean > mean).all()


def test_fast_soft_rank():
    """Scores 0, .4 and 9: ranks 2.7, 2.3 and 1; labels rank 1, 2.5 and 2.5."""
    scores, labels = tensor([0.0, 0.4, 9.0]), tensor([1, 0, 0])
    errors = (2.7 - 1) ** 2, (2.3 - 2.5) ** 2, (1 - 2.5) ** 2
    assert_close(fast_soft_rank_loss(scores, labels), tensor(6 / (3 * 8) * sum(errors)))
    weighted = fast_soft_rank_loss(scores, labels, weights=tensor([1.0, 2.0, 3.0]))
    assert_close(weighted, tensor((errors[0] + 2 * errors[1] + 3 * errors[2]) / 4))
    assert_close(fast_soft_rank_loss(scores, labels, form="ndcg"), tensor(1 - 1 / log2(3.7)))


def test_hard_fast_soft_rank_is_one_less_spearmans_correlation():
    draw = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(2, 6, 10, generator=draw, dtype=torch.double)
    places = torch.stack([x.argsort().argsort().double() for x in (scores, labels)])
    centred = places - places.mean(-1, keepdim=True)
    correlation = (centred[0] * centred[1]).sum(-1) / centred.square().sum(-1).prod(0).sqrt()
    value = fast_soft_rank_loss(scores, labels, strength=1e-6, reduction="none")
    assert_close(value, 1 - correlation)
    value = fast_soft_rank_loss(scores, labels.round(), strength=1e-6, form="ndcg", reduction="none")
    some = (labels.round() > 0).any(-1)
    assert_close(value, torch.where(some, 1 - ndcg(scores, labels.round(), reduction="none"), 0))


def test_one_item_is_in_order():
    for loss in (fast_soft_rank_loss, neural_ndcg_loss, pirank_loss, soft_rank_loss):
        scores = tensor([[0.3]], requires_grad=True)
        value = loss(scores, tensor([[1.0]]))
        value.backward()
        assert_close(value, tensor(0.0), rtol=0.0, atol=1e-6)
        assert_close(scores.grad, tensor([[0.0]]))


def test_chances_are_normal():
    """One deviation apart, in units of the difference's own deviation."""
    value = soft_rank_loss(tensor([1.0, 0.0]), tensor([0.0, 1.0]), deviation=1 / sqrt(2))
    below = erfc(-1 / sqrt(2)) / 2
    assert_close(value, tensor(1 - (1 - below) - below / log2(3)), rtol=1e-5, atol=1e-6)


def test_arguments():
    lists = torch.zeros(2, 3), torch.ones(2, 3)
    for loss, name in (
        (neural_ndcg_loss, "temperature"),
        (pirank_loss, "temperature"),
        (soft_rank_loss, "deviation"),
        (fast_soft_rank_loss, "strength"),
    ):
        with pytest.raises(InputError, match=f"{name} must be above 0: got -1"):
            loss(*lists, **{name: -1.0})
    for loss in (neural_ndcg_loss, pirank_loss):
        with pytest.raises(InputError, match="k must be a whole number of at least 1"):
            loss(*lists, k=0)
    with pytest.raises(InputError, match="iterations must be a whole number of at least 0"):
        neural_ndcg_loss(*lists, iterations=-1)
    with pytest.raises(InputError, match="form must be 'distribution' or 'expected_rank'"):
        soft_rank_loss(*lists, form="normal")
    with pytest.raises(InputError, match="form must be 'spearman' or 'ndcg'"):
        fast_soft_rank_loss(*lists, form="kendall")


@pytest.mark.parametrize("loss", [neural_ndcg_loss, pirank_loss, soft_rank_loss])
def test_second_derivatives_are_an_error(loss):
    scores = tensor([0.1, 0.2], requires_grad=True)
    (slope,) = torch.autograd.grad(loss(scores, tensor([1.0, 0.0])), scores, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        slope.square().sum().backward()
