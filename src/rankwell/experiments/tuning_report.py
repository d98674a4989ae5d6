"""Tuning told: what was found, what was tried, how; and the figures of cross-validation."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import rankwell
from rankwell.atomic import write_text
from rankwell.config import Config
from rankwell.errors import require
from rankwell.experiments.page import (
    Cell,
    figures,
    finite,
    html_table,
    machine,
    markdown_table,
    number,
    page,
    points,
    shown,
)
from rankwell.experiments.proposals import RANDOM
from rankwell.experiments.study import Study
from rankwell.experiments.tune import Nested, Plan, Tuning
from rankwell.experiments.tuning_charts import LEAST, importances, tuning_charts
from rankwell.tasks import task_of

__all__ = ["found_in_tuning", "found_over_folds", "write_nested_report", "write_tuning_report"]

Table = tuple[Sequence[str], Sequence[Sequence[Cell]]]

PRUNED = {
    "median": "A trial was stopped when its best value so far was below the median of the others' at that epoch; the first"
    " four that came to their end, and a quarter of the epochs, were let be.",
    "hyperband": "Trials were stopped by Hyperband: in brackets, each third that was worst at a rung.",
    "none": "No trial was stopped early by others' values.",
}


def found_in_tuning(found: Tuning) -> str:
    """The search in a few sentences."""
    monitor = found.config.evaluation.monitor
    first, states = found.tried[0], [each.state for each in found.tried]
    said = f"Trial {found.best.number} of {len(found.tried)} is best by {monitor} in validation: {found.best.value:.4f}"
    if found.best.number == 0:
        said += ", the configuration as it was given"
    elif first.state == "complete":
        said += f"; the configuration as it was given has {first.value:.4f}"
    counts = f"{states.count('complete')} trials came to their end, {states.count('pruned')} were stopped early"
    counts += f", {failed} failed" if (failed := states.count("fail")) else ""
    looks = "looked at once" if len(found.looks) == 1 else f"looked at {len(found.looks)} times"
    test = ", ".join(f"{name} {value:.4f}" for name, value in found.result.test.items())
    return f"{said}. {counts}. On the test, {looks}: {test}."


def found_over_folds(found: Nested) -> str:
    """The figure of cross-validation in a sentence."""
    measure = found.folds[0].config.evaluation.measures[0]
    summary, units = found.summaries[measure], task_of(found.folds[0].config.task).units
    return (
        f"Tuned anew in each of {len(found.folds)} folds, {measure} is {summary.mean:.4f} (95 % interval over"
        f" {summary.units:,} {units} {summary.low:.4f} to {summary.high:.4f}): no search saw what it was judged on."
    )


def write_tuning_report(found: Tuning, command: str) -> Path:
    """Write ``report.html``, ``report.md`` and ``report.json`` beside the study; gives the first."""
    study = Study(found.folder)
    shares = importances(study)
    monitor = found.config.evaluation.monitor
    tables = {"Found": _parameters(found), "Test": _test(found), "Trials": _trials(found)}
    failed = [f"trial {each.number}: {each.facts['error']}" for each in found.tried if "error" in each.facts]
    protocol = [*_protocol(found.plan, len(found.tried)), _looks(found), *_importance(shares)]
    pictures = tuning_charts(found.tried, found.plan.space, shares, monitor)
    content = {
        "finding": found_in_tuning(found),
        "monitor": monitor,
        "best": asdict(found.best),
        "config": found.config.as_dict(),
        "result": asdict(found.result),
        "looks_at_test": found.looks,
        "trials": [asdict(each) for each in found.tried],
        "space": {name: asdict(each) for name, each in found.plan.space.items()},
        "importance": shares,
        "protocol": protocol,
        "command": command,
        **_versions(),
    }
    title = f"Tuning {found.config.loss['name']} by {monitor}"
    return _write(found.folder, title, content, tables, failed, pictures)


def write_nested_report(found: Nested, command: str) -> Path:
    """The same of cross-validation, over the reports of its folds."""
    first = found.folds[0]
    tables = {"Figures of all folds": _summaries(found), "Folds": _folds(found), "Found": _found_by_fold(found)}
    count = len(found.folds)
    protocol = [
        *_protocol(first.plan, len(first.tried)),
        f"Cross-validation, nested: the test parts of {count} folds are disjoint and together all that can be tested; each fold"
        " was searched by itself, on validation taken from its training part, and its best configuration looked once at its"
        " test part. One in several folds counts by its mean.",
        "The figures are of this way of tuning, not of one configuration: for one to use, tune without --folds.",
        *(f"Fold {place}: {_looks(each)}" for place, each in enumerate(found.folds, start=1) if len(each.looks) > 1),
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
        **_versions(),
    }
    title = f"Cross-validated tuning of {first.config.loss['name']}"
    return _write(found.folder, title, content, tables, [], {})


def _write(
    folder: Path,
    title: str,
    content: Mapping[str, Any],
    tables: Mapping[str, Table],
    failed: Sequence[str],
    pictures: Mapping[str, str],
) -> Path:
    """One content as three files."""
    write_text(folder / "report.json", json.dumps(finite(content), indent=1) + "\n")
    lines = [f"# {title}", "", content["finding"], ""]
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(content['finding'])}</p>"]
    for place, (name, table) in enumerate(tables.items()):
        lines += [f"## {name}", "", *markdown_table(*table)]
        parts += [f"<h2>{html.escape(name)}</h2>", html_table(*table)]
        if place == 0:
            parts += figures(pictures)
    if failed:
        lines += ["## Failed", "", *(f"- {each}" for each in failed), ""]
        parts += ["<h2>Failed</h2>", points(failed)]
    lines += ["## Protocol", "", *(f"- {each}" for each in content["protocol"]), ""]
    lines += [f"`{content['command']}`", "", machine(content), ""]
    parts += ["<h2>Protocol</h2>", points(content["protocol"])]
    parts += [
        "<h2>Again</h2>",
        f"<pre>{html.escape(content['command'])}</pre>",
        f"<p>{html.escape(machine(content))}</p>",
    ]
    write_text(folder / "report.md", "\n".join(lines))
    write_text(folder / "report.html", page(title, parts))
    return folder / "report.html"


def _versions() -> dict[str, str]:
    return {"rankwell": rankwell.__version__, "torch": torch.__version__}


def _setting(value: Any) -> Cell:
    """A parameter's value in a table; what is no number sorts by its text."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = "" if value is None else shown(value)
    return text, value if plain else text


