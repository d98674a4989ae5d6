"""Negatives near the user's vector, against a sorted list; the rest is laws."""

import sys
from typing import Any

import faiss
import pytest
import torch
from torch import Tensor

from rankwell.errors import InputError, MissingExtra, UnknownName
from rankwell.models import MatrixFactorisation
from rankwell.samplers import SAMPLERS, NearestSampler, nearest
from rankwell.types import Ragged

USERS, ITEMS = 30, 40
GENERATOR = torch.Generator().manual_seed(0)
USER_TABLE, ITEM_TABLE = torch.randn(USERS, 4, generator=GENERATOR), torch.randn(ITEMS, 4, generator=GENERATOR)
LISTS = [
    [],
    list(range(36)),
    [i for i in range(ITEMS) if i != 7],
    *(sorted({(5 * user + k * k) % ITEMS for k in range(user % 9)}) for user in range(3, USERS)),
]
"""Nothing, 90 %, all but one, and up to eight items."""
INDEXES = ["flat", "ivf", "hnsw"]


def ragged(lists: list[list[int]]) -> Ragged:
    sizes = torch.tensor([0, *map(len, lists)])
    return Ragged(sizes.cumsum(0), torch.tensor([item for own in lists for item in own], dtype=torch.int64))


def model(items: Tensor = ITEM_TABLE, similarity: Any = "dot") -> MatrixFactorisation:
    made = MatrixFactorisation(USERS, len(items), dim=4, similarity=similarity)
    made.load_state_dict({"users": USER_TABLE, "items": items})
    return made


def sampler(lists: list[list[int]] = LISTS, **own: Any) -> NearestSampler:
    return NearestSampler(ragged(lists), ITEMS, **{"seed": 0, "n": 3, "index": "flat", "window": 6, **own})


def ask(draw: NearestSampler, users: list[int], scorer: Any = None, samples: Tensor | None = None, **at: int) -> Tensor:
    samples = torch.arange(len(users)) if samples is None else samples
    got = draw(torch.tensor(users), samples, **{"epoch": 0, "step": 0, **at}, scorer=scorer or model())
    assert got.log_q is None and got.collisions is None
    return got.ids


def ranked(user: int, similarity: str = "dot", items: Tensor = ITEM_TABLE) -> list[int]:
    """What the user does not know, best first."""
    norms = items.norm(dim=1) if similarity == "cosine" else torch.ones(ITEMS)
    scores = ((items * USER_TABLE[user]).sum(1) / norms).tolist()
    return sorted(set(range(ITEMS)) - set(LISTS[user]), key=lambda item: -scores[item])


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("index", INDEXES)
def test_the_top_of_the_window_by_the_models_own_scores(index, similarity):
    users = [0, *range(3, USERS)]
    for skip in (0, 2):
        got = ask(sampler(index=index, choice="top", skip=skip), users, model(similarity=similarity))
        assert got.tolist() == [ranked(user, similarity)[skip : skip + 3] for user in users]


def test_the_window_is_drawn_from_uniformly_without_replacement():
    draw, rows = sampler(skip=1), 6_000
    got = ask(draw, [4] * rows)
    assert (got.sort(1).values.diff(dim=1) > 0).all()
    window = ranked(4)[1:7]
    for column in range(3):
        counts = got[:, column].bincount(minlength=ITEMS)[window]
        assert int(counts.sum()) == rows
        assert float(((counts - rows / 6) ** 2 / (rows / 6)).sum()) < 31  # 5 degrees of freedom: once in 10^5


@pytest.mark.parametrize("choice", ["random", "top"])
@pytest.mark.parametrize("index", INDEXES)
def test_users_with_little_left_get_the_rest_from_all_that_is_left(index, choice):
    got = ask(sampler(index=index, choice=choice, n=6), [1, 2] * 50)
    assert set(got[1::2].flatten().tolist()) == {7}
    assert set(got[::2].flatten().tolist()) == {36, 37, 38, 39}
    assert all(set(row[:4]) == {36, 37, 38, 39} for row in got[::2].tolist())  # the window first, then what fills it up


