"""Sequences: what files and interactions become, what is held out, and the windows of a pass."""

import itertools

import numpy as np
import polars as pl
import pytest
import torch

from rankwell.data import read_interactions
from rankwell.data.batching.of_sequences import SequenceBatches
from rankwell.data.sequence_splits import split_last, split_time
from rankwell.data.sequences import Sequences, read_sequences, sequences_of
from rankwell.errors import ConfigError, DataError, UnknownName
from rankwell.types import Ragged


def sequences(*lists: list[int], times: list[float] | None = None, items: int = 10) -> Sequences:
    offsets = np.array([0, *map(len, lists)], dtype=np.int64).cumsum()
    users = pl.Series([f"u{number}" for number in range(len(lists))])
    codes = np.array([item for own in lists for item in own], dtype=np.int64)
    stamps = None if times is None else np.array(times)
    return Sequences(offsets, codes, users, pl.Series([f"i{n}" for n in range(items)]), stamps)


def lists_of(ragged: Ragged) -> list[list[int]]:
    ends = ragged.offsets.tolist()
    return [ragged.values[a:b].tolist() for a, b in itertools.pairwise(ends)]


# ------------------------------------------------------------------------------------------------------------- reading


def test_adjacency_text_keeps_repeats_and_the_order_of_the_file(tmp_path):
    file = tmp_path / "views.txt"
    file.write_text("bo 5 7 5\nann 7\nbo 9\ncy\n")
    data = read_sequences(file)
    assert data.user_ids.to_list() == ["bo", "ann"] and data.item_ids.to_list() == ["5", "7", "9"]
    assert lists_of(data.lists()) == [[0, 1, 0, 2], [1]]  # bo's second line goes on with the first
    assert len(read_interactions(file)) == 4  # where the repeat is merged


def test_a_table_is_ordered_by_its_timestamps_and_ties_by_the_file(tmp_path):
    file = tmp_path / "views.csv"
    file.write_text("user,item,at\nann,x,30\nbo,y,2\nann,y,10\nann,z,30\nann,y,20\n")
    by_time = read_sequences(file, timestamp="at")
    assert lists_of(by_time.lists()) == [[1, 1, 0, 2], [1]]
    assert by_time.timestamps.tolist() == [10, 20, 30, 30, 2]
    assert lists_of(read_sequences(file).lists()) == [[0, 1, 2, 1], [1]]


def test_interactions_become_sequences_by_their_timestamps(tmp_path):
    file = tmp_path / "views.csv"
    file.write_text("user,item,at\nann,x,30\nbo,y,2\nann,y,10\n")
    assert lists_of(sequences_of(read_interactions(file, timestamp="at")).lists()) == [[1, 0], [1]]
    with pytest.raises(DataError, match="sequences must have an order: the interactions have no timestamps"):
        sequences_of(read_interactions(file))


# -------------------------------------------------------------------------------------------------------------- schema


def test_known_items_are_distinct_and_ascending():
    assert lists_of(sequences([4, 2, 4], [], [9, 0]).known()) == [[2, 4], [], [0, 9]]
    assert sequences([4, 2, 4], [9]).popularity().tolist() == [0, 0, 1, 0, 2, 0, 0, 0, 0, 1]


def test_take_and_keep():
    data = sequences([4, 2, 4], [], [9, 0], times=[1, 2, 3, 1, 5])
    taken = data.take(np.array([2, 0]))
    assert lists_of(taken.lists()) == [[9, 0], [4, 2, 4]] and taken.user_ids.to_list() == ["u2", "u0"]
    assert taken.timestamps.tolist() == [1, 5, 1, 2, 3]
    kept = data.keep(data.items != 4)
    assert lists_of(kept.lists()) == [[2], [], [9, 0]] and kept.timestamps.tolist() == [2, 1, 5]


