"""Names for shapes, literals and protocols. Nothing runs here."""

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

__all__ = [
    "Alignment",
    "Auxiliary",
    "Contrast",
    "Empty",
    "FeatureModel",
    "Features",
    "FullRanker",
    "HistoryScorer",
    "Hops",
    "Kind",
    "Labels",
    "Mask",
    "Negatives",
    "Offsets",
    "Overwrite",
    "Ragged",
    "Reduction",
    "SampleScorer",
    "Scorer",
    "Scores",
    "Similarity",
    "Ties",
    "Values",
    "VectorModel",
    "Vectors",
    "Weights",
]

Scores: TypeAlias = Float[Tensor, "*batch list"]
"""Scores of lists: dense ``[*batch, list]``, or ragged ``[total]`` beside ``offsets``."""

Labels: TypeAlias = Real[Tensor, "*batch list"] | Bool[Tensor, "*batch list"]
"""Graded or binary relevance, aligned with the scores; higher is more relevant."""

Mask: TypeAlias = Bool[Tensor, "..."]
"""True where an item is there. Broadcasts to the scores it masks."""

Offsets: TypeAlias = Int[Tensor, " lists_plus_1"]
"""Where each ragged list starts, and the total at the end: ``[0, …, total]``."""

Weights: TypeAlias = Real[Tensor, "..."] | Bool[Tensor, "..."]
"""Broadcasts to scores: one an item, or ``[*batch, 1]`` for one a list. Of any type: cast to that of the scores."""

Values: TypeAlias = Float[Tensor, "..."]
"""What a loss or metric returns: one value a list (``reduction="none"``), or a scalar."""

Reduction: TypeAlias = Literal["none", "mean", "sum"]
Ties: TypeAlias = Literal["expected", "order"]
Empty: TypeAlias = Literal["skip", "zero", "one"]
Similarity: TypeAlias = Literal["dot", "cosine", "euclidean", "squared_euclidean"]
Kind: TypeAlias = Literal["list", "graded", "contrast", "embedding", "head"]
Alignment: TypeAlias = Literal["list", "item", "positive", "pair", "catalogue", "scalar"]


class Ragged(NamedTuple):
    """Lists of different lengths: list ``i`` is ``values[offsets[i]:offsets[i + 1]]``."""

    offsets: Int[Tensor, " lists_plus_1"]
    values: Tensor


class Features(NamedTuple):
    """What is known of users or items beside their ids, a row each: numbers, NaN where one is missing, and categories."""

    numbers: Float[Tensor, "n f"]
    categories: Ragged
    """Codes, none twice in a row's list."""
    num_categories: int


class Negatives:
    """What a sampler hands out, for a batch of ``b`` positives and ``n`` negatives each.

    ``ids`` is ``[b, n]``, or ``[n]`` when the whole batch shares one pool. ``log_q`` is the log-probability of *one* draw,
    aligned with ``ids`` or broadcastable to them (None where the sampler states none, as one that asks the model).
    ``collisions`` is ``[b, n]``, true where the id is a known positive of the row (None where the sampler promises that there
    is none). ``places`` are the flat places where it is true, from samplers that have them at hand: these may give a function
    that makes the mask, which is called when somebody asks for it.
    """

    __slots__ = ("_collisions", "ids", "log_q", "places")

    def __init__(
        self,
        ids: Int[Tensor, "*rows n"],
        log_q: Float[Tensor, "..."] | None,
        collisions: Bool[Tensor, "b n"] | Callable[[], Bool[Tensor, "b n"]] | None,
        places: Int[Tensor, " k"] | None = None,
    ) -> None:
        self.ids, self.log_q, self._collisions, self.places = ids, log_q, collisions, places

    @property
    def collisions(self) -> Bool[Tensor, "b n"] | None:
        """The mask."""
        if callable(self._collisions):
            self._collisions = self._collisions()
        return self._collisions

    def __iter__(self) -> Iterator[Tensor | None]:
        """The four, to be unpacked."""
        yield from (self.ids, self.log_q, self.collisions, self.places)


class Overwrite(NamedTuple):
    """Leave for a loss to write over the scores of negatives, and what is known of them.

    Absent ones are minus infinity already. ``absent`` are their flat places, for losses that count the others; with None the
    mask tells. No other score is larger in magnitude than ``most``.
    """

    absent: Int[Tensor, " k"] | None = None
    most: float = math.inf


