"""A budget in seconds: how many epochs fit into it, and what they took in the end."""

import json
import statistics
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rankwell.config import Config
from rankwell.errors import RunError
from rankwell.experiments.folder import RunFolder
from rankwell.tasks import task_of
from rankwell.training import Epoch, fit

__all__ = ["Spent", "read_spent", "tell_spent", "with_epochs_for"]

FILE = "seconds.json"
"""In a cell's folder."""

SHARE = 0.05
"""Of the seconds, that epochs are timed for before."""

ENOUGH = 0.8
"""A smaller share of the seconds is told, and so is more than one over it."""


@dataclass(frozen=True)
class Spent:
    """What became of the seconds of one cell."""

    seconds: float
    epoch: float
    """What one takes, as it was timed."""
    epochs: int
    """How many fit."""
    used: float = 0.0
    """Seconds of training, once the run has ended."""
    trained: int = 0
    """Epochs of it."""

    @property
    def unequal(self) -> bool:
        """Whether the run took much more, or much less though it did not stop early."""
        less = self.trained >= self.epochs and self.used < ENOUGH * self.seconds
        return less or self.used > self.seconds / ENOUGH


def read_spent(folder: Path) -> Spent | None:
    """What the cell in this folder says; None where it has no budget in seconds."""
    found = RunFolder(folder).read_json(FILE)
    try:
        return None if found is None else Spent(**found)
    except TypeError as error:
        raise RunError(f"{folder / FILE} is corrupt: {error}. Delete {folder}.") from error


def with_epochs_for(seconds: float, config: Config, folder: Path, first: Path) -> Config:
    """The configuration with as many epochs as fit into the seconds, one at least.

    They are timed once a contender, in the cell of its ``first`` seed: with another number of epochs other seeds would have
    another schedule of the learning rate.
    """
    timed = read_spent(first)
    epoch = timed.epoch if timed else _epoch(config, seconds)
    spent = Spent(seconds, epoch, max(1, int(seconds / epoch)))
    RunFolder(folder).write_json(FILE, asdict(spent))
    return config.model_copy(update={"training": replace(config.training, epochs=spent.epochs)})


def tell_spent(folder: Path) -> None:
    """Add what the run took, where it had a budget in seconds."""
    log = folder / "run" / "log.jsonl"
    if (spent := read_spent(folder)) and log.is_file():
        epochs = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        used = round(sum(epoch["seconds"] for epoch in epochs), 3)
        RunFolder(folder).write_json(FILE, asdict(replace(spent, used=used, trained=len(epochs))))


class _Timed(Exception):
    """Enough epochs were timed."""


class _Clock:
    """A watcher that keeps the time of epochs, and stops."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.epochs = seconds, list[float]()

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Nothing to keep."""

    def on_epoch(self, record: Epoch, best: bool) -> None:  # noqa: ARG002
        """Keep it; the first one alone is enough only where no second one fits."""
        self.epochs.append(record.seconds)
        if sum(self.epochs) >= self.seconds * (SHARE if len(self.epochs) > 1 else 1):
            raise _Timed


def _epoch(config: Config, seconds: float) -> float:
    """What an epoch takes: the median of some that are thrown away, without the first, which is slower than the others."""
    task = task_of(config.task)
    data = task.read(config.splitting())
    model = task.model(config, data)
    task.initialise(model, data.fit, seed=config.seed)
    clock = _Clock(seconds)
    objective, batches = task.objective(config, model, data, data.fit, None), task.batches(config, data, data.fit)
    with suppress(_Timed):
        fit(objective, batches, config.training, seed=config.seed, watcher=clock)
    return statistics.median(clock.epochs[1:] or clock.epochs)
