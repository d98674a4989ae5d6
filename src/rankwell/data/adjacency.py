"""The adjacency text of LightGCN and of sequence recommenders: ``user item item …``, a user a line."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rankwell.data.encode import Raw
from rankwell.data.text_files import DELIMITER_NAMES, read_text
from rankwell.errors import ConfigError, DataError

__all__ = ["read_adjacency"]


def read_adjacency(path: Path, delimiter: str | None = None) -> Raw:
    """One row an item of each line, in file order; ids stay text.

    The delimiter is one character, a space by default; spaces at the end of a line are allowed, as published files have
    them. A user may have several lines, and a line no items: such lines are counted in the notes. Raises :class:`DataError`
    with the line for a blank line, an empty id or another delimiter. Time O(n), 0.2 s a million pairs with their coding.
    """
    delimiter = " " if delimiter is None else delimiter
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise ConfigError(f"--data.delimiter must be one ASCII character: got {delimiter!r}.")
    text = read_text(path).decode()
    _check_tabs(path, text, delimiter)
    lines = pl.Series("line", text.split("\n"), dtype=pl.String)
    fields = lines.str.strip_chars_end(delimiter).str.split(delimiter)
    counts = fields.list.len().to_numpy().astype(np.int64)
    tokens = fields.explode()
    starts = np.cumsum(counts) - counts
    _check_tokens(path, lines, tokens, starts, delimiter)
    is_item = np.ones(len(tokens), dtype=np.bool_)
    is_item[starts] = False
    if not is_item.any():
        raise DataError(
            f"{path}: an adjacency line must be 'user item item …': no line has an item. {_other_delimiter(lines[0])}"
        )
    without = int((counts == 1).sum())
    notes = (f"{without:,} user line{'s have' if without > 1 else ' has'} no items",) if without else ()
    line_of_item = np.repeat(np.arange(len(counts)), counts - 1)
    users = tokens.gather(starts).gather(line_of_item)
    return Raw(users, tokens.filter(pl.Series(is_item)), notes=notes)


def _check_tabs(path: Path, text: str, delimiter: str) -> None:
    if delimiter != "\t" and "\t" in text:
        number = text.count("\n", 0, text.index("\t")) + 1
        raise DataError(
            f"{path}, line {number}: ids must be separated by single {_name(delimiter)}s: this line has tabs. "
            r"Give --data.delimiter '\t', or --data.format tsv for a table with a header."
        )


def _check_tokens(path: Path, lines: pl.Series, tokens: pl.Series, starts: NDArray[np.int64], delimiter: str) -> None:
    empty = tokens == ""
    if not empty.any():
        return
    position = int(empty.arg_true()[0])
    number = int(np.searchsorted(starts, position, side="right"))
    if not lines[number - 1].strip():
        raise DataError(f"{path}, line {number}: each line must start with a user id: this one is blank. Remove it.")
    field = position - int(starts[number - 1]) + 1
    raise DataError(
        f"{path}, line {number}: ids must be separated by single {_name(delimiter)}s: field {field} of the line, "
        f"{'the user' if field == 1 else 'an item'}, is empty. Remove the extra delimiter."
    )


def _name(delimiter: str) -> str:
    return DELIMITER_NAMES.get(delimiter, repr(delimiter))


def _other_delimiter(line: str) -> str:
    for other in "\t,;|: ":
        if line.count(other):
            return (
                f"The first looks separated by the {_name(other)} {other!r}: give --data.delimiter {other!r}, or "
                "--data.format csv for a table with a header."
            )
    return "Did you mean --data.format csv?"
