"""Comparisons: contenders and seeds at an equal budget, each cell a run that is kept and can be gone on with."""

import dataclasses
import hashlib
import itertools
import json
import math
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import rankwell
from rankwell.config import Config, resolve, with_option
from rankwell.errors import ConfigError, RunError
from rankwell.experiments.cell import Outcome, carry_out, read_outcome
from rankwell.experiments.facts import with_files
from rankwell.experiments.folder import RunFolder
from rankwell.experiments.locks import FileLock
from rankwell.experiments.processes import cores
from rankwell.experiments.seconds import read_spent
from rankwell.tasks import task_of

__all__ = ["Budget", "Cell", "Comparison", "Going", "Watcher", "changed", "compare", "contenders", "plan_cells"]

NAME = re.compile(r"(?P<name>[^()]+)(?:\((?P<own>.*)\))?")
"""``mml(neg_weight=400,margins=[0.8,0.9])``"""

PAUSE = 0.2
"""Seconds between two looks at cells."""

Raw = dict[str, Any]
Watcher = Callable[["Cell", Outcome, bool], None]
"""Told of each cell that ended, and whether it had before."""

Going = Callable[[Mapping[str, str]], None]
"""Told each second how far the cells are that run, by their names."""


@dataclass(frozen=True)
class Budget:
    """What each cell may use: steps, or seconds of training; epochs as configured without either."""

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.seconds is not None:
            raise ConfigError("a budget is in steps or in seconds: give one of the two.")
        for name, value in (("steps", self.steps), ("seconds", self.seconds)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"a budget in {name} must be above 0: got {value}.")

    def __str__(self) -> str:
        if self.steps is not None:
            return f"{self.steps:,} steps, rounded up to whole epochs"
        if self.seconds is not None:
            return f"{self.seconds:g} seconds of training, in whole epochs and one at least"
        return "the configured epochs"


@dataclass(frozen=True)
class Cell:
    """One contender under one seed."""

    contender: str
    seed: int
    config: Config
    folder: Path
    """``folder/run`` is its run's folder."""
    files: Mapping[str, str]
    """Fingerprints of what its settings name, when it was planned."""


@dataclass(frozen=True)
class Comparison:
    """A finished comparison: its cells, and how they ended."""

    folder: Path
    cells: tuple[Cell, ...]
    outcomes: tuple[Outcome, ...]
    facts: Mapping[str, Any]
    """``comparison.json``: command, budget, versions, data, notes."""


def contenders(
    losses: Sequence[str], samplers: Sequence[str] = (), models: Sequence[str] = ()
) -> dict[str, dict[str, Raw]]:
    """Sections of every combination, by a short name; parameters stand in parentheses.

    >>> contenders(["bpr", "mml(neg_weight=400)"], ["uniform", "dns"])["mml(neg_weight=400), dns"]
    {'loss': {'name': 'mml', 'neg_weight': '400'}, 'sampler': {'name': 'dns'}}
    """
    axes = {"loss": losses, "sampler": samplers, "model": models}
    given = {section: texts for section, texts in axes.items() if texts}
    if not given:
        raise ConfigError("a comparison needs something to compare: give --losses A,B, --samplers or --models.")
    named: dict[str, dict[str, Raw]] = {}
    for texts in itertools.product(*given.values()):
        told = [text for text, each in zip(texts, given.values(), strict=True) if len(each) > 1] or texts[:1]
        name = ", ".join(told)
        if name in named:
            raise ConfigError(f"{name!r} is compared twice: name each contender once.")
        named[name] = {section: _parsed(text, section) for section, text in zip(given, texts, strict=True)}
    return named


def _parsed(text: str, section: str) -> Raw:
    """A name with parameters in parentheses, as a section."""
    found = NAME.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{section} {text!r} must read NAME or NAME(parameter=value,…).")
    own: Raw = {"name": found["name"]}
    for part in re.split(r",(?![^\[(]*[\])])", found["own"] or ""):
        if part.strip():
            key, equals, value = part.partition("=")
            if not equals:
                raise ConfigError(f"{section} {text!r}: {part!r} must read parameter=value.")
            own[key.strip()] = value.strip()
    return own


