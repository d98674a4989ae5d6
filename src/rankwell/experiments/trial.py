"""Trials: a configuration trained and measured in validation, as a process does it that shares a study with others."""

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankwell.config import Config
from rankwell.errors import ConfigError, RankwellError, RunError
from rankwell.experiments.dimensions import applied
from rankwell.experiments.facts import changes, facts_of
from rankwell.experiments.processes import end_with_parent
from rankwell.experiments.study import Study, Taken
from rankwell.metrics import Measure
from rankwell.tasks import Data, Task, task_of
from rankwell.training import Epoch, fit

__all__ = ["check_validation", "validated", "work"]

Report = Callable[[int, float], bool]
"""Told of each validated epoch and its value; true stops the trial."""


class _Pruned(Exception):
    """The trial was stopped."""


def check_validation(data: Data[Any]) -> None:
    """Raise :class:`ConfigError` for data that keep nothing for validation."""
    if data.valid is None:
        raise ConfigError("tuning chooses by validation, and these data keep none: leave data.valid_fraction above 0.")


def work(folder: Path, most: int) -> None:
    """Carry out trials of the study in the folder until ``most`` have been tried in all, by all who work at it.

    What fails, fails alone: not-a-number, too little memory, settings that do not go together.
    """
    study = Study(folder)
    task = task_of(study.config.task)
    data = task.read(study.config.splitting())
    facts = json.loads(json.dumps(facts_of(study.config, task, data)))
    if changed := changes(study.about["data"], facts):
        raise RunError(
            f"{' and '.join(changed)} changed since the study in {folder} was started: give back what it was started on."
        )
    while (taken := study.take(most)) is not None:
        try:
            _carry_out(taken, study.config, task, data)
        except BaseException:
            taken.abandon()
            raise


def validated(config: Config, task: Task[Any], data: Data[Any], report: Report = lambda *_: False) -> tuple[float, int]:
    """Train on what validation leaves; the best value of the monitored measure in validation, and its epoch.

    Of a model in closed form the one value that it has, after epoch 0. The test part is not looked at.
    """
    model, monitor = task.model(config, data), Measure.parse(config.evaluation.monitor)
    task.initialise(model, data.fit, seed=config.seed)

    def validate() -> dict[str, float]:
        return task.judge(config, model, [monitor], data.fit, data.valid).means()

    if not model.trainable:
        return validate()[str(monitor)], 0
    config = config.model_copy(update={"training": replace(config.training, watch_every=0)})  # nobody looks
    history = fit(
        task.objective(config, model, data, data.fit, None),
        task.batches(config, data, data.fit),
        config.training,
        seed=config.seed,
        validate=validate,
        monitor=str(monitor),
        watcher=_Reporting(report, str(monitor)),
    )
    return history.best_value, history.best_epoch


class _Reporting:
    """A watcher that tells of validated epochs, and stops."""

    def __init__(self, report: Report, monitor: str) -> None:
        self.report, self.monitor = report, monitor

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Nothing to tell."""

    def on_epoch(self, record: Epoch, best: bool) -> None:  # noqa: ARG002
        """Tell of it."""
        if record.validation and self.report(record.epoch, record.validation[self.monitor]):
            raise _Pruned


def _carry_out(taken: Taken, config: Config, task: Task[Any], data: Data[Any]) -> None:
    started = time.monotonic()
    try:
        value, epoch = validated(applied(config, taken.options), task, data, taken.report)
        if not math.isfinite(value):
            raise RunError(f"{config.evaluation.monitor} in validation is {value}.")
    except _Pruned:
        taken.end("pruned", seconds=_since(started))
    except Exception as error:  # whatever it is, the other trials go on
        taken.end("fail", error=_why(error), seconds=_since(started))
    else:
        taken.end("complete", value, epoch=epoch, seconds=_since(started))


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def _why(error: Exception) -> str:
    if isinstance(error, RankwellError):
        return str(error)
    lines = str(error).strip().splitlines()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "alloc" in str(error):
        return "out of memory. Search smaller values, or take a smaller batch."
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


if __name__ == "__main__":
    end_with_parent()
    try:
        work(Path(sys.argv[1]), int(sys.argv[2]))
    except RankwellError as error:
        sys.exit(str(error))
