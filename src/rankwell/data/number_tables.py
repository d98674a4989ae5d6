"""Tables of numbers, a row an example or document: CSV, TSV, Parquet; and where in a file a row stands, for errors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rankwell.data.text_files import line_of_record, read_text, unreadable
from rankwell.errors import DataError

__all__ = ["Source", "finite_numbers", "frame_of", "opened"]

SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".pq": "parquet", ".npz": "npz"}


@dataclass(frozen=True)
class Source:
    """A file, for errors: where in it a document stands."""

    path: Path
    kind: str
    text: bytes = b""

    def at(self, document: int) -> str:
        """File and line of a document, which are counted from 0; file and row, where there are no lines."""
        if self.kind == "parquet":
            return f"{self.path}, row {document + 1}"
        if self.kind == "svmlight":
            lines = self.text.split(b"\n")
            line = [number for number, line in enumerate(lines, start=1) if line.partition(b"#")[0].strip()][document]
        else:
            line = line_of_record(
                self.text, "\t" if self.kind == "tsv" else ",", document + 1, quoting=b'"' in self.text
            )
        return f"{self.path}, line {line}"


def opened(path: Path, format: str | None, otherwise: str) -> Source:
    """The file, of the format that is named, or that its suffix says, or ``otherwise``; read, where it is text."""
    kind = format or SUFFIXES.get(path.suffix.lower(), otherwise)
    return Source(path, kind, b"" if kind in ("parquet", "npz") else read_text(path))


def frame_of(source: Source) -> pl.DataFrame:
    """All columns, as text but for Parquet, which knows types."""
    try:
        if source.kind == "parquet":
            return pl.read_parquet(source.path)
        return pl.read_csv(source.text, separator="\t" if source.kind == "tsv" else ",", infer_schema=False)
    except OSError as error:
        raise unreadable(source.path, error) from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{source.path}: the file must be readable as {source.kind}: {reason}. Correct it, or name its format."
        ) from error


def finite_numbers(source: Source, column: pl.Series) -> NDArray[np.float32]:
    """A column as numbers; what is none is an error with its line."""
    try:
        numbers = column.cast(pl.Float32, strict=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{source.path}: column {column.name!r} must hold numbers: it holds {column.dtype}. Leave it out by --data.ignore."
        ) from error
    if (bad := (numbers.is_null() | ~numbers.is_finite().fill_null(False)).arg_true()).len():
        row = int(bad[0])
        raise DataError(
            f"{source.at(row)}: column {column.name!r} must hold finite numbers: got {column[row]!r}."
            " Correct the line, or leave the column out by --data.ignore."
        )
    return numbers.to_numpy()