def plan_cells(
    raw: Mapping[str, Any], named: Mapping[str, Mapping[str, Raw]], seeds: int, budget: Budget, folder: Path
) -> tuple[list[Cell], dict[str, Any], tuple[str, ...]]:
    """Every cell with its configuration and folder, what the data are, and notes on them.

    The data are read once for each way to read them.

    All seeds share the split of ``split_seed`` (0 where it is open), so that their values are of the same users. There is no
    refit where it is open: it would take as many steps again as validation chose.

    Raises:
        ConfigError: for fewer than one seed, a configuration that does not resolve, or a first measure that does not rank.
    """
    if seeds < 1:
        raise ConfigError(f"a comparison needs at least one seed: got {seeds}.")
    cells: list[Cell] = []
    facts: dict[str, Any] = {}
    notes: dict[str, None] = {}
    read: dict[str, tuple[Any, dict[str, Any]]] = {}
    for (name, sections), seed in itertools.product(named.items(), range(seeds)):
        given = json.loads(json.dumps(raw))
        for section, values in sections.items():
            for key, value in values.items():
                with_option(given, f"{section}.{key}", value)
        given.setdefault("split_seed", 0)
        given.setdefault("training", {}).setdefault("refit", False)
        given.setdefault("evaluation", {}).setdefault("by_popularity", True)
        config = resolve(given, name)
        config.evaluation.check_first()
        if config.threads:
            raise ConfigError(
                f"threads {config.threads}: a comparison shares the cores among its runs. Leave threads out, and say by --jobs"
                " how many run side by side."
            )
        config = config.model_copy(update={"seed": config.seed + seed})
        task = task_of(config.task)
        key = json.dumps([config.task, config.as_dict()["data"], config.split_seed], sort_keys=True)
        if key not in read:
            data = task.read(config.splitting())
            read[key] = data, task.facts(data)
        data, facts = read[key]
        notes |= dict.fromkeys(data.notes)
        config = _budgeted(config, task, data, budget)
        made_from = with_files(facts, config)
        place = folder / "cells" / _folder(name, config, made_from, budget)
        cell = Cell(name, config.seed, config, place, made_from.get("files", {}))
        if same := [each.contender for each in cells if each.folder == cell.folder]:
            raise ConfigError(f"{same[0]!r} and {name!r} are the same: name each contender once.")
        cells.append(cell)
    return cells, facts, tuple(notes)


def _budgeted(config: Config, task: Any, data: Any, budget: Budget) -> Config:
    """With the epochs that so many steps make; a budget in seconds is for the cell to turn into epochs."""
    if budget.steps is None or not config.trainable:
        return config
    steps = task.batches(config, data, data.fit).steps(0)
    epochs = math.ceil(budget.steps / steps)
    return config.model_copy(update={"training": dataclasses.replace(config.training, epochs=epochs)})


def _folder(name: str, config: Config, facts: Mapping[str, Any], budget: Budget) -> str:
    """A name for people, and a hash of all that decides the cell's numbers."""
    content = [config.as_dict(), facts, budget.seconds, rankwell.__version__, torch.__version__]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:100]  # names of files have limits
    return f"{words}.seed{config.seed}.{digest[:12]}"


