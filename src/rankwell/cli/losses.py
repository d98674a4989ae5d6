"""``rankwell losses``: what there is, what each is, and what it does to a score."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from rankwell.cli.names import Name, show
from rankwell.cli.screen import output
from rankwell.config import typed
from rankwell.errors import ConfigError
from rankwell.losses import LOSSES
from rankwell.pictures import draw_loss

__all__ = ["losses"]


def losses(context: typer.Context, name: Name = None) -> None:
    """List the losses, or show one: formula, source, parameters; or draw one.

    NAME --plot [FILE.svg|.png|.pdf] draws value and gradient against the score of an irrelevant item, beside well-known
    losses; NAME.svg without a file. Parameters are options: rankwell losses mml --plot mml.png --neg_weight 400. One that is
    given several times draws several curves: --neg_weight 1 --neg_weight 400.
    """
    name, file, given = _read([*([] if name is None else [name]), *context.args])
    if file is None:
        if given:
            raise ConfigError(f"--{next(iter(given))}: parameters are for a picture: give --plot, too.")
        show(LOSSES, name)
        return
    if name is None:
        raise ConfigError("name the loss to draw: rankwell losses NAME --plot.")
    entry = LOSSES[name]
    settings = [dict(zip(given, values, strict=True)) for values in itertools.product(*given.values())]
    path = Path(file or f"{entry.name}.svg")
    draw_loss(path, entry, *(typed(entry, each, "loss") for each in settings))
    output.print(f"picture: {path}", markup=False)


def _read(arguments: Sequence[str]) -> tuple[str | None, str | None, dict[str, list[Any]]]:
    """The name; the file, empty where ``--plot`` stands alone, None without it; parameters, each with all its values."""
    name: str | None = None
    file: str | None = None
    given: dict[str, list[Any]] = {}
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            if name is not None:
                raise ConfigError(f"unexpected argument {option!r} beside {name!r}.")
            name = option
            continue
        key, equals, value = option[2:].partition("=")
        follows = bool(rest) and not rest[0].startswith("--")
        if key == "plot":
            if not equals and follows and "." in rest[0] and ".py:" not in rest[0]:
                value = rest.pop(0)
            file = value
            continue
        if not equals:
            if not follows:
                raise ConfigError(f"option --{key} needs a value.")
            value = rest.pop(0)
        given.setdefault(key.replace("-", "_"), []).append(value)
    return name, file, given
