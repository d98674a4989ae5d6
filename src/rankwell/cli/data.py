"""``rankwell data``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rankwell.cli.screen import dotted, errors, facts_table, output
from rankwell.config import resolve, with_option
from rankwell.data import describe, synthesise
from rankwell.errors import ConfigError, RunError
from rankwell.experiments.parts import load

__all__ = ["data"]


def data(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="Interactions: a file or folder. 'synthetic' generates them.")],
    generate: Annotated[
        bool, typer.Option("--generate", help="First write generated data into this new folder.")
    ] = False,
) -> None:
    """Describe interactions: counts, density, activity, popularity. Takes --data.user, --data.format,
    --data.items … as train does."""
    raw: dict[str, Any] = {}
    plain = dotted(path, context.args, raw)
    if plain is None:
        raise ConfigError("say which interactions: rankwell data PATH.")
    path = plain
    if other := sorted(raw.keys() - {"data", "seed"}):
        raise ConfigError(f"rankwell data takes --data.user and its like, and --seed: got --{other[0]}.")
    with_option(raw, "data.path", path)
    config = resolve(raw, "options")
    if generate:
        if path == "synthetic":
            raise ConfigError("synthetic is the name of data generated afresh: name another folder to write.")
        if Path(path).exists():
            raise RunError(f"{path} exists. Name a folder that does not.")
        synthesise(seed=config.seed).write(path)
    dataset, _ = load(config.data, config.seed)
    for note in dataset.notes:
        errors.print(f"note: {note}", markup=False)
    output.print(facts_table(describe(dataset.train, merged=dataset.merged).rows()))
    if dataset.items is not None:
        output.print("\ncolumns of items:")
        output.print(facts_table(dataset.items.rows()))
    if dataset.test is not None:
        output.print(f"\ntest pairs: {len(dataset.test):,}", markup=False)
