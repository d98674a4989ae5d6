"""Tables of texts by id, and of what belongs together: as retrieval data sets have them, checked line by line."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from rankwell.data.records import Record, read_records
from rankwell.errors import ConfigError, DataError
from rankwell.words import many

__all__ = ["Files", "TextTable", "Unknown", "many", "read_judgements", "read_texts"]

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


@dataclass
class TextTable:
    """One table of texts, by id: texts that are not empty, each once where those of one text were merged."""

    number: dict[str, int] = field(default_factory=dict)
    """From an id to a text's number; -1 for empty texts."""
    ids: list[str] = field(default_factory=list)
    """Of each text the first id."""
    texts: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    read: int = 0
    empty: int = 0
    repeated: int = 0
    same: int = 0


class _Columns(NamedTuple):
    """Which columns a table must have."""

    option: str | None
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
                remedy = (
                    f"Name the columns by {self.option}." if self.option else "A table's first line names its columns."
                )
                raise DataError(
                    f"{record.place}: the column {choices[0]!r} must be there: there are"
                    f" {', '.join(map(repr, record.values)) or 'none'}. {remedy}"
                )
        return values


def _columns_of(given: Sequence[str], option: str | None, *defaults: tuple[str, ...]) -> _Columns:
    if not given:
        return _Columns(option, defaults, 2)
    if not 2 <= len(given) <= len(defaults) or not all(given):
        wanted = "two names" if len(defaults) == 2 else "two or three names"
        raise ConfigError(f"{option} must be {wanted}, separated by commas: got {','.join(given)!r}.")
    return _Columns(option, [(name,) for name in given], len(given))


def read_texts(
    path: Path,
    what: Literal["query", "document"],
    *,
    columns: Sequence[str] = (),
    nameable: bool = True,
    merge: bool = False,
    notes: list[str],
) -> TextTable:
    """The texts of a table. Empty ones, repeated lines and, with ``merge``, texts that stood before count in ``notes``.

    ``nameable``: the command has options that name columns.
    """
    option, *more = ("--query-columns",) if what == "query" else ("--corpus-columns", TITLE)
    wanted = _columns_of(columns, option if nameable else None, ID, TEXT, *more)
    found = TextTable()
    by_text: dict[str, int] = {}
    for record in read_records(path):
        values = wanted.values(record)
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
            found.ids.append(key)
            found.texts.append(text)
            found.rows.append(row)
    if not found.texts:
        raise DataError(f"{path}: there must be at least one {what} with a text: there is none.")
    notes += _text_notes(path, found, what, "queries" if what == "query" else "documents")
    return found


def _check_repeated(record: Record, key: str, text: str, found: TextTable) -> None:
    number = found.number[key]
    if text != ("" if number < 0 else found.texts[number]):
        raise DataError(
            f"{record.place}: ids must differ: {key!r} stood before, with another text. Rename or remove one."
        )
    found.repeated += 1


def read_judgements(
    path: Path,
    queries: TextTable,
    documents: TextTable,
    *,
    columns: Sequence[str] = (),
    unknown: Unknown = "error",
    irrelevant: bool = False,
    option: str = "--unknown",
    nameable: bool = True,
    notes: list[str],
) -> list[dict[int, float]]:
    """For each query's text the numbers of the documents that are judged, in the order of the file, with their scores, or 1.

    Judgements not above 0 are kept where ``irrelevant`` says so. Of one pair the highest counts. What was left out or merged is
    counted in ``notes``; ``option`` is what the command calls ``unknown``, and ``nameable`` is that it has options for columns.
    """
    lists: list[dict[int, float]] = [{} for _ in queries.texts]
    wanted = _columns_of(columns, "--positive-columns" if nameable else None, QUERY, DOCUMENT, SCORE)
    strangers: dict[str, dict[str, None]] = {"query": {}, "document": {}}
    counts = dict.fromkeys(("unknown", "empty", "low", "repeated"), 0)
    record = None
    for record in read_records(path):
        values = wanted.values(record)
        query, document = _id(record, values[0], "query"), _id(record, values[1], "document")
        score = _score(record, values[2]) if len(values) > 2 else 1.0
        if not (score > 0 or irrelevant):
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
            lists[row][number] = max(score, lists[row][number])
        else:
            lists[row][number] = score
    if record is None:
        raise DataError(f"{path}: the file must hold at least one pair of a query and a document: it holds none.")
    _say_pairs(path, counts, strangers, None if unknown == "drop" else option, notes)
    return lists


def _say_pairs(
    path: Path,
    counts: Mapping[str, int],
    strangers: Mapping[str, Mapping[str, None]],
    refused: str | None,
    notes: list[str],
) -> None:
    if counts["unknown"]:
        which = " and ".join(
            f"{many(len(ids), what, 'queries' if what == 'query' else 'documents')}"
            f" ({', '.join(map(repr, list(ids)[:3]))}{', …' if len(ids) > 3 else ''})"
            for what, ids in strangers.items()
            if ids
        )
        pairs = many(counts["unknown"], "pair")
        if refused is not None:
            raise DataError(
                f"{path}: every query and document must be in the files of texts: {which} are not, in {pairs}."
                f" Correct the file, or leave the pairs out with {refused} drop."
            )
        notes.append(f"{path.name}: {pairs} with {which} unknown left out")
    said = {
        "low": "without a score above 0 left out",
        "empty": "with an empty text left out",
        "repeated": "that stood before, or whose document has the text of another, merged",
    }
    notes += [f"{path.name}: {many(counts[name], 'pair')} {what}" for name, what in said.items() if counts[name]]


def _text_notes(path: Path, found: TextTable, what: str, plural: str) -> Iterator[str]:
    if found.empty:
        yield f"{path.name}: {many(found.empty, 'empty text')} left out"
    if found.repeated:
        yield f"{path.name}: {many(found.repeated, 'repeated line')} merged"
    if found.same:
        yield f"{path.name}: {many(found.same, what, plural)} with the text of an earlier one merged into it"


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
