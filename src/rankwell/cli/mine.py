"""``rankwell mine``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache as once
from pathlib import Path
from typing import Annotated, Literal, Optional, TypeAlias

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from rankwell.cli.screen import errors, facts_table, output
from rankwell.errors import ConfigError
from rankwell.mining import Mined, MiningSettings, Rescore, Vectors, mine_blocks
from rankwell.mining.embed import TextVectors, read_vectors
from rankwell.mining.report import QUANTILES, Report
from rankwell.mining.rescore import CrossScores, EncoderScores, load_cross_encoder
from rankwell.mining.rows import Form, check_output, rows_of, write_rows
from rankwell.mining.search import Progress as ShowProgress
from rankwell.mining.settings import Index, MarginTo, MiningSimilarity, Strategy
from rankwell.mining.source import Files, Retrieval, Unknown, read_retrieval
from rankwell.text.encoder import load_encoder

__all__ = ["mine"]

Judge = Literal["cross", "encoder"]
Bar: TypeAlias = Callable[[str], ShowProgress]
"""A new bar on the screen, by its name."""
# ruff: noqa: UP045  (Typer reads Optional)


@dataclass(frozen=True)
class _Models:
    """Where scores come from."""

    model: str
    query_prompt: str
    document_prompt: str
    query_embeddings: Path | None
    corpus_embeddings: Path | None
    rescore: str | None
    rescore_kind: Judge | None
    batch_size: int
    download: bool
    cache: Path | None


def mine(
    folder: Annotated[
        Optional[Path], typer.Argument(help="A data set as BEIR has it: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.")
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="The file to write: .parquet or .jsonl.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which of the folder's qrels.")] = "train",
    queries: Annotated[
        Optional[Path], typer.Option(help="Instead of a folder: .jsonl, .csv, .tsv or .parquet with id and text.")
    ] = None,
    corpus: Annotated[Optional[Path], typer.Option(help="The documents: id, text and perhaps title.")] = None,
    positives: Annotated[
        Optional[Path], typer.Option(help="The pairs: query-id, corpus-id and perhaps score, above 0 for a positive.")
    ] = None,
    query_columns: Annotated[str, typer.Option(help="Names of other columns: ID,TEXT.")] = "",
    corpus_columns: Annotated[str, typer.Option(help="ID,TEXT or ID,TEXT,TITLE.")] = "",
    positive_columns: Annotated[str, typer.Option(help="QUERY,DOCUMENT or QUERY,DOCUMENT,SCORE.")] = "",
    unknown: Annotated[
        Unknown, typer.Option(help="What becomes of pairs with ids that no file of texts has.")
    ] = "error",
    drop_same_text: Annotated[
        bool,
        typer.Option(
            "--drop-same-text/--keep-same-text",
            help="Whether documents, and queries, of one text count as one, so that a positive's copy is no negative.",
        ),
    ] = True,
    model: Annotated[
        str, typer.Option(help="minilm (offline), or a sentence-transformers model's folder or name.")
    ] = "minilm",
    download: Annotated[bool, typer.Option("--download", help="Whether models may be fetched.")] = False,
    query_prompt: Annotated[str, typer.Option(help="What precedes each query when it is encoded.")] = "",
    document_prompt: Annotated[str, typer.Option(help="What precedes each document when it is encoded.")] = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Texts encoded at a time.")] = 64,
    query_embeddings: Annotated[
        Optional[Path], typer.Option(help="Instead of a model: .npy or .safetensors, a row for each query of the file.")
    ] = None,
    corpus_embeddings: Annotated[Optional[Path], typer.Option(help="The same for the documents.")] = None,
    cache: Annotated[
        Optional[Path], typer.Option(help="Where embeddings are kept; 'embeddings' beside the output without it.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep embeddings in memory only.")] = False,
    num_negatives: Annotated[int, typer.Option(help="Negatives for each pair.")] = 3,
    range_min: Annotated[int, typer.Option(help="How many of the best that pass all rules are passed over.")] = 0,
    range_max: Annotated[
        Optional[int], typer.Option(help="How many of a query's best documents are looked at.")
    ] = None,
    absolute_margin: Annotated[
        Optional[float], typer.Option(help="How far below the positive a negative must score.")
    ] = None,
    relative_margin: Annotated[
        Optional[float], typer.Option(help="The same as a share of the positive's score; 0.05 is a good start.")
    ] = None,
    max_score: Annotated[Optional[float], typer.Option(help="Negatives above this are suspect.")] = None,
    min_score: Annotated[Optional[float], typer.Option(help="Negatives below this are too easy.")] = None,
    sampling_strategy: Annotated[Strategy, typer.Option(help="The best that are left, or any.")] = "top",
    margin_to: Annotated[
        MarginTo, typer.Option(help="Whose score margins are held against, where a query has several positives.")
    ] = "lowest",
    similarity: Annotated[MiningSimilarity, typer.Option(help="Of the vectors.")] = "cosine",
    index: Annotated[Index, typer.Option(help="exact, or FAISS: flat, ivf or hnsw.")] = "exact",
    block: Annotated[int, typer.Option(help="Queries, and documents, scored at a time.")] = 4096,
    seed: Annotated[int, typer.Option(help="Of --sampling-strategy random.")] = 0,
    rescore: Annotated[
        Optional[str], typer.Option(help="A second model, by whose scores candidates are judged and ordered.")
    ] = None,
    rescore_kind: Annotated[
        Optional[Judge], typer.Option(help="What it is; an encoder for minilm, else a cross-encoder.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="What a row holds.")] = "triplet",
    scores: Annotated[bool, typer.Option("--scores", help="Write scores too, as for distillation.")] = False,
    picture: Annotated[Optional[Path], typer.Option(help="Draw the scores into this .svg or .png file.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show settings and the size of the work; write nothing.")
    ] = False,
) -> None:
    """Find hard negatives for a retrieval data set, and write rows that sentence-transformers trains on."""
    settings = MiningSettings(
        num_negatives, range_min, range_max, absolute_margin, relative_margin, max_score, min_score, sampling_strategy,
        margin_to, similarity, index, block, seed,
    )  # fmt: skip
    out = _checked(out, picture)
    files = _files(folder, split, queries, corpus, positives, (query_columns, corpus_columns, positive_columns))
    models = _Models(
        model, query_prompt, document_prompt, query_embeddings, corpus_embeddings, rescore, rescore_kind, batch_size,
        download, None if no_cache else cache or out.parent / "embeddings",
    )  # fmt: skip
    _check_models(models)
    data = read_retrieval(files, unknown=unknown, drop_same_text=drop_same_text)
    for note in data.notes:
        errors.print(f"note: {note}", markup=False)
    if dry_run:
        _show_plan(data, settings, models, form, scores, out)
        return
    with _bars() as bar:
        report, rows = _work(data, settings, models, bar, out, form, scores)
    _show(report, rescored=rescore is not None)
    if picture is not None:
        report.draw(picture)
    output.print(f"{rows:,} rows: {out}", markup=False)


def _checked(out: Path | None, picture: Path | None) -> Path:
    if out is None:
        raise ConfigError("say where to write: --output FILE.parquet or FILE.jsonl.")
    check_output(out)
    if picture is not None and picture.suffix not in (".svg", ".png"):
        raise ConfigError(f"--picture must end in .svg or .png: got {picture}.")
    return out


def _files(
    folder: Path | None,
    split: str,
    queries: Path | None,
    corpus: Path | None,
    positives: Path | None,
    columns: tuple[str, str, str],
) -> Files:
    named = [[name.strip() for name in one.split(",")] if one else [] for one in columns]
    if folder is not None:
        if queries or corpus or positives or any(named):
            raise ConfigError("name the data once: a folder, or --queries, --corpus and --positives.")
        if not folder.is_dir():
            raise ConfigError(f"{folder} is not a folder: give one with corpus.jsonl, queries.jsonl and qrels.")
        return Files.beir(folder, split)
    if queries is None or corpus is None or positives is None:
        raise ConfigError("say which data: a folder as BEIR has it, or all of --queries, --corpus and --positives.")
    return Files(queries, corpus, positives, *named)


def _check_models(models: _Models) -> None:
    if (models.query_embeddings is None) != (models.corpus_embeddings is None):
        raise ConfigError("--query-embeddings and --corpus-embeddings belong together: give both, of one model.")
    if models.rescore is None and models.rescore_kind is not None:
        raise ConfigError("--rescore-kind says what --rescore MODEL is: give the model.")


def _work(
    data: Retrieval,
    settings: MiningSettings,
    models: _Models,
    bar: Bar,
    out: Path,
    form: Form,
    scores: bool,
) -> tuple[Report, int]:
    """Encode, mine and write."""
    report = Report(settings)
    queries, documents = _vectors(data, settings, models, bar)
    rescore = _rescorer(data, models, bar)
    blocks = mine_blocks(
        queries, documents, data.positives, settings, excluded=data.excluded, rescore=rescore, progress=bar("mine")
    )

    def counted() -> Iterator[Mined]:
        for mined in blocks:
            report.add(mined)
            yield mined

    tables = (rows_of(mined, data.queries, data.documents, form, scores=scores) for mined in counted())
    return report, write_rows(out, tables)


def _vectors(data: Retrieval, settings: MiningSettings, models: _Models, bar: Bar) -> tuple[Vectors, Vectors]:
    """Of queries and documents, given or made."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    unit = settings.similarity == "cosine"
    if models.query_embeddings is not None and models.corpus_embeddings is not None:
        queries = read_vectors(models.query_embeddings, data.file_rows[0], "queries")
        documents = read_vectors(models.corpus_embeddings, data.file_rows[1], "documents")
        return (
            Vectors([queries], unit=unit, rows=data.query_rows, device=device, name=str(models.query_embeddings)),
            Vectors([documents], unit=unit, rows=data.document_rows, device=device, name=str(models.corpus_embeddings)),
        )
    encoder = _encoder(models.model, models, unit=unit)
    made = (
        encoder.encode(data.queries, models.query_prompt, bar("encode queries")),
        encoder.encode(data.documents, models.document_prompt, bar("encode documents")),
    )
    # What was made with the length one needs no second pass.
    return Vectors(made[0], unit=False, device=device), Vectors(made[1], unit=False, device=device)