def test_the_fingerprint_sees_every_part():
    base = sequences([4, 2], [9])
    others = [
        sequences([2, 4], [9]),
        sequences([4], [2, 9]),
        sequences([4, 2], [9], times=[1, 2, 3]),
        sequences([4, 2], [9], items=11),
        Sequences(base.offsets, base.items, pl.Series(["u0", "other"]), base.item_ids),
    ]
    assert sequences([4, 2], [9]).fingerprint() == base.fingerprint()
    assert len({base.fingerprint(), *(other.fingerprint() for other in others)}) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": np.array([1, 2, 12])}, "items must lie in 0 … 9"),
        ({"items": np.array([1.0, 2.0, 3.0])}, "items must be int64"),
        ({"offsets": np.array([0, 2, 4])}, "offsets must be one more than the 2 users"),
        ({"offsets": np.array([0, 3])}, "offsets must be one more than the 2 users"),
        ({"timestamps": np.array([1, 2])}, "timestamps must be int64 or float64, one an event"),
        ({"timestamps": np.array([2, 1, 3])}, "timestamps must not fall within a user: they do for 'u0'"),
    ],
    ids=["code", "type", "beyond", "short", "width", "order"],
)
def test_what_does_not_fit_is_refused(change, message):
    base = sequences([1, 2], [3])
    fields = {name: getattr(base, name) for name in ("offsets", "items", "user_ids", "item_ids", "timestamps")}
    with pytest.raises(DataError, match=message):
        Sequences(**{**fields, **change})


def test_time_may_fall_from_one_user_to_the_next():
    sequences([1, 2], [], [3], times=[5, 6, 1])


# -------------------------------------------------------------------------------------------------------------- splits


def test_leave_one_out():
    split = split_last(sequences([1, 2, 3, 4], [5], [6, 7], [], [8, 1, 2]))
    assert lists_of(split.fit.lists()) == [[1, 2], [5], [6, 7], [], [8]]
    assert lists_of(split.train.lists()) == [[1, 2, 3], [5], [6, 7], [], [8, 1]]
    assert split.valid.users.tolist() == split.test.users.tolist() == [0, 4]
    assert split.valid.targets.tolist() == [3, 1] and split.test.targets.tolist() == [4, 2]
    assert lists_of(split.valid.histories()) == [[1, 2], [8]]
    assert lists_of(split.test.histories()) == [[1, 2, 3], [8, 1]]
    assert lists_of(split.test.histories(last=2)) == [[2, 3], [8, 1]]
    assert split.notes == (
        "2 users with fewer than 3 events only trained on",
        "1 user with a single event, which teaches nothing",
        "1 validation event of items that training never saw",
        "1 test event of items that training never saw",
    )


def test_leave_one_out_needs_somebody_with_three_events():
    with pytest.raises(DataError, match="none of 2 users has 3 events or more"):
        split_last(sequences([1, 2], [3]))


TIMED = sequences([1, 2, 3, 4], [5, 6, 5], [7], [6, 1], times=[0, 1, 6, 9, 2, 7, 8, 8, 3, 4])
"""Ten events at 0 … 9, the eighth twice, the fifth never. Validation begins at 6 and the test at 8."""


def test_global_time_asks_for_the_first_event_behind_a_cut():
    split = split_time(TIMED, 0.2, 0.3)
    assert lists_of(split.fit.lists()) == [[1, 2], [5], [], [6, 1]]
    assert lists_of(split.train.lists()) == [[1, 2, 3], [5, 6], [], [6, 1]]
    assert split.valid.targets.tolist() == [3, 6] and lists_of(split.valid.histories()) == [[1, 2], [5]]
    assert split.test.targets.tolist() == [4, 5] and lists_of(split.test.histories()) == [[1, 2, 3], [5, 6]]
    assert split.notes[0] == "1 test event without a history not asked for"


def test_global_time_asks_for_every_event_behind_a_cut():
    split = split_time(TIMED, 0.1, 0.4, every=True)  # the test from 7 on
    assert split.test.targets.tolist() == [4, 6, 5]
    assert lists_of(split.test.histories()) == [[1, 2, 3], [5], [5, 6]]
    assert split_time(TIMED, 0.1, 0.4).test.targets.tolist() == [4, 6]


