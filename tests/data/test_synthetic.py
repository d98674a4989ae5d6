import math

import numpy as np
import pytest

from rankwell.data import Synthetic, read_dataset, synthesise
from rankwell.errors import ConfigError, RunError


def ndcg_at_10(data: Synthetic, scores: np.ndarray) -> float:
    """A second derivation, a user at a time."""
    values = []
    for user in range(data.train.num_users):
        trained = set(data.train.items[data.train.users == user].tolist())
        relevant = set(data.test.items[data.test.users == user].tolist())
        ranked = [item for item in np.argsort(-scores[user], kind="stable").tolist() if item not in trained][:10]
        gain = sum(1 / math.log2(place + 2) for place, item in enumerate(ranked) if item in relevant)
        if relevant:
            values.append(gain / sum(1 / math.log2(place + 2) for place in range(min(len(relevant), 10))))
    return sum(values) / len(values)


def test_ideal_is_two_to_three_times_popularity_and_a_factorisation_lies_between():
    data = synthesise()
    popularity = np.tile(data.train.popularity().astype(float), (600, 1))
    seen = np.zeros((600, 400))
    seen[data.train.users, data.train.items] = 1
    left, values, right = np.linalg.svd(seen, full_matrices=False)
    factorised = (left[:, :8] * values[:8]) @ right[:8]
    by_popularity, by_factors, by_ideal = (ndcg_at_10(data, scores) for scores in (popularity, factorised, data.ideal))
    assert 2 < by_ideal / by_popularity < 3
    assert by_popularity * 1.3 < by_factors < by_ideal


def test_ideal_is_a_log_probability():
    data = synthesise(num_users=5, num_items=30, interactions_per_user=4)
    assert data.ideal.dtype == np.float32 and data.ideal.shape == (5, 30)
    np.testing.assert_allclose(np.exp(data.ideal.astype(np.float64)).sum(axis=1), 1, rtol=1e-5)


def test_the_first_draw_follows_the_ideal():
    # One draw a user from a distribution that all users share: noise 0 and one cluster.
    data = synthesise(20_000, 5, 1, clusters=1, noise=0.0, test_fraction=0.0)
    expected = np.exp(data.ideal[0].astype(np.float64)) * 20_000
    assert np.abs(data.train.popularity() - expected).max() < 5 * math.sqrt(20_000 * 0.25)


def test_each_user_has_the_asked_number_of_different_items():
    data = synthesise(num_users=50, num_items=80, interactions_per_user=10, seed=4)
    assert ((data.train.activity() + data.test.activity()) == 10).all()
    both = set(zip(data.train.users, data.train.items, strict=True)) & set(
        zip(data.test.users, data.test.items, strict=True)
    )
    assert not both
    assert data.test.activity().max() == round(0.2 * 10)
    assert (data.train.popularity()[data.test.items] > 0).all()


def test_the_seed_decides():
    one, same, other = (synthesise(num_users=20, num_items=30, interactions_per_user=5, seed=s) for s in (1, 1, 2))
    assert one.train.fingerprint() == same.train.fingerprint() != other.train.fingerprint()
    assert one.test.fingerprint() == same.test.fingerprint()


def test_what_is_written_is_what_is_read(tmp_path):
    data = synthesise(num_users=30, num_items=20, interactions_per_user=6)
    data.write(tmp_path / "made")
    read = read_dataset(tmp_path / "made")
    assert read.notes == ()
    for part, again in ((data.train, read.train), (data.test, read.test)):
        pairs = [
            set(zip(side.user_ids.gather(side.users), side.item_ids.gather(side.items), strict=True))
            for side in (part, again)
        ]
        assert pairs[0] == pairs[1]
    assert data.train.user_ids[17] == "u17" and data.train.item_ids[3] == "i03"
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["test.txt", "train.txt"]


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    (tmp_path / "train.txt").write_text("old\n")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(RunError, match="disk full"):
        synthesise(num_users=4, num_items=9, interactions_per_user=3).write(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("train.txt", "old\n")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interactions_per_user": 500}, "interactions_per_user must be 1 … num_items.*got 500 of 400"),
        ({"clusters": 0}, "must be at least 1"),
        ({"test_fraction": 1.0}, "test_fraction must leave"),
    ],
)
def test_sizes_that_cannot_be_drawn_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        synthesise(**options)
