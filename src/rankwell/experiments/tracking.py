"""The callback that tells trackers what a run says. It changes neither the run's results nor its configuration."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rankwell.config import listed
from rankwell.errors import MissingExtra, UnknownName
from rankwell.experiments.folder import RunFolder
from rankwell.experiments.run import Reporter
from rankwell.experiments.trackers import TRACES, TRACKERS, Tracker
from rankwell.training import Epoch, Watcher

__all__ = ["Tracking", "tracked"]

FILES = ("config.toml", "curve.png", "negatives.png", "log.jsonl", "metrics.json")
"""What of a run's folder is handed to trackers that keep files."""


class Tracking:
    """Tells trackers what a training says: a watcher for :func:`~rankwell.training.fit`, a reporter for ``run``.

    It changes nothing: a tracker that fails is off from then on, which is said once, and training goes on. Use it in a
    ``with`` block, whose end closes the trackers.

    Args:
        trackers: whom to tell.
        parameters: asked for them when training begins.
        reporter: who else is told.
    """

    def __init__(
        self,
        *trackers: Tracker,
        parameters: Callable[[], Mapping[str, Any]] = dict,
        reporter: Reporter | None = None,
    ) -> None:
        self._trackers, self._parameters, self._reporter = list(trackers), parameters, reporter
        self._watcher: Watcher | None = None
        self._phase = ""

    def __enter__(self) -> "Tracking":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._phase:
            ended = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
            self._tell("close", ended, aloud=kind is None)

    def phase(self, name: str, epochs: int) -> "Tracking":
        """A phase begins."""
        self._begin(name)
        self._watcher = self._reporter.phase(name, epochs) if self._reporter else None
        return self

    def evaluating(self, done: int, users: int) -> None:
        """Progress of an evaluation, for the reporter alone."""
        if self._reporter:
            self._reporter.evaluating(done, users)

    def say(self, text: str) -> None:
        """A sentence; a warning where nobody else is told."""
        if self._reporter:
            self._reporter.say(text)
        else:
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Progress within an epoch, for the reporter alone."""
        if self._watcher:
            self._watcher.on_step(epoch, step, steps, loss)

    def on_epoch(self, record: Epoch, best: bool) -> None:
        """Loss, validation, learning rate and seconds of an epoch."""
        if not self._phase:
            self._begin("train")
        figures = {"loss": record.loss, **(record.validation or {}), "learning_rate": record.learning_rate}
        self._tell("log", self._phase, record.epoch, {**figures, "seconds": record.seconds})
        if self._watcher:
            self._watcher.on_epoch(record, best)

    def finish(self, figures: Mapping[str, float], files: Sequence[Path] = ()) -> None:
        """Figures of the test, and files worth keeping."""
        if self._phase:  # a run that had ended before has nothing to tell
            self._tell("finish", figures, files)

    def _begin(self, phase: str) -> None:
        if not self._phase:
            self._tell("start", self._parameters())
        self._phase = phase

    def _tell(self, what: str, *args: Any, aloud: bool = True) -> None:
        for tracker in tuple(self._trackers):
            try:
                getattr(tracker, what)(*args)
            except Exception as error:
                self._trackers.remove(tracker)
                if aloud:
                    said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
                    self.say(f"tracking by {type(tracker).__name__} is off from here on, training goes on: {said}.")


@contextmanager
def tracked(folder: RunFolder, track: str = "", reporter: Reporter | None = None) -> Iterator[Reporter | None]:
    """A reporter for the run in the folder that tells trackers, too: those of ``track``, "tensorboard,mlflow", and those
    that tracked the run before.

    Raises:
        UnknownName: if there is no such tracker.
        MissingExtra: if a named one is not installed; one of before is left out, which is said.
    """
    names = [name for name in listed(track) if name]
    for name in names:
        if name not in TRACKERS:
            raise UnknownName("tracker", name, TRACKERS)
    trackers = [TRACKERS[name](folder.path) for name in dict.fromkeys(names)]
    for name, trace in TRACES.items():
        if name not in names and (folder.path / trace).exists() and not folder.finished:
            try:
                trackers.append(TRACKERS[name](folder.path))
            except MissingExtra as error:
                if reporter:
                    reporter.say(f"this run is no longer tracked: {error}")
    if not trackers:
        yield reporter
        return
    with Tracking(*trackers, parameters=lambda: _flat(folder.config().as_dict()), reporter=reporter) as tracking:
        yield tracking
        if folder.finished:
            files = [file for file in map(folder.path.joinpath, FILES) if file.is_file()]
            tracking.finish(folder.metrics()["test"], files)


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"loss": {"margin": 1}}`` as ``{"loss.margin": 1}``; lists as text."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, (bool, int, float)) else str(value)
    return flat
