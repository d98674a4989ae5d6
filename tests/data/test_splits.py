import math

import numpy as np
import polars as pl
import pytest

from rankwell.data import Interactions, read_interactions, split_global_time, split_leave_last, split_random
from rankwell.errors import ConfigError, DataError


def random_data(seed: int = 0, times: bool = True) -> Interactions:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, size=50)
    users = np.repeat(np.arange(50), lengths)
    items = np.concatenate([rng.permutation(60)[:length] for length in lengths])
    order = rng.permutation(len(users))
    timestamps = rng.integers(0, 400, size=len(users)) if times else None
    ids = pl.Series([f"u{n}" for n in range(50)]), pl.Series([f"i{n}" for n in range(60)])
    return Interactions(users[order], items[order], *ids, timestamps=timestamps)


def pairs(data: Interactions) -> set[tuple[str, str]]:
    return set(zip(data.user_ids.gather(data.users), data.item_ids.gather(data.items), strict=True))


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
def test_random_rounds_up_and_leaves_each_user_one(fraction):
    data = random_data()
    split = split_random(data, fraction, seed=3)
    for user in range(50):
        n = int((data.users == user).sum())
        expected = min(math.ceil(round(fraction * n, 6)), n - 1)
        assert int((split.held_out.users == user).sum()) == expected
        assert int((split.train.users == user).sum()) == n - expected


@pytest.mark.parametrize(
    "split",
    [
        lambda data: split_random(data, 0.3, seed=0),
        lambda data: split_random(data, 0.3, seed=0, per_user=False),
        lambda data: split_leave_last(data, 2),
        lambda data: split_leave_last(data, 2, order="file"),
    ],
)
def test_parts_are_disjoint_whole_and_train_every_user(split):
    data = random_data()
    result = split(data)
    assert pairs(result.train) | pairs(result.held_out) == pairs(data)
    assert not pairs(result.train) & pairs(result.held_out)
    assert set(result.train.users.tolist()) == set(data.users.tolist())
    assert result.train.user_ids is result.held_out.user_ids is data.user_ids


@pytest.mark.parametrize("per_user", [True, False])
def test_random_does_not_depend_on_the_order_of_rows_in_a_file(tmp_path, per_user):
    data = random_data()
    lines = [f"{user},{item}\n" for user, item in sorted(pairs(data))]
    for name, body in (("a.csv", lines), ("b.csv", lines[::-1])):
        (tmp_path / name).write_text("user,item\n" + "".join(body))
    first, second = (read_interactions(tmp_path / name) for name in ("a.csv", "b.csv"))
    assert first.user_ids.to_list() != second.user_ids.to_list()
    held = [pairs(split_random(part, 0.3, seed=5, per_user=per_user).held_out) for part in (first, second, data)]
    assert held[0] == held[1] == held[2]


def test_random_follows_the_seed():
    data = random_data()
    assert pairs(split_random(data, 0.3, seed=1).held_out) == pairs(split_random(data, 0.3, seed=1).held_out)
    assert pairs(split_random(data, 0.3, seed=1).held_out) != pairs(split_random(data, 0.3, seed=2).held_out)


def test_random_holds_out_every_place_alike():
    # 400 seeds, 3 of 10: each of 10 items is held out 120 times, with a deviation of about 9.
    data = Interactions(
        np.zeros(10, dtype=np.int64), np.arange(10), pl.Series(["a"]), pl.Series([f"{n}" for n in range(10)])
    )
    held = sum(split_random(data, 0.3, seed=seed).held_out.popularity() for seed in range(400))
    assert held.sum() == 1200
    assert abs(held - 120).max() < 5 * math.sqrt(400 * 0.3 * 0.7)


