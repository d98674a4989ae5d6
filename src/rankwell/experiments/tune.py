"""Tuning: a search of validation, then one run of what it found; and the same in each fold of cross-validation."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from rankwell.config import Config, resolve
from rankwell.errors import ConfigError, RunError
from rankwell.evaluation.significance import Summary, summarise, summarise_figures
from rankwell.experiments.dimensions import Space, applied
from rankwell.experiments.facts import facts_of
from rankwell.experiments.folder import RunFolder, write_config
from rankwell.experiments.locks import FileLock
from rankwell.experiments.processes import cores, start, why_it_failed
from rankwell.experiments.proposals import Pruner
from rankwell.experiments.run import Reporter, Result, run, with_epochs
from rankwell.experiments.search import space_of
from rankwell.experiments.study import Study, Tried, worker
from rankwell.experiments.trial import check_validation
from rankwell.metrics import Measure
from rankwell.tasks import task_of

__all__ = ["Nested", "Plan", "Tuning", "in_fold", "nested", "planned", "search", "tune"]

MODULE = "rankwell.experiments.trial"
PAUSE = 0.2
"""Seconds between two looks at processes."""

ENDED = ("complete", "pruned", "fail")


@dataclass(frozen=True)
class Plan:
    """What is to be tuned, and how."""

    config: Config
    space: Space
    trials: int
    pruner: Pruner
    data: Mapping[str, Any]
    """What the data are."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tuning:
    """A search that has ended, and the run of what it found."""

    folder: Path
    plan: Plan
    tried: tuple[Tried, ...]
    best: Tried
    config: Config
    """With what was found."""
    result: Result
    looks: tuple[int, ...]
    """Best trials, each at its time, that were run and judged on the test."""


@dataclass(frozen=True)
class Nested:
    """Cross-validation: a search in each fold, and figures of the parts that no search of theirs saw."""

    folder: Path
    folds: tuple[Tuning, ...]
    summaries: dict[str, Summary]
    """By measure, over the users or queries of all folds."""


def planned(
    config: Config, *, trials: int, pruner: Pruner = "median", search: Sequence[str] = (), keep: Sequence[str] = ()
) -> Plan:
    """Check what is to be tuned: the space, and that the data keep something for validation.

    Raises:
        ConfigError: for fewer than one trial, nothing to search, or no validation.
    """
    if trials < 1:
        raise ConfigError(f"tuning needs at least one trial: got {trials}.")
    if config.split_seed is None:  # so that what is found keeps its split under other seeds
        config = config.model_copy(update={"split_seed": config.seed})
    space = space_of(config, search, keep)
    if not space:
        raise ConfigError("there is nothing to tune: name a parameter by --search section.key=LOW:HIGH.")
    task = task_of(config.task)
    data = task.read(config.splitting())
    check_validation(data)
    if config.trainable:
        config = with_epochs(config, task, data)
    return Plan(config, space, trials, pruner, json.loads(json.dumps(facts_of(config, task, data))), data.notes)


