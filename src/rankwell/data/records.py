"""Tables of texts, a record at a time, each with its place for messages: JSON lines, CSV, TSV, Parquet."""

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rankwell.data.text_files import unreadable
from rankwell.errors import DataError

__all__ = ["FORMATS", "Record", "check_whole", "read_records"]

_HALF = re.compile("[\ud800-\udfff]")
"""Half a surrogate pair; a whole one is one character, once it is read."""

FORMATS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".pq")


class Record(NamedTuple):
    """A line of a table."""

    place: str
    """File and line, from 1; for Parquet the row, from 1."""
    values: dict[str, Any]


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file, by its suffix. CSV and TSV have a header; TSV knows no quotes, and all their values are text.

    Blank lines of JSON lines are passed over. Raises :class:`~rankwell.errors.DataError` for a file that is missing or of
    another kind, bytes that are not UTF-8, lines that are no JSON objects or hold half a surrogate pair, and lines with
    another number of fields than the header has.
    """
    if path.suffix.lower() not in FORMATS:
        raise DataError(
            f"{path}: the suffix must tell the format: {path.suffix or 'none'!r} is not one of {', '.join(FORMATS)}."
        )
    if not path.is_file():
        raise unreadable(path, FileNotFoundError() if not path.exists() else IsADirectoryError("it is a folder"))
    return _READERS[path.suffix.lower()](path)


def check_whole(place: str, written: str, values: Any) -> None:
    """Raise :class:`~rankwell.errors.DataError` where JSON's values hold half a surrogate pair, which no encoder reads."""
    if "\\u" in written and (half := _HALF.search(json.dumps(values, ensure_ascii=False))):
        raise DataError(
            f"{place}: texts must be Unicode: got half of a pair of surrogates, \\u{ord(half[0]):04x}. Correct the line."
        )


def _lines(path: Path) -> Iterator[str]:
    """Lines with their ends."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{path}, line {number}: the file must be UTF-8: got the byte {line[error.start]:#04x}. Convert it."
                    ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _json_lines(path: Path) -> Iterator[Record]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place}: the line must be a JSON object: {error}. Correct or remove the line.") from error
        if not isinstance(values, dict):
            raise DataError(f"{place}: the line must be a JSON object: got {type(values).__name__}. Correct the line.")
        check_whole(place, line, values)
        yield Record(place, values)


def _comma_separated(path: Path) -> Iterator[Record]:
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # texts are longer than the module expects of a field
    try:
        reader = csv.reader(_lines(path), strict=True)
        yield from _under_header(path, _numbered(path, reader))
    finally:
        csv.field_size_limit(limit)


def _numbered(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Fields with the line that they start on, for quotes may hold line ends."""
    start = 1
    try:
        for fields in reader:
            yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {start}: the line must be valid CSV: {error}. Is a quote not closed?") from error


def _tab_separated(path: Path) -> Iterator[Record]:
    yield from _under_header(
        path, ((number, line.rstrip("\r\n").split("\t")) for number, line in enumerate(_lines(path), start=1))
    )


def _under_header(path: Path, lines: Iterable[tuple[int, list[str]]]) -> Iterator[Record]:
    rows = iter(lines)
    _, header = next(rows, (1, []))
    if len(set(header)) < len(header):
        raise DataError(f"{path}, line 1: column names must differ: the header is {', '.join(header)}. Rename one.")
    for number, fields in rows:
        if len(fields) != len(header):
            got = f"got {len(fields)}" if any(fields) else "the line is blank"
            raise DataError(
                f"{path}, line {number}: each line must have the {len(header)} fields of the header: {got}."
                " Correct or remove the line."
            )
        yield Record(f"{path}, line {number}", dict(zip(header, fields, strict=True)))


def _parquet(path: Path) -> Iterator[Record]:
    import polars as pl  # the module above it has asked for the extra

    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{path}: the file must be readable as Parquet: {str(error).partition(chr(10))[0]}. Write it again."
        ) from error
    for number, values in enumerate(frame.iter_rows(named=True), start=1):
        yield Record(f"{path}, row {number}", values)


_READERS = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _comma_separated,
    ".tsv": _tab_separated,
    ".parquet": _parquet,
    ".pq": _parquet,
}
