"""Files of labelled rows: a table of rows, whose labels are in a column, in a second file of pairs, or in both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rankwell.data.tables import read_text_columns
from rankwell.data.text_files import line_of_record, read_text, unreadable
from rankwell.errors import ConfigError, DataError, nearest
from rankwell.words import many

__all__ = ["LabelledTable", "labelled_table", "read_labelled"]

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""Of text tables, by suffix; Parquet has none."""


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """Rows as a file has them: ids, the columns of features, and pairs ``row``, ``label``, each once, by rows."""

    source: str
    ids: pl.Series
    features: pl.DataFrame
    pairs: pl.DataFrame
    notes: tuple[str, ...] = ()
    """What was left out, counted."""


def read_labelled(
    path: str | Path,
    *,
    id: str = "id",
    labels: str | None = None,
    separator: str = "|",
    features: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    pairs: str | Path | None = None,
    pairs_id: str | None = None,
    pairs_label: str = "label",
    not_labels: Sequence[str] = (),
    labelled: bool = True,
) -> LabelledTable:
    """Read a table of rows, CSV, TSV or Parquet by its suffix, and their labels.

    ``labels`` names a column of texts with a ``separator``, or of lists (Parquet); None takes the one called labels, if it is
    there. ``pairs`` is a second file with a row's id (``pairs_id``, None for the same name as in the table) and one label a
    line; labels of both count. ``features`` names columns; None takes all but the id, the labels and those to ``ignore``.
    ``not_labels`` are texts that say that there is none. Ids and labels are matched as text, without spaces around.

    Empty labels, repeated ones, and pairs of rows that the table does not have are left out and counted in the notes. Without
    ``labelled`` only ids and features are read. Raises :class:`DataError` with file and line for a row without an id, or with
    that of another, and :class:`ConfigError` for a column that is not there. Time O(n).

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "films.csv"
    >>> _ = file.write_text("id,year,labels\\n7,1995,Comedy|War\\n8,1940,War\\n")
    >>> read_labelled(file).pairs.rows()
    [(0, 'Comedy'), (0, 'War'), (1, 'War')]
    """
    path = Path(path)
    frame, where = _read(path)
    table = labelled_table(
        frame,
        str(path),
        where,
        id=id,
        labels=labels,
        separator=separator,
        features=features,
        ignore=ignore,
        not_labels=not_labels,
        labelled=labelled,
        beside=pairs is not None,
    )
    if pairs is None or not labelled:
        return table
    return _with_pairs(table, Path(pairs), pairs_id or id, pairs_label, not_labels)


def labelled_table(
    frame: pl.DataFrame,
    source: str,
    where: Callable[[int], str],
    *,
    id: str = "id",
    labels: str | None = None,
    separator: str = "|",
    features: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    not_labels: Sequence[str] = (),
    labelled: bool = True,
    beside: bool = False,
) -> LabelledTable:
    """A table in memory as :func:`read_labelled` reads it; ``where`` says the place of a row, ``beside`` that pairs follow."""
    column = labels or ("labels" if "labels" in frame.columns else None)
    if labelled and column is None and not beside:
        raise ConfigError(
            f"{source}: rows must have labels: name their column by --data.labels ({', '.join(frame.columns[:20])}), or a file"
            " of pairs by --data.pairs."
        )
    for name in (id, *([column] if labelled and column else []), *(features or ()), *(ignore if labelled else ())):
        if name not in frame.columns:
            raise ConfigError(f"{source} has no column {name!r}. {nearest(name, frame.columns)}")
    ids = _ids(frame[id], where)
    used = [name for name in frame.columns if name not in (id, column, *ignore)] if features is None else [*features]
    if not used:
        raise ConfigError(f"{source}: rows must have features: no column is left. Name some by --data.features.")
    found = pl.DataFrame(schema={"row": pl.Int64, "label": pl.String})
    notes: tuple[str, ...] = ()
    if labelled and column:
        lists = frame[column]
        if not isinstance(lists.dtype, pl.List | pl.Array):
            texts = lists.cast(pl.String)
            lists = texts.set(texts.str.strip_chars() == "", None).str.split(separator)  # no labels, not an empty one
        found = (
            pl.DataFrame({"row": pl.int_range(len(frame), eager=True), "label": lists}).explode("label").drop_nulls()
        )
        found, notes = _cleaned(found, source, not_labels)
    return LabelledTable(source, ids, _without_nan(frame.select(used)), found, notes)


