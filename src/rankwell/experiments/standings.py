"""What a comparison found: figures of contenders, differences between them, slices, and what each took."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from rankwell.errors import RunError
from rankwell.evaluation.significance import (
    Difference,
    Summary,
    difference,
    holm,
    mean_ranks,
    summarise,
    summarise_figures,
)
from rankwell.experiments.cell import Outcome
from rankwell.experiments.compare import Cell, Comparison
from rankwell.experiments.folder import RunFolder
from rankwell.metrics import Measure
from rankwell.tasks import task_of

__all__ = ["Contender", "Pair", "Standings", "Used", "standings"]

LEVEL = 0.05
"""Below it, a p adjusted for all pairs tells two contenders apart."""


@dataclass(frozen=True)
class Used:
    """What one cell took."""

    training_seconds: float
    epochs: int
    processor_seconds: float
    peak_bytes: int
    joules: float | None
    jobs: int = 1
    """How many cells there were at a time, of so many threads each."""
    threads: int = 1


@dataclass(frozen=True, eq=False)
class Contender:
    """All that is known of one contender."""

    name: str
    settings: dict[str, Any]
    """Of the first seed that came to its end: the resolved configuration."""
    seeds: tuple[int, ...]
    """That came to their end."""
    failed: dict[int, str]
    """Why others did not."""
    values: dict[str, Float[np.ndarray, "s u"]]
    """By measure, of each seed and user; of a measure that is one figure a result, of each seed (``[s, 1]``)."""
    summaries: dict[str, Summary]
    rank: float
    """Mean over users of its rank by the first measure, among all; NaN where it failed."""
    used: tuple[Used, ...]
    curves: tuple[list[tuple[int, float, float]], ...]
    """Of each seed: epoch, seconds of training, and the monitored measure in validation."""
    negatives: dict[str, Any] | None
    """What the last epoch of its first seed saw."""
    slices: dict[str, dict[str, float]]
    """By the slice's name, means over seeds."""

    @property
    def seconds(self) -> float:
        """Mean over seeds of the seconds of training."""
        return sum(each.training_seconds for each in self.used) / max(len(self.used), 1)


@dataclass(frozen=True)
class Pair:
    """Two contenders, the better first."""

    better: str
    worse: str
    difference: Difference
    adjusted: float
    """Holm's p over all pairs: with the variance of seeds where there are several, else over users alone; NaN: not tested."""

    @property
    def apart(self) -> bool:
        """Whether the two are told apart."""
        return self.adjusted < LEVEL


@dataclass(frozen=True, eq=False)
class Standings:
    """A comparison, ready to be told."""

    measure: str
    """By which contenders are ranked: the first of the evaluation."""
    measures: tuple[str, ...]
    monitor: str
    unit: str
    units: str
    count: int
    """Users, or queries."""
    contenders: tuple[Contender, ...]
    """The best first; those that failed last."""
    pairs: tuple[Pair, ...]
    several_seeds: bool
    """Whether contenders have two seeds, so that tests know their variance; one with less is then not tested."""
    baselines: dict[str, dict[str, float]]
    about: dict[str, Any]
    """What ``comparison.json`` says."""


def standings(comparison: Comparison) -> Standings:
    """Read every cell back, and compare.

    Raises:
        RunError: if no cell came to its end, or the cells are not of the same users.
    """
    grouped: dict[str, list[tuple[Cell, Outcome]]] = defaultdict(list)
    for cell, outcome in zip(comparison.cells, comparison.outcomes, strict=True):
        grouped[cell.contender].append((cell, outcome))
    done = [cell for cell, outcome in zip(comparison.cells, comparison.outcomes, strict=True) if not outcome.error]
    if not done:
        why = "; ".join(sorted({outcome.error for outcome in comparison.outcomes}))
        raise RunError(f"no run of the comparison came to its end: {why}")
    first = done[0].config
    task, measures = task_of(first.task), tuple(first.evaluation.measures)
    rows = {cell.folder: _rows(cell, task.unit) for cell in done}
    _check_same(rows[done[0].folder], rows, measures)
    found = [_contender(name, cells, rows, measures) for name, cells in grouped.items()]
    found = _ranked(found, measures[0])
    alive = [each for each in found if each.seeds]
    several = any(len(each.seeds) > 1 for each in alive)
    return Standings(
        measures[0],
        measures,
        first.evaluation.monitor,
        task.unit,
        task.units,
        len(rows[done[0].folder]),
        tuple(found),
        tuple(_pairs(alive, measures[0], several)),
        several,
        RunFolder(done[0].folder / "run").metrics()["baselines"],
        dict(comparison.facts),
    )


def _rows(cell: Cell, unit: str) -> pl.DataFrame:
    file = cell.folder / "run" / f"per_{unit}.parquet"
    try:
        return pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{file} is corrupt or missing. Delete {cell.folder} and compare again.") from error


def _check_same(first: pl.DataFrame, rows: dict[Any, pl.DataFrame], measures: Sequence[str]) -> None:
    for folder, each in rows.items():
        names = [name for name in first.columns if name not in measures]
        if any(name not in each.columns or not each[name].equals(first[name]) for name in names[:1]):
            raise RunError(
                f"{folder} was judged on others than the rest: comparisons need one split. Leave data and split_seed the same."
            )


