"""The best documents of each query, without those that it knows: exact by blocks, or by FAISS."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.errors import require
from rankwell.mining.settings import Index
from rankwell.mining.vectors import Vectors
from rankwell.types import Ragged

__all__ = ["Exact", "Faiss", "Found", "Progress", "Search", "best_first", "searcher"]

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many are done, of how many."""

POINTS = 64
"""Documents that train a cell of an inverted file; FAISS asks for 39 at least."""
SHARE = 8
"""One cell in so many is looked at."""
NEIGHBOURS = 32
"""Edges of a node in the graph of HNSW."""


class Found(NamedTuple):
    """Documents of each query, best first, equal scores by the lower number; -1 and -inf where there are no more."""

    ids: Int[Tensor, "q k"]
    scores: Float[Tensor, "q k"]


class Search(Protocol):
    """What finds documents; ``known`` holds a list for each of the queries given."""

    def __call__(self, queries: Float[Tensor, "q d"], known: Ragged, k: int) -> Found:
        """The best ``k`` documents for each query that are not in its list."""
        ...


def searcher(index: Index, documents: Vectors, block: int) -> Search:
    """The search that the settings name."""
    return Exact(documents, block) if index == "exact" else Faiss(documents, index, block)


class Exact:
    """Matrix products of a block of queries and a block of documents, and the best so far.

    Time O(q n d), memory q · ``block`` numbers. Scores that are equal at the k-th place are settled by the lower number, so
    that blocks change nothing (but for the last bit of a product, which its shape may change).
    """

    def __init__(self, documents: Vectors, block: int) -> None:
        self.documents, self.block = documents, block

    def __call__(self, queries: Float[Tensor, "q d"], known: Ragged, k: int) -> Found:
        """See :class:`Search`."""
        rows = _rows(known)
        best = Found(
            torch.full((len(queries), 0), -1, device=queries.device),
            torch.empty(len(queries), 0, device=queries.device),
        )
        for first, documents in self.documents.blocks(self.block):
            scores = queries @ documents.T
            here = (known.values >= first) & (known.values < first + len(documents))
            scores[rows[here], known.values[here] - first] = -torch.inf
            ids, top = _top(scores, min(k, len(documents)))
            # Earlier documents have lower numbers: a stable sort keeps them in front.
            scores, order = torch.cat([best.scores, top], 1).sort(dim=1, descending=True, stable=True)
            best = Found(torch.cat([best.ids, ids + first], 1).gather(1, order[:, :k]), scores[:, :k])
        return _padded(best, k)


class Faiss:
    """An index of FAISS over inner products, built once. Known documents are looked for in addition, and left out."""

    def __init__(self, documents: Vectors, kind: Index, block: int) -> None:
        self.number = len(documents)
        self.index = _index(require("faiss", "index"), documents, kind)
        for _, vectors in documents.blocks(block):
            self.index.add(vectors.cpu().numpy())

    def __call__(self, queries: Float[Tensor, "q d"], known: Ragged, k: int) -> Found:
        """See :class:`Search`."""
        longest = int(known.offsets.diff().max()) if len(queries) else 0
        wanted = min(k + longest, self.number)
        if hasattr(self.index, "hnsw"):
            self.index.hnsw.efSearch = max(2 * wanted, 128)
        found = self.index.search(queries.cpu().numpy(), wanted)
        scores, ids = (torch.from_numpy(part).to(queries.device) for part in found)
        gone = (ids < 0) | _is_known(ids, known, self.number)
        ordered = best_first(Found(ids.masked_fill(gone, -1), scores.masked_fill(gone, -torch.inf)))
        return _padded(Found(ordered.ids[:, :k], ordered.scores[:, :k]), k)


def _index(faiss: Any, documents: Vectors, kind: Index) -> Any:
    if kind == "flat":
        return faiss.IndexFlatIP(documents.dim)
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(documents.dim, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 200
        return index
    number = len(documents)
    cells = max(1, min(round(4 * number**0.5), number // POINTS))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(documents.dim), documents.dim, cells, faiss.METRIC_INNER_PRODUCT)
    sample = torch.arange(min(number, 256 * cells)) * number // min(number, 256 * cells)
    index.train(documents.take(sample).cpu().numpy())
    index.nprobe = max(1, cells // SHARE)
    return index


def _top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Numbers and scores of the k best of each row, best first; equal scores by the lower number, also at the k-th place."""
    if k == scores.shape[1]:
        top, ids = scores.sort(dim=1, descending=True, stable=True)
        return ids, top
    top, ids = scores.topk(k + 1)
    shared = (top[:, k - 1] == top[:, k]).nonzero().flatten()
    if shared.numel():
        settled = scores[shared].sort(dim=1, descending=True, stable=True)
        ids[shared], top[shared] = settled.indices[:, : k + 1], settled.values[:, : k + 1]
    return best_first(Found(ids[:, :k], top[:, :k]))


def best_first(found: Found) -> Found:
    """By score, then by number; what is not there comes last."""
    ids, order = found.ids.sort(1)
    scores, by_score = found.scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return Found(ids.gather(1, by_score), scores)


def _padded(found: Found, k: int) -> Found:
    """To k columns, with -1 beside -inf."""
    short = (0, k - found.ids.shape[1])
    scores = torch.nn.functional.pad(found.scores, short, value=-torch.inf)
    ids = torch.nn.functional.pad(found.ids, short, value=-1)
    return Found(ids.masked_fill(scores == -torch.inf, -1), scores)


def _is_known(ids: Tensor, known: Ragged, number: int) -> Tensor:
    if not known.values.numel():
        return torch.zeros_like(ids, dtype=torch.bool)
    pairs = (_rows(known) * number + known.values).sort().values
    asked = torch.arange(len(ids), device=ids.device)[:, None] * number + ids.clamp(min=0)
    return pairs[torch.searchsorted(pairs, asked).clamp_(max=pairs.numel() - 1)] == asked


def _rows(lists: Ragged) -> Tensor:
    """The list that each value belongs to."""
    return torch.repeat_interleave(lists.offsets.diff(), output_size=lists.values.numel())
