"""Whole runs of sequences, on generated walks whose next item is known."""

import json

import polars as pl
import pytest

from rankwell.config import resolve
from rankwell.errors import ConfigError, DataError, RankwellError
from rankwell.experiments import RunFolder, run
from rankwell.tasks import task_of

TINY = {"dim": 16, "layers": 1, "max_length": 12}


@pytest.fixture
def walks(tmp_path):
    """Twenty users on a ring of eight items, in the order of the lines."""
    lines = [" ".join([f"u{user}", *(f"i{(user + step) % 8}" for step in range(6))]) for user in range(20)]
    file = tmp_path / "walks.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


def settings(path, **sections):
    given = {"task": "sequences", "data": {"path": str(path)}, "model": {"name": "sasrec", **TINY}}
    given["training"] = {"epochs": 30, "learning_rate": 0.02, "batch_size": 8, "patience": 0}
    return resolve(given | {name: given.get(name, {}) | own for name, own in sections.items()})


def test_the_next_item_of_a_ring_is_found(walks, tmp_path):
    result = run(settings(walks), RunFolder(tmp_path / "run"))
    assert result.users == 20 and result.test["hit_rate@10"] == 1  # eight items
    assert result.test["ndcg@10"] > 0.9 > result.baselines["popularity"]["ndcg@10"]
    table = pl.read_parquet(tmp_path / "run" / "per_user.parquet")
    assert table["history"].to_list() == [5] * 20 and set(table["user"]) == {f"u{user}" for user in range(20)}


def test_a_finished_run_judges_and_recommends_what_comes_next(walks, tmp_path):
    result = run(settings(walks), RunFolder(tmp_path / "run"))
    walks.unlink()
    saved = RunFolder(tmp_path / "run").load()
    data = saved.data
    from rankwell.metrics import Measure

    again = saved.task.judge(saved.config, saved.model, [Measure.parse("ndcg@10")], data.train, data.test)
    assert again.means()["ndcg@10"] == pytest.approx(result.test["ndcg@10"])
    users, items, _, ranker = saved.task.catalogue(saved.model, data)
    import torch

    best = ranker.score_all(torch.arange(len(users))).argmax(1).tolist()
    right = [items[best[code]] == f"i{(int(user[1:]) + 6) % 8}" for code, user in enumerate(users)]
    assert sum(right) >= 18  # all six events are history now: the seventh comes


@pytest.mark.parametrize("loss", ["linear_softmax", "gbce"])
def test_an_interrupted_run_ends_in_the_same_bits(walks, tmp_path, loss, monkeypatch):
    short = {"training": {"epochs": 4, "batch_size": 8, "checkpoint_seconds": 0.0}, "loss": {"name": loss}}
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    run(settings(walks, **short), whole)
    from rankwell.training.sequence_objective import SequenceHeadObjective, SequenceObjective

    kind = SequenceHeadObjective if loss == "linear_softmax" else SequenceObjective
    plays, left = kind.plays, [5]

    def interrupted(self, batch, **where):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return plays(self, batch, **where)

    monkeypatch.setattr(kind, "plays", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(settings(walks, **short), cut)
    monkeypatch.setattr(kind, "plays", plays)
    run(cut.config(), cut, resume=True)
    assert (cut.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()
    ends = [json.loads((folder.path / "metrics.json").read_text())["test"] for folder in (whole, cut)]
    assert ends[0] == ends[1]


def test_a_loss_over_the_catalogue_has_no_sampler():
    assert resolve({"task": "sequences"}).sampler == {}
    assert resolve({"task": "sequences", "loss": {"name": "bpr"}}).sampler["name"] == "uniform"
    with pytest.raises(ConfigError, match=r"^configuration: sampler: linear_softmax is over the whole catalogue"):
        resolve({"task": "sequences", "sampler": {"name": "dns"}})


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"task": "sequence"}, "unknown task 'sequence'. Did you mean 'sequences'"),
        ({"task": "sequences", "generator": {"name": "mixgcf"}}, "generator: task sequences has no generator"),
        ({"task": "sequences", "model": {"name": "mf"}}, "model: mf is a model of interactions; task sequences has"),
        ({"task": "sequences", "data": {"items": "x.csv"}}, "unknown key data.items"),
        ({"task": "sequences", "loss": {"name": "info_nce"}}, "of kind 'embedding'"),
    ],
    ids=["task", "section", "model", "key", "loss"],
)
def test_what_a_task_has_not_is_one_sentence(raw, says):
    with pytest.raises(RankwellError) as caught:
        resolve(raw)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_sequences_that_cannot_spare_two_events(tmp_path):
    (tmp_path / "short.txt").write_text("a x y\nb y\n")
    with pytest.raises(DataError, match="none of 2 users has 3 events or more"):
        task_of("sequences").read(settings(tmp_path / "short.txt"))
    (tmp_path / "mixed.txt").write_text("a x y z\nb y\nc x y\n")
    data = task_of("sequences").read(settings(tmp_path / "mixed.txt"))
    assert any("single event" in note for note in data.notes) and len(data.test) == 1