def _contender(
    name: str, cells: Sequence[tuple[Cell, Outcome]], rows: dict[Any, pl.DataFrame], measures: Sequence[str]
) -> Contender:
    alive = [(cell, outcome) for cell, outcome in cells if not outcome.error]
    runs = [RunFolder(cell.folder / "run") for cell, _ in alive]
    logs, results = [_log(cell) for cell, _ in alive], [run.metrics() for run in runs]
    one_figure = {measure for measure in measures if Measure.parse(measure).one_figure}
    values = {
        measure: np.array([[result["test"][measure]] for result in results])
        if measure in one_figure
        else np.stack([rows[cell.folder][measure].to_numpy() for cell, _ in alive])
        for measure in measures
        if alive
    }
    seen = runs[0].negatives().get("select") if runs else None
    return Contender(
        name,
        (runs[0].config() if runs else cells[0][0].config).as_dict(),
        tuple(cell.seed for cell, _ in alive),
        {cell.seed: outcome.error for cell, outcome in cells if outcome.error},
        values,
        {
            measure: summarise_figures(each[:, 0]) if measure in one_figure else summarise(each)
            for measure, each in values.items()
            if not np.isnan(each).all()
        },
        math.nan,
        tuple(_used(log, result, each) for log, result, (_, each) in zip(logs, results, alive, strict=True)),
        tuple(_curve(log, cells[0][0].config.evaluation.monitor) for log in logs),
        seen[-1] if seen else None,
        {
            **_slices([rows[cell.folder] for cell, _ in alive], measures[0]),
            **_questions(results, str(alive[0][0].config.model["name"]), measures[0]),
        }
        if alive
        else {},
    )


def _log(cell: Cell) -> list[dict[str, Any]]:
    file = cell.folder / "run" / "log.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def _used(log: Sequence[dict[str, Any]], result: dict[str, Any], outcome: Outcome) -> Used:
    seconds = sum(epoch["seconds"] for epoch in log) or result["seconds"].get("fit", 0.0)  # models in closed form
    took = outcome.processor_seconds, outcome.peak_bytes, outcome.joules, outcome.jobs, outcome.threads
    return Used(seconds, len(log), *took)


def _curve(log: Sequence[dict[str, Any]], monitor: str) -> list[tuple[int, float, float]]:
    points, seconds = [], 0.0
    for epoch in log:
        seconds += epoch["seconds"]
        if epoch["phase"] == "select" and epoch["validation"]:
            points.append((epoch["epoch"], seconds, epoch["validation"][monitor]))
    return points


def _slices(rows: Sequence[pl.DataFrame], measure: str) -> dict[str, dict[str, float]]:
    """The measure of users by each number that is known of them: those up to the median, and those above."""
    found: dict[str, dict[str, float]] = {}
    for name in rows[0].columns[1:]:
        if name == measure or not rows[0][name].dtype.is_integer():
            continue
        numbers = rows[0][name].to_numpy()
        median = np.median(numbers)
        if not (numbers > median).any():
            continue
        for words, kept in (("up to", numbers <= median), ("above", numbers > median)):
            means = [np.nanmean(each[measure].to_numpy()[kept]) for each in rows]
            found[f"{name} {words} {median:g}"] = {"count": float(kept.sum()), "mean": float(np.mean(means))}
    return found


def _questions(results: Sequence[dict[str, Any]], model: str, measure: str) -> dict[str, dict[str, float]]:
    """The measure in the task's further questions to the test."""
    names = results[0].get("slices", {})
    return {
        name: {"mean": float(np.mean([each["slices"][name][model][measure] for each in results]))} for name in names
    }


def _ranked(found: Sequence[Contender], measure: str) -> list[Contender]:
    """The best first, with their mean ranks over users."""
    alive = [each for each in found if measure in each.summaries]
    if len(alive) < sum(bool(each.seeds) for each in found):
        raise RunError(f"{measure} has no value for anyone in the test part. Put another first in evaluation.measures.")
    means = np.stack([each.values[measure].mean(0) for each in alive])
    counting = ~np.isnan(means).any(0)
    ranks = mean_ranks(means[:, counting])
    alive = [replace(each, rank=float(rank)) for each, rank in zip(alive, ranks, strict=True)]
    alive.sort(key=lambda each: -each.summaries[measure].mean)
    return [*alive, *(each for each in found if measure not in each.summaries)]


def _pairs(alive: Sequence[Contender], measure: str, several: bool) -> list[Pair]:
    """Every pair, the p of all adjusted together."""
    pairs = [(first, second) for at, first in enumerate(alive) for second in alive[at + 1 :]]
    differences = [difference(first.values[measure], second.values[measure]) for first, second in pairs]
    adjusted = holm([each.p if several else each.p_permutation for each in differences])
    return [
        Pair(first.name, second.name, each, p)
        for (first, second), each, p in zip(pairs, differences, adjusted, strict=True)
    ]
