"""Variance-based sampling from a memory, worked by hand; the rest is laws."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.models import MatrixFactorisation
from rankwell.samplers import SRNSSampler
from rankwell.types import Ragged

ITEMS = 10
LISTS = [[0], [1, 2], list(range(9)), [i for i in range(ITEMS) if i != 4]]
"""One item, two, 90 %, and all but one."""


def ragged(lists: list[list[int]]) -> Ragged:
    sizes = torch.tensor([0, *map(len, lists)])
    return Ragged(sizes.cumsum(0), torch.tensor([item for own in lists for item in own], dtype=torch.int64))


def model(items: list[float], users: int = len(LISTS)) -> MatrixFactorisation:
    """One factor; all users have 1 there, so that an item's value is its score."""
    made = MatrixFactorisation(users, len(items), dim=1, similarity="dot")
    made.load_state_dict({"users": torch.ones(users, 1), "items": torch.tensor(items)[:, None]})
    return made


VALUES = [0.5, -1.0, 0.2, 0.9, 0.1, 0.4, -0.3, 0.0, 0.8, -0.6]


def sampler(lists: list[list[int]] | None = None, num_items: int = ITEMS, **own: Any) -> SRNSSampler:
    return SRNSSampler(ragged(LISTS if lists is None else lists), num_items, **{"seed": 0, "n": 2, "size": 5, **own})


def ask(draw: SRNSSampler, users: list[int], scorer: Any, samples: list[int] | None = None, **at: int) -> Tensor:
    keys = torch.tensor(list(range(len(users))) if samples is None else samples)
    positives = torch.tensor([LISTS[user][0] for user in users])
    got = draw(torch.tensor(users), keys, **{"epoch": 0, "step": 0, **at}, positives=positives, scorer=scorer)
    assert got.log_q is None and got.collisions is None
    return got.ids


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_in_the_first_epoch_the_best_of_the_memory_come_first():
    draw = sampler(n=3)
    draw.memory[0] = torch.tensor([6, 3, 7, 8, 5])
    assert ask(draw, [0], model(VALUES)).tolist() == [[3, 8, 5]]


@pytest.mark.parametrize(("alpha", "warm_up"), [(5.0, 4), (5.0, 1), (1.0, 1), (20.0, 2), (0.0, 1)])
def test_what_still_moves_comes_before_what_is_settled(alpha, warm_up):
    """Three epochs: item 3 stays high, item 6 comes up from far below, the positive 0 moves as well."""
    epochs = [[0.1, 0, 0, 0.9, 0, 0.2, -3.0, 0, 0.7, 0], [0.3, 0, 0, 0.9, 0, 0.1, -1.0, 0, 0.8, 0], VALUES]
    draw = sampler(n=5, alpha=alpha, warm_up=warm_up)
    memory = [6, 3, 7, 8, 5]
    for epoch, values in enumerate(epochs):
        draw.memory[0] = torch.tensor(memory)
        got = ask(draw, [0], model(values), epoch=epoch)
    worth = {}
    for item in memory:
        then = [sigmoid(values[item] - values[0]) for values in epochs]
        deviation = math.sqrt(sum((p - sum(then) / 3) ** 2 for p in then) / 3)
        worth[item] = then[-1] + alpha * min(1, 2 / warm_up) * deviation
    expected = sorted(memory, key=worth.__getitem__, reverse=True)
    assert got.tolist() == [expected]
    assert (expected[0] == 6) == (alpha * min(1, 2 / warm_up) > 3)


def test_the_deviation_is_of_the_last_epochs_alone():
    """Window 2 at epoch 2: that item 6 had been far below in epoch 0 is forgotten, that 7 moved in epoch 1 is not."""
    far, moved = [*VALUES], [*VALUES]
    far[6], moved[7] = -50.0, -50.0
    for window, best in ((2, 7), (3, 6)):
        draw = sampler(n=1, alpha=20.0, warm_up=1, window=window)
        for epoch, values in enumerate((far, moved, VALUES)):
            draw.memory[0] = torch.tensor([6, 3, 7, 8, 5] if best == 7 else [6, 3, 2, 8, 5])
            got = ask(draw, [0], model(values), epoch=epoch)
        assert got.tolist() == [[best]]


def test_an_epochs_start_is_what_is_kept():
    draw = sampler(n=1, window=2)
    for epoch, values in ((0, VALUES), (0, VALUES[::-1]), (1, VALUES[::-1]), (2, VALUES[1:] + VALUES[:1])):
        ask(draw, [0], model(values), epoch=epoch)
    assert draw.epochs_then.tolist() == [2, 1]
    torch.testing.assert_close(draw.items_then[:, :, 0], torch.tensor([VALUES[1:] + VALUES[:1], VALUES[::-1]]))
    assert draw.users_then.equal(torch.ones(2, len(LISTS), 1))


