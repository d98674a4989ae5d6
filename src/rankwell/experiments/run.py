"""One run, from a configuration to figures: choose on validation pairs, train on everything, look at the test pairs once."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import nn

import rankwell
from rankwell.config import Config, resolve
from rankwell.errors import ConfigError, DataError, InputError, RunError
from rankwell.evaluation import Evaluation
from rankwell.experiments.curve import draw_curve
from rankwell.experiments.facts import changes, facts_of
from rankwell.experiments.folder import RunFolder
from rankwell.experiments.negatives import draw_negatives
from rankwell.metrics import Measure
from rankwell.tasks import Data, Task, task_of
from rankwell.training import Epoch, History, Watcher, fit

__all__ = ["Reporter", "Result", "run", "with_epochs"]


class Reporter(Protocol):
    """What a run tells whoever watches."""

    def phase(self, name: str, epochs: int) -> Watcher | None:
        """A phase begins; training phases get a watcher for their epochs."""
        ...

    def evaluating(self, done: int, users: int) -> None:
        """Users, or queries, evaluated so far."""
        ...

    def say(self, text: str) -> None:
        """A sentence."""
        ...


@dataclass(frozen=True)
class Result:
    """What a run found out."""

    test: dict[str, float]
    """Of the model, on what the test holds."""
    baselines: dict[str, dict[str, float]]
    """Of what the figures are to be read against."""
    users: int
    """How many users, or queries, were judged."""
    epochs: int
    """Epochs that the model was trained for."""
    validation: float | None
    """The monitored measure that chose them."""
    seconds: dict[str, float]
    """By phase."""
    slices: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Of model and baselines, on parts of the test that have figures of their own."""


def run(config: Config, folder: RunFolder, *, resume: bool = False, reporter: Reporter | None = None) -> Result:
    """Carry out a run, or go on with an interrupted one; everything it finds is in the folder.

    The same configuration and data give the same bits, however often the run was interrupted. A resumed run takes the number
    of threads that it was started with; a finished one gives its result. Bad input leaves no folder behind.
    """
    if not (resume and folder.path.exists()):
        folder.check_new()
        try:
            return _carry_out(config, folder, None, reporter)
        except (ConfigError, DataError, InputError):
            folder.discard_untrained()
            raise
    _check_configuration(config, folder)
    folder.sweep()
    if folder.finished:
        folder.drop_checkpoints()
        return _result(folder)
    return _carry_out(config, folder, folder.started_with(), reporter)


def with_epochs(config: Config, task: Task[Any], data: Data[Any]) -> Config:
    """The configuration with its number of epochs, the same when choosing the epoch and when training on everything."""
    training = config.training.for_steps(task.batches(config, data, data.fit).steps(0))
    return config.model_copy(update={"training": training})


def _carry_out(
    config: Config, folder: RunFolder, before: Mapping[str, Any] | None, reporter: Reporter | None
) -> Result:
    """A run from its start or, with what it was started with, from where it was interrupted."""
    if threads := before["threads"] if before else config.threads:
        torch.set_num_threads(threads)
    clock = _Clock()
    task = task_of(config.task)
    data = task.read(config.splitting())
    clock.lap("read")
    config = with_epochs(config, task, data)
    facts = _facts(config, task, data)
    if before is None:
        folder.create(config, facts)
    elif before["data"] != facts["data"]:
        raise RunError(
            f"{' and '.join(changes(before['data'], facts['data']))} changed since {folder.path} was started: facts were"
            f" {_said(before['data'])}, now they are {_said(facts['data'])}. Give back the files that it was started on, or"
            " train in another folder."
        )
    if reporter:
        for note in data.notes:
            reporter.say(note)
    model = task.model(config, data)
    epochs, validation = _train(config, folder, task, data, model, reporter, clock)
    measures = [Measure.parse(text) for text in config.evaluation.measures]
    progress = reporter.evaluating if reporter else None

    def judge(ranker: nn.Module) -> Evaluation:
        return task.judge(config, ranker, measures, data.train, data.test, progress, items=data.items)

    if reporter:
        reporter.phase("evaluate", 0)
    evaluation = judge(model)
    clock.lap("evaluate")
    folder.save_model(model, task, data)
    folder.write_evaluation(task.rows(data, evaluation), evaluation, task.unit)
    rankers = task.baselines(config, data)
    baselines = {name: judge(ranker).means() for name, ranker in rankers.items()}
    clock.lap("baselines")
    named = {str(config.model["name"]): model, **rankers}
    slices = task.judge_slices(config, named, measures, data, progress)
    if slices:
        clock.lap("slices")
    result = Result(evaluation.means(), baselines, len(evaluation.users), epochs, validation, clock.seconds, slices)
    folder.write_json("metrics.json", asdict(result))
    folder.drop_checkpoints()
    return result


