"""Several positives a row: never another's, never twice, as likely as stated."""

import math
from collections import Counter
from itertools import permutations
from typing import Any

import pytest
import torch

from rankwell.errors import InputError
from rankwell.models import MatrixFactorisation
from rankwell.samplers import POSITIVES, HardnessPositives, RarityPositives, UniformPositives
from rankwell.types import Ragged

ITEMS = 12
LISTS = [[3], [0, 4], [1, 2, 5, 7, 8, 11], list(range(ITEMS)), [], [0, 1, 2, 3]]
"""One, two, some, everything, nothing, and four."""
SEVERAL = [name for name in POSITIVES.names() if name != "one"]


def ragged(lists: list[list[int]]) -> Ragged:
    return Ragged(
        torch.tensor([0, *map(len, lists)]).cumsum(0),
        torch.tensor([item for own in lists for item in own], dtype=torch.int64),
    )


def model() -> MatrixFactorisation:
    made = MatrixFactorisation(len(LISTS), ITEMS, dim=4)
    made.initialise(ragged(LISTS), seed=0)
    return made


def ask(
    name: str, users: list[int], items: list[int], *, samples: Any = None, epoch: int = 0, seed: int = 0, **own: Any
) -> Any:
    draw = POSITIVES[name].function(ragged(LISTS), ITEMS, seed=seed, **own)
    samples = torch.arange(len(users)) if samples is None else samples
    return draw(torch.tensor(users), samples, torch.tensor(items), epoch=epoch, scorer=model())


@pytest.mark.parametrize("m", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("name", SEVERAL)
def test_known_items_none_twice_and_as_many_as_there_are(name, m):
    users = [user for user in range(len(LISTS)) for _ in range(30) if LISTS[user]]
    items = [LISTS[user][place % len(LISTS[user])] for place, user in enumerate(users)]
    own = {"candidates": max(m - 1, 8)} if name == "hardness" else {}
    ids, where = ask(name, users, items, m=m, **own)
    assert ids.shape == where.shape == (len(users), m)
    for user, item, row, there in zip(users, items, ids.tolist(), where.tolist(), strict=True):
        drawn = [each for each, valid in zip(row, there, strict=True) if valid]
        assert row[0] == item and there[0]
        assert len(set(drawn)) == len(drawn) == min(m, len(LISTS[user]))
        assert set(drawn) <= set(LISTS[user])
        assert all(each == item for each, valid in zip(row, there, strict=True) if not valid)


@pytest.mark.parametrize("name", SEVERAL)
def test_a_row_depends_on_seed_epoch_and_sample_alone(name):
    users, items = [3, 2, 5, 3, 2], [0, 7, 1, 9, 11]
    samples = torch.tensor([4, 90, 17, 5, 6])
    whole = ask(name, users, items, samples=samples, m=3)
    for row in range(5):
        alone = ask(name, [users[row]], [items[row]], samples=samples[[row]], m=3)
        assert alone.ids[0].equal(whole.ids[row])
    many = [3] * 50
    first = ask(name, many, [0] * 50, m=4)
    assert not first.ids.equal(ask(name, many, [0] * 50, m=4, epoch=1).ids)
    assert not first.ids.equal(ask(name, many, [0] * 50, m=4, seed=1).ids)


def check_frequencies(found: Counter, expected: dict[tuple[int, ...], float]) -> None:
    total, free = found.total(), len(expected) - 1
    assert set(found) <= set(expected) and sum(expected.values()) == pytest.approx(1)
    statistic = sum((found[key] - total * share) ** 2 / (total * share) for key, share in expected.items())
    assert statistic < free * (1 - 2 / (9 * free) + 4.27 * math.sqrt(2 / (9 * free))) ** 3


@pytest.mark.parametrize("name", ["uniform", "rarity"])
def test_orders_are_as_likely_as_successive_draws(name):
    """All orders of three of user 2's five others, by enumeration."""
    own = {"exponent": 1.3} if name == "rarity" else {}
    ids, _ = ask(name, [2] * 12_000, [5] * 12_000, m=4, **own)
    counts = Counter(item for mine in LISTS for item in mine)
    weight = {item: 1.0 if name == "uniform" else counts[item] ** -1.3 for item in LISTS[2] if item != 5}
    expected = {}
    for order in permutations(weight, 3):
        left, share = sum(weight.values()), 1.0
        for item in order:
            share, left = share * weight[item] / left, left - weight[item]
        expected[order] = share
    check_frequencies(Counter(map(tuple, ids[:, 1:].tolist())), expected)


def test_an_own_item_that_is_not_known_leaves_all_others():
    ids, where = UniformPositives(ragged(LISTS), ITEMS, seed=0, m=3)(
        torch.tensor([1, 4]), torch.tensor([0, 1]), torch.tensor([9, 9]), epoch=0
    )
    assert sorted(ids[0].tolist()) == [0, 4, 9] and where[0].all()
    assert where[1].tolist() == [True, False, False] and ids[1].tolist() == [9, 9, 9]


def test_the_lowest_scored_of_all_candidates():
    """With as many candidates as the user has others, hardness is a sort."""
    scores = model().score_all(torch.tensor([3]))[0]
    ids, _ = ask("hardness", [3], [6], m=4, candidates=11)
    assert ids[0, 1:].tolist() == [item for item in scores.argsort().tolist() if item != 6][:3]
    easy = ask("uniform", [3] * 200, [6] * 200, m=2).ids[:, 1]
    hard = ask("hardness", [3] * 200, [6] * 200, m=2, candidates=4).ids[:, 1]
    assert scores[hard].mean() < scores[easy].mean()


def test_nobody_knows_anything():
    ids, where = UniformPositives(ragged([[], []]), ITEMS, seed=0, m=2)(
        torch.tensor([1]), torch.tensor([0]), torch.tensor([3]), epoch=0
    )
    assert ids.tolist() == [[3, 3]] and where.tolist() == [[True, False]]


def test_options():
    known = ragged(LISTS)
    with pytest.raises(InputError, match="m must be a whole number of at least 1: got 0"):
        UniformPositives(known, ITEMS, seed=0, m=0)
    with pytest.raises(InputError, match="exponent must be at least 0: got -1"):
        RarityPositives(known, ITEMS, seed=0, exponent=-1.0)
    with pytest.raises(InputError, match="candidates must be a whole number of at least 4: got 3"):
        HardnessPositives(known, ITEMS, seed=0, m=5, candidates=3)
    with pytest.raises(InputError, match="hardness asks the model for scores: pass a scorer"):
        HardnessPositives(known, ITEMS, seed=0)(torch.tensor([3]), torch.tensor([0]), torch.tensor([0]), epoch=0)
