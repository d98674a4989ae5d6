"""``rankwell check``."""

from typing import Annotated, Any

import torch
import typer
from rich.markup import escape

from rankwell.cli.screen import errors, output
from rankwell.errors import ConfigError, UnknownName
from rankwell.laws import Finding, Law, examine
from rankwell.losses import LOSSES
from rankwell.losses.head_laws import LAWS as HEAD_LAWS
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
        typer.Argument(
            help="Your own, FILE.py:function, decorated as what it is (@list_loss(), @metric() …);"
            " or one of 'rankwell losses' and 'rankwell metrics'."
        ),
    ],
) -> None:
    """Hold a loss or metric against the laws that all of ours keep, and show each that it breaks, with input and values."""
    entry, what, laws = _find(name)
    output.print(f"[bold]{escape(entry.name)}[/]  ({entry.kind})\n")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small operations: a second thread only waits for its turn
    try:
        findings = _examine(laws, entry, what)
    finally:
        torch.set_num_threads(threads)
    broken = sum(finding.law.strict for finding in findings)
    others = len(findings) - broken
    output.print(
        f"\n{len(laws) - len(findings)} of {len(laws)} laws are kept"
        + (f"; {others} of the others need not hold for every {what}." if others else ".")
    )
    if broken:
        raise typer.Exit(BROKEN)


def _examine(laws: list[Law], entry: Entry[Any], what: str) -> list[Finding]:
    """What the entry breaks, shown law by law; what it raises again and again, once and last."""
    findings, raised = [], dict[str, list[Finding]]()
    for law in laws:
        with errors.status(f"{law.name} …"):
            finding = examine(law, entry)
        if finding is None:
            output.print(f"[green]kept[/]    {law.name}")
            continue
        findings.append(finding)
        if finding.raised:
            raised.setdefault(finding.what, []).append(finding)
        else:
            _show([finding], what)
    for alike in raised.values():
        _show(alike, what)
    return findings


def _find(name: str) -> tuple[Entry[Any], str, list[Law]]:
    """The loss or metric of that name, which of the two it is, and the laws that bind it."""
    of_losses = [*LOSS_LAWS.values(), *HEAD_LAWS.values()]
    for registry, every in ((LOSSES, of_losses), (METRICS, list(METRIC_LAWS.values()))):
        entry = registry.find(name)
        if entry is None:
            continue
        laws = [law for law in every if law.binds(entry)]
        if not laws:
            raise ConfigError(f"{name}: there are no laws for a {registry.what} of kind {entry.kind!r}.")
        return entry, registry.what, laws
    if ".py:" not in name:
        raise UnknownName("loss or metric", name, [*LOSSES.names(), *METRICS.names()], LOSSES.elsewhere)
    kinds = dict.fromkeys(kind for law in of_losses for kind in law.kinds)
    raise ConfigError(
        f"{name}: {name.rpartition(':')[2]} is not registered: decorate it with"
        f" {', '.join(f'@{kind}_loss()' for kind in kinds)} or, if it is a metric, @metric()."
    )


def _show(alike: list[Finding], what: str) -> None:
    """Laws that are broken by the same, with what it is, and the call of the first."""
    for law in (finding.law for finding in alike):
        output.print(f"[bold red]broken[/]  [bold]{law.name}[/]" if law.strict else f"[yellow]differs[/] {law.name}")
    first, *more = alike
    lines = [f"raised in {len(alike)} laws:"] if more else [first.law.sentence]
    if not more and first.law.reasons and not first.law.strict:
        lines.append(f"Does not hold for every {what}: {'; '.join(first.law.reasons)}.")
    lines += first.what.splitlines()
    if first.call:
        lines += ["in the call with", *(f"  {name} = {_text(value)}" for name, value in first.call.items())]
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
