"""Training rows of what was mined, in the forms that sentence-transformers trains on, written as they are made."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rankwell.atomic import write_atomically
from rankwell.errors import ConfigError, DataError, require
from rankwell.mining.negatives import Mined

__all__ = ["Columns", "Form", "check_output", "rows_of", "write_rows"]

Form: TypeAlias = Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"]
Columns: TypeAlias = dict[str, list[Any]]

GROUP = 8192
"""Rows written at a time: a row group of Parquet."""

SUFFIXES = (".parquet", ".jsonl")


def check_output(path: Path) -> None:
    """Raise :class:`~rankwell.errors.ConfigError` for a file that cannot be written, before the work begins."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--output must end in {' or '.join(SUFFIXES)}: got {path}.")
    if path.is_dir():
        raise ConfigError(f"--output must be a file: {path} is a folder.")
    if path.suffix == ".parquet":
        require("pyarrow.parquet", "text")


def rows_of(mined: Mined, queries: Sequence[str], documents: Sequence[str], form: Form, *, scores: bool) -> Columns:
    """Columns of texts, and of labels or scores.

    ``triplet``: anchor, positive, negative, a row for each negative. ``n-tuple``: anchor, positive, negative_1 … negative_n,
    a row for each pair that has all n. ``labeled-pair``: anchor, document, label, for each positive and each negative of a
    query once. ``labeled-list``: anchor, documents, labels, a row for each pair with a negative, the positive first. With
    ``scores`` the first two have a column ``scores`` more, the positive's first; in the others ``score`` and ``scores`` stand
    for the labels.
    """
    columns = _empty(form, mined.negatives.shape[1], scores=scores)
    add = _ADD[form]
    seen: dict[int, set[int]] = {}
    for query, positive, pos_score, ids, values in zip(
        mined.queries.tolist(),
        mined.positives.tolist(),
        mined.positive_scores.tolist(),
        mined.negatives.tolist(),
        mined.negative_scores.tolist(),
        strict=True,
    ):
        found = [(one, score) for one, score in zip(ids, values, strict=True) if one >= 0]
        if form == "labeled-pair":
            pairs = _unseen([(positive, pos_score), *found], seen.setdefault(query, set()))
            add(columns, queries[query], [(documents[one], score, one == positive) for one, score in pairs])
        else:
            there = [(positive, pos_score), *found]
            add(
                columns,
                queries[query],
                [(documents[one], score, not place) for place, (one, score) in enumerate(there)],
            )
    return columns


def write_rows(path: Path, tables: Iterable[Columns]) -> int:
    """Write tables one behind the other, Parquet or JSON lines by the suffix; gives the number of rows.

    The file takes its name when all is written. Raises :class:`~rankwell.errors.DataError` where there is no row at all.
    """
    with write_atomically(path) as temporary:
        number = (_write_parquet if path.suffix == ".parquet" else _write_json_lines)(temporary, tables)
        if not number:
            raise DataError("no negatives were found: nothing was written. Widen the rules, or raise --range-max.")
    return number


def _empty(form: Form, n: int, *, scores: bool) -> Columns:
    names = {
        "triplet": ["anchor", "positive", "negative"],
        "n-tuple": ["anchor", "positive", *(f"negative_{place}" for place in range(1, n + 1))],
        "labeled-pair": ["anchor", "document", "score" if scores else "label"],
        "labeled-list": ["anchor", "documents", "scores" if scores else "labels"],
    }[form]
    return {name: [] for name in [*names, *(["scores"] if scores and form in ("triplet", "n-tuple") else [])]}


Document: TypeAlias = tuple[str, float, bool]
"""Text, score, and whether it is the positive."""


def _add_triplets(columns: Columns, query: str, documents: list[Document]) -> None:
    (positive, pos_score, _), *negatives = documents
    for negative, score, _ in negatives:
        _append(columns, query, positive, negative, [pos_score, score])


def _add_tuple(columns: Columns, query: str, documents: list[Document]) -> None:
    if len(documents) == len(columns) - 1 - ("scores" in columns):
        _append(columns, query, *(text for text, _, _ in documents), [score for _, score, _ in documents])


def _add_pairs(columns: Columns, query: str, documents: list[Document]) -> None:
    for text, score, positive in documents:
        _append(columns, query, text, score if "score" in columns else int(positive))


def _add_list(columns: Columns, query: str, documents: list[Document]) -> None:
    if len(documents) > 1:
        last = [score if "scores" in columns else int(positive) for _, score, positive in documents]
        _append(columns, query, [text for text, _, _ in documents], last)


def _append(columns: Columns, *values: Any) -> None:
    """A value a column; scores that no column is for are left."""
    for column, value in zip(columns.values(), values, strict=False):
        column.append(value)


_ADD: dict[str, Callable[[Columns, str, list[Document]], None]] = {
    "triplet": _add_triplets,
    "n-tuple": _add_tuple,
    "labeled-pair": _add_pairs,
    "labeled-list": _add_list,
}


def _unseen(pairs: list[tuple[int, float]], seen: set[int]) -> list[tuple[int, float]]:
    new = [(one, score) for one, score in pairs if one not in seen]
    seen.update(one for one, _ in new)
    return new


def _write_json_lines(path: Path, tables: Iterable[Columns]) -> int:
    number = 0
    with path.open("w", encoding="utf-8") as file:
        for columns in tables:
            for values in zip(*columns.values(), strict=True):
                file.write(json.dumps(dict(zip(columns, values, strict=True)), ensure_ascii=False) + "\n")
                number += 1
    return number


def _write_parquet(path: Path, tables: Iterable[Columns]) -> int:
    arrow, parquet = require("pyarrow", "text"), require("pyarrow.parquet", "text")
    writer, number = None, 0
    try:
        for columns in tables:
            schema = arrow.schema([(name, _type(arrow, name)) for name in columns])
            writer = writer or parquet.ParquetWriter(path, schema)
            for part in _slices(columns):
                writer.write_table(arrow.table(part, schema=schema))
                number += len(next(iter(part.values())))
    finally:
        if writer is not None:
            writer.close()
    return number


def _type(arrow: Any, name: str) -> Any:
    types = {
        "label": arrow.int64(),
        "labels": arrow.list_(arrow.int64()),
        "score": arrow.float32(),
        "scores": arrow.list_(arrow.float32()),
        "documents": arrow.list_(arrow.string()),
    }
    return types.get(name, arrow.string())


def _slices(columns: Columns) -> Iterator[Columns]:
    for first in range(0, len(next(iter(columns.values()))), GROUP):
        yield {name: values[first : first + GROUP] for name, values in columns.items()}
