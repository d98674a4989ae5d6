import math

import pytest
import torch

from rankwell import keyed

WORD = 2**64 - 1


def reference(state: int) -> tuple[int, int]:
    """SplitMix64 as published, on Python's integers: the next state and the output."""
    state = (state + 0x9E3779B97F4A7C15) & WORD
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return state, z ^ (z >> 31)


def signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def chi_square_bound(cells: int) -> float:
    """A value that the statistic passes about once in 10^5 (Wilson and Hilferty's normal approximation)."""
    free = cells - 1
    return free * (1 - 2 / (9 * free) + 4.27 * math.sqrt(2 / (9 * free))) ** 3


def test_splitmix64_is_the_published_one():
    starts = [0, 1, 2**31, 2**63 - 1, 2**63, WORD, 0x123456789ABCDEF0]
    got = keyed.splitmix64(torch.tensor([signed(start) for start in starts]))
    assert got.tolist() == [signed(reference(start)[1]) for start in starts]


def test_splitmix64_leaves_its_input_alone():
    counters = torch.arange(5)
    keyed.splitmix64(counters)
    assert counters.tolist() == [0, 1, 2, 3, 4]


def test_mix_is_the_published_hash_step_by_step():
    def by_hand(*numbers: int) -> int:
        state = 0
        for number in numbers:
            state = reference(state ^ (number & WORD))[1]
        return state >> 1

    for numbers in [(0,), (1, 2, 3), (-1, 5), (2**63 - 1, 0)]:
        assert keyed.mix(*numbers) == by_hand(*numbers) < 2**63
    assert len({keyed.mix(seed, epoch, step) for seed in range(6) for epoch in range(6) for step in range(6)}) == 6**3


def test_draws_are_a_stream_of_the_samples_hash():
    key, n, bound = keyed.mix(3, 1), 4, 1000
    for sample in (0, 7, 2**40):
        state = reference(sample ^ key)[1]
        expected = []
        for _ in range(n):
            state = (state + 0x9E3779B97F4A7C15) & WORD
            expected.append(((reference(state)[1] >> 32) * bound) >> 32)
        assert keyed.draws(key, torch.tensor([sample]), n, bound)[0].tolist() == expected


def test_draws_depend_on_key_and_sample_alone():
    samples = torch.tensor([9, 2, 5, 2, 0])
    whole = keyed.draws(11, samples, 6, 50)
    assert whole[1].equal(whole[3])
    for row, sample in enumerate(samples):
        assert keyed.draws(11, sample[None], 6, 50)[0].equal(whole[row])
    order = torch.tensor([4, 0, 3, 1, 2])
    assert keyed.draws(11, samples[order], 6, 50).equal(whole[order])
    assert keyed.draws(11, samples, 3, 50).equal(whole[:, :3])  # fewer draws are the first ones
    assert not keyed.draws(12, samples, 6, 50).equal(whole)


@pytest.mark.parametrize("bound", [1, 2, 7, 64, 1000])
def test_draws_are_uniform(bound):
    count = 100 * bound + 5000
    drawn = keyed.draws(keyed.mix(0, 0), torch.arange(count // 5), 5, bound).flatten()
    assert int(drawn.min()) >= 0 and int(drawn.max()) < bound
    observed = torch.bincount(drawn, minlength=bound).double()
    expected = len(drawn) / bound
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert statistic == 0 if bound == 1 else statistic < chi_square_bound(bound)


def test_consecutive_draws_and_samples_are_unrelated():
    drawn = keyed.draws(5, torch.arange(8000), 2, 6)
    for left, right in ((drawn[:, 0], drawn[:, 1]), (drawn[:-1, 0], drawn[1:, 0])):
        observed = torch.bincount(left * 6 + right, minlength=36).double()
        expected = len(left) / 36
        assert float(((observed - expected) ** 2 / expected).sum()) < chi_square_bound(36)


def test_each_sample_has_its_own_bound():
    bounds = torch.tensor([1, 3, 2**31 - 1])
    drawn = keyed.draws(1, torch.tensor([4, 4, 4]), 400, bounds)
    assert not drawn[0].any()
    assert set(drawn[1].tolist()) == {0, 1, 2}
    assert int(drawn[2].min()) >= 0 and 2**30 < int(drawn[2].max()) < 2**31 - 1
    for row in range(3):
        alone = keyed.draws(1, torch.tensor([4]), 400, int(bounds[row]))
        assert alone[0].equal(drawn[row])


def test_generators_are_keyed():
    first, again, other = (torch.rand(3, generator=keyed.generator(*key)) for key in ((0, 1), (0, 1), (1, 0)))
    assert first.equal(again) and not first.equal(other)
