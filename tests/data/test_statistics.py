import numpy as np
import polars as pl
import pytest

from rankwell.data import Interactions, describe


def make(weights=None, timestamps=None) -> Interactions:
    users = np.array([0, 0, 0, 1, 1, 2])
    items = np.array([0, 1, 2, 0, 1, 0])
    ids = pl.Series(["a", "b", "c", "unused"]), pl.Series(["x", "y", "z", "unused"])
    return Interactions(users, items, *ids, weights, timestamps)


def test_figures_equal_a_plain_count():
    found = describe(make(), merged=2)
    counts = [3, 2, 1]  # of users and of items alike
    assert (found.users, found.items, found.interactions) == (3, 3, 6)
    assert found.density == pytest.approx(6 / 9)
    assert found.per_user == found.per_item
    assert (found.per_user[0], found.per_user[2], found.per_user[-1]) == (1, 2, 3)
    gini = sum(abs(a - b) for a in counts for b in counts) / (2 * len(counts) * sum(counts))
    assert found.gini == pytest.approx(gini)
    assert found.top_1_percent == found.top_10_percent == 3 / 6
    assert found.repeat_rate == 2 / (2 + 6)


def test_gini_equals_the_definition_by_pairs():
    rng = np.random.default_rng(0)
    chosen = sorted({(int(u), int(20 * i**2)) for u, i in zip(rng.integers(0, 50, 300), rng.random(300), strict=True)})
    users, items = (np.array(column) for column in zip(*chosen, strict=True))
    ids = pl.Series([str(n) for n in range(50)]), pl.Series([str(n) for n in range(20)])
    data = Interactions(users, items, *ids)
    counts = [count for count in data.popularity().tolist() if count]
    total = sum(abs(a - b) for a in counts for b in counts)
    assert describe(data).gini == pytest.approx(total / (2 * len(counts) * sum(counts)))


@pytest.mark.parametrize(
    ("weights", "label"),
    [
        (None, "implicit"),
        ([1, 1, 1, 1, 1, 1], "constant (1)"),
        ([0, 1, 0, 1, 1, 1], "binary"),
        ([1, 2, 3, 4, 5, 5], "graded (5 values, 1 to 5)"),
    ],
)
def test_labels_are_named_for_what_weights_hold(weights, label):
    array = None if weights is None else np.array(weights, dtype=np.float32)
    assert describe(make(array)).labels.startswith(label)


def test_rows_are_text_for_a_table():
    rows = dict(describe(make(timestamps=np.array([0, 1, 2, 3, 4, 5]) + 86_400 * 365 * 30)).rows())
    assert rows["interactions"] == "6"
    assert rows["time"].startswith("1999-12-25 00:00 to ")
    assert "repeat rate" not in rows
    assert dict(describe(make(timestamps=np.array([6, 1, 2, 3, 4, 5]))).rows())["time"] == "1 to 6"


def test_no_interactions_have_no_quantiles():
    found = describe(make().take(np.zeros(6, dtype=np.bool_)))
    assert (found.interactions, found.per_user, found.gini) == (0, (), 0.0)
    assert found.rows()
