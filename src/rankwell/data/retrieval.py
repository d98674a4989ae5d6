"""Retrieval data: queries, documents, and judgements of pairs of them; all as texts."""

# mypy: allow-untyped-calls

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.errors import DataError
from rankwell.lists import offsets_from_sizes, take_lists
from rankwell.types import Ragged

__all__ = ["HardNegatives", "Retrieval", "Texts", "joined", "judgements"]


@dataclass(frozen=True, eq=False, repr=False)
class Texts:
    """Texts by code, with the ids that they have in files, which are text: ``"007"`` stays so.

    >>> Texts(["007", "7"], ["one", "another"])
    Texts(2)
    """

    ids: Sequence[str]
    texts: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.texts) or len(set(self.ids)) < len(self.ids):
            raise DataError(f"texts must have an id each, all different: got {len(self.ids)} for {len(self.texts)}.")

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"Texts({len(self):,})"


@dataclass(frozen=True, eq=False)
class HardNegatives:
    """Documents that a pair of query and positive is to be told from, a list for each pair of :meth:`Retrieval.pairs`.

    ``scores`` are a teacher's, one a document of ``lists``, and ``pair_scores`` of the pairs themselves; None without one.
    """

    lists: Ragged
    scores: Float[Tensor, " n"] | None = None
    pair_scores: Float[Tensor, " p"] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Retrieval:
    """Queries, the corpus, and what is known of pairs of them: a part of a data set, or all of it.

    Parts of one data set share ``queries`` and ``documents``, and so their codes. ``judged`` lists for each query the documents
    that have a grade, ascending, and ``grades`` stand beside its values: above 0 is relevant, higher is more so, 0 is judged
    and not relevant; documents without a judgement count as not relevant. ``excluded`` are documents that are nothing for a
    query, neither right nor wrong, as one with the query's own text: they are no negatives, and rankings leave them out.

    Raises :class:`DataError` where lists are not one a query, ascending and of codes, or a grade is below 0 or not finite.

    >>> data = Retrieval(Texts(["q"], ["why"]), Texts(["a", "b"], ["for", "since"]),
    ...                  *judgements([{1: 2.0, 0: 0.0}]))
    >>> data, data.pairs()
    (Retrieval(1 query, 1 pair, 2 documents), (tensor([0]), tensor([1])))
    """

    queries: Texts
    documents: Texts
    judged: Ragged
    grades: Float[Tensor, " n"]
    excluded: Ragged | None = None
    negatives: HardNegatives | None = None
    teacher: Float[Tensor, " n"] | None = None
    """A teacher's scores of the judged documents, beside ``grades``, for distillation."""
    ranked: Int[Tensor, " k"] | None = None
    """The documents that compete for these queries, ascending; None for the corpus. Those that are relevant are among them."""
    notes: tuple[str, ...] = ()
    """Sentences on what reading left out or merged."""

    def __post_init__(self) -> None:
        for name, lists in (("judged", self.judged), ("excluded", self.excluded)):
            if lists is not None:
                self._check_lists(name, lists)
        if len(self.grades) != len(self.judged.values) or not bool(((self.grades >= 0) & self.grades.isfinite()).all()):
            raise DataError("grades must be finite numbers of at least 0, one a judged document.")
        if self.negatives is not None and len(self.negatives.lists.offsets) - 1 != len(self):
            raise DataError(
                f"negatives must have a list for each of the {len(self):,} pairs:"
                f" got {len(self.negatives.lists.offsets) - 1:,}."
            )

    def _check_lists(self, name: str, lists: Ragged) -> None:
        rows = torch.repeat_interleave(lists.offsets.diff())
        inside = bool(((lists.values >= 0) & (lists.values < len(self.documents))).all())
        ascending = bool(((rows * len(self.documents) + lists.values).diff() > 0).all())
        if len(lists.offsets) - 1 != len(self.queries) or not inside or not ascending:
            raise DataError(f"{name} must list codes of documents for each query, ascending, none twice.")

    def __len__(self) -> int:
        """How many pairs of a query and a relevant document there are."""
        return int((self.grades > 0).sum())

    def __repr__(self) -> str:
        queries = int((self.relevant().offsets.diff() > 0).sum())
        counts = (
            (queries, "query", "queries"),
            (len(self), "pair", "pairs"),
            (len(self.documents), "document", "documents"),
        )
        return f"Retrieval({', '.join(f'{count:,} {one if count == 1 else more}' for count, one, more in counts)})"

    @property
    def num_users(self) -> int:
        """Queries, as shared parts count them."""
        return len(self.queries)

    @property
    def num_items(self) -> int:
        """Documents likewise."""
        return len(self.documents)

    def relevant(self) -> Ragged:
        """The relevant documents of each query."""
        return self._kept(self.grades > 0)[0]

    def gains(self) -> Float[Tensor, " n"]:
        """The grades of :meth:`relevant`."""
        return self.grades[self.grades > 0]

    def pairs(self) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
        """Queries and documents of the relevant pairs, by query and then by document: the rows that training takes."""
        lists = self.relevant()
        return torch.repeat_interleave(lists.offsets.diff()), lists.values

    def known(self) -> Ragged:
        """What is no negative of a query: its relevant documents and those that are excluded."""
        return self.relevant() if self.excluded is None else _union(self.relevant(), self.excluded, len(self.documents))

    def of_queries(self, codes: Int[Tensor, " k"]) -> "Retrieval":
        """The judgements of these queries alone; codes stay as they are."""
        chosen = torch.zeros(len(self.queries), dtype=torch.bool)
        chosen[codes] = True
        keep = torch.repeat_interleave(chosen, self.judged.offsets.diff())
        judged, grades = self._kept(keep)
        negatives = None
        if self.negatives is not None:
            negatives = _taken(self.negatives, chosen[self.pairs()[0]].nonzero().squeeze(1))
        teacher = None if self.teacher is None else self.teacher[keep]
        return replace(self, judged=judged, grades=grades, negatives=negatives, teacher=teacher, notes=())

    def without_own_texts(self) -> "Retrieval":
        """The same, where a document with a query's own text is excluded for that query, unless it is relevant."""
        codes = {text: code for code, text in enumerate(self.documents.texts)}
        same = torch.tensor([codes.get(text, -1) for text in self.queries.texts])
        rows = torch.repeat_interleave(self.judged.offsets.diff())
        own = self.judged.values == same[rows]
        same[rows[own & (self.grades > 0)]] = -1
        keep = ~own | (self.grades > 0)
        judged, grades = self._kept(keep)
        excluded = Ragged(offsets_from_sizes((same >= 0).long()), same[same >= 0])
        teacher = None if self.teacher is None else self.teacher[keep]
        return replace(self, judged=judged, grades=grades, excluded=excluded, teacher=teacher)

    def asked(self) -> Int[Tensor, " k"]:
        """Queries that have a judgement."""
        return self.judged.offsets.diff().nonzero().squeeze(1)

    def fingerprint(self) -> str:
        """A hash of texts, ids, judgements, negatives and a teacher's scores."""
        made = hashlib.sha256(repr((list(self.queries.ids), list(self.documents.ids))).encode("utf-8", "surrogatepass"))
        for text in (*self.queries.texts, *self.documents.texts):
            made.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        parts = [*self.judged, self.grades.float(), self.teacher]
        if self.negatives is not None:
            parts += [*self.negatives.lists, self.negatives.scores, self.negatives.pair_scores]
        for part in parts:
            made.update(b"" if part is None else part.numpy().tobytes())
        return made.hexdigest()

    def _kept(self, keep: Tensor) -> tuple[Ragged, Tensor]:
        """The judgements that ``keep`` marks."""
        before = torch.cat([keep.new_zeros(1, dtype=torch.int64), keep.cumsum(0)])
        return Ragged(before[self.judged.offsets], self.judged.values[keep]), self.grades[keep]


