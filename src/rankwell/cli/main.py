"""Dispatch: commands to their files, errors to one sentence and exit code 2."""

import sys
from typing import Annotated, NoReturn

import rankwell
from rankwell.errors import RankwellError, require

require("typer", "cli")

import torch  # noqa: E402
import typer  # noqa: E402
from rich.markup import escape  # noqa: E402

from rankwell.cli.advise import advise  # noqa: E402
from rankwell.cli.check import check  # noqa: E402
from rankwell.cli.clicks import clicks  # noqa: E402
from rankwell.cli.compare import compare  # noqa: E402
from rankwell.cli.data import data  # noqa: E402
from rankwell.cli.describe import describe  # noqa: E402
from rankwell.cli.evaluate import evaluate  # noqa: E402
from rankwell.cli.losses import losses  # noqa: E402
from rankwell.cli.mine import mine  # noqa: E402
from rankwell.cli.names import (  # noqa: E402
    batches,
    generators,
    metrics,
    miners,
    models,
    positives,
    samplers,
    tasks,
)
from rankwell.cli.recommend import recommend  # noqa: E402
from rankwell.cli.score import score  # noqa: E402
from rankwell.cli.screen import errors, program  # noqa: E402
from rankwell.cli.train import train  # noqa: E402
from rankwell.cli.tune import tune  # noqa: E402

__all__ = ["main"]

app = typer.Typer(
    name="rankwell",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
INTERRUPTED = 130
"""The exit code of programs that were interrupted from the keyboard."""

OPEN = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command(context_settings=OPEN)(train)
app.command(context_settings=OPEN)(compare)
app.command(context_settings=OPEN)(tune)
app.command()(evaluate)
app.command()(recommend)
app.command()(score)
app.command()(clicks)
app.command(context_settings=OPEN)(data)
app.command(context_settings=OPEN)(advise)
app.command(context_settings=OPEN)(describe)
app.command()(mine)
app.command()(batches)
app.command()(generators)
app.command(context_settings=OPEN)(losses)
app.command()(metrics)
app.command()(miners)
app.command()(models)
app.command()(positives)
app.command()(samplers)
app.command()(tasks)
app.command()(check)


def _version(asked: bool) -> None:
    if asked:
        print(f"rankwell {rankwell.__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show versions, and exit.")
    ] = False,
) -> None:
    """Learning to rank by loss: train, evaluate and recommend."""


def main() -> None:
    """Run the command line."""
    try:
        # Not standalone: Typer would frame its errors over several lines, and take KeyboardInterrupt for itself.
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except RankwellError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error.filename or 'a file'} cannot be read or written: {error.strerror or error}.")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED  # some versions of Typer give this code themselves
    except Exception as error:
        # The class of Typer's usage errors has moved between its versions; this method has stayed.
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message().rstrip(".")
        _refuse(f"{message}{'' if message.endswith('?') else '.'} See rankwell --help.")

    if code == INTERRUPTED:
        resume = f"with a training by '{program()} train --resume FOLDER', with anything else by the same command"
        errors.print(f"interrupted. Go on {resume}.", markup=False)
    sys.exit(code)


def _refuse(sentence: str) -> NoReturn:
    errors.print(f"[bold red]error:[/] {escape(sentence)}")
    sys.exit(2)