def test_random_over_all_holds_out_the_fraction_of_all():
    data = random_data()
    assert len(split_random(data, 0.25, seed=0, per_user=False).held_out) == round(0.25 * len(data))
    assert len(split_random(data, 0.999, seed=0, per_user=False).train) == 50


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("order", ["time", "file"])
def test_leave_last_equals_a_loop(n, order):
    data = random_data()
    expected = set()
    for user in range(50):
        rows = [row for row in range(len(data)) if data.users[row] == user]
        if order == "time":
            rows.sort(key=lambda row: data.timestamps[row])
        expected |= {(f"u{user}", f"i{data.items[row]}") for row in rows[1:][-n:]}
    assert pairs(split_leave_last(data, n, order=order).held_out) == expected


def test_leave_last_counts_users_that_are_too_short():
    data = random_data()
    short = sum(1 for count in data.activity() if count <= 2)
    assert (
        f"{short:,} users with fewer than 3 interactions: all but the first held out"
        in split_leave_last(data, 2).notes[0]
    )


def test_global_time_cuts_at_a_moment_and_drops_new_users():
    data = random_data()
    split = split_global_time(data, 0.2)
    cut = sorted(data.timestamps.tolist())[len(data) - round(0.2 * len(data))]
    before = [row for row in range(len(data)) if data.timestamps[row] < cut]
    old = {int(data.users[row]) for row in before}
    after = [row for row in range(len(data)) if data.timestamps[row] >= cut]
    kept = [row for row in after if data.users[row] in old]
    assert pairs(split.train) == {(f"u{data.users[row]}", f"i{data.items[row]}") for row in before}
    assert pairs(split.held_out) == {(f"u{data.users[row]}", f"i{data.items[row]}") for row in kept}
    assert split.train.timestamps.max() < split.held_out.timestamps.min()
    dropped = len(after) - len(kept)
    assert dropped == 0 or any(f"{dropped:,} held-out interactions" in note for note in split.notes)


def test_global_time_notes_new_users_and_ties():
    ids = pl.Series(["a", "b", "c"]), pl.Series(["x", "y", "z"])
    data = Interactions(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), *ids, timestamps=np.array([1, 5, 5, 0]))
    split = split_global_time(data, 0.25)
    assert split.held_out.users.tolist() == [0]
    assert any("1 held-out interactions of 1 users without training were dropped" in note for note in split.notes)
    assert any(note.startswith("1 more interactions than asked for") for note in split.notes)


def test_items_without_training_are_counted():
    ids = pl.Series(["a"]), pl.Series(["x", "y", "z"])
    split = split_leave_last(Interactions(np.zeros(3, dtype=np.int64), np.arange(3), *ids), order="file")
    assert split.notes == ("1 item held out without a training interaction",)


def test_what_cannot_be_split_is_refused():
    data, timeless = random_data(), random_data(times=False)
    with pytest.raises(ConfigError, match=r"fraction must lie between 0 and 1: got 1.0"):
        split_random(data, 1.0, seed=0)
    with pytest.raises(ConfigError, match="n must be at least 1: got 0"):
        split_leave_last(data, 0)
    with pytest.raises(ConfigError, match="order must be 'time' or 'file': got 'random'"):
        split_leave_last(data, order="random")
    with pytest.raises(DataError, match=r"must have timestamps.*--data.timestamp COLUMN.*--data.split random\)"):
        split_leave_last(timeless)
    with pytest.raises(DataError, match=r"must have timestamps.*--data.split random\)"):
        split_global_time(timeless, 0.1)
    single = Interactions(np.arange(2), np.zeros(2, dtype=np.int64), pl.Series(["a", "b"]), pl.Series(["x"]))
    with pytest.raises(DataError, match="must hold out something"):
        split_random(single, 0.5, seed=0)
    same = Interactions(
        np.arange(2), np.zeros(2, dtype=np.int64), pl.Series(["a", "b"]), pl.Series(["x"]), None, np.ones(2)
    )
    with pytest.raises(DataError, match=r"must leave earlier interactions.*or --data.split random\."):
        split_global_time(same, 0.5)
