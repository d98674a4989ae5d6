"""Memory and minutes that a run may take, and what of a configuration has to give way to them."""

import contextlib
import itertools
import os
import re
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rankwell.config import Config
from rankwell.data.batching import Batches
from rankwell.errors import ConfigError
from rankwell.experiments.plan import Plan, plan_of
from rankwell.tasks import Data, task_of
from rankwell.training import fit

__all__ = ["Change", "Fitted", "Limits", "machine_memory", "parse_memory", "step_seconds", "within"]

KNOBS = (("model", "micro_batch", 4), ("evaluation", "block", 16), ("sampler", "n", 8), ("training", "batch_size", 16))
"""What is halved to save memory, one to its end before the next, and the least that it may be; what costs no quality first."""

WORTH = 0.01
"""A knob is turned while half of it saves this share of what is too much."""

FEWEST = 5
"""Epochs below which a choice comes behind others, where it asked for more."""

STEPS, LONG = 20, 5.0
"""Steps that are timed at most, and seconds after which no further one is begun."""

CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux tells what a container may take: version 2 and version 1."""

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
    """Predicted; None where nobody asked, or memory is too small already."""


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
    """Bytes that this machine has, or its container may take where that is less; None where the system does not tell."""
    told = []
    with contextlib.suppress(AttributeError, OSError, ValueError):
        told.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    for file in CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            told.append(float(file.read_text(encoding="ascii")))
    return min(told, default=None)


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
    """Turn one knob after another, each as long as it saves something, until the peak fits."""
    changes = []
    for section, key, least in KNOBS:
        own = getattr(config, section)
        before = own.get(key) if isinstance(own, Mapping) else getattr(own, key)
        if before is None:
            continue
        value = now = before or config.training.batch_size  # 0 is a batch at once
        while planned.peak > memory and now > least:
            smaller = _with(config, section, key, max(least, now // 2))
            tried = plan_of(smaller, data)
            if tried.peak > planned.peak - WORTH * (planned.peak - memory):
                break
            config, planned, now = smaller, tried, max(least, now // 2)
        if now != value:
            changes.append(Change(section, key, before, now, "to save memory"))
    return config, planned, changes


def _with(config: Config, section: str, key: str, value: int) -> Config:
    own = getattr(config, section)
    if isinstance(own, Mapping):
        changed: Any = {**own, key: value}
    elif hasattr(own, "model_copy"):
        changed = own.model_copy(update={key: value})
    else:
        changed = replace(own, **{key: value})
    return config.model_copy(update={section: changed})


class _Timed(Batches[Any]):
    """The first batches of a pass, and the seconds that each step took."""

    def __init__(self, batches: Batches[Any]) -> None:
        super().__init__(len(batches), batches.batch_size, seed=batches.seed)
        self.batches = batches
        self.seconds: list[float] = []

    def steps(self, epoch: int) -> int:
        """How many the whole pass has."""
        return self.batches.steps(epoch)

    def of_epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Batches, until the steps with them took long; a step is over when the next batch is asked for."""
        started = time.monotonic()
        for batch in itertools.islice(self.batches.of_epoch(epoch, start), STEPS):
            yield batch
            self.seconds.append(time.monotonic() - started - sum(self.seconds))
            if sum(self.seconds) >= LONG:
                return


def step_seconds(config: Config, data: Data[Any]) -> float:
    """How long a training step takes here: a few are carried out and thrown away, of which the later half counts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads or threads)
    try:
        task = task_of(config.task)
        model = task.model(config, data)
        task.initialise(model, data.fit, seed=config.seed)
        objective = task.objective(config, model, data, data.fit, None)
        timed = _Timed(task.batches(config, data, data.fit))
        fit(objective, timed, replace(config.training, epochs=1), seed=config.seed)
    finally:
        torch.set_num_threads(threads)
    return statistics.mean(timed.seconds[len(timed.seconds) // 2 :])
