"""Rows of texts as retrieval data: pairs, triplets and labelled lists, in the columns that training sets have."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from rankwell.data.records import Record, check_whole, read_records
from rankwell.data.retrieval import HardNegatives, Retrieval, Texts, judgements
from rankwell.data.text_tables import many
from rankwell.errors import ConfigError, DataError
from rankwell.lists import offsets_from_sizes
from rankwell.types import Ragged

__all__ = ["RowForm", "read_text_rows"]

RowForm: TypeAlias = Literal["pairs", "triplets", "lists"]

QUERY = ("anchor", "query", "question", "sentence1", "claim")
POSITIVE = ("positive", "answer", "document", "passage", "response", "sentence2", "code")
NEGATIVE, DOCUMENTS = ("negative",), ("documents", "docs", "passages")
LABEL, SCORE = ("label",), ("score",)
LABELS, SCORES = ("labels",), ("scores",)
"""Names that columns have where nobody names them."""


def read_text_rows(
    paths: Sequence[Path], *, form: RowForm | None = None, columns: Sequence[str] = ()
) -> list[Retrieval]:
    """Read tables whose rows are texts, JSON lines, CSV, TSV or Parquet: a part a file, all with the same vocabularies.

    ==========  ==============================================  =============================================================
    form        columns, by any of their usual names            what becomes of a row
    ==========  ==============================================  =============================================================
    pairs       anchor, positive; label or score                a relevant document, or one of that grade; with both columns
                                                                the score is a teacher's
    triplets    anchor, positive, negative or negative_1 …;     a relevant document, and what it is to be told from; ``scores``
                scores                                          are a teacher's, the positive's first
    lists       query, docs, labels, scores                     documents with grades, and a teacher's scores; without labels
                                                                the first document is the relevant one
    ==========  ==============================================  =============================================================

    The columns of the first record tell the form where ``form`` does not; ``columns`` names them in the table's order, where
    they have other names. Lists in CSV and TSV are written as JSON. Texts that are equal are one query or document; ids are
    q0, q1 … and d0, d1 … in the order of the files. The documents of all files are what is searched.

    Left out and counted in ``notes``: rows with an empty query or positive, empty documents of lists, negatives that are empty,
    that are relevant to the query or have its text, and repeated judgements, of which the highest grade and the first
    teacher's score count. Raises :class:`~rankwell.errors.DataError` with file and line for what
    :mod:`rankwell.data.records` lists, missing columns, values of another type, lists of different lengths, grades below 0 and
    numbers that are not finite; and for a file without a relevant pair.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "train.csv"
    >>> _ = file.write_text("anchor,positive,negative\\nwhat purrs,a cat,a dog\\nwhat barks,a dog,a cat\\n")
    >>> read_text_rows([file])
    [Retrieval(2 queries, 2 pairs, 2 documents)]
    """
    texts = (_Vocabulary(), _Vocabulary())
    parts = [_read(Path(path), form, columns, *texts) for path in paths]
    queries, documents = (
        Texts([f"{letter}{number}" for number in range(len(of.numbers))], list(of.numbers))
        for letter, of in zip("qd", texts, strict=True)
    )
    return [part.data(queries, documents) for part in parts]


@dataclass
class _Vocabulary:
    """Texts in the order in which they came."""

    numbers: dict[str, int] = field(default_factory=dict)

    def code(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


@dataclass(frozen=True)
class _Layout:
    """Which column holds what."""

    form: RowForm
    query: str
    texts: tuple[str, ...]
    """The document or, of triplets, positive and negatives, or the list of documents."""
    label: str | None
    score: str | None


@dataclass
class _Part:
    """What a file holds, by codes."""

    path: Path
    grades: list[dict[int, float]] = field(default_factory=list)
    teacher: dict[tuple[int, int], float] = field(default_factory=dict)
    negatives: dict[tuple[int, int], dict[int, None]] = field(default_factory=dict)
    judged: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def judge(self, query: int, document: int, grade: float, score: float | None) -> None:
        """Note a grade and a teacher's score, unless there is a better grade or an earlier score."""
        self.grades += [{} for _ in range(query + 1 - len(self.grades))]
        if document in self.grades[query]:
            self.count("repeated judgement merged")
        self.grades[query][document] = max(grade, self.grades[query].get(document, 0.0))
        if score is not None:
            self.teacher.setdefault((query, document), score)

    def data(self, queries: Texts, documents: Texts) -> Retrieval:
        """The part, once all texts are known."""
        lists = [*self.grades, *({} for _ in range(len(queries) - len(self.grades)))]
        notes = [f"{self.path.name}: {_counted(count, what)}" for what, count in self.counts.items()]
        made = Retrieval(queries, documents, *judgements(lists))
        if not len(made):
            raise DataError(
                f"{self.path}: at least one query must have a relevant document: none has. {'; '.join(notes)}"
            )
        negatives, dropped = self._negatives(made)
        notes += [f"{self.path.name}: {_counted(count, what)}" for what, count in dropped.items() if count]
        return replace(made, negatives=negatives, teacher=self._taught(lists), notes=tuple(notes))

    def _taught(self, lists: Sequence[Mapping[int, float]]) -> torch.Tensor | None:
        """The teacher's scores in the order of the judgements, if all have one."""
        keys = [(query, document) for query, of in enumerate(lists) for document in sorted(of)]
        if not self.teacher or any(key not in self.teacher for key in keys):
            return None
        return torch.tensor([self.teacher[key] for key in keys])

    def _negatives(self, made: Retrieval) -> tuple[HardNegatives | None, dict[str, int]]:
        """Lists beside the pairs of the data, without what is relevant or the query itself."""
        dropped = {
            "negative that is relevant to the query left out": 0,
            "negative with the query's own text left out": 0,
        }
        if not self.negatives:
            return None, dropped
        lists = []
        pairs = list(zip(*(side.tolist() for side in made.pairs()), strict=True))
        for query, positive in pairs:
            kept = []
            for one in self.negatives.get((query, positive), {}):
                if self.grades[query].get(one, 0.0) > 0:
                    dropped["negative that is relevant to the query left out"] += 1
                elif made.documents.texts[one] == made.queries.texts[query]:
                    dropped["negative with the query's own text left out"] += 1
                else:
                    kept.append(one)
            lists.append(kept)
        sizes = torch.tensor([len(each) for each in lists], dtype=torch.int64)
        codes = torch.tensor([code for each in lists for code in each], dtype=torch.int64)
        rows = [query for (query, _), each in zip(pairs, lists, strict=True) for _ in each]
        scores = [self.teacher.get(key) for key in zip(rows, codes.tolist(), strict=True)]
        own = [self.teacher.get(pair) for pair in pairs]
        told = not any(score is None for score in (*scores, *own))
        return HardNegatives(
            Ragged(offsets_from_sizes(sizes), codes),
            torch.tensor(scores, dtype=torch.float32) if told else None,
            torch.tensor(own, dtype=torch.float32) if told else None,
        ), dropped


