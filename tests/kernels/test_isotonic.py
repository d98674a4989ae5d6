"""Isotonic regression against the sequential algorithm, and the ranks that are made of it."""

import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.kernels import isotonic
from rankwell.kernels.isotonic import decreasing_fit, soft_ranks
from rankwell.lists import offsets_from_sizes


def pool_adjacent_violators(y, weight):
    """Value and weight of each pool; the last two are pooled as long as they stand in the wrong order."""
    pools = []
    for value, mass in zip(y, weight, strict=True):
        pools.append([value, mass, 1])
        while len(pools) > 1 and pools[-2][0] < pools[-1][0]:
            value, mass, size = pools.pop()
            left = pools[-1]
            pools[-1] = [
                (left[0] * left[1] + value * mass) / (left[1] + mass), left[1] + mass, left[2] + size,
            ]  # fmt: skip
    return [value for value, _, size in pools for _ in range(size)]


def brute(y, weight):
    rows = [pool_adjacent_violators(*row) for row in zip(y.tolist(), weight.tolist(), strict=True)]
    return torch.tensor(rows, dtype=torch.double)


@pytest.mark.parametrize("rounds", [16, 1, 0])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 33, 100])
def test_fit_is_that_of_the_sequential_algorithm(n, rounds, monkeypatch):
    """By rounds alone, by joining alone, and by some of both."""
    monkeypatch.setattr(isotonic, "ROUNDS", rounds)
    draw = torch.Generator().manual_seed(n)
    for trend in (0.0, 0.1, 1.0):
        y = torch.randn(5, n, generator=draw, dtype=torch.double) - trend * torch.arange(n)
        weight = torch.rand(5, n, generator=draw, dtype=torch.double) + 0.1
        assert_close(decreasing_fit(y, weight), brute(y, weight))
        assert_close(decreasing_fit(y / 5, weight.log(), "kl"), brute((y / 5).exp(), weight).log())


def test_fit_where_every_round_pools_but_two():
    """A low first item, then ever so slowly falling ones: the pool takes one neighbour at a time."""
    y = torch.cat([torch.zeros(1), 1 - torch.arange(500) * 1e-6]).double()[None]
    one = torch.ones_like(y)
    assert_close(decreasing_fit(y, one), brute(y, one))


def test_equal_numbers_are_not_pooled_by_rounding(monkeypatch):
    """Padding repeats the last value; that must not draw it into a pool of the others."""
    monkeypatch.setattr(isotonic, "ROUNDS", 0)
    y = tensor([[0.0017, -0.0093, -0.0223, -0.0416, -0.0827, -0.0771, -0.0892]]).double()
    weight = tensor([[0.8343, 0.2763, 0.8052, 0.6924, 0.5755, 0.2286, 0.2303]]).double()
    assert_close(decreasing_fit(y, weight.log(), "kl"), brute(y.exp(), weight).log())


@pytest.mark.parametrize("regularisation", ["l2", "kl"])
def test_soft_ranks_sum_to_those_of_a_permutation_and_become_them(regularisation):
    scores = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    hard = (scores[:, None] > scores[..., None]).sum(-1) + 1.0
    for strength in (1e-6, 0.1, 1.0, 100.0):
        ranks = soft_ranks(scores, strength=strength, regularisation=regularisation)
        assert_close(ranks.sum(-1), torch.full((4,), 50 * 51 / 2), rtol=1e-5, atol=0.0)
        if strength == 1e-6:
            assert_close(ranks, hard)
    assert_close(soft_ranks(scores, strength=1e8, regularisation=regularisation), torch.full((4, 50), 51 / 2))


def test_two_items():
    """Closer than a strength they stand half their gap beside the middle; kl shares 3 by exponentials."""
    assert_close(soft_ranks(tensor([0.4, 0.0])), tensor([1.5 - 0.2, 1.5 + 0.2]))
    assert_close(soft_ranks(tensor([0.4, 0.0]), strength=0.4), tensor([1.0, 2.0]))
    total = math.exp(-0.4) + 1
    assert_close(soft_ranks(tensor([0.4, 0.0]), regularisation="kl"), tensor([3 * math.exp(-0.4) / total, 3 / total]))


@pytest.mark.parametrize("regularisation", ["l2", "kl"])
def test_gradient_is_numerical(regularisation):
    draw = torch.Generator().manual_seed(1)
    scores = (torch.randn(3, 12, generator=draw, dtype=torch.double) * 4).requires_grad_()
    where = torch.rand(3, 12, generator=draw) < 0.8

    def ranks(x):
        return soft_ranks(x, where=where, regularisation=regularisation)

    assert torch.autograd.gradcheck(ranks, scores)
    assert torch.autograd.gradgradcheck(ranks, scores)


@pytest.mark.parametrize("regularisation", ["l2", "kl"])
def test_ragged_is_a_loop_and_masked_is_absent(regularisation):
    sizes = [3, 0, 7, 1, 5]
    scores = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(2))
    ragged = soft_ranks(scores, offsets=offsets_from_sizes(tensor(sizes)), regularisation=regularisation)
    loop = [soft_ranks(part, regularisation=regularisation) for part in scores.split(sizes)]
    assert_close(ragged, torch.cat(loop))
    where = torch.arange(7) % 3 > 0
    poisoned = torch.where(where, scores[:7], torch.nan)
    ranks = soft_ranks(poisoned, where=where, regularisation=regularisation)
    assert_close(ranks[where], soft_ranks(scores[:7][where], regularisation=regularisation))
    assert not ranks[~where].any()


def test_large_scores_and_a_long_list():
    """Scores of ten thousand, one list of 30,000: float64 inside keeps the sum of the ranks."""
    n = 30_000
    scores = torch.randn(n, generator=torch.Generator().manual_seed(3)) * 1e4
    for regularisation in ("l2", "kl"):
        ranks = soft_ranks(scores, regularisation=regularisation).double()
        assert_close(ranks.sum(), tensor(n * (n + 1) / 2, dtype=torch.double), rtol=1e-6, atol=0.0)


def test_arguments():
    with pytest.raises(InputError, match="strength must be above 0: got 0"):
        soft_ranks(torch.zeros(3), strength=0.0)
    with pytest.raises(InputError, match="regularisation must be 'l2' or 'kl': got 'l1'"):
        soft_ranks(torch.zeros(3), regularisation="l1")
