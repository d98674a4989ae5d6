"""Tables with a header: CSV, TSV, RecBole's .inter and .item, and Parquet."""

import csv
import io
from pathlib import Path

import numpy as np
import polars as pl

from rankwell.data.columns import Columns, check_header, to_raw
from rankwell.data.encode import Raw
from rankwell.data.text_files import line_of_record, read_text, unreadable
from rankwell.errors import ConfigError, DataError

__all__ = ["read_delimited", "read_parquet", "read_text_columns"]


def read_delimited(path: Path, columns: Columns, *, delimiter: str, typed_header: bool = False) -> Raw:
    """A delimited table; ids stay text, and quoting follows CSV except in .inter files, which know no quotes.

    ``typed_header`` drops the ``:type`` of RecBole's column names. Raises :class:`DataError` for what
    :mod:`rankwell.data.readers` lists, with the line. Time O(n), some 0.4 s a million rows; seven times that for a file with
    quotes, which is walked a record at a time.
    """
    data, header, quoting = _opened(path, delimiter, typed_header)
    if typed_header:
        columns = _inter_columns(columns, header)
    check_header(f"{path}, line 1", header, columns, delimiter, data.partition(b"\n")[0].decode())
    frame = _parse(path, data, header, columns.names(), delimiter, quoting)

    def where(row: int) -> str:
        return f"{path}, line {line_of_record(data, delimiter, row + 1, quoting=quoting)}"

    return to_raw(frame, columns, where)


def read_text_columns(path: Path, *, delimiter: str, typed_header: bool = False) -> pl.DataFrame:
    """All columns of a delimited table, as text. Raises as :func:`read_delimited`, and where two have the same name."""
    data, header, quoting = _opened(path, delimiter, typed_header)
    for name in header:
        if header.count(name) > 1:
            raise DataError(f"{path}: column names must differ: {name!r} stands in the header twice. Rename one.")
    return _parse(path, data, header, header, delimiter, quoting)


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
        check_header(f"{path}", header, columns)
        frame = pl.read_parquet(path, columns=columns.names())
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{path}: the file must be readable as Parquet: {reason}. Write it again, or name its format."
        ) from error
    if frame.is_empty():
        raise DataError(f"{path}: the file must have rows: there are none.")
    for name in (columns.user, columns.item):
        if isinstance(frame[name].dtype, pl.Categorical | pl.Enum):
            frame = frame.with_columns(pl.col(name).cast(pl.String))
        if frame[name].dtype != pl.String and not frame[name].dtype.is_integer():
            raise DataError(
                f"{path}: ids must be text or integers: column {name!r} is {frame[name].dtype}. Cast it when writing the file."
            )
    return to_raw(frame, columns, lambda row: f"{path}, row {row + 1}")


def _opened(path: Path, delimiter: str, typed_header: bool) -> tuple[bytes, list[str], bool]:
    """What is in the file, the names in its header, and whether fields may be quoted."""
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise ConfigError(f"--data.delimiter must be one ASCII character: got {delimiter!r}.")
    data = read_text(path)
    quoting = not typed_header and b'"' in data
    first = data.partition(b"\n")[0].decode()
    header = next(csv.reader([first], delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE))
    return data, [name.rpartition(":")[0] or name for name in header] if typed_header else header, quoting


def _parse(path: Path, data: bytes, header: list[str], names: list[str], delimiter: str, quoting: bool) -> pl.DataFrame:
    """The named columns, as text."""
    if b"\n" not in data:
        raise DataError(f"{path}: the file must have rows below its header: there are none.")
    return (_parse_quoted if quoting else _parse_plain)(path, data, header, names, delimiter)


def _inter_columns(columns: Columns, header: list[str]) -> Columns:
    """RecBole's names for the columns whose name is still the default."""
    user = "user_id" if columns.user == "user" and "user" not in header else columns.user
    item = "item_id" if columns.item == "item" and "item" not in header else columns.item
    return Columns(user, item, columns.weight, columns.timestamp)


def _parse_plain(path: Path, data: bytes, header: list[str], names: list[str], delimiter: str) -> pl.DataFrame:
    """The wanted columns of a table without quotes, as text."""
    width = len(header)
    # Polars fills short lines with nulls and cuts long ones without a word: check that the delimiters form a grid.
    characters = np.frombuffer(data + b"\n", dtype=np.uint8)
    marks = characters[(characters == ord(delimiter)) | (characters == ord("\n"))]
    pattern = np.array([ord(delimiter)] * (width - 1) + [ord("\n")], dtype=np.uint8)
    if marks.size % width or (marks.reshape(-1, width) != pattern).any():
        for number, line in enumerate(data.split(b"\n"), start=1):
            given = line.count(delimiter.encode()) + 1 if line else 0
            if given != width:
                raise _wrong_width(path, number, given, width)
    numbers = [header.index(name) for name in names]
    # Ids must stay text: "007" is not 7. Columns go by position, for a header may repeat a name that nobody wants.
    frame = pl.read_csv(
        data.partition(b"\n")[2],
        has_header=False,
        separator=delimiter,
        quote_char=None,
        schema={str(number): pl.String for number in range(width)},
        columns=numbers,
    )
    return frame.select(pl.col(str(number)).alias(name) for number, name in zip(numbers, names, strict=True))


def _parse_quoted(path: Path, data: bytes, header: list[str], names: list[str], delimiter: str) -> pl.DataFrame:
    """The wanted columns of a table with quotes, which may hide delimiters and line ends: a record at a time."""
    numbers = [header.index(name) for name in names]
    reader = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter)
    rows, start = [], 1
    try:
        for fields in reader:
            if len(fields) != len(header):
                raise _wrong_width(path, start, len(fields), len(header))
            rows.append([fields[number] for number in numbers])
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {start}: the line must be valid CSV: {error}. Is a quote not closed?") from error
    return pl.DataFrame(rows[1:], schema=dict.fromkeys(names, pl.String), orient="row")


def _wrong_width(path: Path, line: int, given: int, width: int) -> DataError:
    got = f"got {given}" if given else "the line is blank"
    return DataError(
        f"{path}, line {line}: each line must have the {width} fields of the header: {got}. Correct or remove the line."
    )
