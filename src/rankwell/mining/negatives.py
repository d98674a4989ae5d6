"""Hard negatives of embeddings: search, perhaps rescoring, rules; a block of queries at a time."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import take_lists
from rankwell.mining.choose import choose
from rankwell.mining.search import Found, Progress, best_first, searcher
from rankwell.mining.settings import MiningSettings
from rankwell.mining.vectors import Vectors
from rankwell.types import Ragged

__all__ = ["Mined", "Rescore", "mine", "mine_blocks"]

Rescore = Callable[[Int[Tensor, " n"], Int[Tensor, " n"]], Float[Tensor, " n"]]
"""Scores of pairs: numbers of queries, and of documents."""


@dataclass(frozen=True, eq=False)
class Mined:
    """A row for each pair of query and positive: by query, then as the positives were given."""

    queries: Int[Tensor, " p"]
    positives: Int[Tensor, " p"]
    positive_scores: Float[Tensor, " p"]
    negatives: Int[Tensor, "p n"]
    """Numbers of documents, best first; -1 where fewer were found."""
    negative_scores: Float[Tensor, "p n"]
    """-inf beside -1."""
    candidates: int
    """How many were looked at, and were no positives."""
    dropped: Mapping[str, int]
    """How many of them each rule dropped."""

    @classmethod
    def joined(cls, parts: Sequence["Mined"]) -> "Mined":
        """Several blocks as one."""
        names = ("queries", "positives", "positive_scores", "negatives", "negative_scores")
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(part.dropped)
        tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return cls(**tensors, candidates=sum(part.candidates for part in parts), dropped=dict(counts))


def mine(
    queries: Float[Tensor, "q d"] | Vectors,
    documents: Float[Tensor, "n d"] | Vectors,
    positives: Ragged,
    settings: MiningSettings = MiningSettings(),  # noqa: B008  (frozen)
    *,
    excluded: Ragged | None = None,
    rescore: Rescore | None = None,
    progress: Progress | None = None,
) -> Mined:
    """Hard negatives for each pair of a query and one of its positives.

    A query's positives are never among its negatives, nor are the documents of its ``excluded`` list. Queries without
    positives give no rows. Time O(q n d) by exact search; memory that of one block and the result: :func:`mine_blocks` hands
    out the blocks. :class:`MiningSettings` has the rules. Work is done on the device of the queries.

    Args:
        queries: embeddings.
        documents: embeddings of the same size.
        positives: a list of numbers of documents for each query.
        settings: what to choose.
        excluded: more documents that are no candidates, a list for each query.
        rescore: gives the scores that rules, order and result go by; the embeddings' own without it.
        progress: told how many queries are done.

    Raises:
        InputError: if lists and embeddings do not fit each other, a number is no document's, no query has a positive, or a
            score is not finite.

    >>> queries, documents = torch.eye(2), torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> found = mine(queries, documents, Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 2])), MiningSettings(1))
    >>> found.negatives, found.negative_scores
    (tensor([[1],
            [1]]), tensor([[0.8000],
            [0.6000]]))
    """
    return Mined.joined(
        list(
            mine_blocks(queries, documents, positives, settings, excluded=excluded, rescore=rescore, progress=progress)
        )
    )


@torch.no_grad()
def mine_blocks(
    queries: Float[Tensor, "q d"] | Vectors,
    documents: Float[Tensor, "n d"] | Vectors,
    positives: Ragged,
    settings: MiningSettings = MiningSettings(),  # noqa: B008  (frozen)
    *,
    excluded: Ragged | None = None,
    rescore: Rescore | None = None,
    progress: Progress | None = None,
) -> Iterator[Mined]:
    """What :func:`mine` joins: a :class:`Mined` for each block of queries that have positives."""
    queries, documents = (_vectors(given, settings) for given in (queries, documents))
    _check(queries, documents, positives, excluded)
    positives = _on(positives, queries.device)
    excluded = None if excluded is None else _on(excluded, queries.device)
    asked = positives.offsets.diff().nonzero().flatten()
    if not len(asked):
        raise InputError("at least one query must have a positive: none has.")
    search = searcher(settings.index, documents, settings.block)
    for first in range(0, len(asked), settings.block):
        chosen = asked[first : first + settings.block]
        pos = take_lists(positives, chosen)
        vectors = queries.take(chosen)
        known = pos if excluded is None else _both(pos, take_lists(excluded, chosen))
        found = search(vectors, known, settings.window(rescored=rescore is not None))
        rows = torch.repeat_interleave(pos.offsets.diff(), output_size=pos.values.numel())
        if rescore is None:
            pos_scores = _pair_scores(vectors, documents, rows, pos.values, settings.block)
        else:
            pos_scores = _finite(rescore(chosen[rows], pos.values)).to(vectors)
            found = _rescored(found, chosen, rescore)
        yield _block(chosen, rows, pos.values, pos_scores, found, settings)
        if progress is not None:
            progress(first + len(chosen), len(asked))


def _block(
    queries: Tensor, rows: Tensor, positives: Tensor, pos_scores: Tensor, found: Found, settings: MiningSettings
) -> Mined:
    """The rules, and a row for each pair. Unless each pair is judged by its own positive, a query chooses once."""
    if settings.margin_to == "own":
        found, limits, samples = Found(found.ids[rows], found.scores[rows]), pos_scores, queries[rows]
        pairs = torch.arange(len(rows), device=rows.device)
    else:
        how = "amin" if settings.margin_to == "lowest" else "amax"
        limits = pos_scores.new_zeros(len(queries)).scatter_reduce(0, rows, pos_scores, how, include_self=False)
        samples, pairs = queries, rows
    negatives, dropped = choose(found, limits, samples, settings)
    return Mined(
        queries[rows],
        positives,
        pos_scores,
        negatives.ids[pairs],
        negatives.scores[pairs],
        candidates=int((found.ids >= 0).sum()),
        dropped=dropped,
    )


def _pair_scores(queries: Tensor, documents: Vectors, rows: Tensor, ids: Tensor, block: int) -> Tensor:
    found = [
        (queries[rows[first : first + block]] * documents.take(ids[first : first + block])).sum(1)
        for first in range(0, len(ids), block)
    ]
    return torch.cat(found)


def _rescored(found: Found, queries: Tensor, rescore: Rescore) -> Found:
    there = found.ids >= 0
    scores = found.scores.clone()
    scores[there] = _finite(rescore(queries[:, None].expand_as(there)[there], found.ids[there])).to(scores)
    return best_first(Found(found.ids, scores))


def _finite(scores: Tensor) -> Tensor:
    if not bool(scores.isfinite().all()):
        raise InputError("the rescorer must give finite scores: it gave NaN or infinity. Choose another model.")
    return scores


def _vectors(given: Tensor | Vectors, settings: MiningSettings) -> Vectors:
    if isinstance(given, Vectors):
        return given
    return Vectors([given], unit=settings.similarity == "cosine", device=given.device)


def _check(queries: Vectors, documents: Vectors, positives: Ragged, excluded: Ragged | None) -> None:
    if queries.dim != documents.dim:
        raise InputError(
            f"queries and documents must have vectors of one size: got {queries.dim} and {documents.dim}."
            " Were they made by the same model?"
        )
    for name, lists in (("positives", positives), ("excluded", excluded)):
        if lists is None:
            continue
        if lists.offsets.numel() - 1 != len(queries):
            raise InputError(
                f"{name} must hold a list for each of the {len(queries)} queries: it has {lists.offsets.numel() - 1}."
            )
        ids = lists.values
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(documents):
            raise InputError(
                f"{name} must be numbers of documents, in [0, {len(documents)}): got {int(ids.min())} to {int(ids.max())}."
            )


def _on(lists: Ragged, device: torch.device) -> Ragged:
    return Ragged(lists.offsets.to(device), lists.values.to(device))


def _both(some: Ragged, more: Ragged) -> Ragged:
    """Lists joined, one by one. The order inside them does not matter here."""
    rows = [torch.repeat_interleave(lists.offsets.diff(), output_size=lists.values.numel()) for lists in (some, more)]
    order = torch.cat(rows).argsort(stable=True)
    return Ragged(some.offsets + more.offsets, torch.cat([some.values, more.values])[order])