def judgements(lists: Iterable[dict[int, float]]) -> tuple[Ragged, Float[Tensor, " n"]]:
    """``judged`` and ``grades`` of a dictionary a query, from the document's code to its grade.

    >>> judgements([{3: 1.0, 1: 2.0}, {}])
    (Ragged(offsets=tensor([0, 2, 2]), values=tensor([1, 3])), tensor([2., 1.]))
    """
    ordered = [sorted(each.items()) for each in lists]
    offsets = offsets_from_sizes(torch.tensor([len(each) for each in ordered], dtype=torch.int64))
    pairs = [pair for each in ordered for pair in each]
    codes = torch.tensor([code for code, _ in pairs], dtype=torch.int64)
    return Ragged(offsets, codes), torch.tensor([grade for _, grade in pairs], dtype=torch.float32)


def joined(first: Retrieval, second: Retrieval) -> Retrieval:
    """The judgements of two parts of one data set, which share no query."""
    if first.queries is not second.queries or first.documents is not second.documents:
        raise DataError("parts must be of one data set to be joined: they have other texts.")
    both = torch.cat([first.asked(), second.asked()])
    if len(both.unique()) < len(both):
        raise DataError("parts must share no query to be joined. Split by query.")
    order = torch.cat([torch.repeat_interleave(each.judged.offsets.diff()) for each in (first, second)]).argsort(
        stable=True
    )
    sizes = first.judged.offsets.diff() + second.judged.offsets.diff()
    rows = torch.cat([first.pairs()[0], second.pairs()[0]]).argsort(stable=True)
    return replace(
        first,
        judged=Ragged(offsets_from_sizes(sizes), torch.cat([first.judged.values, second.judged.values])[order]),
        grades=torch.cat([first.grades, second.grades])[order],
        negatives=_both(first, second, rows),
        teacher=None
        if first.teacher is None or second.teacher is None
        else torch.cat([first.teacher, second.teacher])[order],
        notes=(*first.notes, *second.notes),
    )


