"""``rankwell clicks``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional, cast

import polars as pl
import typer

from rankwell.atomic import write_atomically
from rankwell.cli.screen import errors, facts_table, output, program
from rankwell.data.clicks import CascadeModel, ClickModel, PositionModel
from rankwell.data.judged_files import JudgedFormat, read_judged
from rankwell.errors import ConfigError
from rankwell.experiments.clicks import ClickLog, as_table, production_ranker
from rankwell.metrics import ndcg
from rankwell.tasks import listed

__all__ = ["clicks"]


class _Model(StrEnum):
    position = "position"
    cascade = "cascade"


class _Propensity(StrEnum):
    known = "known"
    estimated = "estimated"
    none = "none"


class _Format(StrEnum):
    svmlight = "svmlight"
    csv = "csv"
    tsv = "tsv"
    parquet = "parquet"


class _Per(StrEnum):
    query = "query"
    session = "session"


def clicks(
    files: Annotated[list[Path], typer.Argument(help="Files of judged lists, as --task ltr reads them.")],
    output_file: Annotated[Path, typer.Option("--output", "-o", help="A .parquet file.")],
    model: Annotated[_Model, typer.Option(help="How users go through a list.")] = _Model.position,
    sessions: Annotated[int, typer.Option(min=1, help="How many.")] = 20_000,
    eta: Annotated[float, typer.Option(help="position: position k is examined with probability k^-eta.")] = 1.0,
    continuation: Annotated[
        float, typer.Option(help="cascade: the probability to go on behind a click; 0 ends the session there.")
    ] = 0.5,
    noise: Annotated[
        float, typer.Option(help="The probability of a click on an irrelevant document that is examined.")
    ] = 0.1,
    production: Annotated[
        float, typer.Option(help="Share of the queries whose judgements train the ranker of the lists that are shown.")
    ] = 0.02,
    shuffled: Annotated[float, typer.Option(help="Share of the sessions whose lists are in random order.")] = 0.0,
    propensity: Annotated[
        _Propensity, typer.Option(help="known, estimated from the shuffled sessions, or none: all clicks weigh 1.")
    ] = _Propensity.known,
    clip: Annotated[
        float, typer.Option(help="The least propensity that weights are the inverse of; 0 does not clip.")
    ] = 0.0,
    per: Annotated[_Per, typer.Option(help="A list a query, with clicks added up, or a list a session.")] = _Per.query,
    format: Annotated[Optional[_Format], typer.Option(help="Of the files, as --data.format.")] = None,  # noqa: UP045
    query: Annotated[str, typer.Option(help="Of a table: the column of queries.")] = "query",
    label: Annotated[str, typer.Option(help="Of a table: the column of labels.")] = "label",
    ignore: Annotated[str, typer.Option(help="Of a table: columns that are no features.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
) -> None:
    """Simulate clicks on judged lists, and write lists to train on: labels are clicks, weights their inverse propensities."""
    if output_file.suffix != ".parquet":
        raise ConfigError(f"--output must end in .parquet: got {output_file}.")
    users: ClickModel
    users = PositionModel(eta, noise) if model is _Model.position else CascadeModel(continuation, noise)
    kind = cast(JudgedFormat | None, format and format.value)
    lists = read_judged(files, format=kind, query=query, label=label, ignore=listed(ignore) if ignore else ())
    ranker = production_ranker(lists, production, seed=seed)
    log = ClickLog(lists, ranker, users, sessions, seed, shuffled)
    made = log.judged(propensity.value, clip, per.value)
    table = as_table(made)
    with write_atomically(output_file, pl.exceptions.PolarsError) as temporary:
        table.write_parquet(temporary)
    _, labels, offsets = lists.tensors()
    shown = float(ndcg(log.scores, labels, k=10, offsets=offsets))
    errors.print(facts_table(_facts(log, shown)))
    output.print(f"{len(table):,} documents of {len(made):,} lists: {output_file}", markup=False)
    command = f"{program()} train {output_file} --task ltr --data.weight weight"
    errors.print(f"Train on them: {command} --data.valid FILE --data.test FILE", markup=False)


def _facts(log: ClickLog, shown: float) -> list[tuple[str, str]]:
    """What was simulated."""
    clicked = irrelevant = 0
    for block in log.blocks():
        rows = block.documents[block.clicks].numpy()
        clicked += len(rows)
        irrelevant += int((log.lists.labels[rows] <= 0).sum())
    return [
        ("sessions", f"{log.sessions:,} of {len(log.lists):,} queries"),
        ("ndcg@10 of what was shown, by its judgements", f"{shown:.4f}"),
        ("clicks a session", f"{clicked / log.sessions:.2f}"),
        ("clicks on irrelevant documents", f"{irrelevant / max(clicked, 1):.1%}"),
    ]