def _train(
    config: Config,
    folder: RunFolder,
    task: Task[Any],
    data: Data[Any],
    model: nn.Module,
    reporter: Reporter | None,
    clock: "_Clock",
) -> tuple[int, float | None]:
    """Train the model; the epochs it took, and the validation that chose them."""
    if not model.trainable:
        if reporter:
            reporter.phase("fit", 0)
        task.initialise(model, data.train, seed=config.seed)
        clock.lap("fit")
        return 0, None
    selection = folder.read_json("selection.json")
    if selection is None:
        monitor = Measure.parse(config.evaluation.monitor)
        validate = (
            None if data.valid is None else lambda: task.judge(config, model, [monitor], data.fit, data.valid).means()
        )
        history = _fit(config, folder, "select", task, data, model, reporter, validate=validate)
        selection = asdict(history)
        draw_curve(folder.path / "curve.png", history, config.evaluation.monitor, str(config.loss["name"]))
        if seen := folder.negatives().get("select"):
            draw_negatives(folder.path / "negatives.png", seen)
        clock.lap("select")
        if data.valid is None or not config.training.refit:
            return history.best_epoch or history.epoch, history.best_value if data.valid is not None else None
        folder.write_json("selection.json", selection)
    chosen = selection["best_epoch"]
    _fit(config, folder, "refit", task, data, model, reporter, stop_after=chosen)
    clock.lap("refit")
    return chosen, selection["best_value"]


def _fit(
    config: Config,
    folder: RunFolder,
    phase: str,
    task: Task[Any],
    data: Data[Any],
    model: nn.Module,
    reporter: Reporter | None,
    *,
    stop_after: int | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
) -> History:
    """One training phase, from its start or its checkpoint."""
    epochs = stop_after or config.training.horizon
    watcher = _Logged(folder, phase, reporter.phase(phase, epochs) if reporter else None)
    part, held_out = (data.fit, data.valid) if phase == "select" else (data.train, None)
    task.initialise(model, part, seed=config.seed)
    objective = task.objective(config, model, data, part, held_out)
    observer = getattr(objective, "observer", None)
    history = fit(
        objective,
        task.batches(config, data, part),
        config.training,
        seed=config.seed,
        stop_after=stop_after,
        validate=validate,
        monitor=config.evaluation.monitor,
        negatives=observer.finish if observer else None,
        folder=folder.path / phase,
        watcher=watcher,
    )
    if observer:
        folder.add_negatives(phase, history.epochs)
    return history


class _Logged:
    """A watcher that also writes the log."""

    def __init__(self, folder: RunFolder, phase: str, watcher: Watcher | None) -> None:
        self.folder, self.phase, self.watcher = folder, phase, watcher

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        if self.watcher:
            self.watcher.on_step(epoch, step, steps, loss)

    def on_epoch(self, record: Epoch, best: bool) -> None:
        self.folder.log(self.phase, record)
        if self.watcher:
            self.watcher.on_epoch(record, best)


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now


def _facts(config: Config, task: Task[Any], data: Data[Any]) -> dict[str, Any]:
    return {
        "rankwell": rankwell.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "data": facts_of(config, task, data),
        "notes": list(data.notes),
    }


def _check_configuration(config: Config, folder: RunFolder) -> None:
    """Refuse to go on with another configuration; a number of epochs that was left open is the folder's."""
    theirs = folder.config()
    if config.training.epochs is None:
        config = config.model_copy(update={"training": replace(config.training, epochs=theirs.training.epochs)})
    if theirs.as_dict() != resolve(config.as_dict()).as_dict():
        raise RunError(f"{folder.path} was started with another configuration: leave it as its config.toml has it.")


def _result(folder: RunFolder) -> Result:
    try:
        return Result(**folder.metrics())
    except TypeError as error:
        raise RunError(f"{folder.path / 'metrics.json'} is corrupt: {error}. Train again.") from error


def _said(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in data.items())
