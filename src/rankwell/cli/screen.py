"""What commands share on the screen: consoles, tables, the progress of a run, dotted options."""

import math
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from rankwell.config import with_option
from rankwell.errors import ConfigError
from rankwell.experiments.page import shown
from rankwell.experiments.study import Tried
from rankwell.training import Epoch

__all__ = [
    "RunProgress",
    "dotted",
    "errors",
    "facts_table",
    "figures_table",
    "negatives_table",
    "output",
    "program",
    "shown",
    "trial_line",
]

# Without a terminal nothing is wrapped or cut: what reads a pipe wants whole lines and whole figures.
output = Console(highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else 10_000)
"""Results."""

errors = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
"""Everything else: errors, notes, progress."""

PHASES = {"select": "choose epochs", "refit": "train on all", "fit": "fit", "evaluate": "evaluate"}


def program() -> str:
    """What to type to call this program again: its path, where it is not on the path for programs."""
    return "rankwell" if shutil.which("rankwell") else shlex.quote(sys.argv[0])


def dotted(path: str | None, arguments: Sequence[str], raw: dict[str, Any]) -> str | None:
    """Put ``--section.key value`` and ``--section.key=value`` into a nested dictionary; gives the one other argument.

    Typer takes the first of the arguments that it does not know for ``path``, be it an option: all are looked at here.
    """
    rest = [*([] if path is None else [path]), *arguments]
    plain: str | None = None
    while rest:
        option = rest.pop(0)
        if not option.startswith("--") or len(option) < 3:
            if plain is not None:
                raise ConfigError(f"unexpected argument {option!r} beside {plain!r}. Options are --section.key VALUE.")
            plain = option
            continue
        path, equals, value = option[2:].partition("=")
        if not equals:
            if not rest or (rest[0].startswith("--") and len(rest[0]) > 2):
                raise ConfigError(f"option --{path} needs a value.")
            value = rest.pop(0)
        with_option(raw, path.replace("-", "_"), value)
    return plain


def figures_table(rows: dict[str, dict[str, float]]) -> Table:
    """Named rows of measures, those of the first; a row may lack some."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    names = list(next(iter(rows.values())))
    for name in names:
        table.add_column(escape(name), justify="right")
    for row, values in rows.items():
        table.add_row(escape(row), *(f"{values[name]:.4f}" if name in values else "" for name in names))
    return table


def negatives_table(epochs: Iterable[Mapping[str, Any]]) -> Table:
    """What epochs saw of their negatives, a row each."""
    shares = {
        "collisions": "collision_rate",
        "above the positive": "violating",
        "suspected false": "suspected_false",
        "held-out positives": "held_out_positives",
        "with gradient": "with_gradient",
    }
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in (*shares, "effective number", "of", "gradient in ranks 1–10"):
        table.add_column(name, justify="right")
    for each in epochs:
        said = ["unknown" if each[name] is None else f"{each[name]:.2%}" for name in shares.values()]
        foremost = sum(each["by_rank"]["gradient"][:3])
        counts = f"{each['effective']:,.1f}", f"{each['negatives']:,.1f}", f"{foremost:.1%}"
        table.add_row(f"epoch {each['epoch']}", *said, *counts)
    return table


def facts_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Two columns: what, and its value."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows:
        table.add_row(escape(name), escape(value))
    return table


def trial_line(each: Tried) -> str:
    """A trial that ended, in a line with markup."""
    best = max(each.curve.values(), default=math.nan)
    how = {
        "complete": f"{each.value:.4f}",
        "pruned": f"{best:.4f}, stopped after epoch {max(each.curve, default=0)}",
        "fail": f"[red]failed:[/] {escape(str(each.facts.get('error', '')))}",
    }[each.state]
    options = "  ".join(f"{path.partition('.')[2]} {shown(value)}" for path, value in each.options.items())
    return f"trial {each.number}: {how}  {escape(options)}"


class RunProgress:
    """A run's progress on the screen: a bar with loss, speed and time left; a line for each validated epoch."""

    def __init__(self, console: Console, units: str = "users") -> None:
        self.console, self.units = console, units
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._epochs = 0

    def __enter__(self) -> "RunProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def phase(self, name: str, epochs: int) -> "RunProgress":
        """A phase begins."""
        if self._task is not None:
            self.bar.remove_task(self._task)
        self._epochs = epochs
        self._task = self.bar.add_task(PHASES.get(name, name), total=None, said="")
        return self

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Move the bar."""
        if self._task is not None:
            done = (epoch - 1) * steps + step
            speed = self.bar.tasks[0].speed or 0.0
            said = f"epoch {epoch}/{self._epochs}  loss {loss:.4f}  {speed:.0f} steps/s"
            self.bar.update(self._task, completed=done, total=self._epochs * steps, said=said)

    def on_epoch(self, record: Epoch, best: bool) -> None:
        """A line for the epoch."""
        measured = "  ".join(f"{name} {value:.4f}" for name, value in (record.validation or {}).items())
        star = "  [green]best[/]" if best and measured else ""
        line = f"epoch {record.epoch:>3}  loss {record.loss:.4f}  {record.seconds:.1f} s"
        self.console.print(f"{line}  {escape(measured)}{star}".rstrip())

    def evaluating(self, done: int, users: int) -> None:
        """Move the bar of an evaluation."""
        if self._task is not None:
            self.bar.update(self._task, completed=done, total=users, said=f"{done:,} of {users:,} {self.units}")

    def say(self, text: str) -> None:
        """A note."""
        self.console.print(f"[yellow]note:[/] {escape(text)}")
