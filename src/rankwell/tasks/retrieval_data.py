"""Retrieval data: which files, and how they are split."""

# mypy: allow-untyped-calls

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BeforeValidator, Field, model_validator

from rankwell import keyed
from rankwell.data.records import FORMATS, read_records
from rankwell.data.retrieval import HardNegatives, Retrieval, Texts, joined, judgements
from rankwell.data.synthetic_texts import synthesise_texts
from rankwell.data.text_rows import RowForm, read_text_rows
from rankwell.data.text_tables import Unknown, read_judgements, read_texts
from rankwell.errors import ConfigError, DataError
from rankwell.lists import offsets_from_sizes
from rankwell.tasks.folds import Fold, held_out, refuse_fold
from rankwell.tasks.settings import Section, listed
from rankwell.tasks.task import Data
from rankwell.types import Ragged
from rankwell.words import many

__all__ = ["RetrievalData", "has_corpus", "read", "with_negatives"]

SPLIT = 92
"""Keeps the random numbers of the split apart from those drawn for other purposes with the same seed."""


UNNAMED = ("dev", "test")
"""Files of validation and test, where nobody names them: without one, queries are held out."""


class RetrievalData(Section):
    """What to read, and how to split it."""

    path: str = "synthetic"
    """A folder as BEIR has it, or a file of pairs, triplets or labelled lists; ``synthetic`` generates texts."""
    train: str = "train"
    """The file of ``qrels`` to train on."""
    valid: str = UNNAMED[0]
    """The one that chooses the epoch, if it is there."""
    test: str = UNNAMED[1]
    """The one that is looked at once, if it is there."""
    unknown: Unknown = "error"
    """Judgements of queries or documents that are in no file: an error, or dropped and counted."""
    form: RowForm | None = None
    """Of a file of rows: what they are, where the names of its columns do not tell."""
    columns: Annotated[list[str], BeforeValidator(listed)] = Field(default_factory=list)
    """Of a file of rows: its columns, where they have other names."""
    negatives: str | None = None
    """Rows of ``rankwell mine``, triplets or n-tuples: hard negatives of the training pairs."""
    hard: Annotated[int, Field(ge=1)] = 1
    """How many of them each row takes in a step."""
    rows: Literal["pairs", "lists"] = "pairs"
    """What training takes: pairs of query and relevant document, or queries with all their judged documents."""
    targets: Literal["grades", "teacher"] = "grades"
    """What the labels of lists are: grades, or a teacher's scores, as for ``kl``."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the queries to hold out, where there is no file for the test."""
    fold: Fold = None
    """Cross-validation: the test part is the second of five for ``2/5``, and ``test_fraction`` is not looked at."""
    valid_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the training queries that chooses the epoch, where there is no file for it; 0 trains without choosing."""
    valid_documents: Annotated[int, Field(ge=0)] = 0
    """Documents that validation ranks: those judged for its queries, and others at random; 0: the corpus."""
    depth: Annotated[int, Field(ge=1)] = 100
    """Documents that ``rankwell score`` gives for each query."""

    @model_validator(mode="after")
    def _heard(self) -> Self:
        if self.targets != "grades" and self.rows != "lists":
            raise ConfigError(
                f"targets {self.targets} are labels of whole lists: set data.rows to lists, or leave it out"
            )
        if self.rows == "lists" and self.hard != type(self).model_fields["hard"].default:
            raise ConfigError("hard counts the negatives of a pair: data.rows lists takes whole lists. Leave it out")
        return self


def read(given: RetrievalData, seed: int) -> Data[Retrieval]:
    """Read the files, and split where there is none for a part; what is odd about them is in the notes."""
    if given.path == "synthetic":
        _refuse_rows(given)
        parts: tuple[Retrieval, Retrieval | None, Retrieval | None] = synthesise_texts(seed=seed)
        notes: list[str] = []
    else:
        parts, notes = _files(given)
    fit, valid, test = _split(given, *parts, seed, notes)
    if given.negatives is not None:
        fit = with_negatives(fit, Path(given.negatives), unknown=given.unknown, notes=notes)
    whole = fit if valid is None else joined(fit, valid)
    if valid is not None and given.negatives is not None:
        whole = with_negatives(whole, Path(given.negatives), unknown=given.unknown, notes=[])
    if valid is not None and given.valid_documents:
        valid = _among(valid, given.valid_documents, seed)
    return Data(whole, fit, valid, test, tuple(notes))


def _files(given: RetrievalData) -> tuple[tuple[Retrieval, Retrieval | None, Retrieval | None], list[str]]:
    folder = Path(given.path)
    if not has_corpus(folder):
        return _rows(given)
    _refuse_rows(given)
    notes: list[str] = []
    queries = read_texts(_table(folder, "queries"), "query", nameable=False, merge=True, notes=notes)
    documents = read_texts(_table(folder, "corpus"), "document", nameable=False, merge=True, notes=notes)
    shared = Texts(queries.ids, queries.texts), Texts(documents.ids, documents.texts)
    parts: list[Retrieval | None] = []
    for name in (given.train, given.valid, given.test):
        file = folder / "qrels" / f"{name}.tsv"
        if not file.is_file() and name in UNNAMED and name != given.train:
            parts.append(None)
            continue
        lists = read_judgements(
            file,
            queries,
            documents,
            unknown=given.unknown,
            irrelevant=True,
            option="--data.unknown",
            nameable=False,
            notes=notes,
        )
        grades = ({code: max(grade, 0.0) for code, grade in each.items()} for each in lists)
        parts.append(Retrieval(*shared, *judgements(grades)))
    return _without_own(parts, notes)


def _refuse_rows(given: RetrievalData) -> None:
    """Raise where what is said of rows meets data that have none."""
    for name, value in (("form", given.form), ("columns", given.columns)):
        if value:
            raise ConfigError(
                f"data.{name} is about files of rows: {given.path} has a corpus, queries and judgements. Leave it out."
            )


def _without_own(
    parts: Sequence[Retrieval | None], notes: list[str]
) -> tuple[tuple[Retrieval, Retrieval | None, Retrieval | None], list[str]]:
    """Parts in which no query ranks its own text or learns from it, and the notes with how many there are."""
    train, valid, test = (None if part is None else part.without_own_texts() for part in parts)
    assert train is not None
    texts = set(train.documents.texts)
    if count := sum(text in texts for text in train.queries.texts):
        notes.append(
            f"{many(count, 'document')} with a query's own text left out of what that query ranks and learns from"
        )
    return (train, valid, test), notes


def _table(folder: Path, name: str) -> Path:
    """The file of that name in the folder, of any format that records are read from."""
    return next(_tables(folder, name), folder / f"{name}.jsonl")  # one that is not there is an error when it is read


def has_corpus(folder: Path) -> bool:
    """Whether the folder has documents of their own file, as BEIR has them."""
    return any(_tables(folder, "corpus"))


def _tables(folder: Path, name: str) -> Iterator[Path]:
    return (folder / f"{name}{suffix}" for suffix in FORMATS if (folder / f"{name}{suffix}").is_file())


def _rows(given: RetrievalData) -> tuple[tuple[Retrieval, Retrieval | None, Retrieval | None], list[str]]:
    """A file of rows, or those of a folder that are called as the parts are."""
    path = Path(given.path)
    files: list[Path | None] = [path, None, None]
    if path.is_dir():
        files = [next((file for file in _tables(path, name)), None) for name in (given.train, given.valid, given.test)]
        if files[0] is None:
            raise ConfigError(
                f"{path} must have corpus.jsonl, queries.jsonl and qrels, or files of rows called {given.train} and"
                f" {given.test}: it has neither. Name another folder, or a file."
            )
        if missing := [
            name
            for name, file in zip((given.valid, given.test), files[1:], strict=True)
            if not file and name not in UNNAMED
        ]:
            raise DataError(f"{path}: there must be a file of rows called {missing[0]}, as it is named: there is none.")
    there = [file for file in files if file is not None]
    read = dict(zip(there, read_text_rows(there, form=given.form, columns=given.columns), strict=True))
    return _without_own(
        [None if file is None else read[file] for file in files],
        [note for part in read.values() for note in part.notes],
    )


def _split(
    given: RetrievalData,
    train: Retrieval,
    valid: Retrieval | None,
    test: Retrieval | None,
    seed: int,
    notes: list[str],
) -> tuple[Retrieval, Retrieval | None, Retrieval]:
    """Parts for training, choosing and testing, which share no query."""
    if test is None:
        train, test = _held_out(train, given.test_fraction, seed, 0, given.fold)
    else:
        refuse_fold(given.fold, given.path)
    for name, part in (("validation", valid), ("test", test)):
        if part is not None:
            train = _without(train, part, name, notes)
    if valid is not None:
        valid = _without(valid, test, "test", notes, what="validation")
    elif given.valid_fraction:
        train, valid = _held_out(train, given.valid_fraction, seed, 1)
    for name, part in (("training", train), ("validation", valid), ("test", test)):
        if part is not None:
            _check_part(given, name, part, notes)
    return train, valid, test


def _check_part(given: RetrievalData, name: str, part: Retrieval, notes: list[str]) -> None:
    asked = part.asked()
    if not len(part):
        raise DataError(f"{given.path}: at least one {name} query must have a relevant document: none has.")
    if without := int((part.relevant().offsets.diff()[asked] == 0).sum()):
        what = "training passes over them" if name == "training" else "measures skip them"
        notes.append(
            f"{without:,} of {many(len(asked), f'{name} query', f'{name} queries')} without a relevant document: {what}"
        )


def _without(train: Retrieval, other: Retrieval, name: str, notes: list[str], what: str = "training") -> Retrieval:
    """The queries that the other part does not ask."""
    asked = train.asked()
    twice = torch.isin(asked, other.asked())
    if not bool(twice.any()):
        return train
    notes.append(f"{many(int(twice.sum()), 'query', 'queries')} of {what} judged for {name} too: left out of {what}")
    return train.of_queries(asked[~twice])


def _held_out(
    part: Retrieval, share: float, seed: int, purpose: int, fold: str | None = None
) -> tuple[Retrieval, Retrieval]:
    """The part without a random share of its queries, or a fold of them, and these."""
    asked = part.asked()
    order = torch.randperm(len(asked), generator=keyed.generator(seed, purpose, SPLIT))
    held = torch.from_numpy(held_out(len(asked), share, fold, "queries"))
    if bool(held.all()):
        raise ConfigError(
            f"holding out {len(asked)} of {len(asked)} queries leaves none to train on: give more queries, or files."
        )
    return part.of_queries(asked[order[~held]]), part.of_queries(asked[order[held]])


def _among(part: Retrieval, count: int, seed: int) -> Retrieval:
    """The part, ranking so many documents: all that are judged, and others at random."""
    order = torch.randperm(len(part.documents), generator=keyed.generator(seed, 2, SPLIT))
    judged = part.judged.values.unique()
    others = order[~torch.isin(order, judged)]
    return replace(part, ranked=torch.cat([judged, others[: max(count - len(judged), 0)]]).sort().values)


def with_negatives(part: Retrieval, path: Path, *, unknown: Unknown, notes: list[str]) -> Retrieval:
    """The part with hard negatives from rows of texts: ``anchor``, ``positive``, ``negative`` or ``negative_1`` …, and perhaps
    ``scores`` of a teacher, the positive's first, which count where all rows have them.

    Rows of other queries than the part's are passed over. A positive's or an excluded document is no negative. A negative
    that is no document of the corpus is an error, or dropped and counted.
    """
    queries = {text: code for code, text in enumerate(part.queries.texts)}
    documents = {text: code for code, text in enumerate(part.documents.texts)}
    pairs = {pair: row for row, pair in enumerate(zip(*(each.tolist() for each in part.pairs()), strict=True))}
    known = part.known()
    own = [
        set(known.values[known.offsets[code] : known.offsets[code + 1]].tolist()) for code in range(len(part.queries))
    ]
    lists: list[dict[int, float]] = [{} for _ in pairs]
    pair_scores, taught = torch.zeros(len(pairs)), True
    strangers = 0
    for record in read_records(path):
        query, positive, negatives = _triplet(record.place, record.values)
        code = queries.get(query, -1)
        row = pairs.get((code, documents.get(positive, -1)))
        if row is None:
            continue
        scores = _teacher(record.place, record.values, 1 + len(negatives))
        taught = taught and scores is not None
        if not lists[row] and scores is not None:
            pair_scores[row] = scores[0]
        for place, text in enumerate(negatives, start=1):
            found = documents.get(text)
            if found is None and unknown == "error":
                raise DataError(
                    f"{record.place}: a negative must be a document of the corpus: {text[:60]!r} is not. Mine it from this"
                    " corpus, or leave such out with --data.unknown drop."
                )
            if found is None:
                strangers += 1
            elif found not in own[code]:
                lists[row].setdefault(found, 0.0 if scores is None else scores[place])
    if not any(lists):
        raise DataError(f"{path}: no row is of a training pair: mine negatives from {len(pairs):,} pairs of this data.")
    if strangers:
        notes.append(f"{path.name}: {many(strangers, 'negative')} that no document has left out")
    if empty := sum(not each for each in lists):
        notes.append(f"{path.name}: {many(empty, 'training pair')} without a hard negative")
    sizes = torch.tensor([len(each) for each in lists])
    values = torch.tensor([code for each in lists for code in each], dtype=torch.int64)
    made = HardNegatives(Ragged(offsets_from_sizes(sizes), values))
    if taught:
        said = torch.tensor([score for each in lists for score in each.values()], dtype=torch.float32)
        made = replace(made, scores=said, pair_scores=pair_scores)
    return replace(part, negatives=made)


def _teacher(place: str, values: dict[str, Any], count: int) -> list[float] | None:
    """The teacher's scores of positive and negatives; None where the row has none."""
    scores = values.get("scores")
    if scores is None:
        return None
    numbers = [score for score in scores if isinstance(score, int | float)] if isinstance(scores, list) else []
    if len(numbers) != count or len(scores) != count or not all(map(math.isfinite, numbers)):
        raise DataError(f"{place}: scores must be {count} finite numbers, the positive's first: got {scores!r}.")
    return [float(score) for score in numbers]


def _triplet(place: str, values: dict[str, Any]) -> tuple[str, str, list[str]]:
    """Query, positive and negatives of a row."""
    names = [name for name in values if name == "negative" or name.startswith("negative_")]
    texts = [values.get(name) for name in ("anchor", "positive", *names)]
    if not names or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{place}: a row of negatives must have the texts anchor, positive and negative, or negative_1 …: there are"
            f" {', '.join(values)}. Write it by 'rankwell mine --format triplet'."
        )
    query, positive, *negatives = (str(text).strip() for text in texts)
    return query, positive, negatives
