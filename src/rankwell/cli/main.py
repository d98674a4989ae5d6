"""Dispatch: commands to their files, errors to one sentence and exit code 2."""

import sys

from rankwell.errors import RankwellError, require

require("typer", "cli")

import typer  # noqa: E402

from rankwell.cli.data import data  # noqa: E402
from rankwell.cli.evaluate import evaluate  # noqa: E402
from rankwell.cli.names import losses, metrics  # noqa: E402
from rankwell.cli.recommend import recommend  # noqa: E402
from rankwell.cli.screen import errors  # noqa: E402
from rankwell.cli.train import train  # noqa: E402

__all__ = ["main"]

app = typer.Typer(
    name="rankwell",
    help="Learning to rank by loss: train, evaluate and recommend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
OPEN = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command(context_settings=OPEN)(train)
app.command()(evaluate)
app.command()(recommend)
app.command(context_settings=OPEN)(data)
app.command()(losses)
app.command()(metrics)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except RankwellError as error:
        errors.print(f"[bold red]error:[/] {errors.escape(str(error))}")
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print("interrupted.")
        sys.exit(130)
