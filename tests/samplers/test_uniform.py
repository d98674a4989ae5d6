import math

import pytest
import torch

from rankwell.errors import InputError, UnknownName
from rankwell.samplers import SAMPLERS, UniformSampler
from rankwell.types import Ragged

ITEMS = 20
LISTS = [[], [3], [0, 1, 2, 5, 19], list(range(2, 20)), [i for i in range(ITEMS) if i != 7], [4, 8]]
"""Nothing, a little, both ends, 90 % of the catalogue, all but one item, and two."""


def ragged(lists: list[list[int]]) -> Ragged:
    sizes = torch.tensor([0, *map(len, lists)])
    return Ragged(sizes.cumsum(0), torch.tensor([item for own in lists for item in own], dtype=torch.int64))


def sampler(**own: object) -> UniformSampler:
    return UniformSampler(ragged(LISTS), ITEMS, seed=3, **own)  # type: ignore[arg-type]


def chi_square_bound(cells: int) -> float:
    """A value that the statistic passes about once in 10^5 (Wilson and Hilferty's normal approximation)."""
    free = max(cells - 1, 1)
    return free * (1 - 2 / (9 * free) + 4.27 * math.sqrt(2 / (9 * free))) ** 3


def check_frequencies(drawn: torch.Tensor, log_q: float, possible: list[int]) -> None:
    """What was drawn is possible, log q is the logarithm of a distribution over it, and the counts follow it."""
    assert set(drawn.tolist()) <= set(possible)
    assert math.exp(log_q) * len(possible) == pytest.approx(1)
    expected = len(drawn) * math.exp(log_q)
    observed = torch.bincount(drawn, minlength=ITEMS)[possible].double()
    assert float(((observed - expected) ** 2 / expected).sum()) < chi_square_bound(len(possible))


@pytest.mark.parametrize("user", range(len(LISTS)))
@pytest.mark.parametrize("collisions", ["redraw", "mask", "keep"])
def test_frequencies_of_rows_follow_log_q(user, collisions):
    rows = 400
    got = sampler(n=10, shared=False, collisions=collisions)(
        torch.full((rows,), user), torch.arange(rows), epoch=0, step=0
    )
    assert got.ids.shape == (rows, 10)
    log_q = got.log_q.expand(rows, 10)
    assert log_q.unique().numel() == 1
    possible = [item for item in range(ITEMS) if collisions != "redraw" or item not in LISTS[user]]
    check_frequencies(got.ids.flatten(), float(log_q[0, 0]), possible)


@pytest.mark.parametrize("collisions", ["auto", "mask", "keep"])
def test_frequencies_of_pools_follow_log_q(collisions):
    draw = sampler(n=64, collisions=collisions)
    pools = [
        draw(torch.tensor([1]), torch.tensor([0]), epoch=epoch, step=step) for epoch in (0, 1) for step in range(80)
    ]
    assert all(pool.ids.shape == (64,) for pool in pools)
    check_frequencies(torch.cat([pool.ids for pool in pools]), float(pools[0].log_q), list(range(ITEMS)))


def test_redraw_never_gives_a_known_positive():
    users = torch.arange(len(LISTS)).repeat(50)
    got = sampler(n=16, shared=False)(users, torch.arange(len(users)), epoch=2, step=0)
    assert got.collisions is None
    for user, ids in zip(users.tolist(), got.ids.tolist(), strict=True):
        assert not set(ids) & set(LISTS[user])
        if user == 4:
            assert set(ids) == {7}


@pytest.mark.parametrize("shared", [True, False])
def test_collisions_are_what_a_loop_finds(shared):
    users = torch.tensor([3, 0, 4, 1, 3, 2, 5])
    got = sampler(n=50, shared=shared, collisions="mask")(users, torch.arange(7), epoch=0, step=1)
    ids = got.ids.expand(7, 50)
    assert got.ids.shape == ((50,) if shared else (7, 50))  # 50 of 20 items: some repeat
    assert got.collisions is not None
    assert got.collisions.tolist() == [
        [item in LISTS[user] for item in row] for user, row in zip(users, ids.tolist(), strict=True)
    ]