def test_few_spare_neighbours_leave_fewer_near_ones(monkeypatch):
    """Asked for 2 + 1 neighbours, a user who knows two of them has one; uniform draws fill up, never of known items."""
    monkeypatch.setattr(nearest, "SPARE", 1)
    best = (ITEM_TABLE @ USER_TABLE[0]).argsort(descending=True).tolist()
    lists = [sorted(best[:2]), *LISTS[1:]]
    got = ask(sampler(lists, window=2, n=2, choice="top"), [0] * 400)
    assert set(got[:, 0].tolist()) == {best[2]}
    assert set(got[:, 1].tolist()) == set(range(ITEMS)) - set(best[:2])


@pytest.mark.parametrize("index", INDEXES)
def test_rows_do_not_depend_on_the_batch(index):
    users, samples = list(range(USERS)) * 2, torch.arange(2 * USERS) * 3 + 1
    draw = sampler(index=index)
    whole = ask(draw, users, None, samples, epoch=2)
    for workers in (4, 60):
        for worker in range(workers):
            mine = ask(draw, users[worker::workers], None, samples[worker::workers], epoch=2, step=worker)
            assert mine.equal(whole[worker::workers])
    assert not ask(draw, users, None, samples, epoch=3).equal(whole)
    assert not ask(sampler(index=index, seed=1), users, None, samples, epoch=2).equal(whole)


@pytest.mark.parametrize("index", INDEXES)
def test_items_are_those_of_the_last_refresh(index):
    turned, draw = model(-ITEM_TABLE), sampler(index=index, choice="top", refresh=3)
    old, new = ranked(0)[:3], ranked(0, items=-ITEM_TABLE)[:3]
    assert ask(draw, [0]).tolist() == [old]
    assert [ask(draw, [0], turned).tolist() for _ in range(4)] == [[old], [old], [new], [new]]


@pytest.mark.parametrize("index", INDEXES)
def test_a_loaded_state_builds_the_same_index(index):
    draw, later = sampler(index=index, refresh=2), sampler(index=index, refresh=2)
    ask(draw, [0, 3])
    state = {name: value.clone() for name, value in draw.state_dict().items()}
    assert state.keys() == {"vectors", "steps"}
    later.load_state_dict(state)
    turned, users = model(-ITEM_TABLE), list(range(3, USERS))
    told = [ask(draw, users, turned, step=step) for step in range(3)]
    assert all(ask(later, users, turned, step=step).equal(ids) for step, ids in enumerate(told))
    assert not told[0].equal(told[1])  # the index of the loaded vectors, then that of the next refresh
    draw.load_state_dict(state)  # and a newer index is dropped
    assert ask(draw, users, turned).equal(told[0])


def test_the_number_of_threads_is_left_as_it_was():
    before = faiss.omp_get_max_threads()
    ask(sampler(index="hnsw"), [0])
    assert faiss.omp_get_max_threads() == before


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        MissingExtra, match=r"faiss is needed here and is not installed: pip install 'rankwell\[index\]'"
    ):
        sampler()


@pytest.mark.parametrize("name", ["hnsw", "ivf", "ANCE", "faiss"])
def test_other_names_lead_here(name):
    with pytest.raises(UnknownName, match="it is called 'nearest' here"):
        SAMPLERS[name]


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="at most all: got n = 7 and a window of 6"):
        sampler(n=7)
    with pytest.raises(InputError, match="skip must be a whole number of at least 0: got -1"):
        sampler(skip=-1)
    with pytest.raises(InputError, match="refresh must be a whole number of at least 1: got 0"):
        sampler(refresh=0)
    with pytest.raises(UnknownName, match=r"unknown value of index 'pq'\. Known: flat, hnsw, ivf"):
        sampler(index="pq")
    with pytest.raises(UnknownName, match="Did you mean 'random'"):
        sampler(choice="randomly")
    with pytest.raises(InputError, match=r"1 users who know all 40 items \(first: row 1\)"):
        sampler([[0], list(range(ITEMS))])
    with pytest.raises(InputError, match="nearest asks the model for its negatives: pass scorer"):
        sampler()(torch.tensor([0]), torch.tensor([0]), epoch=0, step=0)
