"""Tuning told: what was found, what was tried, and how."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rankwell.config import Config
from rankwell.errors import require
from rankwell.experiments.facts import data_said
from rankwell.experiments.page import Cell, Table, number, shown, versions, write_page
from rankwell.experiments.proposals import RANDOM
from rankwell.experiments.study import Study, Tried
from rankwell.experiments.tune import Plan, Tuning
from rankwell.experiments.tuning_charts import LEAST, importances, tuning_charts
from rankwell.words import many

__all__ = [
    "found_in_tuning",
    "looks_of",
    "protocol_of",
    "setting",
    "write_tuning_report",
]

PRUNED = {
    "median": "A trial was stopped when its best value so far was below the median of the others' at that epoch; the first"
    " four that came to their end, and a quarter of the epochs, were let be.",
    "hyperband": "Trials were stopped by Hyperband: at each rung of a bracket the best third went on, and two thirds were"
    " stopped.",
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
    counts = f"Came to their end: {states.count('complete')}; stopped early: {states.count('pruned')}"
    counts += f"; failed: {failed}" if (failed := states.count("fail")) else ""
    looks = "looked at once" if len(found.looks) == 1 else f"looked at {len(found.looks)} times"
    test = ", ".join(f"{name} {value:.4f}" for name, value in found.result.test.items())
    return f"{said}. {counts}. On the test, {looks}: {test}."


def write_tuning_report(found: Tuning, command: str) -> Path:
    """Write ``report.html``, ``report.md`` and ``report.json`` beside the study; gives the first."""
    study = Study(found.folder)
    shares = importances(study)
    monitor = found.config.evaluation.monitor
    tables = {"Found": _parameters(found), "Test": _test(found), "Trials": _trials(found)}
    failed = [f"trial {each.number}: {each.facts['error']}" for each in found.tried if "error" in each.facts]
    protocol = [*protocol_of(found.plan, len(found.tried)), looks_of(found), *_importance(shares, found.tried)]
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
        **versions(),
    }
    title = f"Tuning {found.config.loss['name']} by {monitor}"
    return write_page(found.folder, title, content, tables, failed, pictures)


def setting(value: Any) -> Cell:
    """A parameter's value in a table; what is no number sorts by its text."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = "" if value is None else shown(value)
    return text, value if plain else text


def _parameters(found: Tuning) -> Table:
    """As configured, and as found."""
    configured = found.tried[0].options
    searched = {each.path: str(each) for each in found.plan.space.values()}
    rows: list[list[Cell]] = [
        [(path, path), setting(configured.get(path)), setting(found.best.options.get(path)), (words, words)]
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
                *(setting(each.options.get(path)) for path in paths),
            ]
        )
    return ["trial", found.config.evaluation.monitor, "state", "epoch", "seconds", *paths], rows


def protocol_of(plan: Plan, trials: int) -> list[str]:
    """How it was done, a sentence each."""
    config = plan.config
    data = {key: value for key, value in config.as_dict()["data"].items() if key != "fold"}
    seed = config.seed if config.split_seed is None else config.split_seed
    optuna = require("optuna", "tune")
    return [
        f"Task {config.task}; data {data_said(config.task, data, plan.data)}; split by seed {seed}.",
        f"{trials} trials, proposed by the tree-structured Parzen estimator of optuna {optuna.__version__} with seed"
        f" {config.seed}; the first is the configuration as it was given, those up to the {RANDOM}th are random, and none is"
        " tried twice.",
        f"A trial was trained without the validation part, for at most {_epochs(config)}, and its value is the best of"
        f" {config.evaluation.monitor} in validation. It never looked at the test. The best of many values is too high: the"
        " figure to tell is the test's.",
        PRUNED[plan.pruner],
        "Not tried: other values of anything that was not searched; other seeds of start, order and draws.",
        *(f"Note: {note}." for note in plan.notes),
    ]


def _epochs(config: Config) -> str:
    return many(config.training.epochs, "epoch") if config.training.epochs else "its epochs"


def looks_of(found: Tuning) -> str:
    """How often the test was looked at."""
    if len(found.looks) == 1:
        return "The test was looked at once, by the run in best: trained on training and validation data, if it refits."
    trials = ", ".join(map(str, found.looks))
    return (
        f"The test was looked at {len(found.looks)} times, for trials were added later: by the runs of trials {trials}, of"
        " which the last is kept. Nothing was chosen by it."
    )


def _importance(shares: Mapping[str, float], tried: Sequence[Tried]) -> list[str]:
    values = [each.value for each in tried if each.state == "complete"]
    if not shares and len(values) >= LEAST and len(set(values[1:])) == 1:
        return ["Importance is not told: the trials that came to their end have all the same value."]
    if not shares:
        return [f"Importance is not told: it takes {LEAST} trials that came to their end, and scikit-learn."]
    return [
        "Importance is fANOVA's: of a random forest fitted to the trials that came to their end, the variance that each"
        " parameter explains by itself within the range searched, as a share of their sum. With few trials it is rough."
    ]
