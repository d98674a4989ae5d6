"""A study: what has been tried of a search space, in a file that several processes and machines share."""

import json
import logging
import math
import os
import platform
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import rankwell
from rankwell.config import Config, resolve
from rankwell.errors import RankwellError, RunError, require
from rankwell.experiments.dimensions import Dimension, Space
from rankwell.experiments.facts import changes
from rankwell.experiments.locks import FileLock, JournalLock
from rankwell.experiments.proposals import Pruner, distribution, propose, pruner_of

__all__ = ["Study", "Taken", "Tried", "worker"]

NAME = "tune"
"""Of the one study in its file."""

PAUSE = 0.2
"""Seconds between two looks at what others do."""

WORDS = {
    "rankwell": "rankwell's version",
    "config": "settings",
    "space": "search space",
    "pruner": "pruner",
}
"""What makes a study beside the data, in words."""


@dataclass(frozen=True)
class Tried:
    """One trial."""

    number: int
    state: str
    """``complete``, ``pruned``, ``fail``, ``running`` or ``waiting``."""
    options: dict[str, Any]
    """What was tried."""
    value: float
    """The best in validation; NaN unless complete."""
    curve: dict[int, float]
    """In validation, by epoch."""
    facts: dict[str, Any]
    """Of a complete one ``epoch`` and ``seconds``; of one that failed ``error``."""


def worker(process: int) -> str:
    """Who takes trials: a process of this machine."""
    return f"{platform.node()}:{process}"


