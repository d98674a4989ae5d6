"""Whole runs of learning to rank, on generated lists whose best order is known."""

import importlib
import json

import numpy as np
import polars as pl
import pytest

from rankwell.config import resolve
from rankwell.data.judged import synthesise_judged
from rankwell.errors import ConfigError, DataError, RunError
from rankwell.experiments import RunFolder, run
from rankwell.metrics import Measure
from rankwell.tasks import task_of
from rankwell.tasks.list_data import JudgedData, read
from rankwell.training import ListObjective

SMALL = {"epochs": 4, "batch_size": 8, "learning_rate": 0.01}
FILES = {
    "config.toml",
    "run.json",
    "log.jsonl",
    "curve.png",
    "lists.safetensors",
    "queries.parquet",
    "model.safetensors",
}
FILES |= {"per_query.parquet", "metrics.json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three Parquet files: 60 queries, of which 36 to train on."""
    made = tmp_path_factory.mktemp("lists")
    for name, lists in zip(("train", "valid", "test"), synthesise_judged(60, 12, 4, noise=0.1, seed=0), strict=True):
        table(lists).write_parquet(made / f"{name}.parquet")
    return made


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Drawing takes longer than training."""
    module = importlib.import_module("rankwell.experiments.run")
    monkeypatch.setattr(module, "draw_curve", lambda path, *_: path.write_bytes(b""))


def table(lists):
    queries = lists.query_ids[np.repeat(np.arange(len(lists)), np.diff(lists.offsets))]
    return pl.DataFrame(
        {"query": queries, "label": lists.labels, **{f"f{at}": each for at, each in enumerate(lists.features.T)}}
    )


def settings(path, **sections):
    given = {"task": "ltr", "data": {"path": str(path)}, "model": {"name": "mlp", "widths": [16]}, "training": SMALL}
    return resolve(given | {name: given.get(name, {}) | own for name, own in sections.items()})


@pytest.mark.parametrize(
    "model", [{"name": "mlp", "widths": [16]}, {"name": "set_transformer", "dim": 16}], ids=["mlp", "set_transformer"]
)
def test_networks_beat_the_best_feature(folder, tmp_path, model):
    config = resolve({"task": "ltr", "data": {"path": str(folder)}, "model": model, "training": SMALL | {"epochs": 10}})
    result = run(config, RunFolder(tmp_path / "run"))
    assert result.users == 12 and result.validation is not None
    assert result.test["ndcg@10"] > result.baselines["best feature"]["ndcg@10"] + 0.1
    rows = pl.read_parquet(tmp_path / "run" / "per_query.parquet")
    test = pl.read_parquet(folder / "test.parquet")
    assert rows["query"].to_list() == test["query"].unique(maintain_order=True).to_list()
    assert rows["documents"].sum() == len(test)
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES


def test_labels_that_are_a_feature_are_found(tmp_path):
    given = {
        "query": np.repeat(np.arange(10), 4),
        "label": np.tile([2, 0, 1, 0], 10),
        "other": np.tile([1, 2, 3, 4], 10),
    }
    pl.DataFrame(given).with_columns(best=-pl.col("label")).write_csv(tmp_path / "a.csv")
    config = resolve({"task": "ltr", "data": {"path": str(tmp_path / "a.csv")}, "model": {"name": "best_feature"}})
    result = run(config, RunFolder(tmp_path / "run"))
    assert result.test["ndcg@10"] == 1 and result.baselines["best feature"]["ndcg@10"] == 1


def test_a_closed_form_says_what_it_is_fitted_on(folder, tmp_path):
    config = resolve(
        {"task": "ltr", "data": {"path": str(folder)}, "model": {"name": "lambdamart", "trees": 5, "min_documents": 5}}
    )
    result = run(config, RunFolder(tmp_path / "run"))
    assert result.epochs == 0 and result.test["ndcg@10"] > result.baselines["best feature"]["ndcg@10"]
    notes = json.loads((tmp_path / "run" / "run.json").read_text())["notes"]
    assert any("fitted on training and validation lists together" in note for note in notes)
    saved = RunFolder(tmp_path / "run").load()
    measures = [Measure.parse(text) for text in config.evaluation.measures]
    assert saved.task.judge(config, saved.model, measures, saved.data.train, saved.data.test).means() == result.test


class Killed(BaseException):
    """What a kill is to a process: nothing catches it."""


@pytest.mark.parametrize("steps", [3, 7, 16])
def test_a_killed_run_goes_on_to_the_same_bits(folder, tmp_path, monkeypatch, steps):
    config = settings(folder, training=SMALL | {"checkpoint_seconds": 0.0, "refit": True}, model={"dropout": 0.3})
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
    for name in ("model.safetensors", "per_query.parquet", "lists.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_other_lists_are_noticed(folder, tmp_path):
    train = pl.read_parquet(folder / "train.parquet")
    for name, part in (("train", train), ("test", pl.read_parquet(folder / "test.parquet"))):
        part.write_parquet(tmp_path / f"{name}.parquet")
    config = settings(tmp_path)
    run(config, RunFolder(tmp_path / "run"))
    (tmp_path / "run" / "metrics.json").unlink()
    train.with_columns(label=3 - pl.col("label")).write_parquet(tmp_path / "train.parquet")
    with pytest.raises(RunError, match="the data changed since"):
        run(config, RunFolder(tmp_path / "run"), resume=True)


class TestFiles:
    """Which files are which part."""

    LINES = "".join(f"{n % 2} qid:{n // 3} 1:{n}\n" for n in range(30))

    def read(self, path, **own):
        return read(JudgedData(path=str(path), **own), seed=0)

    def test_named_parts_of_a_fold(self, tmp_path):
        for part in range(1, 6):
            (tmp_path / f"S{part}.txt").write_text(self.LINES.replace("qid:", f"qid:{part}"))
        data = self.read(tmp_path, train="S1.txt,S2.txt,S3.txt", valid="S4.txt", test="S5.txt")
        assert [len(part) for part in (data.fit, data.valid, data.train, data.test)] == [30, 10, 40, 10]
        assert data.test.query_ids[0] == "50" and not data.notes

    def test_one_file_is_split_by_queries(self, tmp_path):
        (tmp_path / "a.txt").write_text(self.LINES)
        data = self.read(tmp_path / "a.txt")
        assert [len(part) for part in (data.fit, data.valid, data.test)] == [6, 2, 2]
        ids = [set(part.query_ids) for part in (data.fit, data.valid, data.test)]
        assert set.union(*ids) == {str(n) for n in range(10)} and sum(map(len, ids)) == 10
        assert self.read(tmp_path / "a.txt", valid_fraction=0).valid is None

    def test_lightgbms_names(self, tmp_path):
        (tmp_path / "train.conf").write_text("task = train")
        for name in ("rank.train", "rank.test"):
            (tmp_path / name).write_text("1 0:1\n0 0:2\n1 0:3\n")
            (tmp_path / f"{name}.query").write_text("2\n1\n")
        data = self.read(tmp_path, valid_fraction=0)
        assert len(data.train) == len(data.test) == 2

    def test_narrow_parts_are_widened_together(self, tmp_path):
        (tmp_path / "train.txt").write_text(self.LINES)
        (tmp_path / "test.txt").write_text("1 qid:99 7:1\n")
        data = self.read(tmp_path)
        assert {part.features.shape[1] for part in (data.fit, data.valid, data.train, data.test)} == {8}

    def test_scales_are_those_of_the_training_lists(self, tmp_path):
        (tmp_path / "train.txt").write_text(self.LINES)
        (tmp_path / "test.txt").write_text("1 qid:99 1:1000\n")
        data = self.read(tmp_path)
        task, config = task_of("ltr"), settings(tmp_path)
        model = task.model(config, data)
        task.initialise(model, data.fit, seed=0)
        assert model.scaling.shift[1].item() == pytest.approx(data.fit.features[:, 1].mean())

    def test_queries_that_are_not_held_out_are_noticed(self, tmp_path):
        (tmp_path / "train.txt").write_text(self.LINES)
        (tmp_path / "test.txt").write_text("1 qid:3 1:1\n0 qid:99 1:1\n")
        notes = self.read(tmp_path, valid_fraction=0).notes
        assert "1 of 2 test queries have an id of a training query: are they held out?" in notes
        assert "1 of 2 test queries have no relevant document: measures skip them" in notes

    def test_features_that_training_never_had_are_counted(self, tmp_path):
        (tmp_path / "train.txt").write_text("1 qid:1 1:1\n0 qid:1 1:2\n")
        (tmp_path / "test.txt").write_text("1 qid:3 1:1 2:5 3:0\n0 qid:3 1:1\n")
        read = self.read(tmp_path, valid_fraction=0)
        assert "1 feature of test documents with 0 in all training documents: nothing is learned of that" in read.notes

    @pytest.mark.parametrize("part", ["training", "test"])
    def test_a_part_without_any_relevant_document_is_refused(self, tmp_path, part):
        good, bad = "1 qid:{} 1:1\n0 qid:{} 1:2\n", "0 qid:{} 1:1\n0 qid:{} 1:2\n"
        (tmp_path / "train.txt").write_text((bad if part == "training" else good).format(1, 1))
        (tmp_path / "test.txt").write_text((bad if part == "test" else good).format(2, 2))
        with pytest.raises(DataError, match=f"at least one {part} query must have a relevant document: none has"):
            self.read(tmp_path, valid_fraction=0)

    @pytest.mark.parametrize(("train", "test"), [("a,b", "a,b,c"), ("a,b,c", "a,b")])
    def test_a_table_with_another_column_is_refused(self, tmp_path, train, test):
        for name, columns in (("train", train), ("test", test)):
            rows = "".join(f"q,{label}{',1' * (1 + columns.count(','))}\n" for label in (1, 0))
            (tmp_path / f"{name}.csv").write_text(f"query,label,{columns}\n{rows}")
        with pytest.raises(DataError, match=r"must have the features of .*'c' is not among both"):
            self.read(tmp_path, valid_fraction=0)

    def test_faults(self, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            self.read(tmp_path / "gone.txt")
        with pytest.raises(ConfigError, match=r"no file called train: name the files by --data.train"):
            self.read(tmp_path)
        (tmp_path / "train.txt").write_text("1 qid:1 1:1\n")
        with pytest.raises(ConfigError, match="holding out 1 of 1 queries leaves none to train on"):
            self.read(tmp_path)
        (tmp_path / "train.csv").write_text("query,label,x\na,1,1\n")
        with pytest.raises(ConfigError, match=r"has 2 files called train: name one by --data.train train.csv"):
            self.read(tmp_path)


def test_labels_become_shares_for_losses_that_want_them(folder):
    config = settings(folder, loss={"name": "sigmoid"})
    task = task_of("ltr")
    data = task.read(config)
    assert any("labels divided by the highest, 2" in note for note in data.notes)
    model = task.model(config, data)
    assert task.objective(config, model, data, data.fit, None).scale == 0.5
    config = settings(folder, loss={"name": "softmax"})
    assert task.objective(config, model, task.read(config), data.fit, None).scale == 1


def test_new_lists_are_ranked_as_the_test_lists_were(folder, tmp_path):
    config = settings(folder)
    run(config, RunFolder(tmp_path / "run"))
    saved = RunFolder(tmp_path / "run").load()
    test = pl.read_parquet(folder / "test.parquet")
    columns = ["f3", "f1", "url", "f0", "f2", "query"]  # another order, no labels
    test.with_columns(url=pl.int_range(len(test)).cast(pl.String)).select(columns).write_parquet(
        tmp_path / "new.parquet"
    )
    ranked = saved.task.score(config, saved.model, saved.data, [tmp_path / "new.parquet"], document="url")
    assert ranked["document"].cast(pl.Int64).sort().to_list() == list(range(len(test)))
    assert ranked["query"].unique(maintain_order=True).to_list() == test["query"].unique(maintain_order=True).to_list()
    features, _, offsets = saved.data.test.tensors()
    expected = saved.model(features, offsets).detach().numpy()
    assert np.allclose(ranked["score"], expected[ranked["document"].cast(pl.Int64)], atol=1e-6)
    for _, of_query in ranked.group_by("query"):
        assert of_query["rank"].to_list() == list(range(1, len(of_query) + 1))
        assert of_query["score"].is_sorted(descending=True)


def test_generated_data_are_what_synthetic_trains_on(tmp_path):
    task_of("ltr").generate(tmp_path / "made", seed=3)
    own, generated = read(JudgedData(path=str(tmp_path / "made")), 0), read(JudgedData(), 3)
    assert np.array_equal(own.train.features, generated.train.features)
    assert own.test.query_ids.to_list() == generated.test.query_ids.to_list()