def compare(
    cells: Sequence[Cell],
    facts: Mapping[str, Any],
    folder: Path,
    *,
    jobs: int | None = None,
    budget: Budget,
    notes: Sequence[str] = (),
    command: str = "",
    tuning: Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
    going: Going | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Carry out every cell that has not ended, ``jobs`` at a time; those that have are taken as they are.

    Cells side by side have one thread each; a budget in seconds takes one cell at a time with all threads, since others
    would steal its seconds. Each cell is a process, and fails alone. Interrupted at any moment, the same call goes on; made on
    several machines or ranks that see the folder, they share the cells, and each ends with all of them.
    ``notes`` on the data, and ``tuning``, what to tell of how contenders were tuned before, are kept with the facts.
    """
    jobs = 1 if budget.seconds is not None else min(jobs or cores(), len(cells))
    about: dict[str, Any] = {
        "command": command,
        "jobs": jobs,
        "threads": max(1, cores() // jobs),
        **_made_from(cells, facts, budget),
        "cells": [cell.folder.name for cell in cells],
        "tuning": dict(tuning or {}),
        "notes": [*notes, *changed(cells, facts, budget, folder)],
    }
    for note in about["notes"]:
        say(note)
    if not (
        folder / "comparison.json"
    ).is_file():  # else it stays until all have ended: one who interrupts is told again
        RunFolder(folder).write_json("comparison.json", about)
    outcomes: dict[Path, Outcome] = {}
    with closing(
        _carried_out(cells, jobs, about["threads"], budget, going)
    ) as ended:  # an error here stops the others at once
        for cell, outcome, kept in ended:
            outcomes[cell.folder] = outcome
            if watcher:
                watcher(cell, outcome, kept)
    for note in (unequal := _unequal(cells)):
        say(note)
    about["notes"] += unequal
    RunFolder(folder).write_json("comparison.json", about)
    return Comparison(folder, tuple(cells), tuple(outcomes[cell.folder] for cell in cells), about)


def _carried_out(
    cells: Sequence[Cell], jobs: int, threads: int, budget: Budget, going: Going | None
) -> Generator[tuple[Cell, Outcome, bool], None, None]:
    """Cells as they end, and whether they had before: those come first.

    What another command is at is left to it, and looked at again when there is nothing else to do.
    """
    failed, open_cells, stop = {}, [], threading.Event()
    for cell in cells:
        outcome = read_outcome(cell.folder)
        if outcome is None or outcome.error:  # what failed may succeed with more memory
            failed[cell.folder] = outcome
            open_cells.append(cell)
        else:
            yield cell, outcome, True
    first = {cell.contender: cell.folder for cell in reversed(cells)}
    each = partial(carry_out, threads=threads, seconds=budget.seconds, jobs=jobs, stop=stop)

    def attempt(cell: Cell) -> Outcome | None:
        """How it ended; None while another command is at it."""
        with _claimed(cell) as ours:
            if not ours:
                return None
            ended = read_outcome(cell.folder)
            if ended is not None and ended != failed[cell.folder]:  # another came to its end meanwhile
                return ended
            return each(cell.config, cell.folder, files=cell.files, first=first[cell.contender])

    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(attempt, cell): cell for cell in open_cells}
        told, others = 0.0, list[Cell]()
        try:
            while running or others:
                # Polars' handler of Ctrl-C lets a wait without an end go on.
                for future in wait(running, timeout=PAUSE, return_when=FIRST_COMPLETED).done:
                    cell, outcome = running.pop(future), future.result()
                    if outcome is None:
                        others.append(cell)
                    else:
                        yield cell, outcome, False
                if others and len(running) < jobs:
                    time.sleep(PAUSE)
                    cell = others.pop(0)
                    running[pool.submit(attempt, cell)] = cell
                if going and time.monotonic() > told + 1:
                    told = time.monotonic()
                    going(dict(_how_far(cell) for future, cell in running.items() if future.running()))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop.set()
            raise


@contextmanager
def _claimed(cell: Cell) -> Iterator[bool]:
    """Whether no other command is at the cell, nor will be; where files have no locks, one command is taken to be alone."""
    lock = FileLock(cell.folder.parent.with_name("locks") / cell.folder.name)
    try:
        ours = lock.acquire(wait=False)
    except RunError:
        ours = True
    try:
        yield ours
    finally:
        lock.release()


def _how_far(cell: Cell) -> tuple[str, str]:
    """Its name, and how many epochs its run has logged."""
    log, most = cell.folder / "run" / "log.jsonl", cell.config.training.epochs
    done = log.read_bytes().count(b"\n") if log.is_file() else 0
    return f"{cell.contender}, seed {cell.seed}", f"epoch {done} of {most}" if most else f"epoch {done}"


def _unequal(cells: Sequence[Cell]) -> list[str]:
    """Sentences on contenders that took other seconds than they had."""
    spent = [(cell, each) for cell in cells if (each := read_spent(cell.folder)) and each.unequal]
    return [
        f"{name} took other seconds than its budget, not because it stopped early: "
        + ", ".join(f"{each.used:.1f} of {each.seconds:g} with seed {cell.seed}" for cell, each in of_one)
        for name, group in itertools.groupby(spent, key=lambda each: each[0].contender)
        for of_one in [list(group)]
    ]


def _made_from(cells: Sequence[Cell], facts: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
    """What decides the numbers of all cells, beside their settings."""
    return {
        "budget": str(budget),
        "rankwell": rankwell.__version__,
        "torch": torch.__version__,
        "data": dict(facts),
        "files": {path: digest for cell in cells for path, digest in cell.files.items()},
    }


def changed(cells: Sequence[Cell], facts: Mapping[str, Any], budget: Budget, folder: Path) -> list[str]:
    """Sentences on what has changed since the last comparison in the folder, whose cells are then computed again."""
    before, now = RunFolder(folder).read_json("comparison.json"), _made_from(cells, facts, budget)
    if before is None:
        return []
    names = {"data": "the data", "rankwell": "rankwell's version", "torch": "torch's version", "budget": "the budget"}
    try:
        changed = [words for key, words in names.items() if before[key] != now[key]]
        changed += [
            path for path, digest in before.get("files", {}).items() if now["files"].get(path, digest) != digest
        ]
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder / 'comparison.json'} is corrupt: it lacks {error}. Give another --out.") from error
    said = f"{' and '.join(changed)} changed since the last comparison in {folder}: its cells are computed again"
    return [said] if changed else []
