"""A retrieval data set: queries, documents and which belong together, from files, checked."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from rankwell.data.text_tables import Files, Unknown, read_judgements, read_texts
from rankwell.errors import DataError
from rankwell.lists import offsets_from_sizes
from rankwell.types import Ragged
from rankwell.words import many

__all__ = ["Files", "Retrieval", "Unknown", "read_retrieval"]


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


def read_retrieval(files: Files, *, unknown: Unknown = "error", drop_same_text: bool = True) -> Retrieval:
    """Read and check the three files; all ids are text.

    Left out and counted: empty texts, repeated lines and pairs, pairs without a score above 0, and queries without a positive.
    ``unknown`` says what becomes of pairs whose query or document is in no file: an error, or dropped and counted. With
    ``drop_same_text`` documents of one text are one document, so that a positive's copies are no negatives, queries of one
    text are one query with the positives of all, and documents with the query's own text are excluded. The texts are held
    in memory.

    Raises :class:`~rankwell.errors.DataError`, by file and line, for what :mod:`rankwell.data.records` lists, missing
    columns, ids that are no text or whole numbers, texts that are no text, scores that are no finite numbers, and an id with
    two texts.
    """
    notes: list[str] = []
    queries = read_texts(files.queries, "query", columns=files.query_columns, merge=drop_same_text, notes=notes)
    documents = read_texts(files.corpus, "document", columns=files.corpus_columns, merge=drop_same_text, notes=notes)
    lists = read_judgements(
        files.positives, queries, documents, columns=files.positive_columns, unknown=unknown, notes=notes
    )
    kept = [number for number, positives in enumerate(lists) if positives]
    if not kept:
        raise DataError(f"{files.positives}: at least one query must have a positive: none is left. {'; '.join(notes)}")
    if alone := len(lists) - len(kept):
        notes.append(f"{many(alone, 'query', 'queries')} without a positive left out")
    texts = [queries.texts[number] for number in kept]
    by_text = {text: number for number, text in enumerate(documents.texts)} if drop_same_text else {}
    own = [
        [by_text[text]] if text in by_text and by_text[text] not in lists[number] else []
        for number, text in zip(kept, texts, strict=True)
    ]
    if count := sum(map(len, own)):
        notes.append(f"{many(count, 'document')} with a query's own text excluded for that query")
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


def _ragged(lists: Sequence[Sequence[int]]) -> Ragged:
    offsets = offsets_from_sizes(torch.tensor([len(one) for one in lists], dtype=torch.int64))
    return Ragged(offsets, torch.tensor([value for one in lists for value in one], dtype=torch.int64))