def test_nothing_of_the_future_trains():
    split = split_time(TIMED, 0.2, 0.3)
    assert split.fit.timestamps.max() < 6 <= split.train.timestamps.max() < 8
    assert TIMED.timestamps[split.valid.places].min() == 6 and TIMED.timestamps[split.test.places].min() >= 8


def test_splits_by_time_that_cannot_be():
    with pytest.raises(ConfigError, match=r"must be above 0 and together below 1: got 0\.5 and 0\.5"):
        split_time(TIMED, 0.5, 0.5)
    with pytest.raises(DataError, match="the data has none"):
        split_time(sequences([1, 2, 3]))
    with pytest.raises(DataError, match="must leave events before, between and behind its cuts"):
        split_time(sequences([1, 2, 3], times=[4, 4, 4]), 0.3, 0.3)
    with pytest.raises(DataError, match="the test period must have an event with a history"):
        split_time(sequences([1, 2, 3], [4], times=[0, 1, 2, 3]), 0.25, 0.25)


# ------------------------------------------------------------------------------------------------------------- batches


def random_lists(users: int = 30) -> Ragged:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(0, 14, (users,), generator=generator)
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return Ragged(offsets, torch.randint(50, (int(offsets[-1]),), generator=generator))


@pytest.mark.parametrize("max_length", [1, 3, 100])
@pytest.mark.parametrize("windows", ["all", "last"])
def test_a_pass_foretells_every_event_once(max_length, windows):
    data = random_lists()
    passes = SequenceBatches(data, 4, seed=1, max_length=max_length, windows=windows)
    seen = []
    for batch in passes.of_epoch(0):
        assert len(batch.history.offsets) <= 5 and int(batch.history.offsets.diff().max()) <= max_length
        assert batch.history.values.equal(data.values[batch.index - 1]) and batch.items.equal(data.values[batch.index])
        for start, end in zip(batch.history.offsets[:-1].tolist(), batch.history.offsets[1:].tolist(), strict=True):
            assert end > start and bool((batch.index[start:end].diff() == 1).all())  # one window: one piece of one user
            assert len(batch.users[start:end].unique()) == 1
        owners = torch.searchsorted(data.offsets, batch.index, right=True) - 1
        assert batch.users.equal(owners)
        seen += batch.index.tolist()
    wanted = []
    for user, (start, end) in enumerate(zip(data.offsets[:-1].tolist(), data.offsets[1:].tolist(), strict=True)):
        assert user < 30
        wanted += range(max(start + 1, end - max_length) if windows == "last" else start + 1, end)
    assert sorted(seen) == wanted and len(wanted) > 25


def test_a_pass_is_keyed_and_resumes():
    passes = SequenceBatches(random_lists(), 4, seed=1, max_length=3)
    whole = [batch.index for batch in passes.of_epoch(2)]
    assert len(whole) == passes.steps(2)
    rest = [batch.index for batch in SequenceBatches(random_lists(), 4, seed=1, max_length=3).of_epoch(2, start=2)]
    assert all(a.equal(b) for a, b in zip(whole[2:], rest, strict=True))
    other = [batch.index for batch in passes.of_epoch(3)]
    assert not all(a.equal(b) for a, b in zip(whole, other, strict=True))
    with pytest.raises(ConfigError, match="start must be a step of the epoch"):
        passes.of_epoch(0, start=passes.steps(0) + 1)


def test_sequences_of_one_event_have_nothing_to_foretell():
    one = Ragged(torch.tensor([0, 1, 1, 2]), torch.tensor([4, 5]))
    assert len(SequenceBatches(one, 4, seed=0)) == 0 and list(SequenceBatches(one, 4, seed=0).of_epoch(0)) == []


def test_windows_that_cannot_be():
    with pytest.raises(ConfigError, match="max_length must be at least 1: got 0"):
        SequenceBatches(random_lists(), 4, seed=0, max_length=0)
    with pytest.raises(UnknownName, match="windows"):
        SequenceBatches(random_lists(), 4, seed=0, windows="first")  # type: ignore[arg-type]
