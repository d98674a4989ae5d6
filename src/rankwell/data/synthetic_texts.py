"""Texts made of words that mean something, where it is known which document answers which query."""

# mypy: allow-untyped-calls

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rankwell.atomic import write_text
from rankwell.data.retrieval import Retrieval, Texts, judgements
from rankwell.errors import InputError

__all__ = ["synthesise_texts", "write_beir"]

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


def synthesise_texts(
    num_documents: int = 300,
    num_queries: Sequence[int] = (400, 100, 100),
    *,
    concepts: int = 40,
    shared: float = 0.1,
    seed: int = 0,
) -> tuple[Retrieval, Retrieval, Retrieval]:
    """Training, validation and test queries on one corpus.

    Each concept has a word that queries use and another one that documents use. A document is about five concepts, in random
    order among words that mean nothing; a query asks for three of one document's. Relevant are the documents that are about all
    three, with grade 2 for that document and 1 for others, so that the best possible order is known and its NDCG is 1.
    Words alone tell little: only a share ``shared`` of the queries' words are those of documents. What concepts are called on
    the other side is in the training queries. No two queries are the same.

    Raises :class:`InputError` for more than ten queries a document, or fewer than five concepts.

    >>> train, valid, test = synthesise_texts(seed=0)
    >>> train, bool((test.relevant().offsets.diff()[test.asked()] > 0).all())
    (Retrieval(400 queries, 518 pairs, 300 documents), True)
    """
    if sum(num_queries) > 10 * num_documents or concepts < 5:
        raise InputError(
            f"there must be at most 10 queries a document, and 5 concepts: got {sum(num_queries)} queries for"
            f" {num_documents} documents, {concepts} concepts."
        )
    random = np.random.default_rng(seed)
    words = _words(random, 2 * concepts + 50)
    asked, told, filler = words[:concepts], words[concepts : 2 * concepts], words[2 * concepts :]
    about = np.stack([random.choice(concepts, 5, replace=False) for _ in range(num_documents)])
    documents = []
    for each in about:
        parts = [*(told[one] for one in each), *random.choice(filler, 6)]
        documents.append(" ".join(parts[at] for at in random.permutation(len(parts))))
    has = np.zeros((num_documents, concepts), dtype=bool)
    has[np.arange(num_documents)[:, None], about] = True
    queries: dict[str, None] = {}
    lists = []
    while len(queries) < sum(num_queries):
        one = int(random.integers(num_documents))
        wanted = random.choice(about[one], 3, replace=False)
        as_told = random.random(3) < shared
        query = " ".join((told if same else asked)[word] for word, same in zip(wanted, as_told, strict=True))
        if query in queries:
            continue
        queries[query] = None
        right = np.flatnonzero(has[:, wanted].all(1)).tolist()
        lists.append({code: 2.0 if code == one else 1.0 for code in right})
    texts = Texts([f"q{at}" for at in range(len(queries))], list(queries))
    corpus = Texts([f"d{at}" for at in range(num_documents)], documents)
    whole = Retrieval(texts, corpus, *judgements(lists))
    train, valid, test = (whole.of_queries(codes) for codes in torch.arange(len(queries)).split(list(num_queries)))
    return train, valid, test


def write_beir(folder: Path, parts: dict[str, Retrieval]) -> None:
    """Parts of one data set as BEIR has them: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/PART.tsv``."""
    first = next(iter(parts.values()))
    for name, texts in (("corpus", first.documents), ("queries", first.queries)):
        lines = (
            json.dumps({"_id": key, "text": text}, ensure_ascii=False)
            for key, text in zip(texts.ids, texts.texts, strict=True)
        )
        write_text(folder / f"{name}.jsonl", "".join(f"{line}\n" for line in lines))
    for name, part in parts.items():
        rows = ["query-id\tcorpus-id\tscore"]
        queries = torch.repeat_interleave(part.judged.offsets.diff()).tolist()
        for query, document, grade in zip(queries, part.judged.values.tolist(), part.grades.tolist(), strict=True):
            rows.append(f"{part.queries.ids[query]}\t{part.documents.ids[document]}\t{grade:g}")
        write_text(folder / "qrels" / f"{name}.tsv", "\n".join(rows) + "\n")


def _words(random: np.random.Generator, count: int) -> list[str]:
    """Different words that can be spoken."""
    made: dict[str, None] = {}
    while len(made) < count:
        made["".join(random.choice(list(letters)) for letters in (CONSONANTS, VOWELS) * 3)] = None
    return list(made)
