"""Rankings of a corpus: by a model of texts, or by words alone."""

import weakref
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell.data.retrieval import Retrieval, Texts
from rankwell.evaluation import TopItems, top_items
from rankwell.evaluation.top import Progress
from rankwell.lists import offsets_from_sizes, take_lists
from rankwell.models.text_model import Side, Tokens, encode_tokens
from rankwell.text.bm25 import BM25
from rankwell.types import FullRanker, Ragged

__all__ = ["ByVectors", "ByWords", "best_of", "ranker_of", "tokens_of", "within"]

_TOKENS: "weakref.WeakKeyDictionary[Texts, dict[tuple[Any, Side], Tokens]]" = weakref.WeakKeyDictionary()


def tokens_of(model: Any, texts: Texts, side: Side) -> Tokens:
    """The tokens of all the texts; made once for texts and the parameters that a model was built with."""
    made = _TOKENS.setdefault(texts, {})
    key = (model.tokens_key, side)
    if key not in made:
        made[key] = model.tokens(texts.texts, side)
    return made[key]


class ByVectors(nn.Module):
    """Products of vectors that were made once: queries by code, documents by their place among those that compete.

    >>> ByVectors(torch.tensor([7]), torch.tensor([[2.0]]), torch.tensor([[1.0], [3.0]])).score_all(torch.tensor([7]))
    tensor([[2., 6.]])
    """

    def __init__(
        self, codes: Int[Tensor, " q"], queries: Float[Tensor, "q d"], documents: Float[Tensor, "m d"]
    ) -> None:
        super().__init__()
        self.codes, self.queries, self.documents = codes, queries, documents
        self.num_items = len(documents)

    def score_all(self, queries: Int[Tensor, " q"], out: Tensor | None = None) -> Float[Tensor, "q m"]:  # noqa: ARG002
        """Scores of every document."""
        return self.queries[torch.searchsorted(self.codes, queries)] @ self.documents.T


class ByWords(nn.Module):
    """BM25 of the corpus: what no training is needed for.

    Documents without a word of the query score 0 all alike. ``hashed`` puts them in the order of a hash of their texts: a list
    that has room for some of them then takes any, not those that the file names first.
    """

    def __init__(self, *, hashed: bool = False) -> None:
        super().__init__()
        self.hashed = hashed

    def ranker(self, part: Retrieval, progress: Progress | None = None) -> "_Words":  # noqa: ARG002
        """The ranking of a part."""
        texts = part.documents.texts
        chosen = texts if part.ranked is None else [texts[code] for code in part.ranked.tolist()]
        return _Words(BM25(chosen), part.queries, _below_zero(chosen) if self.hashed else None)


class _Words(nn.Module):
    def __init__(self, index: BM25, queries: Texts, last: Float[Tensor, " m"] | None) -> None:
        super().__init__()
        self.index, self.queries, self.last, self.num_items = index, queries, last, index.num_documents

    def score_all(self, queries: Tensor, out: Tensor | None = None) -> Tensor:  # noqa: ARG002
        scores = torch.stack([self.index.scores(self.queries.texts[code]) for code in queries.tolist()])
        return scores if self.last is None else torch.where(scores > 0, scores, self.last)


def _below_zero(texts: Sequence[str]) -> Float[Tensor, " m"]:
    """Numbers from -1 to below 0, by a hash of each text."""
    return torch.tensor([zlib.crc32(text.encode("utf-8")) / 2**32 - 1 for text in texts])


def ranker_of(model: Any, part: Retrieval, progress: Progress | None = None) -> FullRanker:
    """The model's ranking of a part: its own, or that of the vectors of its queries and of the documents that compete."""
    if hasattr(model, "ranker"):
        own: FullRanker = model.ranker(part, progress)
        return own
    training = model.training
    model.eval()
    try:
        asked = part.asked()
        queries = encode_tokens(model, take_lists(tokens_of(model, part.queries, "query").lists, asked), "query")
        documents = tokens_of(model, part.documents, "document").lists
        if part.ranked is not None:
            documents = take_lists(documents, part.ranked)
        return ByVectors(asked, queries, encode_tokens(model, documents, "document", progress=progress))
    finally:
        model.train(training)


def within(lists: Ragged, ranked: Int[Tensor, " k"] | None) -> tuple[Ragged, Tensor]:
    """Lists of documents by their places among those that compete, and which of the values these are."""
    if ranked is None:
        return lists, torch.ones_like(lists.values, dtype=torch.bool)
    place = torch.searchsorted(ranked, lists.values).clamp(max=len(ranked) - 1)
    there = ranked[place] == lists.values
    rows = torch.repeat_interleave(lists.offsets.diff())[there]
    sizes = torch.bincount(rows, minlength=len(lists.offsets) - 1)
    return Ragged(offsets_from_sizes(sizes), place[there]), there


def best_of(model: Any, part: Retrieval, k: int, *, block: int, progress: Progress | None = None) -> TopItems:
    """The best documents of each query that is asked, without those that are excluded for it."""
    ranker = ranker_of(model, part, progress)
    known = None if part.excluded is None else within(part.excluded, part.ranked)[0]
    return top_items(ranker, part.asked(), min(k, ranker.num_items), known=known, block=block)
