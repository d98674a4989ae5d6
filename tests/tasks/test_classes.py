"""Whole runs of metric learning, on generated classes whose best embedding is known."""

import importlib

import numpy as np
import polars as pl
import pytest

from rankwell.config import resolve
from rankwell.data.examples import synthesise_examples
from rankwell.errors import ConfigError, DataError, RunError
from rankwell.experiments import RunFolder, run
from rankwell.metrics import Measure
from rankwell.tasks import task_of
from rankwell.tasks.class_data import ClassData, read
from rankwell.training import ClassObjective

FILES = {"config.toml", "run.json", "log.jsonl", "curve.png", "examples.safetensors", "classes.parquet"}
FILES |= {"model.safetensors", "per_example.parquet", "metrics.json", "selection.json"}
SMALL = {"epochs": 4, "batch_size": 16, "learning_rate": 0.01}


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Drawing takes longer than training."""
    module = importlib.import_module("rankwell.experiments.run")
    monkeypatch.setattr(module, "draw_curve", lambda path, *_: path.write_bytes(b""))


@pytest.fixture
def images(tmp_path):
    """Six classes of four images, each with one row or column lit."""
    rng, lit = np.random.default_rng(0), np.zeros((24, 6, 6))
    for at in range(24):
        lit[at, at // 4] = 200
    np.savez(tmp_path / "a.npz", images=(lit + 20 * rng.random(lit.shape)).astype(np.uint8), labels=np.arange(24) // 4)
    return tmp_path / "a.npz"


def settings(**sections):
    given = {"task": "classes", "model": {"name": "encoder", "widths": [16], "dim": 8}, "training": SMALL}
    return resolve(given | {name: given.get(name, {}) | own for name, own in sections.items()})


def test_the_defaults_come_near_the_true_map(tmp_path):
    result = run(resolve({"task": "classes"}), RunFolder(tmp_path / "run"))
    reached, known = result.test["ap_at_r"], {name: values["ap_at_r"] for name, values in result.baselines.items()}
    assert known["true map"] > 0.95 and max(known["raw"], known["untrained"]) < 0.3
    # 42 classes of 20 examples tell about two thirds of what there is to know.
    assert reached - known["raw"] > 0.55 * (known["true map"] - known["raw"])
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    rows = pl.read_parquet(tmp_path / "run" / "per_example.parquet")
    assert result.users == len(rows) == 360 and rows["class"].n_unique() == 18
    assert rows["ap_at_r"].mean() == pytest.approx(reached)


def test_a_run_is_read_back_and_new_examples_find_their_neighbours(images, tmp_path):
    config = settings(data={"path": str(images), "valid_fraction": 0.0}, training=SMALL | {"epochs": 8})
    result = run(config, RunFolder(tmp_path / "run"))
    saved = RunFolder(tmp_path / "run").load()
    measures = [Measure.parse(text) for text in config.evaluation.measures]
    assert saved.task.judge(config, saved.model, measures, saved.data.train, saved.data.test).means() == result.test
    assert result.test["hit_rate@1"] > result.baselines["untrained"]["hit_rate@1"] - 0.01
    with np.load(images) as arrays:
        np.savez(tmp_path / "new.npz", images=arrays["images"][5:8])
    table = saved.task.score(config, saved.model, saved.data, [tmp_path / "new.npz"])
    assert table.columns == ["query", "document", "rank", "score", "class"] and len(table) == 30
    nearest = table.filter(pl.col("rank") == 1)
    assert nearest["document"].to_list() == ["6", "7", "8"] and nearest["class"].to_list() == ["1"] * 3  # themselves
    assert nearest["score"].to_list() == pytest.approx([1.0] * 3, abs=1e-5)
    both = saved.task.score(config, saved.model, saved.data, [tmp_path / "new.npz", images])
    assert both["query"].n_unique() == 27 and both["query"][0] == "new-1"


def test_what_new_examples_must_be(images, tmp_path):
    config = settings(data={"path": str(images), "valid_fraction": 0.0})
    run(config, RunFolder(tmp_path / "run"))
    saved = RunFolder(tmp_path / "run").load()

    def score(**arrays):
        np.savez(tmp_path / "new.npz", **arrays)
        return saved.task.score(config, saved.model, saved.data, [tmp_path / "new.npz"])

    with pytest.raises(
        DataError, match=r"new.npz: examples must be what the model was trained on, \(1, 6, 6\): got images of 6 x 7"
    ):
        score(images=np.ones((1, 6, 7)))
    with pytest.raises(DataError, match="got 36 features"):
        score(features=np.ones((1, 36)))
    with pytest.raises(ConfigError, match="leave --document out"):
        saved.task.score(config, saved.model, saved.data, [images], document="x")


class Killed(BaseException):
    """What a kill is to a process: nothing catches it."""


@pytest.mark.parametrize(
    "sections",
    [
        {"generator": {"name": "memory", "size": 32}},
        {"loss": {"name": "cross_batch_memory", "size": 32, "warm_up": 2}},
    ],
    ids=["generator", "loss"],
)
def test_a_killed_run_goes_on_to_the_same_bits(images, tmp_path, monkeypatch, sections):
    training = SMALL | {"batch_size": 4, "checkpoint_seconds": 0.0}
    config = settings(data={"path": str(images)}, training=training, batches={"per_class": 2}, **sections)
    whole = run(config, RunFolder(tmp_path / "whole"))
    original, count = ClassObjective.plays, iter(range(1000))

    def killed(self, batch, **at):
        if next(count) == 5:
            raise Killed
        return original(self, batch, **at)

    with monkeypatch.context() as patch:
        patch.setattr(ClassObjective, "plays", killed)
        with pytest.raises(Killed):
            run(config, RunFolder(tmp_path / "killed"))
    assert run(config, RunFolder(tmp_path / "killed"), resume=True).test == whole.test
    for name in ("model.safetensors", "per_example.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_other_examples_are_noticed(images, tmp_path):
    config = settings(data={"path": str(images)})
    run(config, RunFolder(tmp_path / "run"))
    (tmp_path / "run" / "metrics.json").unlink()
    with np.load(images) as arrays:
        np.savez(images, images=255 - arrays["images"], labels=arrays["labels"])
    with pytest.raises(RunError, match="the data changed since"):
        run(config, RunFolder(tmp_path / "run"), resume=True)


class TestSplit:
    """No class is in two parts."""

    def read(self, path, **own):
        return read(ClassData(path=str(path), **own), seed=0)

    def table(self, folder, counts):
        labels = [name for name, count in counts.items() for _ in range(count)]
        pl.DataFrame({"label": labels, "x": range(len(labels))}).write_csv(folder / "a.csv")
        return folder / "a.csv"

    def names(self, part):
        return set(part.class_ids[np.unique(part.classes)].to_list())

    def test_by_chance(self):
        data = self.read("synthetic")
        parts = [self.names(part) for part in (data.fit, data.valid, data.test)]
        assert [len(part) for part in parts] == [29, 13, 18] and len(set.union(*parts)) == 60
        assert self.names(data.train) == parts[0] | parts[1] and len(data.train) == 42 * 20
        assert self.names(read(ClassData(), seed=1).test) != parts[2]

    def test_by_name(self, tmp_path):
        path = self.table(tmp_path, dict.fromkeys("abcdef", 3))
        data = self.read(path, test_classes="f,a", valid_classes="c,d")
        assert [self.names(part) for part in (data.fit, data.valid, data.test)] == [{"b", "e"}, {"c", "d"}, {"a", "f"}]
        assert data.test.rows.tolist() == [1, 2, 3, 16, 17, 18] and not data.notes

    def test_classes_of_one_are_counted(self, tmp_path):
        path = self.table(tmp_path, {"a": 3, "b": 1, "c": 2, "d": 1, "e": 5, "f": 1})
        data = self.read(path, test_classes="a,b", valid_fraction=0)
        assert data.notes == (
            "2 of 4 training classes have one example: it has nothing to find, and is only confused with",
            "1 of 2 test classes have one example: it has nothing to find, and is only confused with",
        )
        with pytest.raises(ConfigError, match="no test class has two examples: nothing can be found"):
            self.read(path, test_classes="b,d", valid_fraction=0)

    @pytest.mark.parametrize(
        ("classes", "own", "said"),
        [
            ("a", {}, "each part needs at least 2: got 1 to take test classes from"),
            ("abcd", {}, "got 2 to take valid classes from. Give more classes, or set data.valid_fraction to 0"),
            (
                "abcd",
                {"test_classes": "a,b", "valid_classes": "c,d"},
                "training needs at least 2 classes: 0 are left of 4",
            ),
            ("abcd", {"test_classes": "a,z"}, "data.test_classes: there is no class 'z' to take: there are a, b, c, d"),
            (
                "abcdef",
                {"test_classes": "a,b", "valid_classes": "b,c"},
                "data.valid_classes: there is no class 'b' to take",
            ),
            ("abcd", {"test_classes": "a,a"}, "data.test_classes must name at least 2 classes"),
        ],
    )
    def test_too_few_classes(self, tmp_path, classes, own, said):
        with pytest.raises(ConfigError, match=said):
            self.read(self.table(tmp_path, dict.fromkeys(classes, 3)), **own)


def test_few_classes_fill_the_batch(images):
    config = settings(data={"path": str(images), "test_classes": "0,1", "valid_fraction": 0.0})
    task = task_of("classes")
    data = task.read(config)
    batches = task.batches(config, data, data.fit)
    sizes = [batch.classes.bincount().unique().tolist() for batch in batches.of_epoch(0)]
    assert sizes == [[0, 4]] and batches.steps(0) == 1  # four classes, four of each


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"batches": {"name": "class_balanced", "classes": "user"}}, "batches of examples go by their classes"),
        ({"batches": {"name": "high_loss"}}, "batches high_loss learn from the loss of each row"),
        ({"batches": {"name": "weighted"}}, "batches weighted weigh single rows"),
        ({"generator": {"name": "semantic"}}, "semantic makes negatives of texts, which examples have none of"),
        ({"loss": {"name": "cross_batch_memory"}, "generator": {"name": "memory"}}, "takes no generator: leave one"),
    ],
)
def test_what_cannot_be_put_together(tmp_path, sections, said):
    with pytest.raises(ConfigError, match=said):
        run(settings(**sections), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_generated_data_are_what_synthetic_trains_on(tmp_path):
    task_of("classes").generate(tmp_path / "made", seed=3)
    own, made = read(ClassData(path=str(tmp_path / "made" / "examples.npz")), 3), read(ClassData(), 3)
    assert np.array_equal(own.train.features, made.train.features) and np.array_equal(
        own.test.classes, made.test.classes
    )
    assert synthesise_examples(seed=3).examples.class_ids.to_list() == own.test.class_ids.to_list()
