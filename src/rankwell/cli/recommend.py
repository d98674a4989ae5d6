"""``rankwell recommend``."""

from pathlib import Path
from typing import Annotated, Optional

import polars as pl
import torch
import typer
from rich.markup import escape
from rich.table import Table

from rankwell.atomic import write_atomically
from rankwell.cli.screen import RunProgress, errors, output
from rankwell.data import codes_of
from rankwell.errors import ConfigError, DataError
from rankwell.evaluation import top_items
from rankwell.experiments import RunFolder
from rankwell.tasks import Catalogue, Newcomers

__all__ = ["recommend"]


def recommend(
    folder: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    users: Annotated[Optional[str], typer.Option(help="Users' ids, separated by commas.")] = None,  # noqa: UP045
    users_file: Annotated[Optional[Path], typer.Option(help="A file with one user id a line.")] = None,  # noqa: UP045
    everyone: Annotated[bool, typer.Option("--all", help="Every user.")] = False,
    history: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="What users did whom training did not see: a file of the run's data's form. For all of them."
        ),
    ] = None,
    new_users: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Columns of users whom training did not see, as --data.users has them. For all of them."),
    ] = None,
    new_items: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Columns of items that training did not see, as --data.items has them: ranked beside the others."
        ),
    ] = None,
    only_new: Annotated[bool, typer.Option("--only-new", help="Rank the items of --new-items alone.")] = False,
    k: Annotated[int, typer.Option("-k", min=1, help="Items for each user.")] = 10,
    known: Annotated[bool, typer.Option("--known/--no-known", help="Whether known items may come back.")] = False,
    output_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="A .parquet or .csv file; the terminal without it."),
    ] = None,
) -> None:
    """The best items for users, with scores, in the ids of your data.

    Users and items that training did not see need no training: users with a history or, like items, with the columns that the
    run learnt from.
    """
    if output_file is not None and output_file.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"--output must end in .parquet or .csv: got {output_file}.")
    if only_new and new_items is None:
        raise ConfigError("--only-new ranks the items of --new-items FILE alone: name the file.")
    asked = _asked(users, users_file, everyone, new=(history, new_users))
    saved = RunFolder(folder).load()
    given = Newcomers(history, new_users, new_items, only_new)
    if any(given):
        catalogue = saved.task.catalogue_of_new(saved.config, saved.model, saved.data, given)
    else:
        catalogue = saved.task.catalogue(saved.model, saved.data)
    count = len(catalogue.user_ids)
    queries = torch.arange(count) if asked is None else torch.from_numpy(codes_of(catalogue.user_ids, asked, "user"))
    with RunProgress(errors) as progress:
        progress.phase("recommend", 0)
        best = top_items(
            catalogue.ranker,
            queries,
            k,
            known=None if known else catalogue.known,
            block=saved.config.evaluation.block,
            progress=progress.evaluating,
        )
    table = _table(catalogue, queries, best.ids, best.scores)
    if output_file is None:
        _show(table)
        return
    with write_atomically(output_file, pl.exceptions.PolarsError) as temporary:
        table.write_parquet(temporary) if output_file.suffix == ".parquet" else table.write_csv(temporary)
    output.print(f"{len(table):,} rows for {len(queries):,} users: {output_file}", markup=False)


def _asked(
    users: str | None, users_file: Path | None, everyone: bool, new: tuple[Path | None, ...]
) -> list[str] | None:
    """The ids of the users asked for; None for all that there are."""
    if sum(choice is not None for choice in (users, users_file, *new)) + everyone != 1:
        raise ConfigError(
            "say for whom: one of --users u1,u2, --users-file FILE or --all; or, for users whom training did not see, of"
            " --history FILE and --new-users FILE."
        )
    if everyone or any(new):
        return None
    if users is not None:
        asked = [part.strip() for part in users.split(",") if part.strip()]
    else:
        assert users_file is not None
        try:
            asked = [line.strip() for line in users_file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{users_file} cannot be read: {error}.") from error
    if not asked:
        raise DataError("no user was named: give at least one id.")
    return asked


def _table(catalogue: Catalogue, queries: torch.Tensor, ids: torch.Tensor, scores: torch.Tensor) -> pl.DataFrame:
    """A row a recommendation; places that no item is left for are dropped."""
    k = ids.shape[1]
    there = (ids >= 0).flatten()
    return pl.DataFrame(
        {
            "user": catalogue.user_ids[queries.repeat_interleave(k)[there].numpy()],
            "rank": torch.arange(1, k + 1).repeat(len(ids))[there].numpy(),
            "item": catalogue.item_ids[ids.flatten()[there].numpy()],
            "score": scores.flatten()[there].numpy(),
        }
    )


def _show(table: pl.DataFrame) -> None:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in table.columns:
        shown.add_column(name, justify="left" if name in ("user", "item") else "right")
    for user, rank, item, score in table.iter_rows():
        shown.add_row(escape(str(user)), str(rank), escape(str(item)), f"{score:.4f}")
    output.print(shown)