def _read(
    path: Path, form: RowForm | None, columns: Sequence[str], queries: _Vocabulary, documents: _Vocabulary
) -> _Part:
    part, layout = _Part(path), None
    for record in read_records(path):
        layout = layout or _layout(record, form, columns)
        query = _text(record, layout.query)
        if not query:
            part.count("row with an empty query left out")
        else:
            _ADD[layout.form](part, record, layout, query, queries, documents)
    return part


def _add_pair(
    part: _Part, record: Record, layout: _Layout, query: str, queries: _Vocabulary, documents: _Vocabulary
) -> None:
    document = _text(record, layout.texts[0])
    if not document:
        part.count("row with an empty document left out")
        return
    told = {name: _number(record, name) for name in (layout.label, layout.score) if name is not None}
    score = told[layout.score] if layout.score is not None and layout.label is not None else None
    grade = next(iter(told.values()), 1.0)
    _check_grade(record, layout.label or layout.score, grade)
    part.judge(queries.code(query), documents.code(document), grade, score)


def _add_triplet(
    part: _Part, record: Record, layout: _Layout, query: str, queries: _Vocabulary, documents: _Vocabulary
) -> None:
    positive, *negatives = (_text(record, name) for name in layout.texts)
    if not positive:
        part.count("row with an empty positive left out")
        return
    scores: list[float | None] = [None] * len(layout.texts)
    if layout.score is not None:
        scores = [*_numbers(record, layout.score, len(layout.texts))]
    code, right = queries.code(query), documents.code(positive)
    part.judge(code, right, 1.0, scores[0])
    beside = part.negatives.setdefault((code, right), {})
    for text, score in zip(negatives, scores[1:], strict=True):
        if not text:
            part.count("empty negative left out")
            continue
        beside[documents.code(text)] = None
        if score is not None:
            part.teacher.setdefault((code, documents.code(text)), score)


