"""Tuning before a comparison: every contender gets the same number of trials, at the budget of its runs."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Set
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import rankwell
from rankwell.errors import ConfigError, RunError
from rankwell.experiments.compare import Budget, Cell, changed, plan_cells
from rankwell.experiments.facts import with_files
from rankwell.experiments.page import shown
from rankwell.experiments.processes import cores
from rankwell.experiments.run import with_epochs
from rankwell.experiments.search import space_of
from rankwell.experiments.study import Tried
from rankwell.experiments.trial import check_validation
from rankwell.experiments.tune import Plan, search
from rankwell.tasks import Data, task_of

__all__ = ["Sections", "tune_contenders", "tuning_said"]

Sections = dict[str, dict[str, Any]]
"""Of one contender: values by section and key."""

Watcher = Callable[[str, Tried], None]
"""Told of each trial that ended, and whose it was."""

WAIT = 0.2
"""Seconds between two looks, so that Ctrl-C is heard."""


def tune_contenders(
    raw: Mapping[str, Any],
    named: Mapping[str, Sections],
    trials: int,
    budget: Budget,
    folder: Path,
    *,
    jobs: int | None = None,
    watcher: Watcher | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, Sections], dict[str, dict[str, Any]]]:
    """The contenders with what was found for each, and what to tell of it.

    Each is searched by itself, one trial after the other, by validation on the comparison's split, under its first seed;
    ``jobs`` contenders go side by side. What stands in a contender's parentheses is kept; what ``raw`` gives is where the
    search begins, as of :func:`~rankwell.experiments.tune.planned`. Studies are in ``folder/tuning``:
    interrupted, the same call goes on. A contender whose trials all failed stays as it is. Notes on the data, and what has
    changed since the last comparison in the folder, are said first.

    Raises:
        ConfigError: for fewer than one trial, a budget in seconds, or data without validation.
    """
    if trials < 1:
        raise ConfigError(f"tuning needs at least one trial: got {trials}.")
    if budget.seconds is not None:
        raise ConfigError(
            "trials are made equal by steps or epochs, not by seconds: give --steps, or leave --tune out."
        )
    cells, facts, notes = plan_cells(raw, named, 1, budget, folder)
    for note in (*notes, *changed(cells, facts, budget, folder)):
        say(note)
    config = cells[0].config
    data = task_of(config.task).read(config.splitting())
    check_validation(data)
    plans = {cell.contender: _plan(cell, _own(named[cell.contender]), trials, data, facts) for cell in cells}
    jobs = min(jobs or cores(), len(plans))
    stop = threading.Event()
    told: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        running = {
            pool.submit(_tuned, plan, folder / "tuning" / _folder(name, plan), cores() // jobs, watching, stop): name
            for name, plan in plans.items()
            for watching in [partial(watcher, name) if watcher else None]
        }
        names = dict(running)
        try:
            while running:
                for future in wait(running, timeout=WAIT, return_when=FIRST_COMPLETED).done:
                    told[running.pop(future)] = future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop.set()
            raise
    told = {name: told[name] for name in names.values()}
    return {name: _with(named[name], told[name]["found"]) for name in named}, told


def tuning_said(tuned: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How many trials each contender had before, and what was found."""
    if not tuned:
        return [
            "Not tried: other values of any parameter than those listed below. A loss that needs tuning is shown untuned."
        ]
    most = max(each["trials"] for each in tuned.values())
    said = [
        f"Before, each contender was tuned by the same number of trials, {most}, at the budget of its runs and on the"
        " validation part alone, under its first seed: TPE with median pruning, of which the first trial is the contender as"
        " configured. Searched were the parameters that the loss registers, the learning rate and the sampler's number of"
        " negatives (sampler.n); what stands in parentheses was kept. Not tried: values outside the ranges searched.",
        "The value in validation of what was found is the best of many, and so too high. The same validation part then chooses"
        " each run's epoch. Intervals and tests take the settings found as fixed: they do not tell how the figures would vary"
        " if the search were made again.",
    ]
    for name, each in tuned.items():
        if not each["trials"]:
            said.append(f"{name}: nothing to tune, trained as configured.")
        elif "error" in each:
            said.append(f"{name}: no trial came to its end, trained as configured. {each['error']}")
        else:
            before = each["validation_configured"]
            was = "failed as configured" if before is None else f"{before:.4f} as configured"
            found = ", ".join(f"{path} {shown(value)}" for path, value in each["found"].items())
            said.append(
                f"{name}: {each['trials']} trials, {each['pruned']} stopped early, {each['failed']} failed; in validation"
                f" {each['validation']:.4f}, {was}; found {found}."
            )
    return said


def _own(sections: Sections) -> set[str]:
    """What stands in a contender's parentheses."""
    return {f"{section}.{key}" for section, values in sections.items() for key in values if key != "name"}


def _plan(cell: Cell, kept: Set[str], trials: int, data: Data[Any], facts: Mapping[str, Any]) -> Plan:
    config = cell.config
    space = {name: each for name, each in space_of(config).items() if each.path not in kept}
    if config.trainable:  # pruning counts in epochs
        config = with_epochs(config, task_of(config.task), data)
    return Plan(config, space, trials, "median", json.loads(json.dumps(with_files(facts, config))))


def _folder(name: str, plan: Plan) -> str:
    """A name for people, and a hash of all that decides what is found, but for how many trials there are."""
    space = {name: str(each) for name, each in plan.space.items()}
    content = json.dumps([plan.config.as_dict(), space, plan.data, rankwell.__version__], sort_keys=True)
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:100]
    return f"{words}.{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _tuned(
    plan: Plan, folder: Path, threads: int, watcher: Callable[[Tried], None] | None, stop: threading.Event
) -> dict[str, Any]:
    """What to tell of one contender."""
    if not plan.space:
        return {"trials": 0, "found": {}}
    study, tried = search(plan, folder, threads=max(1, threads), watcher=watcher, stop=stop)
    tried = tried[: plan.trials]  # an earlier comparison may have had more
    states = [each.state for each in tried]
    told = {
        "trials": len(tried),
        "pruned": states.count("pruned"),
        "failed": states.count("fail"),
        "searched": {each.path: str(each) for each in plan.space.values()},
        "configured": tried[0].options,
        "validation_configured": tried[0].value if tried[0].state == "complete" else None,
    }
    try:
        best = study.best(plan.trials)
    except RunError as error:
        return {**told, "found": {}, "error": str(error)}
    return {**told, "found": best.options, "validation": best.value}


def _with(sections: Sections, found: Mapping[str, Any]) -> Sections:
    """The contender's sections, with what was found."""
    both = {section: dict(values) for section, values in sections.items()}
    for path, value in found.items():
        section, _, key = path.partition(".")
        both.setdefault(section, {})[key] = value
    return both
