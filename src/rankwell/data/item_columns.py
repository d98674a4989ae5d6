"""Columns of items or users, from a file beside the interactions: prices, categories, years."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from rankwell.data.features import FeatureEncoder, split_values
from rankwell.data.tables import read_text_columns
from rankwell.data.text_files import unreadable
from rankwell.errors import ConfigError, DataError, nearest

__all__ = ["ItemColumns", "Missing", "read_items", "read_table", "read_users"]

Missing: TypeAlias = Literal["error", "default"]
"""What becomes of items that the file does not tell about: an error, or 0 as a number and a group of their own as a text;
as a feature of a model, nothing."""

LARGEST = 1 << 28
"""Numbers in a table of items and categories."""

SUFFIXES: Mapping[str, str] = {".csv": ",", ".tsv": "\t", ".item": "\t", ".user": "\t"}
"""Delimiters of text tables; Parquet has none."""


@dataclass(frozen=True, eq=False)
class ItemColumns:
    """A row an item code, or user code, in their order; what the file does not tell is null. ``notes`` are sentences on what
    did not match.

    >>> columns = ItemColumns("shop.csv", pl.DataFrame({"price": ["2", "0.5"], "kind": ["tea", "jam"]}), pl.Series(["a", "b"]))
    >>> columns.weights("price"), columns.groups("kind")
    (tensor([2.0000, 0.5000], dtype=torch.float64), tensor([0, 1]))
    """

    source: str
    frame: pl.DataFrame
    item_ids: pl.Series
    missing: Missing = "error"
    notes: tuple[str, ...] = ()

    def weights(self, name: str) -> Float[Tensor, " m"]:
        """A column as numbers, finite and none below 0; :class:`DataError` names the first item whose value is none."""
        column = self._column(name)
        numbers = _numbers(column)
        bad = (numbers.is_null() | ~numbers.is_finite() | (numbers < 0)).fill_null(True) & column.is_not_null()
        if bad.any():
            row = int(bad.arg_true()[0])
            raise DataError(
                f"{self.source}: column {name!r} must hold finite numbers of at least 0: item {self.item_ids[row]!r} has"
                f" {column[row]!r}. Correct it, or name another column."
            )
        return torch.from_numpy(numbers.fill_null(0.0).to_numpy().copy())

    def groups(self, name: str) -> Int[Tensor, " m"]:
        """A column as codes of its values, in the order of first appearance; what is missing is a group of its own."""
        column = self._column(name)
        if column.dtype.is_nested():
            raise DataError(f"{self.source}: column {name!r} must hold one value an item: got {column.dtype}.")
        texts = ("=" + column.cast(pl.String)).fill_null("")  # which no text is now
        codes = texts.cast(pl.Enum(texts.unique(maintain_order=True))).to_physical()
        return torch.from_numpy(codes.to_numpy().astype(np.int64))

    def vectors(self, name: str) -> Float[Tensor, "m c"]:
        """A column as vectors: lists of numbers as they are, of anything else 1 for each of its values, split at ``|``.

        What is missing is a vector of zeros. :class:`DataError` for lists that are not of as many numbers each, and for more
        values than a table of 2²⁸ numbers holds.

        >>> ItemColumns("films.csv", pl.DataFrame({"genres": ["War|Drama", "War"]}), pl.Series(["a", "b"])).vectors("genres")
        tensor([[1., 1.],
                [1., 0.]])
        """
        column = self._column(name)
        if column.dtype.is_nested():
            return FeatureEncoder.fit(self.frame, [name], source=self.source)(self.frame).numbers.nan_to_num()
        lists = (
            pl.DataFrame({"row": np.arange(len(column)), "value": split_values(column)}).explode("value").drop_nulls()
        )
        values = lists["value"].unique(maintain_order=True)
        if len(column) * len(values) > LARGEST:
            raise DataError(
                f"{self.source}: column {name!r} has {len(values):,} values, too many for categories of {len(column):,} items."
                " Name another column."
            )
        table = torch.zeros(len(column), len(values))
        codes = lists["value"].cast(pl.Enum(values)).to_physical().to_numpy().astype(np.int64)
        table[torch.from_numpy(lists["row"].to_numpy().copy()), torch.from_numpy(codes)] = 1
        return table

    def rows(self) -> list[tuple[str, str]]:
        """Each column and what it holds, for a table."""
        return [(name, _said(self.frame[name])) for name in self.frame.columns]

    def in_order(self, order: NDArray[np.int64]) -> "ItemColumns":
        """The rows in another order of items: old codes, each once."""
        return replace(self, frame=self.frame[order], item_ids=self.item_ids.gather(order))

    def fingerprint(self) -> str:
        """SHA-256, in hex, of all columns and their names."""
        return hashlib.sha256(self.frame.write_json().encode()).hexdigest()

    def _column(self, name: str) -> pl.Series:
        if name not in self.frame.columns:
            raise ConfigError(f"{self.source} has no column {name!r}. {nearest(name, self.frame.columns)}")
        column = self.frame[name]
        if self.missing == "error" and column.null_count():
            row = int(column.is_null().arg_true()[0])
            raise DataError(
                f"{self.source}: column {name!r} must have a value for every item: {column.null_count():,} have none (first:"
                f" {self.item_ids[row]!r}). Add them, or give --data.missing_items default."
            )
        return column


def _numbers(column: pl.Series) -> pl.Series:
    """The values as float64; null where one is no number."""
    if column.dtype.is_numeric():
        return column.cast(pl.Float64)
    if column.dtype.is_nested():
        return pl.Series([None] * len(column), dtype=pl.Float64)
    return column.cast(pl.String, strict=False).str.strip_chars().cast(pl.Float64, strict=False)


def _said(column: pl.Series) -> str:
    """What a column holds, in words."""
    numbers, lacking = _numbers(column), column.null_count()
    missing = f", {lacking:,} missing" if lacking else ""
    if numbers.null_count() == lacking < len(column):
        values = numbers.drop_nulls().to_numpy()
        return f"numbers, {values.min():,.10g} to {values.max():,.10g}{missing}"
    if column.dtype.is_nested():
        return f"{column.dtype}{missing}"
    return f"text, {column.drop_nulls().n_unique():,} values{missing}"


def read_items(
    path: str | Path, item_ids: pl.Series, *, item: str | None = None, missing: Missing = "error"
) -> ItemColumns:
    """Read the columns of these items: CSV, TSV, RecBole's .item or Parquet, told apart by suffix.

    ``item`` names the column of ids (``item`` by default, ``item_id`` in .item). Ids are matched as text, so that ``007`` is
    not ``7``; empty cells count as missing. Items of the file without interactions are left out and counted in the notes.
    ``missing`` says what becomes of items that the file lacks, or has no value for once a column is asked for.

    Raises :class:`DataError` for what :mod:`rankwell.data.readers` lists, an id that stands there twice, and items without a
    row where ``missing`` is ``error``; :class:`ConfigError` for another suffix. Time O(n).

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "shop.csv"
    >>> _ = file.write_text("item,price\\n7,1.5\\n007,2\\n8,9\\n")
    >>> columns = read_items(file, pl.Series(["007", "7"]))
    >>> columns.weights("price"), columns.notes
    (tensor([2.0000, 1.5000], dtype=torch.float64), ('shop.csv: 1 of its 3 items have no interaction and are left out',))
    """
    return _matched(Path(path), item_ids, "item", item, missing)


def read_users(
    path: str | Path, user_ids: pl.Series, *, user: str | None = None, missing: Missing = "error"
) -> ItemColumns:
    """Read the columns of these users, as :func:`read_items` does; RecBole's file is .user, its ids ``user_id``."""
    return _matched(Path(path), user_ids, "user", user, missing)


