"""Memory and minutes that a run may take, and what of a configuration has to give way to them."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rankwell.config import Config
from rankwell.errors import ConfigError
from rankwell.experiments.plan import Plan, plan_of
from rankwell.tasks import Data, task_of
from rankwell.training import Epoch, fit

__all__ = ["Change", "Fitted", "Limits", "machine_memory", "parse_memory", "step_seconds", "within"]

KNOBS = (("model", "micro_batch", 4), ("evaluation", "block", 16), ("sampler", "n", 8), ("training", "batch_size", 16))
"""What is halved to save memory, and the least that it may be; what costs no quality first."""

WORTH = 0.01
"""A knob is turned where half of it saves this share of what is too much."""

FEWEST = 5
"""Epochs below which a choice comes behind others, where it asked for more."""

LONG = 5.0
"""Seconds after which ten steps are enough to know how long one takes."""

UNITS = {"m": 2, "g": 3, "t": 4}


@dataclass(frozen=True)
class Limits:
    """What a run may take; None for no limit."""

    memory: float | None = None
    """Bytes."""
    minutes: float | None = None
    """Of training, on this machine."""

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise ConfigError(f"--minutes must be a number above 0: got {self.minutes}.")


@dataclass(frozen=True)
class Change:
    """A setting that gave way."""

    section: str
    key: str
    before: int
    after: int
    why: str

    def __str__(self) -> str:
        return f"{self.section}.{self.key} {self.before:,} → {self.after:,}, {self.why}"


@dataclass(frozen=True)
class Fitted:
    """A configuration that gave way, as far as it could."""

    config: Config
    plan: Plan
    changes: tuple[Change, ...]
    problem: str = ""
    """Why it does not fit; empty where it does."""
    minutes: float | None = None
    """Predicted; None where nobody asked."""


def parse_memory(text: str) -> float:
    """Bytes of a text.

    >>> parse_memory("8GB"), parse_memory("1.5 GiB")
    (8000000000.0, 1610612736.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([mgt])(i?)b?\s*", text, re.IGNORECASE)
    if found is None or not float(found[1]):
        raise ConfigError(f"--memory must be a number above 0 with MB or GB, such as 8GB: got {text!r}.")
    return float(found[1]) * float((1024 if found[3] else 1000) ** UNITS[found[2].lower()])


def machine_memory() -> float | None:
    """Bytes that this machine has; None where the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return None


def within(config: Config, data: Data[Any], limits: Limits) -> Fitted:
    """The configuration with smaller blocks, fewer negatives, smaller batches and fewer epochs, as far as limits ask for it."""
    planned = plan_of(config, data)
    changes: list[Change] = []
    if limits.memory is not None and planned.peak > limits.memory:
        config, planned, changes = _smaller(config, data, limits.memory, planned)
        if planned.peak > limits.memory:
            problem = f"it needs about {planned.peak / 1e6:,.0f} MB, more than {limits.memory / 1e6:,.0f}"
            return Fitted(config, planned, tuple(changes), problem)
    if limits.minutes is None or not planned.steps:
        return Fitted(config, planned, tuple(changes))
    minutes_an_epoch = step_seconds(config, data) * planned.steps / 60 * (2 if config.training.refit else 1)
    asked, there = planned.config.training.horizon, int(limits.minutes / minutes_an_epoch)
    epochs = max(1, min(asked, there))
    if epochs < asked:
        changes.append(Change("training", "epochs", asked, epochs, f"to end within {limits.minutes:g} minutes"))
        config = config.model_copy(update={"training": replace(config.training, epochs=epochs)})
        planned = plan_of(config, data)
    problem = ""
    if there < min(asked, FEWEST):
        problem = f"time for {there} of {asked} epochs, at about {minutes_an_epoch:.2g} minutes each"
    return Fitted(config, planned, tuple(changes), problem, minutes_an_epoch * epochs)


def _smaller(config: Config, data: Data[Any], memory: float, planned: Plan) -> tuple[Config, Plan, list[Change]]:
    """Halve what saves most, again and again, until the peak fits or nothing saves any more."""
    start = _values(config)
    while planned.peak > memory:
        tried = []
        for section, key, least in KNOBS:
            value = _values(config).get((section, key))
            if value is not None and value > least:
                smaller = _with(config, section, key, max(least, value // 2))
                tried.append((plan_of(smaller, data), smaller))
        best = min(tried, key=lambda each: each[0].peak, default=None)
        if best is None or best[0].peak > planned.peak - WORTH * (planned.peak - memory):
            break
        planned, config = best
    end = _values(config)
    changes = [Change(*key, start[key], end[key], "to save memory") for key in start if start[key] != end[key]]
    return config, planned, changes


def _values(config: Config) -> Mapping[tuple[str, str], int]:
    """The knobs that the configuration has."""
    values = {}
    for section, key, _ in KNOBS:
        own = getattr(config, section)
        value = own.get(key) if isinstance(own, Mapping) else getattr(own, key)
        if value is not None:
            values[section, key] = value
    return values


def _with(config: Config, section: str, key: str, value: int) -> Config:
    own = getattr(config, section)
    if isinstance(own, Mapping):
        changed: Any = {**own, key: value}
    elif hasattr(own, "model_copy"):
        changed = own.model_copy(update={key: value})
    else:
        changed = replace(own, **{key: value})
    return config.model_copy(update={section: changed})


class _Enough(Exception):
    """The step's time is known."""


class _Clock:
    """Times ten steps behind the first ten, or these where they take long."""

    def __init__(self) -> None:
        self.started, self.seconds = time.monotonic(), 0.0

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:  # noqa: ARG002
        """Called every ten steps, and at an epoch's end."""
        if step % 10:
            return
        now = time.monotonic()
        self.seconds, self.started = (now - self.started) / 10, now
        if step > 10 or self.seconds * 10 > LONG:
            raise _Enough

    def on_epoch(self, record: Epoch, best: bool) -> None:
        """Not looked at."""


def step_seconds(config: Config, data: Data[Any]) -> float:
    """How long a training step takes here: up to twenty are carried out and thrown away."""
    task = task_of(config.task)
    model = task.model(config, data)
    task.initialise(model, data.fit, seed=config.seed)
    objective, batches = task.objective(config, model, data, data.fit, None), task.batches(config, data, data.fit)
    clock = _Clock()
    try:
        history = fit(objective, batches, replace(config.training, epochs=1), seed=config.seed, watcher=clock)
    except _Enough:
        return clock.seconds
    return history.epochs[0].seconds / batches.steps(0)
