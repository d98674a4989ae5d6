"""``rankwell data``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rankwell.cli.screen import dotted, errors, facts_table, output
from rankwell.config import resolve, with_option
from rankwell.errors import ConfigError, RunError
from rankwell.tasks import task_of

__all__ = ["data"]


def data(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="A file or folder. 'synthetic' generates data.")],
    generate: Annotated[
        bool, typer.Option("--generate", help="First write generated data into this new folder.")
    ] = False,
) -> None:
    """Describe data: counts, density, activity, popularity; lists and labels. Takes --task, --data.user, --data.format … as
    train does."""
    raw: dict[str, Any] = {}
    plain = dotted(path, context.args, raw)
    if plain is None:
        raise ConfigError("say which interactions: rankwell data PATH.")
    path = plain
    if other := sorted(raw.keys() - {"data", "seed", "task"}):
        raise ConfigError(f"rankwell data takes --task, --data.user and its like, and --seed: got --{other[0]}.")
    with_option(raw, "data.path", path)
    config = resolve(raw, "options")
    task = task_of(config.task)
    if generate:
        if path == "synthetic":
            raise ConfigError("synthetic is the name of data generated afresh: name another folder to write.")
        if Path(path).exists():
            raise RunError(f"{path} exists. Name a folder that does not.")
        task.generate(Path(path), config.seed)
    described = task.describe(config)
    for note in described.notes:
        errors.print(f"note: {note}", markup=False)
    for number, (heading, rows) in enumerate(described.tables.items()):
        if heading:
            output.print(("\n" if number else "") + heading, markup=False)
        output.print(facts_table(rows))
