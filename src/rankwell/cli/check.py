"""``rankwell check``."""

from typing import Annotated, Any

import torch
import typer
from rich.markup import escape

from rankwell.cli.screen import errors, output
from rankwell.errors import ConfigError, UnknownName
from rankwell.laws import Finding, Law, examine
from rankwell.losses import LOSSES
from rankwell.losses.laws import LAWS as LOSS_LAWS
from rankwell.metrics import METRICS
from rankwell.metrics.laws import LAWS as METRIC_LAWS
from rankwell.registry import Entry

__all__ = ["check"]

BROKEN = 1
"""The exit code when a law is broken; 2 is for what cannot be examined."""


def check(
    name: Annotated[
        str,
        typer.Argument(help="Your own, FILE.py:function, or one of 'rankwell losses' and 'rankwell metrics'."),
    ],
) -> None:
    """Hold a loss or metric against the laws that all of ours keep, and show each that it breaks, with input and values."""
    entry, laws = _find(name)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small operations: a second thread only waits for its turn
    output.print(f"[bold]{escape(entry.name)}[/]  ({entry.kind})\n")
    broken = 0
    for law in laws:
        with errors.status(f"{law.name} …"):
            finding = examine(law, entry)
        output.print(
            f"[green]kept[/]    {law.name}" if finding is None else f"[bold red]broken[/]  [bold]{law.name}[/]"
        )
        if finding is not None:
            broken += 1
            _show(finding)
    torch.set_num_threads(threads)
    output.print(f"\n{len(laws) - broken} of {len(laws)} laws are kept.")
    if broken:
        raise typer.Exit(BROKEN)


def _find(name: str) -> tuple[Entry[Any], list[Law]]:
    """The loss or metric of that name, and the laws that bind it."""
    for registry, every in ((LOSSES, LOSS_LAWS), (METRICS, METRIC_LAWS)):
        entry = registry.find(name)
        if entry is None:
            continue
        laws = [law for law in every.values() if law.binds(entry)]
        if not laws:
            raise ConfigError(f"{name}: there are no laws for a {registry.what} of kind {entry.kind!r}.")
        return entry, laws
    if ".py:" not in name:
        raise UnknownName("loss or metric", name, [*LOSSES.names(), *METRICS.names()])
    kinds = dict.fromkeys(kind for law in LOSS_LAWS.values() for kind in law.kinds)
    raise ConfigError(
        f"{name}: {name.rpartition(':')[2]} is not registered: decorate it with"
        f" {', '.join(f'@{kind}_loss()' for kind in kinds)} or, if it is a metric, @metric()."
    )


def _show(finding: Finding) -> None:
    lines = [finding.law.sentence, *finding.what.splitlines()]
    if finding.call:
        lines += ["in the call with", *(f"  {name} = {_text(value)}" for name, value in finding.call.items())]
    output.print("\n".join(f"        {line}" for line in lines), markup=False)


def _text(value: Any) -> str:
    """A tensor with few digits, on one line where it is small."""
    if not isinstance(value, torch.Tensor):
        return repr(value)
    try:
        flat = value.detach()
        if flat.numel() > 64:
            return f"{tuple(flat.shape)} {flat.dtype}"
        digits = [[_digits(x) for x in row] for row in flat.reshape(-1, flat.shape[-1] if flat.ndim else 1).tolist()]
        rows = ["[" + " ".join(row) + "]" for row in digits]
        return " ".join(rows)
    except RuntimeError:  # inside vmap a tensor has no numbers
        return f"{tuple(value.shape)} {value.dtype}"


def _digits(x: float | bool) -> str:
    return str(int(x)) if isinstance(x, bool) else f"{x:.4g}"
