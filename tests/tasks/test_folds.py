"""Folds: disjoint test parts that together are everything, and training that is not touched by what is tested."""

import numpy as np
import polars as pl
import pytest

from rankwell.config import resolve
from rankwell.data import Interactions, split_fold
from rankwell.data.synthetic_texts import synthesise_texts, write_beir
from rankwell.errors import ConfigError
from rankwell.tasks import task_of
from rankwell.tasks.folds import numbered

FOLDS = 3


def judged(folder):
    """Nine queries of two documents."""
    query = np.repeat([f"q{number}" for number in range(9)], 2)
    pl.DataFrame({"query": query, "label": [0, 1] * 9, "x": range(18)}).write_csv(folder / "lists.csv")
    return {"task": "ltr", "data": {"path": str(folder / "lists.csv")}}


def labelled(folder):
    rows = {"id": range(30), "labels": ["a", "b", "c"] * 10, "x": range(30)}
    pl.DataFrame(rows).write_csv(folder / "rows.csv")
    return {"task": "labels", "data": {"path": str(folder / "rows.csv")}}


def classes(folder):
    rows = {"label": [f"c{number // 3}" for number in range(36)], "x": range(36), "y": range(36)}
    pl.DataFrame(rows).write_csv(folder / "examples.csv")
    return {"task": "classes", "data": {"path": str(folder / "examples.csv")}}


def interactions(folder):
    rows = [{"user": f"u{user}", "item": f"i{item}"} for user in range(12) for item in range(user % 5 + 2)]
    pl.DataFrame(rows).write_csv(folder / "pairs.csv")
    return {"data": {"path": str(folder / "pairs.csv")}}


def texts(folder):
    train, *_ = synthesise_texts(seed=0)
    write_beir(folder, {"train": train})
    return {"task": "retrieval", "data": {"path": str(folder)}}


def parts(task, config):
    data = task.read(config)
    return {name: held(getattr(data, name)) for name in ("train", "fit", "valid", "test")}


def held(part):
    """What a part holds, by ids."""
    if isinstance(part, Interactions):
        return set(zip(part.user_ids.gather(part.users), part.item_ids.gather(part.items), strict=True))
    if hasattr(part, "query_ids"):
        return set(part.query_ids)
    if hasattr(part, "classes"):
        return set(part.class_ids.gather(np.unique(part.classes)))
    return set(part.ids) if hasattr(part, "ids") else {part.queries.ids[code] for code in part.asked()}


@pytest.mark.parametrize("made", [judged, labelled, classes, interactions, texts], ids=lambda made: made.__name__)
def test_folds_are_disjoint_and_cover_everything(tmp_path, made):
    raw = made(tmp_path)
    task = task_of(raw.get("task", "interactions"))
    found = []
    for number in range(1, FOLDS + 1):
        raw["data"]["fold"] = f"{number}/{FOLDS}"
        found.append(parts(task, resolve(raw)))
    tested = [each["test"] for each in found]
    assert sum(map(len, tested)) == len(set.union(*tested))
    for each in found:
        assert not each["test"] & each["train"] and not each["valid"] & each["fit"]
        assert each["valid"] | each["fit"] == each["train"]
        assert each["train"] | each["test"] == set.union(*tested)
    sizes = [len(each) for each in tested]
    assert max(sizes) - min(sizes) <= 0.25 * max(sizes)


def test_users_with_one_pair_keep_it():
    ids = pl.Series(["ann", "bo"]), pl.Series(list("abc"))
    data = Interactions(np.array([0, 1, 1]), np.array([0, 1, 2]), *ids)
    parts = [split_fold(data, number, 2, seed=0) for number in (1, 2)]
    assert sorted(item for part in parts for item in part.held_out.items) == [1, 2]
    assert all(0 in part.train.users for part in parts)
    with pytest.raises(ConfigError, match="number must be from 1 to folds, of at least 2: got 3 of 2"):
        split_fold(data, 3, 2, seed=0)


def test_another_seed_makes_other_folds(tmp_path):
    raw = interactions(tmp_path)
    raw["data"]["fold"] = "1/3"
    task = task_of("interactions")
    first, second = (parts(task, resolve({**raw, "seed": seed})) for seed in (0, 1))
    assert first["test"] != second["test"]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/1", "1", "a/b", "1/2/3"])
def test_folds_that_are_wrong(text):
    with pytest.raises(ConfigError, match=r"fold must read 2/5, the second of five"):
        numbered(text)
    with pytest.raises(ConfigError, match=r"options: data\.fold: fold must read 2/5"):
        resolve({"data": {"fold": text}}, "options")


def test_folds_of_what_cannot_be_folded(tmp_path):
    def refused(raw, says, **data):
        raw = {**raw, "data": {**raw.get("data", {}), "fold": "1/3", **data}}
        task = task_of(raw.get("task", "interactions"))
        with pytest.raises(ConfigError, match=says):
            task.read(resolve(raw))

    refused({}, "synthetic brings its own")
    refused({"task": "ltr"}, "synthetic brings its own")
    refused({"task": "retrieval"}, "synthetic brings its own")
    refused(interactions(tmp_path), r"data\.fold goes with data\.split random, not leave_last", split="leave_last")
    refused(judged(tmp_path), "9 queries cannot make 10 folds", fold="1/10")
    refused(classes(tmp_path), r"data\.fold and data\.test_classes both say", test_classes=["c0", "c1"])
