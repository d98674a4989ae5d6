"""``rankwell score``."""

from pathlib import Path
from typing import Annotated, Optional

import polars as pl
import typer

from rankwell.atomic import write_atomically, write_text
from rankwell.cli.screen import RunProgress, errors, output
from rankwell.errors import ConfigError, DataError
from rankwell.experiments import RunFolder

__all__ = ["score"]


def score(
    folder: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    files: Annotated[list[Path], typer.Argument(help="Files of lists or rows, as the run was trained on.")],
    output_file: Annotated[
        Path, typer.Option("--output", "-o", help="A .parquet file, or a run file for trec_eval: .tsv, .run or .txt.")
    ],
    document: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The column of document ids; without it, '# docid = …' of svmlight, or numbers from 1."),
    ] = None,
    tag: Annotated[str, typer.Option(help="The name of the run, in a run file.")] = "rankwell",
) -> None:
    """Rank the documents of new lists, or all labels for new rows, by a finished run. Labels there are not looked at."""
    if output_file.suffix not in (".parquet", ".tsv", ".run", ".txt"):
        raise ConfigError(f"--output must end in .parquet, .tsv, .run or .txt: got {output_file}.")
    saved, notes = RunFolder(folder).load(), list[str]()
    with RunProgress(errors, saved.task.units) as progress:
        progress.phase("score", 0)
        table = saved.task.score(
            saved.config, saved.model, saved.data, files, document=document, progress=progress.evaluating, notes=notes
        )
        for note in notes:
            progress.say(note)
    if output_file.suffix == ".parquet":
        with write_atomically(output_file, pl.exceptions.PolarsError) as temporary:
            table.write_parquet(temporary)
    else:
        write_text(output_file, _run_file(table, tag))
    who, what = table.columns[:2]
    output.print(f"{len(table):,} {what}s of {table[who].n_unique():,} {saved.task.units}: {output_file}", markup=False)


def _run_file(table: pl.DataFrame, tag: str) -> str:
    """A line a document, as trec_eval reads it: query, Q0, document, rank, score, tag."""
    who, what = table.columns[:2]
    for name, values in ((who, table[who]), (what, table[what]), ("--tag", pl.Series([tag]))):
        if (odd := values.filter(~values.str.contains(r"^\S+$"))).len():
            raise DataError(f"{name} {odd[0]!r} must be one word in a run file. Write .parquet, or give other ids.")
    rows = table.select(who, pl.lit("Q0"), what, "rank", "score", pl.lit(tag).alias("tag")).iter_rows()
    return "".join(f"{' '.join(map(str, row[:4]))} {row[4]:.9g} {row[5]}\n" for row in rows)
