"""Statistics of comparisons, against hand-worked values and simulated contenders."""

import itertools
import math

import numpy as np
import pytest

from rankwell.errors import InputError
from rankwell.evaluation.significance import difference, holm, mean_ranks, summarise, summarise_figures


def test_the_test_with_seeds_by_hand() -> None:
    # Ten users with d = 0.1 and 0.3 five times each: var d = 0.4 / 9 / 4 ... worked out below.
    base = np.linspace(0, 1, 10)
    steps = np.array([0.1, 0.3] * 5)
    first = np.stack([base + steps + 0.05, base + steps - 0.05])
    second = np.stack([base + 0.02, base - 0.02])
    v_users = (10 * 0.1**2 / 9) / 10
    v_first, v_second = (2 * 0.05**2) / 2, (2 * 0.02**2) / 2
    total = v_users + v_first + v_second
    freedom = total**2 / (v_users**2 / 9 + v_first**2 / 1 + v_second**2 / 1)
    found = difference(first, second)
    assert found.mean == pytest.approx(0.2)
    # Student's t with these degrees of freedom, integrated here instead of asked of SciPy.
    t = 0.2 / math.sqrt(total)
    grid = np.linspace(0, t, 200_001)
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    inside = np.trapezoid(constant * (1 + grid**2 / freedom) ** (-(freedom + 1) / 2), grid)
    assert found.p == pytest.approx(1 - 2 * inside, abs=1e-6)
    assert (found.wins, found.ties, found.losses) == (10, 0, 0)
    assert found.effect == pytest.approx(0.2 / math.sqrt(10 * 0.1**2 / 9))
    assert found.low < 0.2 < found.high and found.high - 0.2 == pytest.approx(0.2 - found.low)


def test_permutation_against_all_flips() -> None:
    steps = np.array([0.5, 0.2, -0.1, 0.3, 0.4, 0.1, -0.05, 0.25, 0.15, 0.35])
    means = [np.mean(steps * signs) for signs in itertools.product((-1, 1), repeat=10)]
    exact = np.mean(np.abs(means) >= abs(steps.mean()) - 1e-12)
    found = difference(np.array([steps]), np.zeros((1, 10)))
    assert found.p_permutation == pytest.approx(exact, abs=2e-3)


def test_many_users_leave_p_as_fine_as_few() -> None:
    """Resampling could not tell p below one over its draws, which Holm's factor then lifts above any level."""
    users = np.random.default_rng(0).normal(0.02, 1.0, size=(1, 30_000))
    found = difference(users, np.zeros((1, 30_000)))
    assert found.p_permutation == pytest.approx(found.p_t, rel=0.05)
    far = difference(users + 1, np.zeros((1, 30_000)))
    assert far.p_permutation < 1e-9


def test_one_seed_says_nothing_of_seeds() -> None:
    generator = np.random.default_rng(0)
    found = difference(generator.random((1, 50)), generator.random((3, 50)))
    assert math.isnan(found.p) and found.p_t > 0 and found.low < found.mean < found.high
    assert math.isnan(summarise(generator.random((1, 50))).over_seeds)


def test_few_users_are_not_tested() -> None:
    found = difference(np.ones((2, 9)), np.zeros((2, 9)))
    assert math.isnan(found.p) and math.isnan(found.p_t) and math.isnan(found.p_permutation)
    assert found.mean == 1 and found.wins == 9 and found.effect == math.inf


def test_identical_results_have_no_significance() -> None:
    values = np.random.default_rng(0).random((3, 40))
    found = difference(values, values)
    assert found.identical and found.effect == 0 and found.ties == 40
    assert found.p_permutation == found.p_t == 1.0 and found.p == 1.0
    constant = difference(np.ones((2, 40)), np.ones((2, 40)))
    assert constant.p == 1.0 and constant.low == constant.high == 0.0


def test_users_without_a_value_are_left_out() -> None:
    first, second = np.array([[1.0, np.nan, 3.0]]), np.array([[0.0, 1.0, np.nan]])
    assert difference(first, second).units == 1
    with pytest.raises(InputError, match="at least one user with a value under every seed"):
        difference(np.array([[np.nan]]), np.array([[1.0]]))
    with pytest.raises(InputError, match="the same users: got 2 and 3"):
        difference(np.ones((1, 2)), np.ones((1, 3)))


def test_variances_are_told_apart() -> None:
    users, seeds = np.array([0.0, 1.0, 2.0]), np.array([0.1, -0.1])
    found = summarise(users + seeds[:, None])
    assert found.over_units == pytest.approx(1.0) and found.over_seeds == pytest.approx(0.1 * math.sqrt(2))
    assert found.low < found.mean < found.high and found.mean == pytest.approx(1.0)


def test_level_of_the_test_where_seeds_matter() -> None:
    """Equal contenders whose seeds spread three times as much as their users: tests over users alone find a difference."""
    generator, found, alone = np.random.default_rng(1), 0, 0
    users = generator.normal(size=60)
    for _ in range(100):
        sides = [
            users + generator.normal(scale=0.5, size=(3, 60)) + generator.normal(scale=0.2, size=(3, 1)) for _ in "ab"
        ]
        result = difference(*sides)
        found, alone = found + (result.p < 0.05), alone + (result.p_t < 0.05)
    assert found <= 8 and alone >= 30


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, math.nan, 0.03, 0.5])[:2] == [pytest.approx(0.09), pytest.approx(0.04)]
    assert math.isnan(holm([math.nan, 0.2])[0]) and holm([math.nan, 0.2])[1] == 0.2
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_mean_ranks_share_ties() -> None:
    values = np.array([[3.0, 1.0], [2.0, 1.0], [1.0, 5.0]])
    assert mean_ranks(values).tolist() == [1.75, 2.25, 2.0]


def test_one_figure_a_result_has_no_interval() -> None:
    found = summarise_figures(np.array([0.5, 0.7, 0.9]))
    assert found.mean == pytest.approx(0.7) and found.over_seeds == pytest.approx(0.2)
    assert all(map(math.isnan, (found.low, found.high, found.over_units))) and (found.seeds, found.units) == (3, 0)
    assert math.isnan(summarise_figures(np.array([0.5])).over_seeds)


def test_a_constant_difference_has_no_spread_but_rounding() -> None:
    users = np.random.default_rng(0).random((2, 9))
    found = difference(users, users + 0.5)
    assert found.mean == pytest.approx(-0.5) and found.effect == -math.inf
