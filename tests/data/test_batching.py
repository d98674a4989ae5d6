"""Ways of batching: what all of them promise, and each one's own law."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from rankwell.data import BATCHES, Batches, ClassBalancedBatches, HighLossBatches, NoDuplicatesBatches
from rankwell.errors import ConfigError, InputError, UnknownName

ROWS, USERS, ITEMS = 300, 25, 18


def pairs(rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """Distinct pairs; item 0 is in every fourth."""
    codes = torch.randperm(USERS * ITEMS, generator=torch.Generator().manual_seed(0))[:rows]
    return codes // ITEMS, codes % ITEMS


def popular() -> tuple[Tensor, Tensor]:
    """Item 0 has more rows than there are batches of 16, and so has user 0."""
    users = torch.cat([torch.arange(40), torch.zeros(30, dtype=torch.int64), torch.arange(60) % 17 + 1])
    items = torch.cat([torch.zeros(40, dtype=torch.int64), torch.arange(30) + 1, torch.arange(60) // 17 + 40])
    return users, items


OPTIONS: dict[str, dict[str, Any]] = {
    "no_duplicates-users": {"users": True},
    "class_balanced-users": {"classes": "user", "small": "leave_out"},
    "high_loss-unbiased": {"unbiased": True},
}
WAYS = [*BATCHES.names(), *OPTIONS]
COVERING = ["shuffled", "no_duplicates", "no_duplicates-users", "high_loss"]
"""Hold every row of a pass exactly once; high losses, of the first pass."""


def build(way: str, of: tuple[Tensor, Tensor] | None = None, size: int = 16, seed: int = 3, **own: Any) -> Batches:
    made: Batches = BATCHES[way.partition("-")[0]].function(
        of or pairs(), size, seed=seed, **{**OPTIONS.get(way, {}), **own}
    )
    return made


def indices(batches: Batches, epoch: int = 0, start: int = 0) -> list[list[int]]:
    return [batch.index.tolist() for batch in batches.of_epoch(epoch, start)]


@pytest.mark.parametrize("way", WAYS)
def test_the_same_key_gives_the_same_batches_from_any_start(way):
    whole = indices(build(way), epoch=1)
    state = torch.random.get_rng_state()
    for start in (0, 1, len(whole) // 2, len(whole)):
        assert indices(build(way), epoch=1, start=start) == whole[start:]
    assert torch.random.get_rng_state().equal(state)
    assert indices(build(way), epoch=2) != whole and indices(build(way, seed=4), epoch=1) != whole


@pytest.mark.parametrize("way", WAYS)
def test_steps_are_known_beforehand_and_batches_are_not_larger_than_asked(way):
    for of in (pairs(), pairs(137), popular()):
        batches = build(way, of, size=8)
        passed = indices(batches)
        assert batches.steps(0) == len(passed) >= math.ceil(len(of[0]) / 8)
        assert all(1 <= len(index) <= 8 for index in passed)


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_holds_the_users_and_items_of_its_rows(way):
    users, items = pairs()
    for batch in build(way).of_epoch(0):
        assert batch.users.equal(users[batch.index]) and batch.items.equal(items[batch.index])
        assert batch.index.dtype == torch.int64


@pytest.mark.parametrize("way", COVERING)
@pytest.mark.parametrize("of", [pairs, popular])
def test_a_pass_holds_every_row_once(way, of):
    passed = indices(build(way, of()))
    assert sorted(row for index in passed for row in index) == list(range(len(of()[0])))


@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_batched_is_refused(way):
    with pytest.raises(InputError, match=r"same shape: got \(300,\) and \(299,\)"):
        build(way, (pairs()[0], pairs()[1][:-1]))
    with pytest.raises(ConfigError, match="batch_size must be at least 1: got 0"):
        build(way, size=0)
    with pytest.raises(ConfigError, match="start must be a step of the epoch, 0 … "):
        build(way).of_epoch(0, 1_000)


# -------------------------------------------------------------------------------------------------------- no duplicates


@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("of", [pairs, popular])
@pytest.mark.parametrize("epoch", range(3))
def test_nothing_stands_twice(of, users, epoch):
    for batch in NoDuplicatesBatches(of(), 16, seed=0, users=users).of_epoch(epoch):
        assert len(batch.items.unique()) == len(batch.items)
        if users:
            assert len(batch.users.unique()) == len(batch.users)


def test_there_are_as_many_batches_as_the_most_popular_item_has_rows():
    sizes = [len(index) for index in indices(NoDuplicatesBatches(popular(), 16, seed=0))]
    assert len(sizes) == 40 and max(sizes) - min(sizes) == 1  # 130 rows in 40 batches, where 16 would make 9


def test_full_batches_where_no_item_is_that_popular():
    sizes = [len(index) for index in indices(NoDuplicatesBatches(pairs(), 10, seed=0))]
    assert sizes == [10] * 30


def test_the_rows_of_an_item_are_not_in_consecutive_batches():
    """An item of three rows: the gaps between its batches are not all one, over the epochs."""
    users = torch.arange(60)
    batches = NoDuplicatesBatches((users, users // 3), 3, seed=0)
    gaps = Counter()
    for epoch in range(5):
        at = {row: step for step, index in enumerate(indices(batches, epoch)) for row in index}
        gaps.update(abs(at[3 * item] - at[3 * item + 1]) for item in range(20))
    assert 0 not in gaps and max(gaps.values()) < 50 < gaps.total()


# ------------------------------------------------------------------------------------------------------- class balanced


@pytest.mark.parametrize("classes", ["item", "user"])
def test_p_classes_and_k_rows_of_each(classes):
    batches = ClassBalancedBatches(pairs(), 20, seed=0, per_class=5, classes=classes)
    sizes = Counter(pairs()[classes == "item"].tolist())
    for batch in batches.of_epoch(0):
        column = batch.items if classes == "item" else batch.users
        of_class = Counter(column.tolist())
        assert len(of_class) == 4 and set(of_class.values()) == {5}
        times = Counter(batch.index.tolist())
        for row, count in times.items():  # without replacement where that can be, else as evenly as can be
            size = sizes[int(pairs()[classes == "item"][row])]
            assert count in (5 // size, -(-5 // size))


def test_groups_of_items_are_classes():
    groups = torch.arange(ITEMS) % 3
    for batch in ClassBalancedBatches(pairs(), 12, seed=0, per_class=4, item_groups=groups).of_epoch(0):
        assert Counter(groups[batch.items].tolist()) == {0: 4, 1: 4, 2: 4}


def test_classes_and_their_rows_come_equally_often():
    """Four classes of 6, 6, 6 and 2 rows, 2 × 2 a batch: 5 batches, so 10 places for classes."""
    items = torch.tensor([0] * 6 + [1] * 6 + [2] * 6 + [3] * 2)
    batches = ClassBalancedBatches((torch.arange(20), items), 4, seed=0, per_class=2)
    for epoch in range(4):
        passed = indices(batches, epoch)
        assert len(passed) == 5
        seen = Counter(int(items[row]) for index in passed for row in index)
        assert set(seen.values()) <= {4, 6} and sum(seen.values()) == 20
        for item in range(3):
            rows = Counter(row for index in passed for row in index if items[row] == item)
            assert max(rows.values(), default=1) == 1  # 6 rows: a deck of three hands


def test_small_classes_are_left_out_or_repeat():
    items = torch.tensor([0] * 5 + [1] * 5 + [2])
    of = torch.arange(11), items
    seen = {}
    for small in ("repeat", "leave_out"):
        batches = ClassBalancedBatches(of, 4, seed=0, per_class=2, small=small)
        seen[small] = {int(items[row]) for index in indices(batches) for row in index}
    assert seen == {"repeat": {0, 1, 2}, "leave_out": {0, 1}}


def test_what_classes_cannot_be():
    with pytest.raises(ConfigError, match="multiple of per_class: got 16 and 3"):
        ClassBalancedBatches(pairs(), 16, seed=0, per_class=3)
    with pytest.raises(ConfigError, match="a batch of 16 rows with 2 of a class needs 8 classes: got 3"):
        ClassBalancedBatches(pairs(), 16, seed=0, per_class=2, item_groups=torch.arange(ITEMS) % 3)
    with pytest.raises(InputError, match=r"one whole number an item, for classes of items: got torch.float32 \(18,\)"):
        ClassBalancedBatches(pairs(), 16, seed=0, item_groups=torch.rand(ITEMS))
    with pytest.raises(InputError, match=r"classes 'user'"):
        ClassBalancedBatches(pairs(), 16, seed=0, classes="user", item_groups=torch.arange(ITEMS))
    with pytest.raises(InputError, match="must be one an item: got 3 for item 17"):
        ClassBalancedBatches(pairs(), 16, seed=0, item_groups=torch.arange(3))
    with pytest.raises(UnknownName, match=r"unknown value of small 'repaet'\. Did you mean 'repeat'"):
        ClassBalancedBatches(pairs(), 16, seed=0, small="repaet")


# ------------------------------------------------------------------------------------------------------------ high loss


def taught(size: int = 10, **own: Any) -> tuple[HighLossBatches, Tensor]:
    """Batches that have seen every row, and the order of rows by their losses."""
    batches = HighLossBatches(pairs(), size, seed=0, **own)
    losses = torch.randn(ROWS, generator=torch.Generator().manual_seed(1))
    batches.learn(torch.arange(ROWS), losses)
    return batches, losses.argsort(descending=True)


def test_draws_follow_the_stated_probabilities():
    batches, order = taught(pressure=20.0)
    # Of a geometric series, summed by hand.
    weights = [20.0 ** (-rank / ROWS) for rank in range(ROWS)]
    expected = torch.tensor([weight / sum(weights) for weight in weights], dtype=torch.float64)
    torch.testing.assert_close(batches.probabilities(), expected)
    passes = 200
    drawn = [row for epoch in range(passes) for index in indices(batches, epoch + 1) for row in index]
    counts = torch.bincount(torch.tensor(drawn), minlength=ROWS)[order]
    assert len(drawn) == passes * ROWS
    statistic = ((counts - len(drawn) * expected) ** 2 / (len(drawn) * expected)).sum()
    free = ROWS - 1
    assert statistic < free * (1 - 2 / (9 * free) + 4.27 * math.sqrt(2 / (9 * free))) ** 3  # once in 10^5
    assert 15 < counts[:15].sum() / counts[-15:].sum() < 25  # 20^(285/300) = 17.2


def test_every_row_is_drawn_in_the_end_and_the_least_likely_as_stated():
    batches, _ = taught(pressure=1e6)
    least = math.log(1e6) / (ROWS * (1e6 - 1))
    assert least < float(batches.probabilities().min()) < 1.1 * least


def test_rows_not_seen_yet_come_first_and_once():
    batches = HighLossBatches(pairs(), 10, seed=0)
    batches.learn(torch.arange(100), torch.rand(100))
    passed = [row for index in indices(batches, 1) for row in index]
    assert sorted(passed[:200]) == list(range(100, 300)) != passed[:200]
    assert len(passed) == 300


def test_the_estimate_by_hand():
    batches = HighLossBatches(pairs(), 10, seed=0, rate=0.25)
    batches.learn(torch.tensor([4, 7, 4]), torch.tensor([2.0, -1.0, 6.0]))  # row 4 twice: their mean
    batches.learn(torch.tensor([4]), torch.tensor([8.0]))
    assert batches.losses[[4, 7]].tolist() == [4 + 0.25 * (8 - 4), -1.0]
    assert batches.losses.isinf().sum() == ROWS - 2


def test_the_mean_with_weights_is_unbiased():
    """Over all ranks: the sum of q w is one, and each row's expected part in the mean is one in n."""
    batches, order = taught(pressure=5.0, unbiased=True)
    list(batches.of_epoch(1))
    weights = batches.weights(order)
    torch.testing.assert_close(batches.probabilities() * weights, torch.full((ROWS,), 1 / ROWS, dtype=torch.float64))
    assert HighLossBatches(pairs(), 10, seed=0).weights(order) is None
    first = HighLossBatches(pairs(), 10, seed=0, unbiased=True)
    assert all(batch.weights.eq(1).all() for batch in first.of_epoch(0))


def test_a_pass_goes_on_by_the_estimates_that_it_began_with():
    batches, _ = taught()
    whole = indices(batches, 1)
    batches.learn(torch.arange(ROWS), torch.rand(ROWS))  # while the pass goes on
    other = HighLossBatches(pairs(), 10, seed=0)
    other.load_state_dict(batches.state_dict())
    assert indices(other, 1, start=7) == whole[7:]
    assert indices(other, 1) != whole  # from its beginning: by what is known now


@pytest.mark.parametrize("own", [{"pressure": 1.0}, {"pressure": math.inf}, {"rate": 0.0}, {"rate": 1.5}])
def test_options_of_high_loss(own):
    with pytest.raises(InputError, match=f"{next(iter(own))} must be"):
        HighLossBatches(pairs(), 10, seed=0, **own)
