"""``rankwell data``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rankwell.cli.screen import dotted, errors, facts_table, output
from rankwell.config import resolve
from rankwell.data import describe, read_dataset, synthesise
from rankwell.errors import RunError

__all__ = ["data"]


def data(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="Interactions: a file or folder.")],
    generate: Annotated[
        bool, typer.Option("--generate", help="First write generated data into this new folder.")
    ] = False,
) -> None:
    """Describe interactions: counts, density, activity, popularity. Takes --data.user, --data.format … as train does."""
    raw: dict[str, Any] = {"data": {"path": path}}
    dotted(context.args, raw)
    config = resolve(raw, "options")
    settings = config.data
    if generate:
        if Path(path).exists():
            raise RunError(f"{path} exists. Name a folder that does not.")
        synthesise(seed=config.seed).write(path)
    names = {"user": settings.user, "item": settings.item}
    dataset = read_dataset(
        Path(path),
        format=settings.format,
        weight=settings.weight,
        timestamp=settings.timestamp,
        delimiter=settings.delimiter,
        unseen=settings.unseen,
        **{key: value for key, value in names.items() if value is not None},
    )
    for note in dataset.notes:
        errors.print(f"note: {note}", markup=False)
    output.print(facts_table(describe(dataset.train, merged=dataset.merged).rows()))
    if dataset.test is not None:
        output.print(f"\ntest pairs: {len(dataset.test):,}", markup=False)
