import numpy as np
import polars as pl
import pytest

from rankwell.data import Interactions, split_cold_items, synthesise_features
from rankwell.errors import ConfigError, DataError


def interactions(pairs: list[tuple[int, int]], users: int, items: int, **more: object) -> Interactions:
    codes = np.array(pairs, dtype=np.int64).T
    ids = pl.Series([f"u{n}" for n in range(users)]), pl.Series([f"i{n}" for n in range(items)])
    return Interactions(codes[0].copy(), codes[1].copy(), *ids, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.9])
def test_a_share_of_the_items_with_all_that_they_have(fraction):
    data = synthesise_features(num_users=40, num_items=50, interactions_per_user=6).interactions
    split = split_cold_items(data, fraction, seed=2)
    new = split.held_out.popularity() > 0
    assert not (new & (split.train.popularity() > 0)).any()
    there = int((data.popularity() > 0).sum())
    # Items whose only users know nothing else are new and have nothing left to be looked for.
    assert new.sum() <= max(round(fraction * there), 1) == there - (split.train.popularity() > 0).sum()
    lost = len(data) - len(split.train) - len(split.held_out)
    assert lost == sum(int((data.users == user).sum()) for user in range(40) if not (split.train.users == user).any())
    assert set(split.held_out.users.tolist()) <= set(split.train.users.tolist())


def test_which_items_depends_on_ids_and_seed_alone():
    data = synthesise_features(num_users=40, num_items=50, interactions_per_user=6).interactions
    order = np.random.default_rng(0).permutation(50)
    new = [
        set(split.held_out.item_ids.gather(np.unique(split.held_out.items)))
        for split in (
            split_cold_items(data, 0.3, seed=1),
            split_cold_items(data.with_items(order).take(np.arange(len(data))[::-1]), 0.3, seed=1),
            split_cold_items(data, 0.3, seed=2),
        )
    ]
    assert new[0] == new[1] != new[2]


def test_users_of_new_items_alone_are_counted():
    data = interactions([(0, 0), (0, 1), (1, 0), (2, 1)], 3, 2)
    split = split_cold_items(data, 0.5, seed=0)
    new = int(split.held_out.items[0])
    assert len(split.held_out) == 1 and split.held_out.users.tolist() == [0]
    assert split.notes[0] == "1 user with nothing but new items: 1 interaction dropped"
    assert 1 + new not in split.train.users  # user 1 knows item 0 alone, user 2 item 1


def test_items_in_another_order():
    data = interactions([(0, 0), (0, 2), (1, 1)], 2, 3, weights=np.array([1, 2, 3], dtype=np.float32))
    other = data.with_items(np.array([2, 0, 1]))
    assert other.item_ids.to_list() == ["i2", "i0", "i1"]
    assert other.item_ids.gather(other.items).to_list() == data.item_ids.gather(data.items).to_list()
    assert other.users is data.users and other.weights is data.weights


def test_bad_splits():
    data = interactions([(0, 0), (1, 1)], 2, 2)
    with pytest.raises(ConfigError, match="fraction must lie between 0 and 1"):
        split_cold_items(data, 0.0, seed=0)
    with pytest.raises(DataError, match="must leave users that know both kinds: holding out 1 of 2 items leaves none"):
        split_cold_items(data, 0.5, seed=0)


def test_generated_preferences_follow_from_features():
    made = synthesise_features(num_users=200, num_items=120, affinity=4.0)
    pairs = made.interactions
    genres = made.items["genres"].str.split("|").to_list()
    clubs = made.users["club"].to_list()
    liked = np.mean([clubs[user] in genres[item] for user, item in zip(pairs.users, pairs.items, strict=True)])
    assert liked > 0.9  # by chance a third
    assert np.bincount(pairs.users).tolist() == [15] * 200
    for own in ({"num_items": 10}, {"genres": 1}, {"num_users": 0}):
        with pytest.raises(ConfigError, match="generated data needs users"):
            synthesise_features(**own)


def test_generated_files(tmp_path):
    made = synthesise_features(num_users=5, num_items=9, interactions_per_user=3)
    made.write(tmp_path / "new")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["items.csv", "pairs.csv", "users.csv"]
    assert len(pl.read_csv(tmp_path / "new" / "pairs.csv")) == 15
    assert pl.read_csv(tmp_path / "new" / "items.csv").equals(made.items)