def search(
    plan: Plan,
    folder: Path,
    *,
    jobs: int = 1,
    threads: int | None = None,
    watcher: Callable[[Tried], None] | None = None,
    stop: threading.Event | None = None,
) -> tuple[Study, list[Tried]]:
    """Search, or go on with it, in ``jobs`` processes beside those that others have started; gives all trials.

    A process that dies, as without memory, fails the trial that it was at, and another takes its place. ``stop`` ends the
    processes, as an interruption does; the next call takes their trials again.
    """
    study = Study.start(folder, plan.config, plan.space, plan.pruner, plan.data)
    told = {each.number for each in study.tried() if each.state in ENDED}
    workers: list[_Worker] = []
    deaths = 0
    threads, stop = threads or max(1, cores() // jobs), stop or threading.Event()

    def tell() -> None:
        for each in study.tried():
            if each.state in ENDED and each.number not in told:
                told.add(each.number)
                if watcher:
                    watcher(each)

    try:
        if len(told) < plan.trials:
            workers += [_worker(study, plan.trials, threads, number) for number in range(min(jobs, plan.trials))]
        while workers:
            if stop.wait(PAUSE):
                raise CancelledError
            tell()
            for each in [each for each in workers if each.process.poll() is not None]:
                workers.remove(each)
                if why := why_it_failed(each.process.returncode, each.said):
                    deaths += 1
                    # Of one that was killed, another may have taken the trial by now.
                    others = each.process.returncode < 0 and deaths <= plan.trials
                    if not study.fail(worker(each.process.pid), why) and not others:
                        raise RunError(f"a process of the search ended: {why}")
                    workers.append(_worker(study, plan.trials, threads, each.number))
        tell()
    finally:
        for each in workers:
            each.process.terminate()
            each.process.wait()
    return study, study.tried()


class _Worker(NamedTuple):
    process: "subprocess.Popen[bytes]"
    said: Path
    number: int


def _worker(study: Study, most: int, threads: int, number: int) -> _Worker:
    said = study.folder / "locks" / f"said-{os.getpid()}-{number}.txt"
    return _Worker(start(MODULE, [str(study.folder), str(most)], said, threads=threads), said, number)


def tune(
    plan: Plan,
    folder: Path,
    *,
    jobs: int = 1,
    watcher: Callable[[Tried], None] | None = None,
    reporter: Reporter | None = None,
) -> Tuning:
    """Search in validation, write the best configuration as ``best.toml``, and run it in ``best``, with one look at the test.

    Interrupted at any moment, the same call goes on. Where more trials find a better one later, the run is made again, and
    the looks at the test are counted.
    """
    study, tried = search(plan, folder, jobs=jobs, threads=plan.config.threads or None, watcher=watcher)
    with FileLock(folder / "locks" / "best"):  # of several commands at work here one runs it, the others read it
        best = study.best()
        config = applied(study.config, best.options)
        write_config(folder / "best.toml", config)
        looks = RunFolder(folder).read_json("looks.json") or []
        chosen = RunFolder(folder / "best")
        if looks and looks[-1] != best.number:
            shutil.rmtree(chosen.path, ignore_errors=True)
        if not looks or looks[-1] != best.number:
            looks = [*looks, best.number]
            RunFolder(folder).write_json("looks.json", looks)
        result = run(config, chosen, resume=(chosen.path / "config.toml").is_file(), reporter=reporter)
    return Tuning(folder, plan, tuple(tried), best, config, result, tuple(looks))


def in_fold(config: Config, number: int, folds: int) -> Config:
    """The configuration whose test part is one of the folds; :class:`ConfigError` for a task that has none."""
    task = task_of(config.task)
    if folds < 2:
        raise ConfigError(f"cross-validation needs at least two folds: got {folds}.")
    if "fold" not in task.settings.model_fields:
        raise ConfigError(f"task {task.name} is not split at random, and has no folds: tune without --folds.")
    config.evaluation.check_first()
    raw = config.as_dict()
    if "fold" in raw["data"]:
        raise ConfigError("data.fold is one fold, and --folds takes each in turn: leave one of the two out.")
    raw["data"]["fold"] = f"{number}/{folds}"
    return resolve(raw, "options")


def nested(
    plans: Sequence[Plan],
    folder: Path,
    *,
    jobs: int = 1,
    watcher: Callable[[int, Tried], None] | None = None,
    reporter: Reporter | None = None,
) -> Nested:
    """Tune in each fold by itself; figures are of all test parts together, each judged by a model whose search never saw it."""
    found = []
    for number, plan in enumerate(plans, start=1):
        told = None if watcher is None else lambda each, number=number: watcher(number, each)
        found.append(tune(plan, folder / f"fold{number}", jobs=jobs, watcher=told, reporter=reporter))
    return Nested(folder, tuple(found), _over_folds(found))


def _over_folds(found: Sequence[Tuning]) -> dict[str, Summary]:
    """Of each user or query the mean over the folds that ask it, then over all of them; of one figure a fold their mean."""
    config = found[0].config
    unit = task_of(config.task).unit
    rows = [pl.read_parquet(each.folder / "best" / f"per_{unit}.parquet") for each in found]
    name = rows[0].columns[0]
    measures = [text for text in config.evaluation.measures if not Measure.parse(text).one_figure]
    each = pl.concat([part.select(name, *measures) for part in rows], how="vertical_relaxed")
    means = each.with_columns(pl.col(measures).fill_nan(None)).group_by(name, maintain_order=True).mean()
    values = {measure: means[measure].cast(pl.Float64).fill_null(np.nan).to_numpy() for measure in measures}
    return {
        text: summarise(values[text][None])
        if text in values
        else summarise_figures(np.mean([[each.result.test[text]] for each in found], axis=0))
        for text in config.evaluation.measures
    }
