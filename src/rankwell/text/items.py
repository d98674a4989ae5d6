"""Items and what is known of them: a table with a column of ids and columns of attributes."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rankwell.errors import DataError, nearest

__all__ = ["Items", "in_words", "read_attributes"]


@dataclass(frozen=True)
class Items:
    """Attributes of items, such as title, category and tags, as texts.

    >>> items = Items({"a": {"title": "Kettle", "colour": "red"}, "b": {"title": "Pot", "colour": ""}})
    >>> items.text("a"), items.text("b")
    ('title: Kettle. colour: red.', 'title: Pot.')
    """

    attributes: Mapping[str, Mapping[str, str]]
    """By item and name; all items have the same names, and an empty text is an attribute that is not known."""

    def __post_init__(self) -> None:
        if not self.attributes:
            raise DataError("there must be at least one item: got none.")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The attributes' names."""
        return tuple(next(iter(self.attributes.values())))

    @cached_property
    def values(self) -> Mapping[str, tuple[str, ...]]:
        """The different values of each attribute, in order of appearance; empty ones left out."""
        rows = self.attributes.values()
        return {name: tuple(dict.fromkeys(row[name] for row in rows if row[name])) for name in self.names}

    @cached_property
    def places(self) -> Mapping[str, Mapping[str, int]]:
        """Where each value stands among :attr:`values`."""
        return {name: {value: place for place, value in enumerate(of)} for name, of in self.values.items()}

    @cached_property
    def naming(self) -> frozenset[str]:
        """Attributes that tell items apart, as a title does: no two items share a value. None where there is one item."""
        count = len(self.attributes)
        return frozenset(name for name in self.names if count > 1 and len(self.values[name]) == count)

    def of(self, item: str) -> Mapping[str, str]:
        """The attributes of an item; :class:`DataError` for one that is not there."""
        if item not in self.attributes:
            raise DataError(f"no attributes of item {item!r}. {nearest(item, list(self.attributes)[:20_000])}")
        return self.attributes[item]

    def text(self, item: str) -> str:
        """An item in words."""
        return in_words(self.of(item))


def in_words(attributes: Mapping[str, str]) -> str:
    """Attributes as one text, those not known left out."""
    return " ".join(f"{name}: {value.rstrip('.')}." for name, value in attributes.items() if value)


def read_attributes(path: Path, *, item: str = "item", columns: Sequence[str] | None = None) -> Items:
    """Read a CSV (or, by its ending, TSV) file with a header; ``item`` is the column of ids, ``columns`` the attributes.

    All other columns are attributes where none are chosen. Raises :class:`DataError` with the line for what cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"{path}: the items cannot be read: {said}. Check the path and the file.") from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
    try:
        header = next(reader, [])
        chosen = [name for name in header if name != item] if columns is None else list(columns)
        if lacking := [name for name in (item, *chosen) if name not in header]:
            raise DataError(f"{path}, line 1: there is no column {lacking[0]!r}. {nearest(lacking[0], header)}")
        if not chosen:
            raise DataError(f"{path}, line 1: there must be a column of attributes beside {item!r}: got none.")
        return Items(_rows(path, reader, header, item, chosen))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: the line must be valid CSV: {error}. Correct it.") from error


def _rows(path: Path, reader: Any, header: list[str], item: str, chosen: list[str]) -> dict[str, dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for fields in reader:
        where = f"{path}, line {reader.line_num}"
        if len(fields) != len(header):
            raise DataError(f"{where}: each line must have the {len(header)} fields of the header: got {len(fields)}.")
        row = dict(zip(header, fields, strict=True))
        if not row[item]:
            raise DataError(f"{where}: each item must have an id: got none.")
        if row[item] in rows:
            raise DataError(f"{where}: each item must come once: {row[item]!r} came before.")
        rows[row[item]] = {name: " ".join(row[name].split()) for name in chosen}
    if not rows:
        raise DataError(f"{path}: the file must have rows below its header: there are none.")
    return rows
