import math

import pytest
import torch

from rankwell.errors import InputError
from rankwell.samplers import LogUniformSampler, PopularitySampler
from rankwell.types import Negatives, Ragged

KNOWN = Ragged(torch.tensor([0, 2, 3, 4, 7]), torch.tensor([1, 3, 3, 3, 0, 1, 3]))
"""Counts 1, 2, 0, 4, 0."""
COUNTS = [1, 2, 0, 4, 0]


def rows(draw, user: int = 2, count: int = 300) -> Negatives:
    return draw(torch.full((count,), user), torch.arange(count), epoch=0, step=0)


def stated(got: Negatives) -> dict[int, float]:
    """The probability that is stated for each item drawn."""
    return dict(zip(got.ids.flatten().tolist(), got.log_q.expand_as(got.ids).exp().flatten().tolist(), strict=True))


@pytest.mark.parametrize(("exponent", "smoothing"), [(0.75, 1.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.25)])
def test_log_q_is_the_power_of_the_count(exponent, smoothing):
    own = {"exponent": exponent, "smoothing": smoothing}
    got = rows(PopularitySampler(KNOWN, 5, seed=0, n=20, shared=False, collisions="keep", **own))
    weights = [(count + smoothing) ** exponent if count + smoothing else 0 for count in COUNTS]
    expected = {item: weight / sum(weights) for item, weight in enumerate(weights) if weight}
    assert stated(got) == pytest.approx(expected, rel=1e-5)


def test_a_redraws_log_q_is_of_what_the_row_has_left():
    """User 0 knows items 1 and 3: with exponent 1, items 0, 2, 4 weigh 2, 1, 1."""
    got = rows(PopularitySampler(KNOWN, 5, seed=0, n=20, shared=False, exponent=1.0), user=0)
    assert stated(got) == pytest.approx({0: 0.5, 2: 0.25, 4: 0.25}, rel=1e-5)


def test_without_smoothing_nobody_is_left_for_who_knows_all_that_is_popular():
    with pytest.raises(InputError, match=r"1 users who know every item that has a weight \(first: row 3\)"):
        PopularitySampler(KNOWN, 5, seed=0, shared=False, smoothing=0.0)


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match=r"at least 0: got -1\.0 and 1\.0"):
        PopularitySampler(KNOWN, 5, seed=0, exponent=-1.0)
    with pytest.raises(InputError, match=r"at least 0: got 0\.75 and nan"):
        PopularitySampler(KNOWN, 5, seed=0, smoothing=math.nan)


def test_log_uniform_ranks_by_popularity():
    """Ranks: item 3, 1, 0, then 2 and 4, which nobody knows, by their codes."""
    got = rows(LogUniformSampler(KNOWN, 5, seed=0, n=20, shared=False, collisions="keep"))
    ranks = {3: 1, 1: 2, 0: 3, 2: 4, 4: 5}
    expected = {item: (math.log(rank + 1) - math.log(rank)) / math.log(6) for item, rank in ranks.items()}
    assert stated(got) == pytest.approx(expected, rel=1e-5)
