"""A retrieval data set: queries, documents and which belong together, from files, checked."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from rankwell.errors import ConfigError, DataError
from rankwell.lists import offsets_from_sizes
from rankwell.mining.records import Record, read_records
from rankwell.types import Ragged

__all__ = ["Files", "Retrieval", "Unknown", "read_retrieval"]

Unknown: TypeAlias = Literal["error", "drop"]

ID, TEXT, TITLE = ("_id", "id"), ("text",), ("title",)
QUERY, DOCUMENT, SCORE = ("query-id", "query_id"), ("corpus-id", "corpus_id"), ("score",)
"""Names that columns have where nobody names them: BEIR's first."""


@dataclass(frozen=True)
class Files:
    """Where the parts are, and the names of their columns; none for BEIR's."""

    queries: Path
    corpus: Path
    positives: Path
    query_columns: Sequence[str] = ()
    """Id and text."""
    corpus_columns: Sequence[str] = ()
    """Id, text and perhaps title, which then stands before the text."""
    positive_columns: Sequence[str] = ()
    """The query's id, the document's and perhaps a score, which must be above 0 for a positive."""

    @classmethod
    def beir(cls, folder: Path, split: str = "train") -> "Files":
        """A folder as BEIR has it."""
        return cls(folder / "queries.jsonl", folder / "corpus.jsonl", folder / "qrels" / f"{split}.tsv")


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Texts, and what belongs together. Queries that have no positive and documents that cannot be chosen are not in it."""

    queries: list[str]
    documents: list[str]
    positives: Ragged
    """Documents of each query."""
    excluded: Ragged
    """Documents with the query's own text, which are neither."""
    query_rows: Int[Tensor, " q"]
    """Where each query stands in its file, from 0."""
    document_rows: Int[Tensor, " n"]
    file_rows: tuple[int, int]
    """How many queries and documents the files hold."""
    notes: tuple[str, ...]
    """Sentences on what was left out or merged."""


@dataclass
class _Texts:
    """One table of texts, by id."""

    number: dict[str, int] = field(default_factory=dict)
    """From an id to a text's number; -1 for empty texts."""
    texts: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    read: int = 0
    empty: int = 0
    repeated: int = 0
    same: int = 0


def read_retrieval(files: Files, *, unknown: Unknown = "error", drop_same_text: bool = True) -> Retrieval:
    """Read and check the three files; all ids are text.

    Left out and counted: empty texts, repeated lines and pairs, pairs without a score above 0, and queries without a positive.
    ``unknown`` says what becomes of pairs whose query or document is in no file: an error, or dropped and counted. With
    ``drop_same_text`` documents of one text are one document, so that a positive's copies are no negatives, queries of one
    text are one query with the positives of all, and documents with the query's own text are excluded. The texts are held
    in memory.

    Raises :class:`~rankwell.errors.DataError`, by file and line, for what :mod:`rankwell.mining.records` lists, missing
    columns, ids that are no text or whole numbers, texts that are no text, scores that are no finite numbers, and an id with
    two texts.
    """
    queries = _texts(
        files.queries, _columns(files.query_columns, "--query-columns", ID, TEXT), "query", merge=drop_same_text
    )
    columns = _columns(files.corpus_columns, "--corpus-columns", ID, TEXT, TITLE)
    documents = _texts(files.corpus, columns, "document", merge=drop_same_text)
    notes = [
        *_text_notes(files.queries, queries, "query", "queries"),
        *_text_notes(files.corpus, documents, "document"),
    ]
    lists = _pairs(files, queries, documents, unknown, notes)
    kept = [number for number, positives in enumerate(lists) if positives]
    if not kept:
        raise DataError(f"{files.positives}: at least one query must have a positive: none is left. {'; '.join(notes)}")
    if alone := len(lists) - len(kept):
        notes.append(f"{_many(alone, 'query', 'queries')} without a positive left out")
    texts = [queries.texts[number] for number in kept]
    by_text = {text: number for number, text in enumerate(documents.texts)} if drop_same_text else {}
    own = [
        [by_text[text]] if text in by_text and by_text[text] not in lists[number] else []
        for number, text in zip(kept, texts, strict=True)
    ]
    if count := sum(map(len, own)):
        notes.append(f"{_many(count, 'document')} with a query's own text excluded for that query")
    return Retrieval(
        texts,
        documents.texts,
        _ragged([list(lists[number]) for number in kept]),
        _ragged(own),
        torch.tensor([queries.rows[number] for number in kept]),
        torch.tensor(documents.rows, dtype=torch.int64),
        (queries.read, documents.read),
        tuple(notes),
    )


class _Columns(NamedTuple):
    """Which columns a table must have."""

    option: str
    choices: Sequence[tuple[str, ...]]
    """For each column the names that it may have."""
    needed: int
    """So many must be there; the others may."""

    def values(self, record: Record) -> list[Any]:
        """What stands in them."""
        values = []
        for place, choices in enumerate(self.choices):
            name = next((choice for choice in choices if choice in record.values), None)
            if name is not None:
                values.append(record.values[name])
            elif place < self.needed:
                raise DataError(
                    f"{record.place}: the column {choices[0]!r} must be there: there are"
                    f" {', '.join(map(repr, record.values)) or 'none'}. Name the columns by {self.option}."
                )
        return values


