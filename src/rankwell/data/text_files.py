"""Text files as bytes that later stages may trust: UTF-8, one kind of line end, no control characters."""

import csv
import io
from pathlib import Path

from rankwell.errors import DataError

__all__ = ["DELIMITER_NAMES", "line_of_record", "read_text", "unreadable"]

DELIMITER_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar", " ": "space", ":": "colon"}

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CONTROL = bytes(code for code in range(32) if chr(code) not in "\t\n\r") + b"\x7f"


def read_text(path: Path) -> bytes:
    r"""The file's bytes without a byte-order mark, with ``\n`` as the line end and without blank lines at the end.

    Raises :class:`DataError` for a missing or empty file, bytes that are not UTF-8 and control characters, with the line.
    Time O(n); a pass over the bytes costs milliseconds, so that every file is checked.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    data = data.rstrip(b"\n")
    if not data.strip():
        raise DataError(f"{path}: the file is empty. Give a file with at least one interaction.")
    _check_encoding(path, data)
    if len(data.translate(None, _CONTROL)) != len(data):
        position = min(at for code in _CONTROL if (at := data.find(code)) >= 0)
        raise DataError(
            f"{path}, line {_line_at(data, position)}: ids and numbers must be plain text: got the control character "
            f"{data[position]:#04x}. Is this a compressed or binary file, or another format? Name it with --data.format."
        )
    return data


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a path that the system does not open."""
    if isinstance(error, FileNotFoundError):
        beside = sorted(entry.name for entry in path.parent.iterdir())[:5] if path.parent.is_dir() else []
        there = f" In that folder: {', '.join(beside)}." if beside else ""
        return DataError(f"{path}: there is no such file.{there} Check the path.")
    return DataError(
        f"{path}: the file must be readable: {error.strerror or error}. Check the path and its permissions."
    )


def line_of_record(data: bytes, delimiter: str, record: int, *, quoting: bool) -> int:
    """The line, from 1, on which a record starts (0 is the header). Slow: for error messages only."""
    if not quoting:
        return record + 1
    reader = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter)
    line = 1
    for number, _ in enumerate(reader):
        if number == record:
            break
        line = reader.line_num + 1  # a quoted field may hold line ends: records and lines then part ways
    return line


def _check_encoding(path: Path, data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {_line_at(data, error.start)}: the file must be UTF-8: got the byte {data[error.start]:#04x}. "
            "Convert it, for instance from Latin-1 with iconv -f latin1 -t utf8."
        ) from error


def _line_at(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1
