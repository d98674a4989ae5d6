"""``rankwell metrics``, ``models``, ``samplers`` and their like: what there is, and what each is."""

import inspect
import typing
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.table import Table

from rankwell.cli.screen import output
from rankwell.config import with_column
from rankwell.data import BATCHES
from rankwell.generators import GENERATORS
from rankwell.metrics import METRICS
from rankwell.miners import MINERS
from rankwell.models import MODELS
from rankwell.registry import Entry, Parameter, Registry
from rankwell.samplers import POSITIVES, SAMPLERS
from rankwell.tasks import TASKS

__all__ = ["batches", "generators", "metrics", "miners", "models", "positives", "samplers", "show", "tasks"]

Name = Annotated[Optional[str], typer.Argument(help="One of them, to see its formula, source and parameters.")]  # noqa: UP045


def batches(name: Name = None) -> None:
    """List the ways of batching, or show one: which rows come together and how often, source, parameters."""
    show(BATCHES, name)


def generators(name: Name = None) -> None:
    """List the generators, or show one: what it makes negatives of, source, parameters."""
    show(GENERATORS, name)


def metrics(name: Name = None) -> None:
    """List the metrics, or show one: definition, source, parameters."""
    show(METRICS, name)


def miners(name: Name = None) -> None:
    """List the miners, or show one: which negatives it keeps, source, parameters."""
    show(MINERS, name)


def models(name: Name = None) -> None:
    """List the models, or show one: what it scores, formula, source, parameters."""
    show(MODELS, name)


def positives(name: Name = None) -> None:
    """List the ways to give a row several positives, or show one: which, source, parameters."""
    show(POSITIVES, name)


def samplers(name: Name = None) -> None:
    """List the samplers, or show one: how likely it draws what, source, parameters."""
    show(SAMPLERS, name)


def tasks() -> None:
    """List the tasks, for --task: what their data are, which models they have, what is left open by default."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("task", "", "models", "default loss"):
        table.add_column(heading)
    for task in TASKS.values():
        summary = (inspect.getdoc(type(task)) or "").partition("\n")[0]
        known = ", ".join(entry.name for entry in MODELS if entry.kind == task.models)
        table.add_row(*map(escape, (task.name, summary, known, task.defaults["loss"]["name"])))
    output.print(table)


def show(registry: Registry[Any], name: str | None) -> None:
    """Print a table of the registry, or all about one entry."""
    if name is None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("name", "family", "kind", "", "source"):
            table.add_column(heading)
        for family, entries in registry.families().items():
            for entry in entries:
                table.add_row(*map(escape, (entry.name, family, entry.kind, entry.summary, entry.paper or "")))
        output.print(table)
        output.print(f"\n{len(registry)} {registry.what} names")
        return
    entry = registry[name]
    output.print(f"[bold]{entry.name}[/]  ({entry.kind})\n")
    output.print(inspect.getdoc(entry.function) or "", markup=False)
    _show_parameters(with_column(entry) if registry in (BATCHES, SAMPLERS) else entry)


def _show_parameters(entry: Entry[Any]) -> None:
    if not entry.parameters:
        output.print("\nNo parameters of its own.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("parameter", "type", "default", "search range"):
        table.add_column(heading)
    for parameter in entry.parameters.values():
        span = str(parameter.search) if parameter.search else ""
        table.add_row(*map(escape, (parameter.name, _type(parameter), str(parameter.default), span)))
    output.print()
    output.print(table)


def _type(parameter: Parameter) -> str:
    annotation = parameter.annotation
    if typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(str(value) for value in typing.get_args(annotation))
    return annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)
