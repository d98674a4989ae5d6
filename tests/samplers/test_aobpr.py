"""Adaptive oversampling, against its mixture by brute force; the rest is laws."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rankwell.errors import InputError, UnknownName
from rankwell.models import MatrixFactorisation
from rankwell.samplers import AOBPRSampler, aobpr
from rankwell.types import Ragged

ITEMS = 10
LISTS = [[], [2], [0, 4, 9], [i for i in range(ITEMS) if i != 6], list(range(9)), [1, 3]]
"""Nothing, a little, ends and middle, all but one, 90 %, and what the user without a vector knows."""
USERS = torch.tensor(
    [[1.0, -2.0, 0.5], [0.0, 3.0, 0.1], [-1.0, -1.0, 2.0], [0.3, 0.3, -4.0], [2.0, 0.0, 1.0], [0, 0, 0]]
)
TABLE = torch.tensor(
    [[0.3, 1.0, -4.0], [0.9, 1.2, 2.0], [-0.2, 0.4, 1.0], [0.1, 0.4, 0.0], [-1.0, 0.9, 3.0],
     [0.5, -0.7, -2.0], [0.7, 0.2, 0.5], [0.2, 0.0, 6.0], [-0.6, 0.1, -1.0], [0.0, -0.3, 1.5]],
)  # fmt: skip


def ragged(lists: list[list[int]]) -> Ragged:
    sizes = torch.tensor([0, *map(len, lists)])
    return Ragged(sizes.cumsum(0), torch.tensor([item for own in lists for item in own], dtype=torch.int64))


def model(users: Tensor = USERS, items: Tensor = TABLE) -> MatrixFactorisation:
    made = MatrixFactorisation(len(users), len(items), dim=users.shape[1], similarity="dot")
    made.load_state_dict({"users": users, "items": items})
    return made


def sampler(known: Ragged | None = None, num_items: int = ITEMS, **own: Any) -> AOBPRSampler:
    return AOBPRSampler(ragged(LISTS) if known is None else known, num_items, **{"seed": 0, "ratio": 0.2, **own})


def ask(draw: AOBPRSampler, users: list[int], scorer: Any = None, samples: Tensor | None = None, **at: int) -> Any:
    samples = torch.arange(len(users)) if samples is None else samples
    return draw(torch.tensor(users), samples, **{"epoch": 0, "step": 0, **at}, scorer=scorer or model())


def mixture(user: int, ratio: float, spread: str) -> list[float]:
    """Probabilities of items, by the definition, one factor and one rank at a time."""
    weights = []
    for factor in range(3):
        column = TABLE[:, factor].tolist()
        mean = sum(column) / ITEMS
        variance = sum((value - mean) ** 2 for value in column) / ITEMS
        weights.append(abs(float(USERS[user, factor])) * (variance if spread == "variance" else math.sqrt(variance)))
    q = [0.0] * ITEMS
    of_rank = [math.exp(-(rank + 1) / (ratio * ITEMS)) for rank in range(ITEMS)]
    for factor, weight in enumerate(weights):
        ascending = sorted(range(ITEMS), key=lambda item: float(TABLE[item, factor]))
        # Equal values stand in the order of items in a descending order, which the ascending one turns round.
        descending = sorted(range(ITEMS), key=lambda item: -float(TABLE[item, factor]))
        assert descending[::-1] == ascending or len({float(x) for x in TABLE[:, factor]}) < ITEMS
        order = descending if USERS[user, factor] > 0 else descending[::-1]
        for rank, item in enumerate(order):
            q[item] += weight / sum(weights) * of_rank[rank] / sum(of_rank)
    left = sum(q[item] for item in range(ITEMS) if item not in LISTS[user])
    return [0.0 if item in LISTS[user] else q[item] / left for item in range(ITEMS)]


@pytest.mark.parametrize("spread", ["deviation", "variance"])
@pytest.mark.parametrize("user", range(5))
def test_draws_follow_the_mixture_and_log_q_states_it(user, spread):
    rows, n = 4_000, 20
    got = ask(sampler(n=n, ratio=0.4, spread=spread), [user] * rows)
    q = torch.tensor(mixture(user, 0.4, spread), dtype=torch.float64)
    torch.testing.assert_close(got.log_q.exp().double(), q[got.ids], rtol=1e-5, atol=0)
    counts = got.ids.flatten().bincount(minlength=ITEMS)
    there = q > 0
    assert counts[~there].sum() == 0
    chi_square = ((counts - rows * n * q) ** 2 / (rows * n * q))[there].sum()
    assert chi_square < 40  # 9 degrees of freedom: passed once in 10^5


def test_the_two_spreads_differ():
    assert mixture(0, 0.4, "deviation") != pytest.approx(mixture(0, 0.4, "variance"), rel=0.01)


@pytest.mark.parametrize(("sign", "best"), [(1.0, list(range(19, -1, -1))), (-1.0, list(range(20)))])
def test_each_rank_has_its_own_probability(sign, best):
    """λ = 2 over 20 items. An integer division of the exponent, as in LibRec, gives ranks 0 and 1, 2 and 3, … the same."""
    one = model(torch.tensor([[sign]]), torch.arange(20.0)[:, None])
    got = ask(sampler(ragged([[]]), 20, n=100, ratio=0.1), [0] * 100, one)
    q = {int(item): float(log_q) for item, log_q in zip(got.ids.flatten(), got.log_q.flatten(), strict=True)}
    for rank in range(7):
        assert q[best[rank]] - q[best[rank + 1]] == pytest.approx(1 / 2, abs=1e-5)
    assert math.exp(q[best[0]]) == pytest.approx((1 - math.exp(-1 / 2)) / (1 - math.exp(-20 / 2)), rel=1e-5)


def test_a_hard_distribution_still_reaches_what_is_left():
    """Ratio 0.01: rank 1 has e^-10 of rank 0. Who knows all but the last item gets it, and its log q is 0."""
    one = model(torch.tensor([[1.0]]), torch.arange(10.0, 0, -1)[:, None])
    got = ask(sampler(ragged([list(range(9))]), n=5, ratio=0.01), [0, 0], one)
    assert got.ids.tolist() == [[9] * 5] * 2 and not got.log_q.any()


def test_a_user_without_a_vector_draws_from_all_factors():
    got = ask(sampler(n=50), [5] * 200)
    assert set(got.ids.flatten().tolist()) == set(range(ITEMS)) - {1, 3}
    assert got.log_q.isfinite().all()


def test_rows_do_not_depend_on_the_batch_while_orders_last():
    users, samples = [0, 1, 2, 3, 4, 5, 0, 2], torch.arange(8) * 5 + 1
    whole = ask(sampler(n=7, refresh=100), users, None, samples, epoch=1)
    draw = sampler(n=7, refresh=100)
    for row, user in enumerate(users):
        mine = ask(draw, [user], None, samples[row : row + 1], epoch=1, step=row)
        assert mine.ids.equal(whole.ids[row : row + 1])
        torch.testing.assert_close(mine.log_q, whole.log_q[row : row + 1])


def test_blocks_change_nothing(monkeypatch):
    users = [3, 4, 2, 1, 4, 3]
    whole = ask(sampler(n=30), users)
    monkeypatch.setattr(aobpr, "BLOCK", 5)
    parts = ask(sampler(n=30), users)
    assert parts.ids.equal(whole.ids)
    torch.testing.assert_close(parts.log_q, whole.log_q)


@pytest.mark.parametrize(("refresh", "batch", "stale"), [(3, 7, 3), (1, 7, 1), (0, 5, 5), (0, 24, 1)])
def test_orders_are_those_of_the_last_refresh(refresh, batch, stale):
    """By steps, or every 10 log 10 = 23.03 rows."""
    draw, turned = sampler(refresh=refresh), model(items=-TABLE)
    ask(draw, [0] * batch)
    before = draw.ranking.clone()
    for _ in range(stale - 1):
        ask(draw, [0] * batch, turned)
        assert draw.ranking.equal(before)
    ask(draw, [0] * batch, turned)
    assert draw.ranking.tolist() == (-TABLE.T).argsort(dim=1, descending=True, stable=True).tolist()
    fresh = ask(sampler(refresh=refresh), [0, 1, 2], turned, epoch=3)
    assert ask(draw, [0, 1, 2], turned, epoch=3).ids.equal(fresh.ids)


def test_a_loaded_state_goes_on():
    draw, later = sampler(refresh=3), sampler(refresh=3)
    ask(draw, [0, 1])
    ask(draw, [0, 1], model(items=-TABLE))
    later.load_state_dict(draw.state_dict())
    assert later.state_dict().keys() == {"ranking", "scale", "clock"}
    for step in range(4):  # two with the old order, two with the new one
        one, other = (ask(which, [0, 1, 2], model(items=-TABLE), step=step) for which in (draw, later))
        assert one.ids.equal(other.ids) and one.log_q.equal(other.log_q)
    early = {name: value.clone() for name, value in draw.state_dict().items()}
    first = ask(draw, [0, 1, 2])
    ask(draw, [0, 1, 2], model(items=TABLE.roll(1, 0)))
    ask(draw, [0, 1, 2], model(items=TABLE.roll(1, 0)))
    draw.load_state_dict(early)  # what the newer orders imply is gone
    assert ask(draw, [0, 1, 2]).ids.equal(first.ids)


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="ratio must be above 0: got 0"):
        sampler(ratio=0.0)
    with pytest.raises(InputError, match="refresh must be a whole number of at least 0: got -1"):
        sampler(refresh=-1)
    with pytest.raises(InputError, match="n must be a whole number of at least 1: got 0"):
        sampler(n=0)
    with pytest.raises(UnknownName, match="Did you mean 'variance'"):
        sampler(spread="variances")
    with pytest.raises(InputError, match=r"1 users who know all 10 items \(first: row 1\)"):
        sampler(ragged([[3], list(range(ITEMS))]))
    with pytest.raises(InputError, match="aobpr asks the model for its negatives: pass scorer"):
        sampler()(torch.tensor([0]), torch.tensor([0]), epoch=0, step=0)


def test_no_gradient_is_recorded():
    made = model()
    got = ask(sampler(), [0], made)
    assert not got.log_q.requires_grad and made.items.grad is None