def _parameters(found: Tuning) -> Table:
    """As configured, and as found."""
    configured = found.tried[0].options
    searched = {each.path: str(each) for each in found.plan.space.values()}
    rows: list[list[Cell]] = [
        [(path, path), _setting(configured.get(path)), _setting(found.best.options.get(path)), (words, words)]
        for path, words in searched.items()
    ]
    return ["parameter", "as configured", "found", "searched"], rows


def _test(found: Tuning) -> Table:
    names = list(found.result.test)
    ranked = {str(found.config.model["name"]): found.result.test, **found.result.baselines}
    rows: list[list[Cell]] = [
        [(name, name), *(number(values[each]) for each in names)] for name, values in ranked.items()
    ]
    return ["", *names], rows


def _trials(found: Tuning) -> Table:
    paths = list(dict.fromkeys(each.path for each in found.plan.space.values()))
    rows: list[list[Cell]] = []
    for each in found.tried:
        facts = [each.facts.get(name, math.nan) for name in ("epoch", "seconds")]
        rows.append(
            [
                (str(each.number), each.number),
                number(each.value),
                (each.state, each.state),
                number(facts[0], ".0f"),
                number(facts[1], ".1f"),
                *(_setting(each.options.get(path)) for path in paths),
            ]
        )
    return ["trial", found.config.evaluation.monitor, "state", "epoch", "seconds", *paths], rows


def _protocol(plan: Plan, trials: int) -> list[str]:
    """How it was done, a sentence each."""
    config = plan.config
    data = ", ".join(f"{key} {value}" for key, value in config.as_dict()["data"].items() if key != "fold")
    seed = config.seed if config.split_seed is None else config.split_seed
    optuna = require("optuna", "tune")
    return [
        f"Task {config.task}; data: {data}; split by seed {seed}.",
        f"{trials} trials, proposed by the tree-structured Parzen estimator of optuna {optuna.__version__} with seed"
        f" {config.seed}; the first is the configuration as it was given, the next {RANDOM - 1} are random, and none is tried"
        " twice.",
        f"A trial was trained without the validation part, for at most {_epochs(config)}, and its value is the best of"
        f" {config.evaluation.monitor} in validation. It never looked at the test. The best of many values is too high: the"
        " figure to tell is the test's.",
        PRUNED[plan.pruner],
        "Not tried: other values of anything but the parameters below; other seeds of start, order and draws.",
    ]


def _epochs(config: Config) -> str:
    return f"{config.training.epochs} epochs" if config.training.epochs else "its epochs"


def _looks(found: Tuning) -> str:
    if len(found.looks) == 1:
        return "The test was looked at once, by the run in best: trained on training and validation data, if it refits."
    trials = ", ".join(map(str, found.looks))
    return (
        f"The test was looked at {len(found.looks)} times, for trials were added later: by the runs of trials {trials}, of"
        " which the last is kept. Nothing was chosen by it."
    )


def _importance(shares: Mapping[str, float]) -> list[str]:
    if not shares:
        return [f"Importance is not told: it takes {LEAST} trials that came to their end."]
    return [
        "Importance is PED-ANOVA's: how far the values of the best tenth of the trials differ in distribution from those of all"
        " that came to their end, as a share of the sum. It says what mattered within the ranges searched, and with few trials"
        " it is rough."
    ]


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
        [(path, path), *(_setting(each.best.options.get(path)) for each in found.folds)] for path in paths
    ]
    return ["parameter", *(f"fold {place}" for place in range(1, len(found.folds) + 1))], rows
