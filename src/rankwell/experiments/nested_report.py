"""Nested cross-validation told: figures of all folds, and what was found in each."""

from dataclasses import asdict
from pathlib import Path

from rankwell.experiments.page import Cell, Table, number, versions, write_page
from rankwell.experiments.tune import Nested
from rankwell.experiments.tuning_report import looks_of, protocol_of, setting
from rankwell.tasks import task_of

__all__ = ["found_over_folds", "write_nested_report"]


def found_over_folds(found: Nested) -> str:
    """The figure of cross-validation in a sentence."""
    measure = found.folds[0].config.evaluation.measures[0]
    summary, units = found.summaries[measure], task_of(found.folds[0].config.task).units
    return (
        f"Tuned anew in each of {len(found.folds)} folds, {measure} is {summary.mean:.4f} (95 % interval over"
        f" {summary.units:,} {units} {summary.low:.4f} to {summary.high:.4f}): no search saw what it was judged on."
    )


def write_nested_report(found: Nested, command: str) -> Path:
    """The same of cross-validation, over the reports of its folds."""
    first = found.folds[0]
    tables = {"Figures of all folds": _summaries(found), "Folds": _folds(found), "Found": _found_by_fold(found)}
    count = len(found.folds)
    protocol = [
        *protocol_of(first.plan, len(first.tried)),
        f"Cross-validation, nested: the test parts of {count} folds are disjoint and together all that can be tested; each fold"
        " was searched by itself, on validation taken from its training part, and its best configuration looked once at its"
        " test part. One in several folds counts by its mean.",
        "The figures are of this way of tuning, not of one configuration: for one to use, tune without --folds.",
        *(f"Fold {place}: {looks_of(each)}" for place, each in enumerate(found.folds, start=1) if len(each.looks) > 1),
    ]
    content = {
        "finding": found_over_folds(found),
        "measures": {name: asdict(each) for name, each in found.summaries.items()},
        "folds": [
            {
                "best": asdict(each.best),
                "result": asdict(each.result),
                "trials": len(each.tried),
                "folder": each.folder.name,
            }
            for each in found.folds
        ],
        "protocol": protocol,
        "command": command,
        **versions(),
    }
    title = f"Cross-validated tuning of {first.config.loss['name']}"
    links = {f"fold {place}": f"{each.folder.name}/report.html" for place, each in enumerate(found.folds, start=1)}
    return write_page(found.folder, title, content, tables, [], {}, links)


def _summaries(found: Nested) -> Table:
    rows: list[list[Cell]] = [
        [(name, name), number(each.mean), number(each.low), number(each.high), (f"{each.units:,}", each.units)]
        for name, each in found.summaries.items()
    ]
    return ["measure", "mean", "low", "high", task_of(found.folds[0].config.task).units], rows


def _folds(found: Nested) -> Table:
    measures = list(found.folds[0].result.test)
    baselines = list(found.folds[0].result.baselines)
    rows: list[list[Cell]] = []
    for place, each in enumerate(found.folds, start=1):
        first = each.tried[0].value
        row = [(str(place), place), (str(each.best.number), each.best.number), number(each.best.value), number(first)]
        row += [number(each.result.test[name]) for name in measures]
        row += [number(each.result.baselines[name][measures[0]]) for name in baselines]
        rows.append(row)
    heads = ["fold", "best trial", "validation", "as configured", *measures]
    return [*heads, *(f"{measures[0]} of {name}" for name in baselines)], rows


def _found_by_fold(found: Nested) -> Table:
    paths = list(dict.fromkeys(each.path for each in found.folds[0].plan.space.values()))
    rows: list[list[Cell]] = [
        [(path, path), *(setting(each.best.options.get(path)) for each in found.folds)] for path in paths
    ]
    return ["parameter", *(f"fold {place}" for place in range(1, len(found.folds) + 1))], rows
