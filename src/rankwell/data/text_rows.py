"""Rows of texts as retrieval data: pairs, triplets and labelled lists, in the columns that training sets have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from rankwell.data.records import Record, read_records
from rankwell.data.retrieval import HardNegatives, Retrieval, Texts, judgements
from rankwell.data.text_cells import (
    Layout,
    RowForm,
    check_grade,
    layout_of,
    listed_cell,
    number_cell,
    numbers_cell,
    text_cell,
)
from rankwell.errors import DataError
from rankwell.lists import offsets_from_sizes
from rankwell.types import Ragged
from rankwell.words import many

__all__ = ["RowForm", "read_text_rows"]


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
        layout = layout or layout_of(record, form, columns)
        query = text_cell(record, layout.query)
        if not query:
            part.count("row with an empty query left out")
        else:
            _ADD[layout.form](part, record, layout, query, queries, documents)
    return part


def _add_pair(
    part: _Part, record: Record, layout: Layout, query: str, queries: _Vocabulary, documents: _Vocabulary
) -> None:
    document = text_cell(record, layout.texts[0])
    if not document:
        part.count("row with an empty document left out")
        return
    told = {name: number_cell(record, name) for name in (layout.label, layout.score) if name is not None}
    score = told[layout.score] if layout.score is not None and layout.label is not None else None
    grade = next(iter(told.values()), 1.0)
    check_grade(record, layout.label or layout.score, grade)
    part.judge(queries.code(query), documents.code(document), grade, score)


def _add_triplet(
    part: _Part, record: Record, layout: Layout, query: str, queries: _Vocabulary, documents: _Vocabulary
) -> None:
    positive, *negatives = (text_cell(record, name) for name in layout.texts)
    if not positive:
        part.count("row with an empty positive left out")
        return
    scores: list[float | None] = [None] * len(layout.texts)
    if layout.score is not None:
        scores = [*numbers_cell(record, layout.score, len(layout.texts))]
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
    part: _Part, record: Record, layout: Layout, query: str, queries: _Vocabulary, documents: _Vocabulary
) -> None:
    texts = listed_cell(record, layout.texts[0])
    grades = (
        [1.0, *[0.0] * (len(texts) - 1)] if layout.label is None else numbers_cell(record, layout.label, len(texts))
    )
    scores = [None] * len(texts) if layout.score is None else numbers_cell(record, layout.score, len(texts))
    code = queries.code(query)
    if not any(isinstance(text, str) and text.strip() for text in texts):
        part.count("query without a document left out")
    for place, (text, grade, score) in enumerate(zip(texts, grades, scores, strict=True), start=1):
        if not isinstance(text, str | None):
            raise DataError(f"{record.place}: document {place} of {layout.texts[0]} must be text: got {text!r}.")
        check_grade(record, layout.label, grade)
        if text is None or not text.strip():
            part.count("empty document of a list left out")
        else:
            part.judge(code, documents.code(text.strip()), grade, score)


_ADD = {"pairs": _add_pair, "triplets": _add_triplet, "lists": _add_list}


def _counted(count: int, what: str) -> str:
    noun, _, rest = what.partition(" ")
    if noun in ("empty", "repeated"):
        adjective, (noun, _, rest) = noun, rest.partition(" ")
        return f"{many(count, f'{adjective} {noun}')} {rest}"
    return f"{many(count, noun, 'queries' if noun == 'query' else None)} {rest}"
