"""A split that counts every item alike, and batches whose rows do."""

import numpy as np
import polars as pl
import pytest
import torch

from rankwell.data import Interactions, split_balanced, split_random
from rankwell.data.batching import ShuffledBatches, WeightedBatches
from rankwell.errors import ConfigError, InputError


def long_tail(seed: int = 0) -> Interactions:
    """Item j is known to 200 / (j + 1) users, rounded up; everybody knows item 0."""
    rng = np.random.default_rng(seed)
    users = [rng.permutation(200)[: -(-200 // (item + 1))] for item in range(50)]
    items = np.repeat(np.arange(50), [len(each) for each in users])
    order = rng.permutation(len(items))
    ids = pl.Series([f"u{n}" for n in range(200)]), pl.Series([f"i{n}" for n in range(50)])
    return Interactions(np.concatenate(users)[order].astype(np.int64), items[order].astype(np.int64), *ids)


def test_every_item_gives_as_many_pairs_or_half_of_its_own():
    data = long_tail()
    counts, held = data.popularity(), split_balanced(data, 0.2, seed=1).held_out.popularity()
    # 0.2 of 931 pairs, spread: the most that any item gives is c or c + 1, less those of users with one pair.
    for most in range(1, 40):
        full = np.minimum(most, counts // 2)
        if full.sum() >= round(0.2 * len(data)):
            break
    lower = np.minimum(most - 1, counts // 2)
    assert (held <= full).all() and (held[1:] >= lower[1:] - 2).all() and held.sum() > 0.17 * len(data)
    random = split_random(data, 0.2, seed=1).held_out.popularity()
    assert held[0] < 0.1 * held.sum() < random[0]


def test_parts_are_disjoint_and_every_user_and_item_is_trained():
    data = long_tail()
    split = split_balanced(data, 0.3, seed=2)
    assert len(split.train) + len(split.held_out) == len(data)
    assert not set(split.train.keys.tolist()) & set(split.held_out.keys.tolist())
    assert (split.train.activity() > 0).all() and (split.train.popularity() > 0).all()


def test_which_pairs_depends_on_their_ids_and_the_seed_alone():
    data = long_tail()
    again = data.take(np.random.default_rng(1).permutation(len(data)))
    one, other, third = (split_balanced(of, 0.2, seed=s).held_out for of, s in ((data, 3), (again, 3), (data, 4)))
    assert set(one.keys.tolist()) == set(other.keys.tolist()) != set(third.keys.tolist())


@pytest.mark.parametrize(("fraction", "most"), [(0.0, 0.5), (1.0, 0.5), (0.2, 0.0), (0.2, 1.0)])
def test_shares_out_of_range(fraction, most):
    with pytest.raises(ConfigError, match="must lie between 0 and 1"):
        split_balanced(long_tail(), fraction, seed=0, most=most)


PAIRS = torch.arange(8), torch.tensor([0, 0, 0, 0, 1, 1, 2, 3])
EVERY = torch.arange(8)


def weighted(**own):
    return WeightedBatches(PAIRS, 3, seed=0, **own)


def test_weights_by_hand():
    by_item = weighted(exponent=0.5).weights(EVERY)
    raw = torch.tensor([4, 4, 4, 4, 2, 2, 1, 1]) ** -0.5
    torch.testing.assert_close(by_item, raw / raw.mean())
    assert weighted(exponent=0.0).weights(EVERY).tolist() == [1] * 8
    effective = weighted(exponent=1.0, beta=0.5).weights(EVERY)  # E = 1.875, 1.5, 1
    raw = 1 / torch.tensor([1.875] * 4 + [1.5] * 2 + [1.0] * 2)
    torch.testing.assert_close(effective, raw / raw.mean())
    groups = torch.tensor([7, 9, 9, 9])  # four rows each
    assert weighted(exponent=1.0, item_groups=groups).weights(EVERY).tolist() == [1] * 8


def test_no_weight_is_above_so_many_means():
    pairs = torch.arange(101), torch.cat([torch.zeros(100, dtype=torch.long), torch.tensor([1])])
    values = WeightedBatches(pairs, 10, seed=0, exponent=1.0, most=5.0).weights(torch.arange(101))
    assert values.mean().item() == pytest.approx(1)
    mean = 2 / 101  # before it is cut: two items, one in sum each
    assert (values[100] / values[0]).item() == pytest.approx(5 * mean / 0.01)


def test_rows_come_as_in_shuffled_batches():
    plain, mine = (list(kind(PAIRS, 3, seed=4).of_epoch(2)) for kind in (ShuffledBatches, WeightedBatches))
    for one, other in zip(plain, mine, strict=True):
        assert one.index.equal(other.index) and one.weights is None and other.weights.shape == other.index.shape


@pytest.mark.parametrize("own", [{"exponent": -1.0}, {"beta": 1.5}, {"most": 0.5}, {"item_groups": torch.zeros(2)}])
def test_settings_out_of_range(own):
    with pytest.raises(InputError, match="must be"):
        weighted(**own)