def read_table(path: str | Path, what: str, key: str | None = None) -> tuple[pl.Series, pl.DataFrame]:
    """Ids, as texts, and columns of all items or users of a file, ``what`` they are; ``key`` names the column of ids.

    Raises as :func:`read_items`, for no row, and for an id that stands there twice.
    """
    path = Path(path)
    frame = _read(path)
    key = key or (f"{what}_id" if what not in frame.columns and path.suffix.lower() == f".{what}" else what)
    if key not in frame.columns:
        raise DataError(
            f"{path}: the column of {what} ids, {key!r}, must be in the header: its columns are {', '.join(frame.columns)}."
            f" Name the right one: --data.{what}s_id. {nearest(key, frame.columns)}"
        )
    ids = frame[key].cast(pl.String)
    repeated = ids.is_duplicated() | ids.is_null()
    if repeated.any():
        row = int(repeated.arg_true()[0])
        raise DataError(
            f"{path}: each {what} must have one row: {ids[row]!r} has several, or none. Remove all but one."
        )
    return ids, frame.drop(key)


def _matched(path: Path, wanted: pl.Series, what: str, key: str | None, missing: Missing) -> ItemColumns:
    """The rows of these items or users."""
    ids, frame = read_table(path, what, key)
    known = wanted.cast(pl.String)
    rows = known.replace_strict(ids, np.arange(len(ids)), default=None, return_dtype=pl.Int64)
    lacking = known.filter(rows.is_null())
    if missing == "error" and len(lacking):
        named = ", ".join(map(repr, lacking.head(3))) + (", …" if len(lacking) > 3 else "")
        raise DataError(
            f"{path}: every {what} must have a row: {len(lacking):,} of {len(known):,} have none ({named}). Add them, or"
            f" give --data.missing_{what}s default."
        )
    columns = frame.select(pl.all().gather(rows))
    notes = []
    if unknown := len(frame) - (len(known) - len(lacking)):
        notes.append(f"{path.name}: {unknown:,} of its {len(frame):,} {what}s have no interaction and are left out")
    if len(lacking):
        notes.append(f"{path.name}: {len(lacking):,} of {len(known):,} {what}s have no row: 0, or a group of their own")
    return ItemColumns(path.name, columns, wanted, missing, tuple(notes))


def _read(path: Path) -> pl.DataFrame:
    """All columns; what is empty in a text file is null."""
    if not path.is_file():
        raise unreadable(path, FileNotFoundError())
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        try:
            return pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"{path}: the file must be readable as Parquet: {reason}. Write it again.") from error
    if suffix not in SUFFIXES:
        raise ConfigError(
            f"{path}: a file of items or users must end in {', '.join(SUFFIXES)} or .parquet: got {suffix or 'none'!r}."
        )
    frame = read_text_columns(path, delimiter=SUFFIXES[suffix], typed_header=suffix in (".item", ".user"))
    return frame.with_columns(pl.when(pl.all().str.strip_chars() != "").then(pl.all()))
