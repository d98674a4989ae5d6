"""The columns of a table: which ones are asked for, and whether their values can be what they should be."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rankwell.data.encode import Raw
from rankwell.data.text_files import DELIMITER_NAMES
from rankwell.errors import DataError

__all__ = ["Columns", "check_header", "to_raw"]

Where = Callable[[int], str]
"""From a row, counted from 0, to the place that a message names: file and line."""


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

    def names(self) -> list[str]:
        """The names asked for, each once: a column may serve in two roles."""
        return list(dict.fromkeys(self.wanted().values()))


def check_header(place: str, header: Sequence[str], columns: Columns, delimiter: str = "", line: str = "") -> None:
    """Raise :class:`DataError` unless each wanted column is in the header exactly once.

    ``place`` begins the message; ``line`` is the header as it stands in the file, for a guess at the delimiter where only one
    column was read.
    """
    wanted = columns.wanted()
    missing = {role: name for role, name in wanted.items() if name not in header}
    if missing and len(header) == 1 and delimiter and (other := _likely_delimiter(line, wanted)):
        raise DataError(
            f"{place}: columns must be separated by the {_called(delimiter)}: the header {line[:80]!r} is one column, and "
            f"looks separated by the {_called(other)}. Give --data.delimiter {other!r}."
        )
    for role, name in missing.items():
        alike = [column for column in header if role in column.lower()] or difflib.get_close_matches(name, header)
        raise DataError(
            f"{place}: the {role} column {name!r} must be in the header: its columns are {', '.join(header)}. "
            f"Name the right one: --data.{role} {alike[0] if alike else 'COLUMN'}."
        )
    for name in columns.names():
        if header.count(name) > 1:
            raise DataError(f"{place}: column names must differ: {name!r} stands in the header twice. Rename one.")


def to_raw(frame: pl.DataFrame, columns: Columns, where: Where) -> Raw:
    """Check ids, weights and timestamps; raise :class:`DataError` for the first row that is wrong, by its place."""
    for role, name in (("user", columns.user), ("item", columns.item)):
        ids = frame[name]
        empty = ids.is_null()
        if ids.dtype == pl.String:
            empty = empty | (ids.str.strip_chars() == "")
        if empty.any():
            row = int(empty.arg_true()[0])
            raise DataError(
                f"{where(row)}: the {role} id (column {name!r}) must not be empty: "
                f"{int(empty.sum()):,} such rows in the file. Remove them."
            )
    weights = timestamps = None
    if columns.weight is not None:
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and refused in the next line
            weights = _numbers(frame[columns.weight], "weight", where).to_numpy().astype(np.float32)
        _check_finite(weights, frame[columns.weight], "weight", where)
        _check_not_negative(weights, frame[columns.weight], where)
    if columns.timestamp is not None:
        timestamps = _timestamps(frame[columns.timestamp], where)
    return Raw(frame[columns.user], frame[columns.item], weights, timestamps)


def _timestamps(column: pl.Series, where: Where) -> NDArray[np.int64] | NDArray[np.float64]:
    if isinstance(column.dtype, pl.Datetime | pl.Date):
        column = column.dt.epoch("us") / 1_000_000
    values = _numbers(column, "timestamp", where)
    if values.dtype.is_integer():
        return values.to_numpy().astype(np.int64)
    floats = values.to_numpy().astype(np.float64)
    _check_finite(floats, column, "timestamp", where)
    return floats


def _numbers(column: pl.Series, role: str, where: Where) -> pl.Series:
    """The column as Int64, where every value is an integer, or as Float64."""
    if column.dtype.is_numeric() and not column.dtype.is_integer():
        numbers = column.cast(pl.Float64)
    else:
        numbers = column.cast(pl.Int64, strict=False)
        if numbers.null_count():
            # Polars takes "nan" and "inf" in any case for numbers, and leaves null what is none; spaces around are no fault.
            text = column.cast(pl.String, strict=False)
            numbers = text.str.strip_chars().cast(pl.Float64, strict=False)
    if numbers.null_count():
        row = int(numbers.is_null().arg_true()[0])
        raise DataError(_not_a_number(column, row, role, where))
    return numbers


def _check_finite(values: NDArray[Any], column: pl.Series, role: str, where: Where) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        raise DataError(_not_a_number(column, int(np.argmin(finite)), role, where))


def _check_not_negative(weights: NDArray[np.float32], column: pl.Series, where: Where) -> None:
    negative = weights < 0
    if negative.any():
        row = int(np.argmax(negative))
        raise DataError(
            f"{where(row)}: weights must be at least 0: the weight (column {column.name!r}) is {column[row]!r}. "
            "Correct or remove the row, or leave --data.weight out."
        )


def _not_a_number(column: pl.Series, row: int, role: str, where: Where) -> str:
    value = column[row]
    given = "it is empty" if value is None or value == "" else f"got {value!r}"
    seconds = " Dates must be given as numbers, such as seconds since 1970." if role == "timestamp" else ""
    return (
        f"{where(row)}: the {role} (column {column.name!r}) must be a finite number: {given}.{seconds} "
        f"Correct or remove the row, or leave --data.{role} out."
    )


def _likely_delimiter(line: str, wanted: dict[str, str]) -> str | None:
    """The delimiter that would bring the wanted columns forth, or else the commonest candidate in the line."""
    for candidate in DELIMITER_NAMES:
        if all(name in line.split(candidate) for name in wanted.values()):
            return candidate
    counts = {candidate: line.count(candidate) for candidate in DELIMITER_NAMES}
    best = max(counts, key=lambda candidate: counts[candidate])
    return best if counts[best] else None


def _called(delimiter: str) -> str:
    return f"{DELIMITER_NAMES.get(delimiter, 'character')} {delimiter!r}"