def _add_list(
    part: _Part, record: Record, layout: _Layout, query: str, queries: _Vocabulary, documents: _Vocabulary
) -> None:
    texts = _listed(record, layout.texts[0])
    grades = [1.0, *[0.0] * (len(texts) - 1)] if layout.label is None else _numbers(record, layout.label, len(texts))
    scores = [None] * len(texts) if layout.score is None else _numbers(record, layout.score, len(texts))
    code = queries.code(query)
    for place, (text, grade, score) in enumerate(zip(texts, grades, scores, strict=True), start=1):
        if not isinstance(text, str | None):
            raise DataError(f"{record.place}: document {place} of {layout.texts[0]} must be text: got {text!r}.")
        _check_grade(record, layout.label, grade)
        if text is None or not text.strip():
            part.count("empty document of a list left out")
        else:
            part.judge(code, documents.code(text.strip()), grade, score)


_ADD = {"pairs": _add_pair, "triplets": _add_triplet, "lists": _add_list}


def _layout(record: Record, form: RowForm | None, columns: Sequence[str]) -> _Layout:
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
        return _Layout(form, query, (documents,), label, score)
    positive = _first(record, POSITIVE, "positive")
    if form == "pairs":
        return _Layout(form, query, (positive,), _perhaps(there, LABEL), _perhaps(there, SCORE))
    negatives = [name for name in there if name == NEGATIVE[0] or name.startswith("negative_")]
    if not negatives:
        raise DataError(f"{record.place}: triplets must have a column 'negative': there are {_said(there)}.")
    return _Layout(form, query, (positive, *negatives), None, _perhaps(there, SCORES))


def _named(record: Record, form: RowForm | None, columns: Sequence[str]) -> _Layout:
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
        return _Layout(form, query, tuple(rest), None, _perhaps(list(record.values), SCORES))
    return _Layout(form, query, (rest[0],), *[*rest[1:], None, None][:2])


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


def _text(record: Record, column: str) -> str:
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


def _number(record: Record, column: str, value: Any = None) -> float:
    given = _value(record, column) if value is None else value
    try:
        number = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{record.place}: {column} must hold finite numbers: got {given!r}. Correct the line.")
    return number


def _listed(record: Record, column: str) -> list[Any]:
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


def _numbers(record: Record, column: str, count: int) -> list[float]:
    values = _listed(record, column)
    if len(values) != count:
        raise DataError(
            f"{record.place}: {column} must be one a document, {count}: got {len(values)}. Correct the line."
        )
    return [_number(record, column, value if value is not None else "null") for value in values]


def _check_grade(record: Record, column: str | None, grade: float) -> None:
    if grade < 0:
        raise DataError(
            f"{record.place}: {column} must be at least 0: got {grade:g}. Shift the labels, or drop the row."
        )


def _said(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _counted(count: int, what: str) -> str:
    noun, _, rest = what.partition(" ")
    if noun in ("empty", "repeated"):
        adjective, (noun, _, rest) = noun, rest.partition(" ")
        return f"{many(count, f'{adjective} {noun}')} {rest}"
    return f"{many(count, noun)} {rest}"