def test_a_pools_mask_does_not_remember_earlier_pools():
    draw = sampler(n=5)
    users = torch.tensor([2, 3])
    for step in range(20):
        got = draw(users, torch.arange(2), epoch=0, step=step)
        assert got.collisions is not None
        assert got.collisions.tolist() == [[item in LISTS[user] for item in got.ids.tolist()] for user in (2, 3)]


def test_keep_has_no_mask():
    for shared in (True, False):
        assert (
            sampler(shared=shared, collisions="keep")(torch.tensor([3]), torch.tensor([0]), epoch=0, step=0).collisions
            is None
        )


@pytest.mark.parametrize("collisions", ["redraw", "mask", "keep"])
def test_rows_do_not_depend_on_their_batch(collisions):
    draw = sampler(n=6, shared=False, collisions=collisions)
    users, samples = torch.tensor([2, 5, 3, 1]), torch.tensor([40, 7, 12, 99])
    whole = draw(users, samples, epoch=1, step=0).ids
    order = torch.tensor([2, 0, 3, 1])
    assert draw(users[order], samples[order], epoch=1, step=8).ids.equal(whole[order])
    for row in range(4):
        assert draw(users[row : row + 1], samples[row : row + 1], epoch=1, step=3).ids[0].equal(whole[row])
    assert not draw(users, samples, epoch=2, step=0).ids.equal(whole)


def test_pools_depend_on_seed_epoch_and_step_alone():
    def pool(seed: int, epoch: int, step: int, users: list[int]) -> tuple[int, ...]:
        draw = UniformSampler(ragged(LISTS), ITEMS, seed=seed, n=12)
        return tuple(draw(torch.tensor(users), torch.tensor(users), epoch=epoch, step=step).ids.tolist())

    assert pool(0, 1, 2, [0, 1]) == pool(0, 1, 2, [5, 3, 4])
    assert len({pool(*key, [0]) for key in ((0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3), (0, 2, 1))}) == 5


def test_a_user_who_knows_everything():
    known = ragged([[0, 1, 2], [1], [0, 1, 2]])
    with pytest.raises(InputError, match=r"nothing is left to draw for 2 users who know all 3 items \(first: row 0\)"):
        UniformSampler(known, 3, seed=0, shared=False)
    got = UniformSampler(known, 3, seed=0, n=4)(torch.tensor([0, 1]), torch.tensor([0, 1]), epoch=0, step=0)
    assert got.collisions is not None and got.collisions[0].all() and not got.collisions[1].all()
    UniformSampler(known, 3, seed=0, shared=False, collisions="keep")


def test_a_catalogue_of_one():
    got = UniformSampler(ragged([[], [0]]), 1, seed=0, n=3)(torch.tensor([0, 1]), torch.tensor([0, 1]), epoch=0, step=0)
    assert got.ids.tolist() == [0, 0, 0] and float(got.log_q) == 0
    assert got.collisions is not None and got.collisions.tolist() == [[False] * 3, [True] * 3]
    alone = UniformSampler(ragged([[]]), 1, seed=0, n=2, shared=False)
    assert alone(torch.tensor([0]), torch.tensor([5]), epoch=0, step=0).ids.tolist() == [[0, 0]]


def test_nobody_knows_anything():
    for shared in (True, False):
        draw = UniformSampler(ragged([[], []]), 4, seed=0, n=3, shared=shared, collisions="mask")
        got = draw(torch.tensor([1]), torch.tensor([0]), epoch=0, step=0)
        assert got.collisions is not None and not got.collisions.any()


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="cannot redraw for one row: mask collisions, or set shared to false"):
        sampler(collisions="redraw")
    with pytest.raises(InputError, match="at least one item and one negative: got 20 items, n = 0"):
        sampler(n=0)


def test_is_registered():
    entry = SAMPLERS["uniform"]
    assert entry.function is UniformSampler
    assert {name: own.default for name, own in entry.parameters.items()} == {
        "n": 1024,
        "shared": True,
        "collisions": "auto",
    }


def test_an_unknown_way_with_collisions_offers_the_nearest():
    known = Ragged(torch.tensor([0, 1]), torch.tensor([0]))
    with pytest.raises(UnknownName, match="Did you mean 'redraw'"):
        UniformSampler(known, 3, seed=0, n=2, shared=False, collisions="redrawn")
