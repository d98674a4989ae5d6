"""Whole runs of labels, on generated rows whose best order of labels is known."""

import importlib
import json

import numpy as np
import polars as pl
import pytest

from rankwell.config import resolve
from rankwell.data.label_files import read_labelled
from rankwell.errors import ConfigError, DataError
from rankwell.experiments import RunFolder, run
from rankwell.losses import LOSSES
from rankwell.metrics import Measure
from rankwell.tasks import task_of
from rankwell.tasks.label_data import LabelData, read
from rankwell.training import ListObjective

SHORT = {"epochs": 6, "batch_size": 64, "learning_rate": 0.02}


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Drawing takes longer than training."""
    module = importlib.import_module("rankwell.experiments.run")
    monkeypatch.setattr(module, "draw_curve", lambda path, *_: path.write_bytes(b""))


@pytest.fixture
def films(tmp_path):
    """Fifty films: the year says the genre, and every fifth is also long."""
    rows = [f"{n},{1900 + n},{'old' if n < 25 else 'new'}{'|long' if n % 5 == 0 else ''}" for n in range(50)]
    (tmp_path / "films.csv").write_text("id,year,labels\n" + "\n".join(rows) + "\n")
    return tmp_path / "films.csv"


def settings(path="synthetic", **sections):
    given = {"task": "labels", "data": {"path": str(path)}, "model": {"name": "label_mlp", "widths": [32]}}
    given["training"] = SHORT
    return resolve(given | {name: given.get(name, {}) | own for name, own in sections.items()})


def test_a_linear_model_comes_close_to_the_ideal(tmp_path):
    linear = {"widths": [], "dropout": 0.0}
    config = settings(model=linear, training={**SHORT, "epochs": 15, "learning_rate": 0.05})
    result = run(config, RunFolder(tmp_path / "run"))
    test, least, best = result.test, result.baselines["popularity"], result.baselines["ideal"]
    for name in ("ndcg@10", "ap", "recall@5"):
        assert least[name] + 0.8 * (best[name] - least[name]) < test[name] < best[name] + 0.01
    rows = pl.read_parquet(tmp_path / "run" / "per_row.parquet")
    assert len(rows) == result.users and rows["labels"].min() >= 1 and rows["row"].n_unique() == len(rows)


@pytest.mark.parametrize("loss", ["focal", "soft_dice", "tversky", "excessiveness", "softmax", "logistic"])
def test_set_wise_and_ranking_losses_beat_popularity(tmp_path, loss):
    result = run(settings(loss={"name": loss}), RunFolder(tmp_path / "run"))
    assert result.test["ndcg@10"] > result.baselines["popularity"]["ndcg@10"] + 0.1


@pytest.mark.parametrize("model", [{"name": "label_vectors", "widths": [], "dim": 16}, {"name": "label_ridge"}])
def test_other_models_beat_popularity(tmp_path, model):
    config = resolve({"task": "labels", "model": model, "training": SHORT})
    result = run(config, RunFolder(tmp_path / "run"))
    assert result.test["ndcg@10"] > result.baselines["popularity"]["ndcg@10"] + 0.1


class Killed(BaseException):
    """What a kill is to a process: nothing catches it."""


@pytest.mark.parametrize("steps", [2, 25])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, steps):
    config = settings(training={**SHORT, "epochs": 3, "checkpoint_seconds": 0.0, "refit": True}, model={"dropout": 0.3})
    whole = run(config, RunFolder(tmp_path / "whole"))
    original, count = ListObjective.plays, iter(range(1000))

    def killed(self, batch, **at):
        if next(count) == steps:
            raise Killed
        return original(self, batch, **at)

    with monkeypatch.context() as patch:
        patch.setattr(ListObjective, "plays", killed)
        with pytest.raises(Killed):
            run(config, RunFolder(tmp_path / "killed"))
    resumed = run(config, RunFolder(tmp_path / "killed"), resume=True)
    assert resumed.test == whole.test and resumed.epochs == whole.epochs
    for name in ("model.safetensors", "per_row.parquet", "labels.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_run_needs_no_files(films, tmp_path):
    config = settings(films)
    result = run(config, RunFolder(tmp_path / "run"))
    films.unlink()
    saved = RunFolder(tmp_path / "run").load()
    measures = [Measure.parse(text) for text in config.evaluation.measures]
    assert saved.task.judge(config, saved.model, measures, saved.data.train, saved.data.test).means() == result.test


def test_new_rows_get_all_labels_the_best_first(films, tmp_path):
    config = settings(films, training={**SHORT, "epochs": 40})
    run(config, RunFolder(tmp_path / "run"))
    saved = RunFolder(tmp_path / "run").load()
    new = tmp_path / "new.csv"
    new.write_text("year,id,title\n1899,first,A\n1951,second,B\n,third,C\n")
    table = saved.task.score(config, saved.model, saved.data, [new])
    assert table.columns == ["row", "label", "rank", "score"] and len(table) == 3 * 3
    best = table.filter(pl.col("rank") == 1)
    assert best["row"].to_list() == ["first", "second", "third"] and best["label"].to_list()[:2] == ["old", "new"]
    for _, of_row in table.group_by("row"):
        assert of_row["rank"].to_list() == [1, 2, 3] and of_row["score"].is_sorted(descending=True)
        assert set(of_row["label"]) == {"old", "new", "long"}
    new.write_text("id,title\n1,A\n")
    with pytest.raises(DataError, match="must have the column 'year'"):
        saved.task.score(config, saved.model, saved.data, [new])
    with pytest.raises(ConfigError, match="leave --document out"):
        saved.task.score(config, saved.model, saved.data, [new], document="title")


class TestReading:
    """What becomes of rows and labels."""

    def read(self, path, seed=0, **own):
        return read(LabelData(path=str(path), **own), seed)

    def test_rows_are_split_and_each_is_in_one_part(self, films):
        data = self.read(films)
        parts = [data.fit, data.valid, data.test]
        assert [len(part) for part in parts] == [32, 8, 10] and len(data.train) == 40
        assert {each for part in parts for each in part.ids} == {str(n) for n in range(50)}
        assert self.read(films, valid_fraction=0).valid is None
        assert self.read(films, seed=1).test.ids.to_list() != data.test.ids.to_list()
        for part in parts:  # the labels are still those of their rows
            for row, name in enumerate(part.ids):
                codes = part.labels.values[part.labels.offsets[row] : part.labels.offsets[row + 1]]
                expected = {"old" if int(name) < 25 else "new"} | ({"long"} if int(name) % 5 == 0 else set())
                assert set(part.label_ids[codes.numpy()]) == expected
                assert part.features.numbers[row].item() == 1900 + int(name)

    def test_rows_without_labels_are_counted_and_left_out(self, films):
        films.write_text(films.read_text() + "50,1950,\n51,1951,|\n52,1952,none\n")
        data = self.read(films, not_labels=["none"])
        assert len(data.train) + len(data.test) == 50
        assert "3 of 53 rows have no label: they train nothing, and are not measured" in data.notes
        assert any("2 labels without a text left out" in note for note in data.notes)

    def test_rare_labels_are_counted_and_left_out(self, films):
        films.write_text(films.read_text() + "50,1950,single\n")
        data = self.read(films, min_rows=2)
        assert data.train.label_ids.to_list() == ["long", "new", "old"]
        assert "1 of 4 labels have fewer than 2 rows and are left out" in data.notes
        assert "1 of 51 rows have no label: they train nothing, and are not measured" in data.notes

    def test_labels_of_test_rows_only_are_counted_and_missed(self, films, tmp_path):
        test = self.read(films).test.ids[0]
        rows = films.read_text().splitlines()
        films.write_text("\n".join(row + "|unseen" if row.startswith(f"{test},") else row for row in rows) + "\n")
        data = self.read(films)
        assert any(
            note.startswith("1 of 4 labels occur in test rows only") and "'unseen'" in note for note in data.notes
        )
        config = settings(films)
        result = run(config, RunFolder(tmp_path / "run"))
        assert result.users == 10  # the label is among those to be found: no row of the test is lost

    def test_missing_numbers_are_counted(self, films):
        films.write_text(films.read_text() + "50,nan,old\n51,,new\n52,inf,new\n")
        notes = self.read(films).notes
        assert "3 of 53 numbers are missing: the mean of the training rows stands for them" in notes

    def test_a_column_of_numbers_with_a_text_is_pointed_out(self, films):
        films.write_text(films.read_text() + "50,c. 1950,old\n")
        notes = [note for seed in range(3) for note in self.read(films, seed=seed).notes]
        assert any(
            "column year is taken for categories: 1 of its 51 values are no numbers (first: 'c. 1950')" in n
            for n in notes
        )

    def test_scales_and_categories_are_those_of_the_training_rows(self, tmp_path):
        table = pl.DataFrame(
            {"id": range(40), "x": range(40), "kind": [f"k{n}" for n in range(40)], "labels": ["a", "b"] * 20}
        )
        table.write_csv(tmp_path / "a.csv")
        data = self.read(tmp_path / "a.csv")
        assert data.train.features.num_categories == len(data.train) == 32
        assert set(data.train.encoder.categories["kind"]) == {f"k{row}" for row in data.train.ids}
        assert data.test.features.categories.values.numel() == 0
        config = settings(tmp_path / "a.csv")
        model = task_of("labels").model(config, data)
        task_of("labels").initialise(model, data.fit, seed=0)
        assert model.mean[0].item() == pytest.approx(data.fit.features.numbers.mean().item())

    def test_faults(self, films):
        with pytest.raises(DataError, match="there must be two labels of at least 60 rows: there are 0"):
            self.read(films, min_rows=60)
        films.write_text("id,x,labels\n1,1,a|b\n")
        with pytest.raises(ConfigError, match="holding out 1 of 1 labelled rows leaves none to train on"):
            self.read(films)
        with pytest.raises(ConfigError, match="is a folder with 0 files called rows"):
            self.read(films.parent)


def test_labels_have_no_grades():
    with pytest.raises(ConfigError, match=r"recall\(rel=2\)@5: held-out items have the relevance 1"):
        task_of("labels").check(Measure.parse("recall(rel=2)@5"))
    assert task_of("labels").check(Measure.parse("recall@5")).k == 5


def test_weights_of_labels_fall_with_their_rows(films):
    task = task_of("labels")
    config = settings(films, data={"rare_power": 0.5})
    data = task.read(config)
    weights = task.batches(config, data, data.train).weights
    raw = 1 / data.train.counts().double().sqrt()
    assert np.allclose(weights, raw / raw.mean()) and weights.mean().item() == pytest.approx(1)
    assert task.batches(settings(films), data, data.train).weights is None
    batch = next(task.batches(config, data, data.train).of_epoch(0))
    model = task.model(config, data)
    task.initialise(model, data.train, seed=0)
    (play,) = task.objective(config, model.eval(), data, data.train, None).plays(batch, epoch=0, step=0)
    expected = LOSSES["sigmoid"].function(model(batch.features), batch.labels, weights=weights)
    assert play.value.item() == pytest.approx(expected.item())


def test_generated_data_are_what_synthetic_trains_on(tmp_path):
    task = task_of("labels")
    task.generate(tmp_path, seed=3)
    own, generated = read(LabelData(path=str(tmp_path / "rows.csv")), 3), read(LabelData(), 3)
    assert own.train.ids.to_list() == generated.train.ids.to_list()
    assert np.allclose(own.train.features.numbers, generated.train.features.numbers)
    assert own.test.labels.values.equal(generated.test.labels.values) and own.ideal is None
    assert "labels" not in read_labelled(tmp_path / "rows.csv").features.columns


def test_the_ideal_is_that_of_the_labels_that_are_there(tmp_path):
    data = read(LabelData(min_rows=150), 0)
    whole = read(LabelData(), 0)
    places = [whole.train.label_ids.to_list().index(name) for name in data.train.label_ids]
    assert 2 <= len(places) < len(whole.train.label_ids)
    bias, numbers = slice(0, 1), slice(1, 7)  # categories may come in another order
    for rows in (bias, numbers):
        assert data.ideal[rows].equal(whole.ideal[rows][:, places])


def test_a_run_notes_what_reading_changed(films, tmp_path):
    films.write_text(films.read_text() + "50,1950,\n")
    run(settings(films), RunFolder(tmp_path / "run"))
    notes = json.loads((tmp_path / "run" / "run.json").read_text())["notes"]
    assert notes == ["1 of 51 rows have no label: they train nothing, and are not measured"]
