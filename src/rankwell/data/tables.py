"""Tables with a header: CSV, TSV, RecBole's .inter and Parquet."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rankwell.data.encode import Raw
from rankwell.data.text_files import DELIMITER_NAMES, line_of_record, read_text, unreadable
from rankwell.errors import ConfigError, DataError, nearest

__all__ = ["Columns", "read_delimited", "read_parquet"]

_EPOCH_TYPES = (pl.Datetime, pl.Date)


@dataclass(frozen=True)
class Columns:
    """Which columns of a table to read; weight and timestamp only when they are named."""

    user: str = "user"
    item: str = "item"
    weight: str | None = None
    timestamp: str | None = None

    def wanted(self) -> dict[str, str]:
        """Role to column name, for the columns asked for."""
        named = {"user": self.user, "item": self.item, "weight": self.weight, "timestamp": self.timestamp}
        return {role: name for role, name in named.items() if name is not None}


def read_delimited(path: Path, columns: Columns, *, delimiter: str, typed_header: bool = False) -> Raw:
    """A delimited table; ids stay text, and quoting follows CSV except in .inter files, which know no quotes.

    ``typed_header`` drops the ``:type`` of RecBole's column names. Raises :class:`DataError` for what
    :mod:`rankwell.data.readers` lists, with the line. Time O(n), 0.1 s a million rows; finding a bad line may take longer.
    """
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise ConfigError(f"--data.delimiter must be one ASCII character: got {delimiter!r}.")
    data = read_text(path)
    quoting = not typed_header and b'"' in data
    header = _header(data, delimiter, quoting, typed_header)
    _check_header(path, header, columns, delimiter)
    if b"\n" not in data:
        raise DataError(f"{path}: the file must have rows below its header: there are none.")
    _check_widths(path, data, delimiter, len(header), quoting)
    frame = _parse(path, data, header, list(columns.wanted().values()), delimiter, quoting)

    def where(row: int) -> str:
        return f"{path}, line {line_of_record(data, delimiter, row + 1, quoting=quoting)}"

    return _to_raw(frame, columns, where)


def read_parquet(path: Path, columns: Columns) -> Raw:
    """A Parquet table: ids of type text or integer keep their type; rows, from 1, stand in messages for lines.

    Dates and times become seconds since 1970 in UTC, float64.
    """
    if not path.is_file():
        raise unreadable(path, FileNotFoundError())
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty. Give a file with at least one interaction.")
    try:
        header = list(pl.read_parquet_schema(path))
        _check_header(path, header, columns, None)
        frame = pl.read_parquet(path, columns=list(dict.fromkeys(columns.wanted().values())))
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: the file must be readable as Parquet: {reason}. Write it again, or name its format.") from error
    if frame.is_empty():
        raise DataError(f"{path}: the file must have rows: there are none.")
    for role in ("user", "item"):
        name = columns.wanted()[role]
        if isinstance(frame[name].dtype, pl.Categorical | pl.Enum):
            frame = frame.with_columns(pl.col(name).cast(pl.String))
        if frame[name].dtype != pl.String and not frame[name].dtype.is_integer():
            raise DataError(
                f"{path}: ids must be text or integers: column {name!r} is {frame[name].dtype}. Cast it when writing the file."
            )
    return _to_raw(frame, columns, lambda row: f"{path}, row {row + 1}")
