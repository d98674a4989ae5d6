"""``rankwell advise``."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from rankwell.cli.screen import dotted, errors, facts_table, output, program
from rankwell.config import with_option
from rankwell.errors import ConfigError
from rankwell.experiments.advise import Advice, Named, as_options, check_new, find_task, write_choices
from rankwell.experiments.advise import advise as advice_on
from rankwell.experiments.limits import Limits, machine_memory, parse_memory
from rankwell.tasks import Config, task_of

__all__ = ["advise"]


def advise(
    context: typer.Context,
    path: Annotated[Optional[str], typer.Argument(help="Data: a file or folder. 'synthetic' generates some.")] = None,  # noqa: UP045
    memory: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What a run may take, such as 8GB; without it, this machine's."),
    ] = None,
    minutes: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="What training may take on this machine: up to twenty steps of each choice are timed."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Write the first choice to this .toml file, or all into this new folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Name three losses to try first on your data, with values to start from, the reason, and the evidence.

    Takes --task, --data.user, --data.format … as train does. Without --task the files tell it, or it is interactions. The
    rules are Rankwell's own, from its measurements and from papers: only 'rankwell compare' tells what is best on your data.
    """
    raw: dict[str, Any] = {}
    plain = dotted(path, context.args, raw)
    if plain is not None:
        with_option(raw, "data.path", plain)
    if not (path := raw.get("data", {}).get("path")):
        raise ConfigError("say on which data: rankwell advise PATH.")
    limits = Limits(machine_memory() if memory is None else parse_memory(memory), minutes)
    if out:
        check_new(out)  # before anything is timed
    found = None if "task" in raw else find_task(path)
    how = "given" if "task" in raw else "by its files" if found else "by default; --task names another"
    raw.setdefault("task", found or Config.model_fields["task"].default)
    advice = advice_on(raw, limits)
    written = write_choices(advice, out) if out else []
    if as_json:
        output.print(json.dumps({**advice.plain(), "written": [str(file) for file in written]}, indent=1), markup=False)
        return
    _show(advice, how, as_options(raw))
    for file in written:
        output.print(f"written: {file}   {program()} train --config {file}", markup=False)


def _show(advice: Advice, how: str, given: str) -> None:
    task = task_of(advice.task)
    for said in advice.read:
        errors.print(f"note: {said}", markup=False)
    budget = [] if advice.limits.memory is None else [f"{advice.limits.memory / 1e9:,.3g} GB"]
    budget += [] if advice.limits.minutes is None else [f"{advice.limits.minutes:g} minutes"]
    rows = [("task", f"{advice.task} ({how})"), *advice.profile.rows(task.unit, task.units)]
    output.print(facts_table([*rows, *([("limits", ", ".join(budget))] if budget else [])]))
    output.print(f"\nRule: {advice.rule.data} ({advice.rule.label}). {advice.rule.why}", markup=False)
    for place, named in enumerate(advice.choices, start=1):
        _show_choice(place, named, f"{program()} train {given}")
    for named in advice.passed:
        output.print(f"\nPassed over: {named.choice.loss}: {named.fitted.problem}", markup=False)
    for note in advice.notes:
        output.print(f"\nBeside this: {note.says}", markup=False)
        _lines(("evidence", each.told()) for each in note.evidence)
    output.print(
        "\nRules from tables and papers; on these data nothing was measured: 'rankwell compare' does.", markup=False
    )


def _show_choice(place: int, named: Named, command: str) -> None:
    fitted = named.fitted
    sampler = named.config.sampler.get("name")
    title = f"{place}. {named.choice.loss} with {named.config.model['name']}"
    output.print(f"\n[bold]{title}[/]{f', negatives: {sampler}' if sampler else ''}")
    took = f"about {fitted.plan.peak / 1e6:,.0f} MB"
    if fitted.minutes is not None:
        took += f", {fitted.minutes:.2g} minutes of training, by a few steps timed here"
    _lines(
        [
            ("reason", named.choice.reason),
            *(("evidence", each.told()) for each in named.choice.evidence),
            *(("changes", each) for each in named.choice.changes),
            *(("adapted", str(each)) for each in fitted.changes),
            *([("too large" if fitted.minutes is None else "too slow", fitted.problem)] if fitted.problem else []),
            ("takes", took),
            ("start", f"{command} {named.options()}"),
        ]
    )


def _lines(rows: Iterable[tuple[str, str]]) -> None:
    for name, value in rows:
        output.print(f"   {name:<9}  {value}", markup=False)
