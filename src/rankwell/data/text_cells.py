"""Which column of a row of texts holds what, and the values of its cells, checked one by one."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rankwell.data.records import Record, check_whole
from rankwell.errors import ConfigError, DataError

__all__ = ["Layout", "RowForm", "check_grade", "layout_of", "listed_cell", "number_cell", "numbers_cell", "text_cell"]

RowForm: TypeAlias = Literal["pairs", "triplets", "lists"]

QUERY = ("anchor", "query", "question", "sentence1", "claim")
POSITIVE = ("positive", "answer", "document", "passage", "response", "sentence2", "code")
NEGATIVE, DOCUMENTS = ("negative",), ("documents", "docs", "passages")
LABEL, SCORE = ("label",), ("score",)
LABELS, SCORES = ("labels",), ("scores",)
"""Names that columns have where nobody names them."""


@dataclass(frozen=True)
class Layout:
    """Which column holds what."""

    form: RowForm
    query: str
    texts: tuple[str, ...]
    """The document or, of triplets, positive and negatives, or the list of documents."""
    label: str | None
    score: str | None


def layout_of(record: Record, form: RowForm | None, columns: Sequence[str]) -> Layout:
    """Where what stands, by the names of the columns."""
    there = list(record.values)
    if columns:
        return _named(record, form, columns)
    query = _first(record, QUERY, "query")
    if form is None:
        negative = any(name == NEGATIVE[0] or name.startswith("negative_") for name in there)
        form = "triplets" if negative else "lists" if any(name in there for name in DOCUMENTS) else "pairs"
    if form == "lists":
        documents = _first(record, DOCUMENTS, "documents")
        label, score = (_perhaps(there, names) for names in (LABELS, SCORES))
        if label is None and score is None:
            raise DataError(f"{record.place}: lists must have a column 'labels' or 'scores': there are {_said(there)}.")
        return Layout(form, query, (documents,), label, score)
    positive = _first(record, POSITIVE, "positive")
    if form == "pairs":
        return Layout(form, query, (positive,), _perhaps(there, LABEL), _perhaps(there, SCORE))
    negatives = [name for name in there if name == NEGATIVE[0] or name.startswith("negative_")]
    if not negatives:
        raise DataError(f"{record.place}: triplets must have a column 'negative': there are {_said(there)}.")
    return Layout(form, query, (positive, *negatives), None, _perhaps(there, SCORES))


def _named(record: Record, form: RowForm | None, columns: Sequence[str]) -> Layout:
    """The columns as somebody names them: query, texts, then labels."""
    if form is None:
        raise ConfigError("columns with names of their own need the form: pairs, triplets or lists.")
    least, most = {"pairs": (2, 3), "triplets": (3, None), "lists": (3, 4)}[form]
    if len(columns) < least or (most is not None and len(columns) > most):
        said = f"{least} or more" if most is None else f"{least} or {most}"
        raise ConfigError(f"{form} need {said} names of columns, in order: got {', '.join(columns)}.")
    if missing := [name for name in columns if name not in record.values]:
        raise DataError(
            f"{record.place}: the column {missing[0]!r} must be there: there are {_said(list(record.values))}."
        )
    query, *rest = columns
    if form == "triplets":
        return Layout(form, query, tuple(rest), None, _perhaps(list(record.values), SCORES))
    return Layout(form, query, (rest[0],), *[*rest[1:], None, None][:2])


def _first(record: Record, names: Sequence[str], what: str) -> str:
    found = _perhaps(list(record.values), names)
    if found is None:
        raise DataError(
            f"{record.place}: one column must hold the {what}, called {', '.join(names)}: there are"
            f" {_said(list(record.values))}. Name the columns in order."
        )
    return found


def _perhaps(there: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in there), None)


def text_cell(record: Record, column: str) -> str:
    """A text without blanks around it; empty where there is none."""
    value = _value(record, column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{record.place}: {column} must be text: got {value!r}. Name the columns, or correct the line.")
    return value.strip()


def _value(record: Record, column: str) -> Any:
    if column not in record.values:
        raise DataError(f"{record.place}: the column {column!r} must be there, as in the first line. Correct the line.")
    return record.values[column]


def number_cell(record: Record, column: str, value: Any = None) -> float:
    """A finite number, of the cell or of a part of it."""
    given = _value(record, column) if value is None else value
    try:
        number = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{record.place}: {column} must hold finite numbers: got {given!r}. Correct the line.")
    return number


def listed_cell(record: Record, column: str) -> list[Any]:
    """A list, which CSV and TSV write as JSON."""
    value = _value(record, column)
    if isinstance(value, str):
        written = value
        try:
            value = json.loads(written)
        except ValueError:
            value = None
        check_whole(record.place, written, value)
    if not isinstance(value, list):
        raise DataError(f"{record.place}: {column} must be a list: got {record.values[column]!r}. Write it as JSON.")
    return value


def numbers_cell(record: Record, column: str, count: int) -> list[float]:
    """A list of so many finite numbers."""
    values = listed_cell(record, column)
    if len(values) != count:
        raise DataError(
            f"{record.place}: {column} must be one a document, {count}: got {len(values)}. Correct the line."
        )
    return [number_cell(record, column, value if value is not None else "null") for value in values]


def check_grade(record: Record, column: str | None, grade: float) -> None:
    """Raise where a grade is below 0."""
    if grade < 0:
        raise DataError(
            f"{record.place}: {column} must be at least 0: got {grade:g}. Shift the labels, or drop the row."
        )


def _said(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