def test_who_stays_is_drawn_by_the_scores():
    """A memory of one, holding item 3, and one fresh item of nine: it stays or goes in proportion to e^(s/t)."""
    users, temperature = 40_000, 0.5
    draw = sampler([[0]] * users, n=1, size=1, candidates=1, temperature=temperature)
    draw.memory[:] = 3
    rows = torch.arange(users)
    draw(rows, rows, epoch=0, step=0, positives=torch.zeros_like(rows), scorer=model(VALUES, users))
    weight = [math.exp(value / temperature) for value in VALUES]
    share = [0.0] * ITEMS
    for fresh in range(1, ITEMS):
        share[3] += 1 / 9 * (1 if fresh == 3 else weight[3] / (weight[3] + weight[fresh]))
        if fresh != 3:
            share[fresh] += 1 / 9 * weight[fresh] / (weight[3] + weight[fresh])
    expected = users * torch.tensor(share[1:])
    counts = draw.memory.flatten().bincount(minlength=ITEMS)
    assert not counts[0] and float(((counts[1:] - expected) ** 2 / expected).sum()) < 38  # 8 degrees: once in 10^5


def test_a_memory_comes_to_hold_the_hard_and_each_once():
    draw = sampler([[0], [3]], temperature=0.01)
    for step in range(30):
        ask(draw, [0, 1], model(VALUES, 2), step=step, samples=[2 * step, 2 * step + 1])
    assert sorted(draw.memory[0].tolist()) == [2, 3, 4, 5, 8]
    assert sorted(draw.memory[1].tolist()) == [0, 2, 4, 5, 8]


def test_rows_of_one_user_share_a_memory_and_renew_it_once():
    """The lowest sample is the key, wherever its row stands and whatever other users there are."""
    alone, several, mixed = sampler(), sampler(), sampler()
    for draw in (alone, several, mixed):
        draw.memory[0] = torch.tensor([6, 3, 7, 8, 5])
    assert ask(alone, [0], model(VALUES), [4]).tolist() == [[3, 8]]
    assert ask(several, [0, 0, 0], model(VALUES), [9, 4, 7]).tolist() == [[3, 8]] * 3
    ask(mixed, [1, 0, 2, 0], model(VALUES), [1, 9, 2, 4])
    assert alone.memory[0].equal(several.memory[0]) and alone.memory[0].equal(mixed.memory[0])
    assert alone.memory[1:].equal(several.memory[1:]) and not alone.memory[1].equal(mixed.memory[1])


def test_users_who_know_nearly_everything():
    draw = sampler(n=4)
    for epoch in range(4):
        got = ask(draw, [2, 3, 2], model(VALUES), epoch=epoch)
        assert got.tolist() == [[9] * 4, [4] * 4, [9] * 4]
        assert not {0} & set(ask(draw, [0] * 5, model(VALUES), epoch=epoch).flatten().tolist())
    two = sampler([list(range(8))], n=3)
    for epoch in range(4):
        row = ask(two, [0], model(VALUES, 1), epoch=epoch).tolist()[0]
        assert epoch == 0 or (row[:2] == [8, 9] and set(row) == {8, 9})  # each before one again


def test_results_of_a_row_are_distinct_once_the_memory_is():
    draw = sampler(n=5)
    for epoch in range(3):
        for row in ask(draw, [0, 1, 1], model(VALUES), epoch=epoch).tolist():
            assert epoch == 0 or len(set(row)) == 5


def test_a_loaded_state_goes_on():
    draw, later = sampler(warm_up=1), sampler(warm_up=1)
    for epoch in range(3):
        ask(draw, [0, 1, 0], model([value * (epoch + 1) for value in VALUES]), epoch=epoch)
    later.load_state_dict(draw.state_dict())
    for epoch in (2, 3, 4):
        assert ask(draw, [0, 1], model(VALUES), epoch=epoch).equal(ask(later, [0, 1], model(VALUES), epoch=epoch))
    for name, value in draw.state_dict().items():
        assert value.equal(later.state_dict()[name])


@pytest.mark.parametrize("name", ["n", "size", "candidates", "warm_up", "window"])
def test_counts_must_be_above_zero(name):
    with pytest.raises(InputError, match=f"{name} must be a whole number of at least 1: got 0"):
        sampler(**{name: 0})


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="at most all: got n = 6 and a size of 5"):
        sampler(n=6)
    with pytest.raises(InputError, match="alpha must be at least 0: got -1"):
        sampler(alpha=-1.0)
    with pytest.raises(InputError, match="temperature must be above 0: got 0"):
        sampler(temperature=0.0)
    with pytest.raises(InputError, match=r"1 users who know all 10 items \(first: row 1\)"):
        sampler([[0], list(range(ITEMS))])
    users = torch.tensor([0])
    with pytest.raises(InputError, match="srns asks the model for its negatives: pass scorer"):
        sampler()(users, users, epoch=0, step=0, positives=users)
    with pytest.raises(InputError, match=r"compares with each row's positive, \(1,\): got none"):
        sampler()(users, users, epoch=0, step=0, scorer=model(VALUES))
    with pytest.raises(InputError, match=r"positive, \(1,\): got \(1, 2\)"):
        sampler()(users, users, epoch=0, step=0, positives=torch.zeros(1, 2).long(), scorer=model(VALUES))
