import numpy as np
import polars as pl
import pytest
import torch

from rankwell.data import Interactions
from rankwell.errors import DataError

USERS = [2, 0, 0, 2, 1]
ITEMS = [1, 3, 0, 0, 2]


def make(users=USERS, items=ITEMS, **columns) -> Interactions:
    return Interactions(
        np.array(users, dtype=np.int64),
        np.array(items, dtype=np.int64),
        columns.pop("user_ids", pl.Series(["ann", "bo", "cy", "di"])),
        columns.pop("item_ids", pl.Series(["tea", "jam", "egg", "rye", "oat"])),
        **columns,
    )


def test_known_lists_each_users_items_in_ascending_order():
    offsets, values = make().known()
    expected = [sorted(item for user, item in zip(USERS, ITEMS, strict=True) if user == wanted) for wanted in range(4)]
    assert [values[offsets[user] : offsets[user + 1]].tolist() for user in range(4)] == expected
    assert offsets.dtype == values.dtype == torch.int64


def test_known_is_computed_once():
    data = make()
    assert data.known().values is data.known().values


def test_known_equals_a_loop_on_random_pairs():
    rng = np.random.default_rng(0)
    pairs = sorted({(int(u), int(i)) for u, i in rng.integers(0, (40, 30), size=(500, 2))}, key=lambda _: rng.random())
    data = make(*zip(*pairs, strict=True), user_ids=pl.Series(range(40)), item_ids=pl.Series(range(30)))
    offsets, values = data.known()
    for user in range(40):
        assert values[offsets[user] : offsets[user + 1]].tolist() == sorted(i for u, i in pairs if u == user)


def test_counts_cover_the_whole_vocabulary():
    data = make()
    assert data.popularity().tolist() == [ITEMS.count(item) for item in range(5)]
    assert data.activity().tolist() == [USERS.count(user) for user in range(4)]
    assert (len(data), data.num_users, data.num_items) == (5, 4, 5)


@pytest.mark.parametrize("rows", [np.array([True, False, False, True, False]), np.array([3, 0])])
def test_take_chooses_rows_of_every_column(rows):
    data = make(weights=np.arange(5, dtype=np.float32), timestamps=np.arange(50, 55))
    part = data.take(rows)
    chosen = [0, 3] if rows.dtype == np.bool_ else [3, 0]
    assert part.users.tolist() == [USERS[row] for row in chosen]
    assert part.items.tolist() == [ITEMS[row] for row in chosen]
    assert part.weights.tolist() == chosen
    assert part.timestamps.tolist() == [50 + row for row in chosen]
    assert part.user_ids is data.user_ids and part.item_ids is data.item_ids


def test_tensors_share_memory():
    data = make()
    users, items = data.tensors()
    assert users.data_ptr() == data.users.ctypes.data
    assert items.tolist() == ITEMS


def test_codes_of_ids_and_back():
    data = make()
    assert data.user_codes(["cy", "ann", "cy"]).tolist() == [2, 0, 2]
    assert data.item_codes(pl.Series(["oat"])).tolist() == [4]
    assert data.item_codes([]).tolist() == []


def test_integer_ids_are_found_as_integers_or_text():
    data = make(user_ids=pl.Series([70, 7, 700, 8]))
    assert data.user_codes([7, 70]).tolist() == data.user_codes(["7", "70"]).tolist() == [1, 0]


def test_leading_zeros_are_part_of_an_id():
    data = make(user_ids=pl.Series(["007", "7", "0", "00"]))
    assert data.user_codes(["7", "007"]).tolist() == [1, 0]
    with pytest.raises(DataError, match="'07'"):
        data.user_codes(["07"])


def test_unknown_ids_are_named_with_the_nearest():
    with pytest.raises(DataError, match=r"4 unknown item ids: 'jan', 'x', 'y', …\. Did you mean 'jam'\?"):
        make().item_codes(["tea", "jan", "x", "y", "z"])
    with pytest.raises(DataError, match=r"1 unknown user id: 'zzzzzz'\. Known ids look like 'ann', 'bo', 'cy'\."):
        make().user_codes(["zzzzzz"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": [0, 0, 0, 0, 4]}, r"users must lie in 0 … 3.*got 0 … 4"),
        ({"items": [0, 1, 2, 3, -1]}, r"items must lie in 0 … 4.*got -1"),
        ({"items": [0]}, r"items must be int64 of shape \(5,\).*\(1,\)"),
        ({"weights": np.zeros(5)}, "weights must be float32.*float64"),
        ({"weights": np.zeros(4, dtype=np.float32)}, r"weights must be .*\(5,\).*\(4,\)"),
        ({"timestamps": np.zeros(5, dtype=np.int32)}, "timestamps must be int64 or float64.*int32"),
        ({"users": [0] * 5, "items": [1, 1, 1, 2, 3]}, "each pair of user and item must occur once: got 2 repeats"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        make(**change)


def test_codes_must_be_int64():
    with pytest.raises(DataError, match=r"users must be int64 codes.*int32"):
        Interactions(np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.int64), pl.Series(["a"]), pl.Series(["b"]))


def test_fingerprint_is_that_of_the_contents():
    weights = np.arange(5, dtype=np.float32)
    assert make().fingerprint() == make().fingerprint()
    others = [
        make(),
        make(items=[1, 3, 0, 0, 4]),
        make().take(np.array([1, 0, 2, 3, 4])),
        make(weights=weights),
        make(weights=weights[::-1].copy()),
        make(timestamps=np.arange(5)),
        make(user_ids=pl.Series(["annb", "o", "cy", "di"])),
        make(user_ids=pl.Series([1, 2, 3, 4])),
        make(user_ids=pl.Series(["1", "2", "3", "4"])),
    ]
    assert len({data.fingerprint() for data in others}) == len(others)


def test_no_interactions_are_allowed():
    data = make([], [])
    assert data.known().offsets.tolist() == [0] * 5
    assert len(data) == 0