def _encoder(name: str, models: _Models, *, unit: bool) -> TextVectors:
    return TextVectors(
        name, once(lambda: load_encoder(name, download=models.download)), unit, models.cache, models.batch_size
    )


def _rescorer(data: Retrieval, models: _Models, bar: Bar) -> Rescore | None:
    if models.rescore is None:
        return None
    if (models.rescore_kind or ("encoder" if models.rescore == "minilm" else "cross")) == "cross":
        judge = load_cross_encoder(models.rescore, download=models.download)
        return CrossScores(judge, data.queries, data.documents, models.batch_size)
    encoder = _encoder(models.rescore, models, unit=True)
    queries = encoder.encode(data.queries, models.query_prompt, bar("encode queries to rescore"))
    documents = encoder.encode(data.documents, models.document_prompt, bar("encode documents to rescore"))
    return EncoderScores(Vectors(queries, unit=False), Vectors(documents, unit=False))


@contextmanager
def _bars() -> Iterator[Bar]:
    """A bar for each part of the work."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as progress:

        def bar(name: str) -> ShowProgress:
            task = progress.add_task(name, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield bar


def _show_plan(data: Retrieval, settings: MiningSettings, models: _Models, form: Form, scores: bool, out: Path) -> None:
    """Settings and size of the work."""
    window = settings.window(rescored=models.rescore is not None)
    given = {**asdict(settings), "range_max": window, "format": form, "scores": scores, "output": out}
    rows = [(name, str(value)) for name, value in given.items() if value is not None]
    rows += [
        ("queries", f"{len(data.queries):,} with {data.positives.values.numel():,} positives"),
        ("documents", f"{len(data.documents):,}"),
        ("scores to compute", f"{len(data.queries) * len(data.documents):,}"),
        ("memory of a block", f"{4 * settings.block**2 / 2**20:,.0f} MiB at most"),
    ]
    if models.query_embeddings is None:
        encoder = _encoder(models.model, models, unit=settings.similarity == "cosine")
        left = encoder.missing(data.queries, models.query_prompt)
        left += encoder.missing(data.documents, models.document_prompt)
        rows.append(("texts to encode", f"{left:,} by {models.model}"))
    if models.rescore is not None:
        rows.append(("pairs to rescore", f"{len(data.queries) * window + data.positives.values.numel():,} at most"))
    output.print(facts_table(rows))


def _show(report: Report, *, rescored: bool) -> None:
    """Counts, scores, and what to do about what is missing."""
    output.print(facts_table(report.counts()))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("score", "mean", *(f"{share:.0%}" for share in QUANTILES)):
        table.add_column(name, justify="left" if name == "score" else "right")
    for name, values in report.scores():
        table.add_row(name, *(f"{value:.4f}" for value in values))
    output.print(table)
    if advice := report.advice(rescored=rescored):
        errors.print(f"note: {advice}", markup=False)