class Study:
    """Trials of one configuration and space, kept in ``folder/study.log``.

    What is proposed next is a function of the seed and of the trials so far: one process after the other, however often
    killed, tries the same; several at once learn from each other as they end.

    Raises:
        RunError: where the folder has a study of something else, or its file is corrupt.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any] | None = None) -> None:
        optuna = require("optuna", "tune")
        optuna.logging.set_verbosity(logging.WARNING)
        self.folder, self.path = folder, folder / "study.log"
        if about is None and not self.path.is_file():
            raise RunError(f"{folder} has no study. Start one: rankwell tune.")
        self.lock = FileLock(folder / "locks" / "study")
        with self.lock, _quietly(), _said_shortly(self.path):
            self.path.touch()
            journal = optuna.storages.journal
            self.storage = journal.JournalStorage(journal.JournalFileBackend(str(self.path), JournalLock(self.path)))
            new = not self.storage.get_all_studies()
            if new and about is None:
                raise RunError(f"{folder} has no study. Start one: rankwell tune.")
            self.study = optuna.create_study(
                study_name=NAME, storage=self.storage, direction="maximize", load_if_exists=True
            )
            if new or not self.study.user_attrs:
                self.study.set_user_attr("about", {**(about or {}), "rankwell": rankwell.__version__})
        self.about: dict[str, Any] = self.study.user_attrs["about"]
        if about is not None:
            self._check_same({**about, "rankwell": rankwell.__version__})
        self.config = resolve(self.about["config"], str(self.path))
        self.space: Space = {name: Dimension.of(each) for name, each in self.about["space"].items()}
        self.study.pruner = pruner_of(self.about["pruner"], self.config.training.epochs or 1)

    @classmethod
    def start(cls, folder: Path, config: Config, space: Space, pruner: Pruner, data: Mapping[str, Any]) -> "Study":
        """Start a study, or go on with the one in the folder, which must be the same."""
        plain = {name: asdict(each) for name, each in space.items()}
        about = {"config": config.as_dict(), "space": plain, "pruner": pruner, "data": dict(data)}
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, json.loads(json.dumps(about)))

    def tried(self) -> list[Tried]:
        """All trials, in their order."""
        return [_tried(each) for each in self._trials()]

    def best(self, most: int | None = None) -> Tried:
        """The best that came to its end, of the first ``most`` or of all; the first of equals."""
        tried = self.tried()[:most]
        complete = [each for each in tried if each.state == "complete"]
        if not complete:
            why = "; ".join(dict.fromkeys(each.facts["error"] for each in tried if "error" in each.facts))
            raise RunError(f"no trial of {self.folder} came to its end: {why or 'none has begun.'}")
        return max(complete, key=lambda each: (each.value, -each.number))

    def take(self, most: int) -> "Taken | None":
        """The next trial to carry out, ``most`` of them in all; None where all are done.

        One whose process was killed is taken again, with what it was to try. While others carry out the last ones, it waits:
        they may be killed.
        """
        while True:
            with self.lock, _quietly():
                running = self._put_back()
                if (taken := self._next(most)) is not None or not running:
                    return taken
            time.sleep(PAUSE)

    def fail(self, who: str, why: str) -> bool:
        """Tell of a worker that was killed that the trial it was at has failed; whether there was one."""
        with self.lock:
            states = require("optuna.trial", "tune").TrialState
            for each in self._trials((states.RUNNING,)):
                if each.user_attrs.get("worker") == who:
                    self._tell(each.number, "fail", error=why)
                    return True
        return False

    def _tell(self, number: int, state: str, value: float | None = None, **facts: Any) -> None:
        states = require("optuna.trial", "tune").TrialState
        with _quietly():
            for key, fact in facts.items():
                self.storage.set_trial_user_attr(self._id(number), key, fact)
            self.study.tell(number, value, states[state.upper()])

    def _trials(self, states: tuple[Any, ...] | None = None) -> list[Any]:
        with _quietly(), _said_shortly(self.path):
            found: list[Any] = self.study.get_trials(deepcopy=False, states=states)
            return found

    def _id(self, number: int) -> int:
        study = self.storage.get_study_id_from_name(NAME)
        found: int = self.storage.get_trial_id_from_study_id_trial_number(study, number)
        return found

    def _put_back(self) -> bool:
        """Have running trials wait again whose process has ended; whether others are running."""
        states = require("optuna.trial", "tune").TrialState
        alive = False
        for each in self._trials((states.RUNNING,)):
            lock = self._running(each.number)
            if not lock.acquire(wait=False):
                alive = True
                continue
            if self._trials()[each.number].state == states.RUNNING:  # else it ended since they were listed
                self.storage.set_trial_state_values(self._id(each.number), states.WAITING)
            lock.release()
        return alive

    def _running(self, number: int) -> FileLock:
        return FileLock(self.folder / "locks" / f"trial{number}")

    def _next(self, most: int) -> "Taken | None":
        states = require("optuna.trial", "tune").TrialState
        trials = self._trials()
        waiting = [each for each in trials if each.state == states.WAITING]
        if waiting:
            values = waiting[0].system_attrs["fixed_params"]
        elif len(trials) < most:
            found = propose(self.config, self.space, trials)
            if found is None:
                return None
            values, options = found
            self.study.enqueue_trial(values, user_attrs={"options": options})
        else:
            return None
        trial = self.study.ask({name: distribution(self.space[name]) for name in values})
        trial.set_user_attr("worker", worker(os.getpid()))
        lock = self._running(trial.number)
        lock.acquire()
        return Taken(self, trial, trial.user_attrs["options"], lock)

    def _check_same(self, about: Mapping[str, Any]) -> None:
        other = [words for key, words in WORDS.items() if self.about.get(key) != about.get(key)]
        other += [f"contents of {each}" for each in changes(self.about.get("data", {}), about["data"])]
        if other:
            raise RunError(
                f"{self.folder} has a study of other {' and '.join(other)}: its trials cannot be compared with new ones. Leave"
                " all as it was, or give another --out."
            )


class Taken:
    """A trial that this process carries out."""

    def __init__(self, study: Study, trial: Any, options: dict[str, Any], lock: FileLock) -> None:
        self.study, self.trial, self.options, self._lock = study, trial, options, lock
        self.number: int = trial.number
        self._before = dict(study._trials()[trial.number].intermediate_values)

    def report(self, epoch: int, value: float) -> bool:
        """Tell of an epoch; whether to stop there. The first trial, of the configuration itself, never stops.

        An epoch that was told of before the trial's process was killed is not told of again.
        """
        if epoch in self._before:
            return False
        with _quietly():
            self.trial.report(value, epoch)
            return self.number > 0 and bool(self.trial.should_prune())

    def end(self, state: str, value: float | None = None, **facts: Any) -> None:
        """Tell how it ended: ``complete`` with a value, ``pruned``, or ``fail``."""
        self.study._tell(self.number, state, value, **facts)
        self.abandon()

    def abandon(self) -> None:
        """Leave it for another process to take."""
        self._lock.release()


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the sampler's library talking."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _said_shortly(path: Path) -> Iterator[None]:
    """While the file is read: what is wrong with it in a sentence."""
    try:
        yield
    except (ValueError, KeyError, AssertionError) as error:
        if isinstance(error, RankwellError):
            raise
        raise RunError(
            f"{path} is corrupt: {' '.join(str(error).split()) or type(error).__name__}. Delete it."
        ) from error


def _tried(trial: Any) -> Tried:
    state = trial.state.name.lower()
    facts = {key: fact for key, fact in trial.user_attrs.items() if key in ("epoch", "seconds", "error")}
    value = trial.value if state == "complete" else math.nan
    return Tried(
        trial.number, state, trial.user_attrs.get("options", {}), value, dict(trial.intermediate_values), facts
    )