@runtime_checkable
class Scorer(Protocol):
    """What samplers and generators may ask of a model."""

    def score(self, queries: Int[Tensor, " q"], items: Int[Tensor, "*q m"]) -> Float[Tensor, "q m"]:
        """Scores of the items, one row a query; items ``[m]`` are shared by all rows."""
        ...

    def query_vectors(self, queries: Int[Tensor, " q"]) -> Float[Tensor, "q d"]:
        """Embeddings of queries."""
        ...

    def item_vectors(self, items: Int[Tensor, " m"] | None = None) -> Float[Tensor, "m d"]:
        """Embeddings of items; of the whole catalogue for None."""
        ...


@runtime_checkable
class SampleScorer(Scorer, Protocol):
    """What samplers may ask of a model that has more to say of a sample than whose it is: of each event of a sequence."""

    def score_samples(self, samples: Int[Tensor, " b"], items: Int[Tensor, "*b m"]) -> Float[Tensor, "b m"]:
        """Scores of the items, one row a sample of the batch; items ``[m]`` are shared by all rows."""
        ...


class Hops(NamedTuple):
    """The layers of a graph encoder (hop 0 is the look-up itself), which its vectors are pooled of."""

    positives: Float[Tensor, "b h d"]
    negatives: Float[Tensor, "*b n h d"]
    pool: Callable[[Tensor], Tensor]
    """From ``[..., h, d]`` to the vectors ``[..., d]`` that are compared."""


class Vectors(NamedTuple):
    """What a model looks up for a batch: vectors that are compared by inner products, of length one under the cosine."""

    queries: Float[Tensor, "b d"]
    positives: Float[Tensor, "b *m d"]
    negatives: Float[Tensor, "*b n d"]
    """``[n, d]`` where the batch shares one pool."""
    hops: Hops | None = None


@runtime_checkable
class VectorModel(Protocol):
    """A model that compares vectors, so that negatives can be made of them."""

    dim: int
    similarity: Similarity

    def contrast_vectors(
        self,
        queries: Int[Tensor, " b"],
        positives: Int[Tensor, "b *m"],
        negatives: Int[Tensor, "*b n"],
        *,
        generator: torch.Generator | None = None,
    ) -> Vectors:
        """The vectors of a training step, with gradient; the generator drives dropout."""
        ...


class Contrast(NamedTuple):
    """What one step puts before its loss: ids and scores of positives and negatives, and what of them counts.

    ``users`` ``[b]``; ``positives`` and ``pos`` ``[b]`` or ``[b, m]``; ``ids`` as drawn, ``[n]`` or ``[b, n]``, None for
    negatives that are no items; ``log_q`` and ``collisions`` as the sampler gave them; ``neg`` ``[b, n]``, the model's own
    scores, before the correction and still in the graph; ``where`` and ``pos_where`` behind sampler and miner, None for all.
    """

    users: Tensor
    positives: Tensor
    ids: Tensor | None
    log_q: Tensor | None
    collisions: Tensor | None
    pos: Tensor
    neg: Tensor
    where: Tensor | None
    pos_where: Tensor | None
    epoch: int
    step: int


@runtime_checkable
class Auxiliary(Protocol):
    """A model with a term of its own, which training adds to the mean loss of each batch."""

    def auxiliary(self, seen: Contrast, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """The term, times its weight; the generator is keyed by seed, epoch and step."""
        ...


@runtime_checkable
class HistoryScorer(Protocol):
    """A model that scores users whom training did not see, by what they know, as it is."""

    num_items: int

    def score_history(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each list of item codes (no code twice in a list), written to ``out`` if given."""
        ...


@runtime_checkable
class FeatureModel(Protocol):
    """A model that makes vectors of items and users whom training did not see, as it is; scores are inner products."""

    num_items: int

    def encode_items(self, features: Features) -> Float[Tensor, "m d"]:
        """Vectors of new items, by their features."""
        ...

    def encode_users(self, features: Features | None = None, *, history: Ragged | None = None) -> Float[Tensor, "q d"]:
        """Vectors of new users, by their features or by the items that each knows."""
        ...

    def query_vectors(self, queries: Int[Tensor, " q"]) -> Float[Tensor, "q d"]:
        """Vectors of users of training."""
        ...

    def item_vectors(self, items: Int[Tensor, " m"] | None = None) -> Float[Tensor, "m d"]:
        """Vectors of items of training; of the whole catalogue for None."""
        ...


class FullRanker(Protocol):
    """What full-catalogue evaluation and recommendation ask of a model."""

    num_items: int

    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each query, written to ``out`` if given."""
        ...