def _ids(column: pl.Series, where: Callable[[int], str]) -> pl.Series:
    ids = column.cast(pl.String).str.strip_chars()
    if (empty := (ids.is_null() | (ids == "")).fill_null(True).arg_true()).len():
        raise DataError(f"{where(int(empty[0]))}: column {column.name!r} must name the row: it is empty.")
    if (again := (~ids.is_first_distinct()).arg_true()).len():
        row = int(again[0])
        raise DataError(
            f"{where(row)}: each row must have an id of its own: {ids[row]!r} has been before."
            " Remove one, or join their labels."
        )
    return ids


def _cleaned(found: pl.DataFrame, source: str, not_labels: Sequence[str]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Pairs without empty labels and each once, and how many were left out."""
    found = found.with_columns(pl.col("row").cast(pl.Int64), pl.col("label").cast(pl.String).str.strip_chars())
    there = found.filter(~pl.col("label").is_in(list(not_labels)))
    full = there.filter(pl.col("label") != "")
    once = full.unique(maintain_order=True)
    notes = []
    if empty := len(there) - len(full):
        notes.append(f"{source}: {many(empty, 'label')} without a text left out")
    if repeated := len(full) - len(once):
        notes.append(f"{source}: {many(repeated, 'label')} repeated within one row, counted once")
    return once, tuple(notes)


def _with_pairs(table: LabelledTable, path: Path, id: str, label: str, not_labels: Sequence[str]) -> LabelledTable:
    frame, where = _read(path)
    for name in (id, label):
        if name not in frame.columns:
            raise ConfigError(f"{path} has no column {name!r}. {nearest(name, frame.columns)}")
    ids = frame[id].cast(pl.String).str.strip_chars()
    if (empty := (ids.is_null() | (ids == "")).fill_null(True).arg_true()).len():
        raise DataError(f"{where(int(empty[0]))}: column {id!r} must name a row: it is empty.")
    rows = ids.replace_strict(table.ids, pl.int_range(len(table.ids), eager=True), default=None, return_dtype=pl.Int64)
    given = pl.DataFrame({"row": rows, "label": frame[label].cast(pl.String).fill_null("")})
    found, notes = _cleaned(given.drop_nulls("row"), str(path), not_labels)
    if unknown := int(rows.null_count()):
        notes += (f"{path}: {many(unknown, 'pair')} of rows that {table.source} does not have left out",)
    both = pl.concat([table.pairs, found]).unique(maintain_order=True)
    return LabelledTable(table.source, table.ids, table.features, both, (*table.notes, *notes))


def _without_nan(features: pl.DataFrame) -> pl.DataFrame:
    """Texts that say that a number is missing as what they mean: one of them would make a column of numbers one of texts."""
    texts = [name for name, dtype in features.schema.items() if dtype == pl.String]
    missing = pl.col(texts).str.strip_chars().str.to_lowercase().is_in(["", "nan", "na", "null", "none"])
    return features.with_columns(pl.when(~missing).then(pl.col(texts))) if texts else features


def _read(path: Path) -> tuple[pl.DataFrame, Callable[[int], str]]:
    """All columns, and where a row stands."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise unreadable(path, FileNotFoundError())
    if suffix in DELIMITERS:
        frame = read_text_columns(path, delimiter=DELIMITERS[suffix])

        def where(row: int) -> str:
            text = read_text(path)
            line = line_of_record(text, DELIMITERS[suffix], row + 1, quoting=b'"' in text)
            return f"{path}, line {line}"

        return frame, where
    if suffix not in (".parquet", ".pq"):
        raise ConfigError(f"{path}: a table of rows must end in .csv, .tsv or .parquet: got {suffix or 'none'!r}.")
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: the file must be readable as Parquet: {reason}. Write it again.") from error
    if frame.is_empty():
        raise DataError(f"{path}: the file must have rows: there are none.")
    return frame, lambda row: f"{path}, row {row + 1}"
