"""Head, middle, tail and new items: who is which, and figures of their own."""

import numpy as np
import polars as pl
import pytest
import torch

from rankwell.config import resolve
from rankwell.data import synthesise
from rankwell.data.sequences import synthesise_sequences
from rankwell.experiments import RunFolder, run
from rankwell.metrics import Measure
from rankwell.tasks import task_of
from rankwell.tasks.popularity_parts import popularity_parts


def parts(counts, asked):
    found = popularity_parts(np.array(counts), np.array(asked))
    return {name: items.nonzero()[0].tolist() for name, items in found.items()}


def test_thirds_of_the_interactions_by_hand():
    """Of 12: the items with 4 and 2 begin before the fourth, one with 2 and three with 1 before the eighth and twelfth."""
    counts, asked = [1, 4, 1, 2, 0, 2, 1, 1], range(8)
    assert parts(counts, asked) == {
        "1 head item": [1],
        "2 middle items": [3, 5],
        "4 tail items": [0, 2, 6, 7],
        "1 new item": [4],
    }


def test_what_the_test_does_not_ask_for_or_asks_alone_is_no_part():
    assert list(parts([4, 2, 2, 1, 1, 1, 1, 0], [0, 4])) == ["1 head item", "4 tail items"]
    assert parts([4, 2, 2, 1, 1, 1, 1, 0], [7, 7]) == {}
    assert parts([0, 0], [0, 1]) == {}


@pytest.fixture
def tiny(tmp_path):
    synthesise(60, 40, 10, 3).write(tmp_path / "tiny")
    return tmp_path / "tiny"


def settings(path, **sections):
    given = {"data": {"path": str(path)}, "model": {"name": "popularity"}, "loss": {"name": "bpr"}}
    given["evaluation"] = {"measures": ["recall@5"], "monitor": "recall@5", "by_popularity": True}
    return resolve({**given, **sections})


def test_parts_of_interactions_are_recalls_of_their_items(tiny, tmp_path):
    """Once more by a loop over users; and only where they are asked for."""
    result = run(settings(tiny), RunFolder(tmp_path / "run"))
    saved = RunFolder(tmp_path / "run").load()
    counts = saved.data.train.popularity()
    known = {tuple(pair) for pair in zip(saved.data.train.users, saved.data.train.items, strict=True)}
    for name, items in popularity_parts(counts, saved.data.test.items).items():
        recalls = []
        for user in range(60):
            wanted = {item for u, item in zip(saved.data.test.users, saved.data.test.items, strict=True) if u == user}
            scores = [-1 if (user, item) in known else counts[item] for item in range(40)]
            best = torch.tensor(scores).argsort(descending=True, stable=True)[:5].tolist()
            if wanted := wanted & set(items.nonzero()[0]):
                recalls.append(len(wanted & set(best)) / len(wanted))
        assert result.slices[name]["popularity"]["recall@5"] == pytest.approx(np.mean(recalls), abs=0.05)  # ties
    assert len(result.slices) == 3
    assert not run(settings(tiny, evaluation={"measures": ["recall@5"]}), RunFolder(tmp_path / "plain")).slices


def test_users_are_told_with_how_much_they_did(tiny, tmp_path):
    run(settings(tiny), RunFolder(tmp_path / "run"))
    table = pl.read_parquet(tmp_path / "run" / "per_user.parquet")
    assert (table["history"] + table["test_items"]).to_list() == [10] * 60


def test_parts_of_sequences_are_the_same_from_the_folder(tmp_path):
    data = synthesise_sequences(seed=0)
    lines = [
        " ".join([f"u{user}", *(f"i{item}" for item in data.items[data.offsets[user] : data.offsets[user + 1]])])
        for user in range(40)
    ]
    (tmp_path / "walks.txt").write_text("\n".join(lines) + "\n")
    model = {"name": "item_mean", "dim": 4}
    config = settings(tmp_path / "walks.txt", task="sequences", model=model, loss={}, training={"epochs": 1})
    result = run(config, RunFolder(tmp_path / "run"))
    saved = RunFolder(tmp_path / "run").load()
    again = {
        name: saved.task.judge(
            config, saved.model, [Measure.parse("recall@5")], saved.data.train, part.held_out
        ).means()
        for name, part in task_of("sequences").slices(config, saved.data).items()
    }
    assert len(again) > 1
    assert again == {name: figures["item_mean"] for name, figures in result.slices.items()}
