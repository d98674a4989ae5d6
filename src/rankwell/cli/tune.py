"""``rankwell tune``."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape

from rankwell.cli.screen import RunProgress, dotted, errors, facts_table, output, trial_line
from rankwell.config import load_toml, resolve, with_option
from rankwell.errors import ConfigError, nearest, require
from rankwell.experiments.nested_report import found_over_folds, write_nested_report
from rankwell.experiments.page import shown
from rankwell.experiments.proposals import PRUNERS
from rankwell.experiments.study import Tried
from rankwell.experiments.tune import Tuning, in_fold, nested, planned
from rankwell.experiments.tune import tune as carry_out
from rankwell.experiments.tuning_report import found_in_tuning, write_tuning_report
from rankwell.tasks import task_of

__all__ = ["tune"]


def tune(
    context: typer.Context,
    path: Annotated[Optional[str], typer.Argument(help="Data: a file or folder. 'synthetic' generates some.")] = None,  # noqa: UP045
    trials: Annotated[int, typer.Option(help="Trials in all; the first is the configuration as given.")] = 20,
    folds: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Nested cross-validation: tune in each of so many folds, and judge on all test parts."),
    ] = None,
    search: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="Search this too: loss.margin=0.1:1.0, training.weight_decay=1e-4:1:log, model.dim=32,64, model."
        ),
    ] = None,
    keep: Annotated[Optional[list[str]], typer.Option(help="Do not search this: loss.temperature.")] = None,  # noqa: UP045
    pruner: Annotated[str, typer.Option(help="Which trials stop early: median, hyperband, none.")] = "median",
    jobs: Annotated[int, typer.Option(help="Trials side by side. With one, the same trials every time.")] = 1,
    config: Annotated[Optional[Path], typer.Option(help="A TOML file; options override it.")] = None,  # noqa: UP045
    out: Annotated[Path, typer.Option(help="The study's folder; trials that are there are kept.")] = Path("runs/tune"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be searched; train nothing.")] = False,
) -> None:
    """Search the parameters of a loss by validation, run the best once on the test, and write a report.

    Searched are all parameters that the loss registers a range for, the learning rate, and the sampler's number of
    negatives. Settings are options --section.key VALUE, as of 'rankwell train'; they are where the search begins. The folder
    keeps every trial: the same command goes on after an interruption, one with more --trials adds to it, and several at once,
    on several machines, share the study.
    """
    require("optuna", "tune")
    raw: dict[str, Any] = load_toml(config) if config else {}
    plain = dotted(path, context.args, raw)
    if plain is not None:
        with_option(raw, "data.path", plain)
    if jobs < 1:
        raise ConfigError(f"--jobs must be at least 1: got {jobs}.")
    if pruner not in PRUNERS:
        raise ConfigError(f"unknown pruner {pruner!r}. {nearest(pruner, PRUNERS)}")
    settings = resolve(raw, str(config) if config else "options")
    configs = [settings] if folds is None else [in_fold(settings, number, folds) for number in range(1, folds + 1)]
    plans = [planned(each, trials=trials, pruner=pruner, search=search or [], keep=keep or []) for each in configs]
    for note in dict.fromkeys(note for plan in plans for note in plan.notes):
        errors.print(f"[yellow]note:[/] {escape(note)}")
    if dry_run:
        output.print(facts_table((name, str(each)) for name, each in plans[0].space.items()))
        return
    command = shlex.join(["rankwell", *sys.argv[1:]])
    with RunProgress(errors, task_of(settings.task).units) as progress:
        if folds is not None:
            over = nested(plans, out, jobs=jobs, watcher=_said_of_fold, reporter=progress)
            for each in over.folds:
                write_tuning_report(each, command)
            found, report = found_over_folds(over), write_nested_report(over, command)
        else:
            tuned = carry_out(plans[0], out, jobs=jobs, watcher=_said, reporter=progress)
            found, report = found_in_tuning(tuned), write_tuning_report(tuned, command)
            _show(tuned)
    output.print(found, markup=False)
    if folds is None:
        output.print(f"best configuration: {out / 'best.toml'}", markup=False)
    output.print(f"report: {report}", markup=False)


def _show(tuned: Tuning) -> None:
    """What was found, an option a line."""
    output.print(facts_table((path, shown(value)) for path, value in tuned.best.options.items()))


def _said(each: Tried) -> None:
    errors.print(trial_line(each))


def _said_of_fold(fold: int, each: Tried) -> None:
    errors.print(f"fold {fold}, {trial_line(each)}")