def _both(one: Retrieval, other: Retrieval, rows: Tensor) -> HardNegatives | None:
    """Those of two parts; the pairs of a part without any have empty lists."""
    if one.negatives is None and other.negatives is None:
        return None
    first, second = (each.negatives or _none(len(each)) for each in (one, other))
    lists = Ragged(
        torch.cat([first.lists.offsets, second.lists.offsets[1:] + first.lists.offsets[-1]]),
        torch.cat([first.lists.values, second.lists.values]),
    )
    together = HardNegatives(
        lists,
        None if first.scores is None or second.scores is None else torch.cat([first.scores, second.scores]),
        None
        if first.pair_scores is None or second.pair_scores is None
        else torch.cat([first.pair_scores, second.pair_scores]),
    )
    return _taken(together, rows)


def _none(pairs: int) -> HardNegatives:
    """Empty lists, with which no teacher's score is missing."""
    empty = Ragged(torch.zeros(pairs + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    return HardNegatives(empty, torch.zeros(0), torch.zeros(pairs))


def _taken(negatives: HardNegatives, rows: Tensor) -> HardNegatives:
    """Those of some pairs, in another order."""
    places = take_lists(Ragged(negatives.lists.offsets, torch.arange(len(negatives.lists.values))), rows)
    return HardNegatives(
        Ragged(places.offsets, negatives.lists.values[places.values]),
        None if negatives.scores is None else negatives.scores[places.values],
        None if negatives.pair_scores is None else negatives.pair_scores[rows],
    )


def _union(first: Ragged, second: Ragged, width: int) -> Ragged:
    keys = torch.cat([torch.repeat_interleave(each.offsets.diff()) * width + each.values for each in (first, second)])
    keys = keys.unique()
    sizes = torch.bincount(keys // width, minlength=len(first.offsets) - 1)
    return Ragged(offsets_from_sizes(sizes), keys % width)
