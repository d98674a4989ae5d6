"""``rankwell data``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rankwell.cli.screen import dotted, errors, facts_table, output
from rankwell.config import resolve, with_option
from rankwell.data import describe, read_dataset, synthesise
from rankwell.errors import ConfigError, RunError

__all__ = ["data"]


def data(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="Interactions: a file or folder.")],
    generate: Annotated[
        bool, typer.Option("--generate", help="First write generated data into this new folder.")
    ] = False,
) -> None:
    """Describe interactions: counts, density, activity, popularity. Takes --data.user, --data.format … as train does."""
    raw: dict[str, Any] = {}
    plain = dotted(path, context.args, raw)
    if plain is None:
        raise ConfigError("say which interactions: rankwell data PATH.")
    path = plain
    if other := sorted(raw.keys() - {"data", "seed"}):
        raise ConfigError(f"rankwell data takes --data.user and its like, and --seed: got --{other[0]}.")
    with_option(raw, "data.path", path)
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
