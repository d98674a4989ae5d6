"""``rankwell check``."""

import inspect
import os
from typing import Annotated, Any, Optional

import torch
import typer
from rich.markup import escape

from rankwell.cli.screen import errors, output
from rankwell.errors import ConfigError, RankwellError, UnknownName
from rankwell.laws import Finding, Law, examine
from rankwell.losses import LOSSES
from rankwell.losses.head_laws import LAWS as HEAD_LAWS
from rankwell.losses.laws import LAWS as LOSS_LAWS
from rankwell.losses.state_laws import laws_of
from rankwell.metrics import METRICS
from rankwell.metrics.laws import LAWS as METRIC_LAWS
from rankwell.metrics.recommended_laws import LAWS as RECOMMENDED_LAWS
from rankwell.registry import Entry, Input, Registry

__all__ = ["check"]

BROKEN = 1
"""The exit code when a law is broken; 2 is for what cannot be examined."""

QUIET = "99"
"""Above all levels of torch's profiler, which the law of memory asks, and which else says on the screen that it starts."""

KINDS: dict[str, tuple[Registry[Any], str]] = {
    **{kind: (LOSSES, kind) for kind in LOSSES.contract},
    "metric": (METRICS, "list"),
    **{kind: (METRICS, kind) for kind in METRICS.contract if kind != "list"},
}
"""What ``--kind`` may be, with the registry and what it is called there."""


def check(
    name: Annotated[
        str,
        typer.Argument(help="Your own, FILE.py:function; or one of 'rankwell losses' and 'rankwell metrics'."),
    ],
    kind: Annotated[
        Optional[str],  # noqa: UP045  (Typer reads this form)
        typer.Option(
            help="What your own is, where neither a decorator (@list_loss(), @metric() …) nor its arguments say: "
            + ", ".join(KINDS)
            + "."
        ),
    ] = None,
) -> None:
    """Hold a loss or metric against the laws that all of ours keep, and show each that it breaks, with input and values."""
    os.environ.setdefault("KINETO_LOG_LEVEL", QUIET)
    entry, what, laws = _find(name, kind)
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


def _find(name: str, kind: str | None) -> tuple[Entry[Any], str, list[Law]]:
    """The loss or metric of that name, which of the two it is, and the laws that bind it."""
    entry = LOSSES.find(name) or METRICS.find(name)
    if entry is None and ".py:" not in name:
        raise UnknownName("loss or metric", name, [*LOSSES.names(), *METRICS.names()], LOSSES.elsewhere)
    if entry is None:
        entry = _entered(name, kind)
    elif kind is not None and KINDS.get(kind, (None, None))[1] != entry.kind:
        raise ConfigError(f"{name} is registered as of kind {entry.kind!r}, not {kind!r}: leave --kind out.")
    what = METRICS.what if METRICS.find(entry.name) is entry else LOSSES.what
    return entry, what, _laws(entry, what)


def _laws(entry: Entry[Any], what: str) -> list[Law]:
    if what == METRICS.what:
        return [law for laws in (METRIC_LAWS, RECOMMENDED_LAWS) for law in laws.values() if law.binds(entry)]
    if entry.kind != "stateful":
        return [law for laws in (LOSS_LAWS, HEAD_LAWS) for law in laws.values() if law.binds(entry)]
    try:
        return laws_of(entry)
    except RankwellError:
        raise
    except Exception as error:
        raise ConfigError(f"{entry.name} cannot be built: {type(error).__name__}: {error}.") from error


def _entered(name: str, kind: str | None) -> Entry[Any]:
    """A function of a file that is not decorated, registered for this examination as what it is."""
    function, own = LOSSES.from_file(name), name.rpartition(":")[2]
    found = kind or _kind_of(function)
    if found not in KINDS:
        unknown = f"{own} is not registered, and its arguments do not say what it is"
        if kind:
            unknown = f"there is no kind {kind!r}"
        raise ConfigError(
            f"{name}: {unknown}. Say --kind {', '.join(KINDS)}; or decorate it, as by @list_loss() or @metric()."
        )
    registry, registered = KINDS[found]
    inputs = {}
    if registered == "stateful":
        needed = (each for each in inspect.signature(function).parameters.values() if each.default is each.empty)
        inputs = {each.name: Input("scalar", "count", required=True) for each in needed}
    # Under its whole name: a bpr_loss of one's own stands beside ours.
    registry.register(registered, name=own, inputs=inputs)(function)
    if kind is None:
        said = f"{own} is not registered: by its arguments it is of kind {found}. If it is not, say --kind."
        errors.print(f"[yellow]note:[/] {escape(said)}")
    return registry.of(function)


def _kind_of(function: Any) -> str | None:
    """What it is by its first arguments; of scores and labels a metric, where it has a cut-off, ties or an ideal."""
    if not callable(function):
        return None
    if inspect.isclass(function):
        return "stateful" if issubclass(function, torch.nn.Module) else None
    takes = tuple(inspect.signature(function).parameters)
    if takes[:1] == METRICS.contract["user"][:1]:
        return "user" if "reduction" in takes else "catalogue"
    if takes[:2] == METRICS.contract["list"][:2] and {"k", "ties", "ideal", "empty"} & set(takes):
        return "metric"
    return next((kind for kind, contract in LOSSES.contract.items() if contract and takes[:2] == contract[:2]), None)


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
