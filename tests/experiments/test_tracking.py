"""Trackers are told everything, and change nothing."""

import json
import sys

import pytest

from rankwell.config import resolve
from rankwell.errors import MissingExtra, RunError, UnknownName
from rankwell.experiments import RunFolder, cell, run, tracking
from rankwell.experiments.folder import write_config
from rankwell.experiments.tracking import Tracking, tracked
from rankwell.training import Epoch, RowAdam


class Told:
    """A tracker that remembers, and may fail at one of its methods."""

    def __init__(self, fails=""):
        self.fails, self.calls = fails, []

    def _hear(self, what, *args):
        if what == self.fails:
            raise OSError("the server is away.\nTraceback and more")
        self.calls.append((what, *args))

    def start(self, *args):
        self._hear("start", *args)

    def log(self, *args):
        self._hear("log", *args)

    def finish(self, *args):
        self._hear("finish", *args)

    def close(self, *args):
        self._hear("close", *args)


class Heard:
    """A reporter."""

    def __init__(self):
        self.said, self.phases, self.epochs = [], [], []

    def phase(self, name, _):
        self.phases.append(name)
        return self

    def evaluating(self, done, users):
        pass

    def say(self, text):
        self.said.append(text)

    def on_step(self, *args):
        pass

    def on_epoch(self, record, _):
        self.epochs.append(record.epoch)


@pytest.fixture
def config(tiny):
    return resolve(
        {
            "data": {"path": str(tiny)},
            "model": {"dim": 4},
            "sampler": {"n": 8},
            "training": {"epochs": 2, "batch_size": 64, "watch_every": 0},
        }
    )


@pytest.fixture
def trackers(monkeypatch):
    """Two that only remember, in place of the real ones."""
    made = {"first": Told(), "second": Told()}
    monkeypatch.setattr(tracking, "TRACKERS", {name: lambda _, one=one: one for name, one in made.items()})
    monkeypatch.setattr(tracking, "TRACES", {})
    return made


def test_off_by_default(tmp_path):
    reporter = Heard()
    with tracked(RunFolder(tmp_path / "run"), "", reporter) as same:
        assert same is reporter
    with tracked(RunFolder(tmp_path / "run")) as same:
        assert same is None
    assert not (tmp_path / "run").exists()


def test_everything_is_told_and_nothing_changes(config, tmp_path, no_picture, trackers):
    run(config, RunFolder(tmp_path / "plain"))
    folder, reporter = RunFolder(tmp_path / "run"), Heard()
    with tracked(folder, "second, first", reporter) as telling:
        result = run(config, folder, reporter=telling)
    assert trackers["first"].calls == trackers["second"].calls
    (_, parameters), *logged, (_, figures, files), closed = trackers["first"].calls
    assert (parameters["loss.name"], parameters["model.dim"], parameters["training.epochs"]) == ("bsl", 4, 2)
    assert parameters["evaluation.measures"] == str(config.evaluation.measures)
    lines = [json.loads(line) for line in (folder.path / "log.jsonl").read_text().splitlines()]
    assert [(what, phase, epoch) for what, phase, epoch, _ in logged] == [
        ("log", line["phase"], line["epoch"]) for line in lines
    ]
    for (*_, told), line in zip(logged, lines, strict=True):
        own = {name: line[name] for name in ("loss", "learning_rate", "seconds")}
        assert told == {**own, **(line["validation"] or {})}
    assert figures == result.test and closed == ("close", "FINISHED")
    assert {"config.toml", "curve.png", "metrics.json"} <= {file.name for file in files}
    assert (reporter.phases, reporter.said) == (["select", "refit", "evaluate"], [])
    assert reporter.epochs == [line["epoch"] for line in lines]
    for name in ("model.safetensors", "config.toml", "per_user.parquet"):
        assert (folder.path / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


@pytest.mark.parametrize("what", ["start", "log", "finish", "close"])
def test_a_tracker_that_fails_is_off_and_the_rest_goes_on(config, tmp_path, no_picture, trackers, what):
    trackers["first"].fails = what
    folder, reporter = RunFolder(tmp_path / "run"), Heard()
    with tracked(folder, "first,second", reporter) as telling:
        assert run(config, folder, reporter=telling).users
    assert reporter.said == ["tracking by Told is off from here on, training goes on: the server is away."]
    assert [call[0] for call in trackers["second"].calls][-2:] == ["finish", "close"]
    assert what not in [call[0] for call in trackers["first"].calls]


def test_without_a_reporter_it_is_a_warning():
    watcher = Tracking(Told("log"))
    with pytest.warns(RuntimeWarning, match="tracking by Told is off from here on"):
        watcher.on_epoch(Epoch(1, 0.5, 0.1, 2.0), True)
    watcher.on_epoch(Epoch(2, 0.5, 0.1, 2.0), True)


@pytest.mark.parametrize(("error", "status"), [(RunError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_how_a_run_ended_is_told(error, status):
    told, silent = Told(), Told("close")
    reporter = Heard()
    telling = Tracking(told, silent, reporter=reporter)
    telling.phase("select", 2)
    telling.__exit__(error)
    assert told.calls == [("start", {}), ("close", status)] and not reporter.said


def test_a_run_goes_on_with_its_trackers(config, tmp_path, no_picture, monkeypatch):
    """By what they left in its folder, without being named; a finished run tells nobody."""
    made = []

    def tracker(folder):
        made.append(Told())
        made[-1].start = lambda _: (folder / "trace").touch()
        return made[-1]

    monkeypatch.setattr(tracking, "TRACKERS", {"told": tracker})
    monkeypatch.setattr(tracking, "TRACES", {"told": "trace"})
    folder, step = RunFolder(tmp_path / "run"), RowAdam.step
    with monkeypatch.context() as patch:
        steps = []
        patch.setattr(RowAdam, "step", lambda *given: step(*given) if steps.append(1) or len(steps) < 12 else 1 / 0)
        with pytest.raises(ZeroDivisionError), tracked(folder, "told") as telling:
            run(config, folder, reporter=telling)
    for _ in range(2):
        with tracked(folder, reporter=Heard()) as telling:
            run(config, folder, resume=True, reporter=telling)
    first, second = made
    assert first.calls[-1] == ("close", "FAILED") and second.calls[-1] == ("close", "FINISHED")
    epochs = [call[1:3] for call in (*first.calls, *second.calls) if call[0] == "log"]
    assert epochs == sorted(set(epochs), key=lambda one: (one[0] == "refit", one[1])), "each once, in order"


def test_cells_of_comparisons_take_the_environment(config, tmp_path, no_picture, trackers, monkeypatch):
    monkeypatch.setenv("RANKWELL_TRACK", "second")
    write_config(tmp_path / "config.toml", config)
    cell._main(tmp_path, None)
    assert trackers["second"].calls[-1] == ("close", "FINISHED") and not trackers["first"].calls


def test_names_and_what_is_not_installed(tmp_path, monkeypatch):
    with pytest.raises(UnknownName, match=r"unknown tracker 'tensorbord'\. Did you mean 'tensorboard'\?"):
        tracked(RunFolder(tmp_path), "tensorbord").__enter__()
    for name in ("tensorboard", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtra, match=rf"{name} is needed here .* pip install 'rankwell\[track\]'"):
            tracked(RunFolder(tmp_path), name).__enter__()
    (tmp_path / "mlflow.json").write_text("{}")
    reporter = Heard()
    with tracked(RunFolder(tmp_path), reporter=reporter) as same:
        assert same is reporter
    (said,) = reporter.said
    assert said.startswith("this run is no longer tracked: mlflow is needed here")
