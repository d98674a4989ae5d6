"""What is the uniform sampler's own; the rest is laws."""

import math

import pytest
import torch

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.samplers import SAMPLERS, UniformSampler, catalogue
from rankwell.types import Ragged

ITEMS = 20
KNOWN = Ragged(torch.tensor([0, 0, 3]), torch.tensor([0, 5, 19]))
"""Nothing, and three items."""


def sampler(**own: object) -> UniformSampler:
    return UniformSampler(KNOWN, ITEMS, seed=3, **own)  # type: ignore[arg-type]


@pytest.mark.parametrize("shared", [True, False])
def test_log_q_is_of_one_among_all(shared):
    got = sampler(shared=shared, collisions="keep")(torch.tensor([1]), torch.tensor([0]), epoch=0, step=0)
    assert got.collisions is None
    assert got.log_q.tolist() == pytest.approx([-math.log(20)])


def test_log_q_of_a_redraw_is_of_one_among_the_unknown():
    got = sampler(shared=False)(torch.tensor([0, 1]), torch.tensor([0, 1]), epoch=0, step=0)
    assert got.log_q.flatten().tolist() == pytest.approx([-math.log(20), -math.log(17)])


def test_a_user_who_knows_everything():
    known = Ragged(torch.tensor([0, 3, 4, 7]), torch.tensor([0, 1, 2, 1, 0, 1, 2]))
    with pytest.raises(InputError, match=r"nothing is left to draw for 2 users who know all 3 items \(first: row 0\)"):
        UniformSampler(known, 3, seed=0, shared=False)


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="cannot redraw for one row: mask collisions, or set shared to false"):
        sampler(collisions="redraw")
    with pytest.raises(InputError, match="at least one item and one negative: got 20 items, n = 0"):
        sampler(n=0)


@pytest.mark.parametrize("pairs", [1, 40, 1 << 19])
def test_what_is_expected_is_found_at_once_and_the_same(pairs, monkeypatch):
    """However many steps are looked through together, from whatever step on, and with other rows than were expected."""
    monkeypatch.setattr(catalogue, "PAIRS_AT_ONCE", pairs)
    plain, foresighted = sampler(n=30), sampler(n=30)
    rows = Ragged(torch.tensor([0, 4, 8, 11, 15]), torch.randint(2, (15,), generator=torch.Generator().manual_seed(0)))
    parts = list(torch.split(rows.values, rows.offsets.diff().tolist()))
    foresighted.expect(rows, epoch=2, step=5)
    parts[2] = 1 - parts[2]  # not those that were expected
    masked = 0
    for step in (5, 6, 7, 8, 9, 6):  # beyond the last, and again
        own = parts[min(step - 5, 3)]
        wanted, got = (one(own, own, epoch=2, step=step) for one in (plain, foresighted))
        assert got.ids.equal(wanted.ids) and got.collisions.equal(wanted.collisions)
        assert sorted(got.places.tolist()) == got.collisions.view(-1).nonzero().squeeze(1).tolist()
        masked += len(got.places)
    assert masked


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


@pytest.mark.parametrize("n", [5, 20_000])
def test_pools_are_keyed_by_step_however_many_are_drawn_at_once(n):
    """Each is what its own key gives, whichever step is asked first; and nobody's to change."""
    draw = UniformSampler(Ragged(torch.tensor([0, 0]), torch.zeros(0).long()), 1_000, n=n, seed=4)
    at_once = max(1, catalogue.AT_ONCE // n)
    none = torch.zeros(0).long()
    for step in (at_once + 1, at_once - 1, 0, at_once):
        bits = keyed.words(keyed.mix(4, 2, step), torch.tensor(0), torch.arange(n))
        for _ in range(2):
            pool = draw(none, none, epoch=2, step=step).ids
            assert pool.equal(keyed.high(bits, 1_000).sort().values)
            pool.zero_()