def _columns(given: Sequence[str], option: str, *defaults: tuple[str, ...]) -> _Columns:
    if not given:
        return _Columns(option, defaults, 2)
    if not 2 <= len(given) <= len(defaults) or not all(given):
        wanted = "two names" if len(defaults) == 2 else "two or three names"
        raise ConfigError(f"{option} must be {wanted}, separated by commas: got {','.join(given)!r}.")
    return _Columns(option, [(name,) for name in given], len(given))


def _texts(path: Path, columns: _Columns, what: str, *, merge: bool = False) -> _Texts:
    found = _Texts()
    by_text: dict[str, int] = {}
    for record in read_records(path):
        values = columns.values(record)
        key = _id(record, values[0], what)
        text = " ".join(part for part in (_text(record, value) for value in (*values[2:], values[1])) if part)
        row, found.read = found.read, found.read + 1
        if key in found.number:
            _check_repeated(record, key, text, found)
            continue
        if not text:
            found.number[key], found.empty = -1, found.empty + 1
        elif merge and text in by_text:
            found.number[key], found.same = by_text[text], found.same + 1
        else:
            found.number[key] = by_text[text] = len(found.texts)
            found.texts.append(text)
            found.rows.append(row)
    if not found.texts:
        raise DataError(f"{path}: there must be at least one {what} with a text: there is none.")
    return found


def _check_repeated(record: Record, key: str, text: str, found: _Texts) -> None:
    number = found.number[key]
    if text != ("" if number < 0 else found.texts[number]):
        raise DataError(
            f"{record.place}: ids must differ: {key!r} stood before, with another text. Rename or remove one."
        )
    found.repeated += 1


def _pairs(
    files: Files, queries: _Texts, documents: _Texts, unknown: Unknown, notes: list[str]
) -> list[dict[int, None]]:
    """The documents of each query, in the order of the file."""
    lists: list[dict[int, None]] = [{} for _ in queries.texts]
    columns = _columns(files.positive_columns, "--positive-columns", QUERY, DOCUMENT, SCORE)
    strangers: dict[str, dict[str, None]] = {"query": {}, "document": {}}
    counts = dict.fromkeys(("unknown", "empty", "low", "repeated"), 0)
    for record in read_records(files.positives):
        values = columns.values(record)
        query, document = _id(record, values[0], "query"), _id(record, values[1], "document")
        if len(values) > 2 and not _score(record, values[2]) > 0:
            counts["low"] += 1
            continue
        new = {"query": query not in queries.number, "document": document not in documents.number}
        if any(new.values()):
            counts["unknown"] += 1
            for what, key in (("query", query), ("document", document)):
                if new[what]:
                    strangers[what][key] = None
            continue
        row, number = queries.number[query], documents.number[document]
        if row < 0 or number < 0:
            counts["empty"] += 1
        elif number in lists[row]:
            counts["repeated"] += 1
        else:
            lists[row][number] = None
    _say_pairs(files.positives, counts, strangers, unknown, notes)
    return lists


def _say_pairs(
    path: Path,
    counts: Mapping[str, int],
    strangers: Mapping[str, Mapping[str, None]],
    unknown: Unknown,
    notes: list[str],
) -> None:
    if counts["unknown"]:
        which = " and ".join(
            f"{_many(len(ids), what, 'queries' if what == 'query' else 'documents')}"
            f" ({', '.join(map(repr, list(ids)[:3]))}{', …' if len(ids) > 3 else ''})"
            for what, ids in strangers.items()
            if ids
        )
        pairs = _many(counts["unknown"], "pair")
        if unknown == "error":
            raise DataError(
                f"{path}: every query and document must be in the files of texts: {which} are not, in {pairs}."
                " Correct the file, or leave the pairs out with --unknown drop."
            )
        notes.append(f"{path.name}: {pairs} with {which} unknown left out")
    said = {
        "low": "without a score above 0 left out",
        "empty": "with an empty text left out",
        "repeated": "that stood before, or whose document has the text of another, merged",
    }
    notes += [f"{path.name}: {_many(counts[name], 'pair')} {what}" for name, what in said.items() if counts[name]]


def _text_notes(path: Path, found: _Texts, what: str, plural: str | None = None) -> Iterator[str]:
    if found.empty:
        yield f"{path.name}: {_many(found.empty, 'empty text')} left out"
    if found.repeated:
        yield f"{path.name}: {_many(found.repeated, 'repeated line')} merged"
    if found.same:
        yield f"{path.name}: {_many(found.same, what, plural)} with the text of an earlier one merged into it"


def _id(record: Record, value: Any, what: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{record.place}: the {what}'s id must be text or a whole number: got {value!r}. Correct it.")
    return value


def _text(record: Record, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{record.place}: a text must be text: got {value!r}. Name the columns, or correct the line.")
    return value.strip()


def _score(record: Record, value: Any) -> float:
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise DataError(f"{record.place}: a score must be a finite number: got {value!r}. Correct the line.")
    return score


def _ragged(lists: Sequence[Sequence[int]]) -> Ragged:
    offsets = offsets_from_sizes(torch.tensor([len(one) for one in lists], dtype=torch.int64))
    return Ragged(offsets, torch.tensor([value for one in lists for value in one], dtype=torch.int64))


def _many(count: int, noun: str, plural: str | None = None) -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
