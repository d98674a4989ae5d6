"""``rankwell compare``."""

import math
import shlex
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rankwell.cli.screen import dotted, errors, output, trial_line
from rankwell.config import listed, load_toml, with_option
from rankwell.errors import ConfigError, RunError
from rankwell.experiments.cell import Outcome
from rankwell.experiments.compare import Budget, Cell, Comparison, contenders, plan_cells
from rankwell.experiments.compare import compare as carry_out
from rankwell.experiments.equal_tuning import tune_contenders
from rankwell.experiments.folder import RunFolder
from rankwell.experiments.report import write_failures, write_report
from rankwell.experiments.sentences import finding
from rankwell.experiments.standings import standings
from rankwell.experiments.study import Tried

__all__ = ["compare"]

MINUTE = 60.0
"""Seconds between two lines of how far runs are."""


def compare(
    context: typer.Context,
    path: Annotated[Optional[str], typer.Argument(help="Data: a file or folder. 'synthetic' generates some.")] = None,  # noqa: UP045
    losses: Annotated[str, typer.Option(help="Losses to compare: bpr,bsl,'mml(neg_weight=400)'.")] = "",
    samplers: Annotated[str, typer.Option(help="Samplers to compare, each with each loss.")] = "",
    models: Annotated[str, typer.Option(help="Models to compare, each with each loss.")] = "",
    seeds: Annotated[int, typer.Option(help="Seeds of start, order and draws; all share one split.")] = 3,
    steps: Annotated[Optional[int], typer.Option(help="Budget of each run, rounded up to whole epochs.")] = None,  # noqa: UP045
    seconds: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Or a budget in seconds of training; one run at a time."),
    ] = None,
    tune: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="First tune each by so many trials, in validation; what stands in parentheses is kept."),
    ] = None,
    jobs: Annotated[Optional[int], typer.Option(help="Runs side by side; as many as cores without it.")] = None,  # noqa: UP045
    config: Annotated[Optional[Path], typer.Option(help="A TOML file; options override it.")] = None,  # noqa: UP045
    out: Annotated[Path, typer.Option(help="The comparison's folder; runs that are there are kept.")] = Path(
        "runs/compare"
    ),
) -> None:
    """Compare losses, samplers or models on your data at an equal budget, and write a report.

    Every combination is trained under every seed, chosen on validation and judged once on the test. Runs are kept in the
    folder: the same command goes on after an interruption, and one with more losses trains only these. Settings for all are
    options --section.key VALUE, as of 'rankwell train', and where --tune begins; those of one loss stand in its parentheses,
    and --tune keeps them.
    """
    raw: dict[str, Any] = load_toml(config) if config else {}
    plain = dotted(path, context.args, raw)
    if plain is not None:
        with_option(raw, "data.path", plain)
    budget = Budget(steps, seconds)
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs must be at least 1: got {jobs}.")
    if jobs is not None and jobs > 1 and seconds is not None:
        raise ConfigError(
            f"--jobs {jobs} with --seconds: runs side by side would steal each other's seconds. Leave --jobs out, or give"
            " --steps."
        )
    say = cache(_say)  # what has changed is said once: before tuning, where there is any
    named = contenders(*(listed(texts) if texts else [] for texts in (losses, samplers, models)))
    tuning = None
    if tune is not None:
        named, tuning = tune_contenders(raw, named, tune, budget, out, jobs=jobs, watcher=_tried, say=say)
    cells, facts, notes = plan_cells(raw, named, seeds, budget, out)
    command = shlex.join(["rankwell", *sys.argv[1:]])
    with _Bar(len(cells)) as bar:
        comparison = carry_out(
            cells,
            facts,
            out,
            jobs=jobs,
            budget=budget,
            notes=notes,
            command=command,
            tuning=tuning,
            watcher=bar.ended,
            going=bar.going,
            say=say,
        )
    _show(comparison)


class _Bar:
    """A bar of runs, and a line for each that ended."""

    def __init__(self, cells: int) -> None:
        columns = (
            TextColumn("compare"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[far]}", markup=False),
        )
        self.bar = Progress(*columns, console=errors, transient=True)
        self.task = self.bar.add_task("", total=cells, far="")
        self.told = time.monotonic()

    def __enter__(self) -> "_Bar":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def ended(self, cell: Cell, outcome: Outcome, kept: bool) -> None:
        """A run ended, now or before."""
        if outcome.error:
            how = f"[red]failed:[/] {escape(outcome.error)}"
        else:
            measure = cell.config.evaluation.measures[0]
            test = RunFolder(cell.folder / "run").metrics()["test"][measure]
            took = "kept from before" if kept else f"{outcome.processor_seconds:.0f} s of processor"
            how = f"{escape(measure)} {test:.4f}, {took}"
        errors.print(f"{escape(cell.contender)}, seed {cell.seed}: {how}")
        self.bar.advance(self.task)

    def going(self, far: Mapping[str, str]) -> None:
        """Behind the bar; without a terminal, a line a minute."""
        said = "; ".join(f"{name}: {epochs}" for name, epochs in far.items())
        self.bar.update(self.task, far=said)
        if not errors.is_terminal and time.monotonic() > self.told + MINUTE:
            self.told = time.monotonic()
            errors.print(said, markup=False)


def _say(note: str) -> None:
    errors.print(f"[yellow]note:[/] {escape(note)}")


def _tried(contender: str, each: Tried) -> None:
    errors.print(f"{escape(contender)}, {trial_line(each)}")


def _show(comparison: Comparison) -> None:
    if all(outcome.error for outcome in comparison.outcomes):
        why = "; ".join(sorted({outcome.error for outcome in comparison.outcomes}))
        raise RunError(
            f"no run of the comparison came to its end: {why.rstrip('.')}. See {write_failures(comparison)}."
        )
    found = standings(comparison)
    report = write_report(found, comparison.folder)
    for each in found.contenders:
        if each.seeds:
            summary = each.summaries[found.measure]
            spread = "" if math.isnan(summary.over_seeds) else f" ± {summary.over_seeds:.4f}"
            output.print(f"{summary.mean:.4f}{spread}  {each.name}", markup=False)
    output.print(finding(found), markup=False)
    output.print(f"report: {report}", markup=False)
