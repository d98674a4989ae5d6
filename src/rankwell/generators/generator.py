"""The names of generators, and the call that all of them answer to."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from rankwell import keyed
from rankwell.registry import Input, Registry
from rankwell.types import Hops, Mask, Scorer

__all__ = ["GENERATORS", "Embedded", "Generator", "Made", "Updated", "chosen", "generator", "shares", "whole"]

MADE = 40
"""Keeps the random numbers of generators apart from those drawn for other purposes in the same epoch."""


class Embedded(NamedTuple):
    """What a step has looked up, for generators to make negatives of. All vectors are ready to compare by inner products."""

    queries: Float[Tensor, "b d"]
    positives: Float[Tensor, "b d"]
    """One a row; of several the first."""
    negatives: Float[Tensor, "*b n d"]
    """``[b, n, d]``, or ``[n, d]`` where the batch shares one pool."""
    where: Bool[Tensor, "b n"] | None
    """False where a negative is a known positive of the row; None where all are valid. What is masked may be anything."""
    query_ids: Int[Tensor, " b"]
    positive_ids: Int[Tensor, " b"]
    negative_ids: Int[Tensor, "*b n"]
    samples: Int[Tensor, " b"]
    """The rows' numbers in the data: the key of their random numbers, with seed and epoch."""
    epoch: int = 0
    step: int = 0
    unit: bool = False
    """Whether the model compares by the cosine: vectors have length one, and what is made gets it."""
    hops: Hops | None = None
    """The layers that vectors were pooled of, for graph encoders."""
    scorer: Scorer | None = None
    """The model, without gradient: for generators that look at the whole catalogue from time to time."""


class Made(NamedTuple):
    """Negatives made of embeddings."""

    vectors: Float[Tensor, "*b n d"]
    """``[b, n, d]``, or ``[n, d]`` where the batch shares them."""
    where: Mask | None = None
    """True where one is there, broadcast to ``[b, n]``; None for all of them. A masked vector must be finite."""
    log_q: Float[Tensor, "..."] | None = None
    """As in :class:`~rankwell.types.Negatives`; only where the vectors are draws from the catalogue, which mixtures are not."""
    beside: bool = False
    """Whether the sampled negatives stay, and these come behind them; or are replaced."""
    penalty: Float[Tensor, ""] | None = None
    """A term that the generator adds to the loss, to train what it has of its own."""


class Generator(Protocol):
    """Makes negatives of embeddings, after looking up and before scoring.

    A generator is built as ``Generator(known, num_items, dim, *, seed, own parameters)``: the items that each query knows
    (ascending), the size of the catalogue, the length of vectors, and the seed of all draws. What else the data know (texts,
    views of items) is a declared input. Draws are keyed by (seed, epoch, sample, place), so that a row gets the same vectors
    in whatever batch it comes, where its negatives are the same.

    A class may say by ``size(**own parameters)``, static, how many vectors it makes a row, and how many for all rows: what is
    planned for its memory. Without, as many a row as are sampled.

    One with parameters or state is an ``nn.Module``. The objective trains its parameters beside the model's and checkpoints
    keep its buffers; the call has no side effect, and what a step leaves behind is taken in by ``update`` (:class:`Updated`).
    """

    def __call__(self, seen: Embedded) -> Made:
        """The negatives of a step. Gradients flow to the vectors that they are made of, unless the generator says otherwise."""
        ...


@runtime_checkable
class Updated(Protocol):
    """A generator that takes something in from each step."""

    def update(self, seen: Embedded) -> None:
        """Called once a step, when the parameters have moved."""
        ...


GENERATORS: Registry[Callable[..., Generator]] = Registry(
    "generator", dict.fromkeys(("vectors", "text"), ("known", "num_items", "dim", "seed"))
)
"""Every generator by its name. The kind says what it makes negatives of: the step's vectors alone, or texts besides."""


def generator(
    *, name: str, kind: str = "vectors", paper: str | None = None, inputs: Mapping[str, Input] | None = None
) -> Callable[[Any], Any]:
    """Register a generator class. ``inputs`` are declared extra inputs of the constructor, which the data know."""
    return GENERATORS.register(kind, name=name, paper=paper, inputs=inputs)


def whole(seen: Embedded) -> Embedded:
    """The same with zeros for vectors that are masked: in their rows, or in all rows of a pool.

    What is masked in some rows of a pool alone still has to be masked by who uses it, with ``seen.where``.
    """
    if seen.where is None:
        return seen
    some = seen.where if seen.negatives.ndim == 3 else seen.where.any(0)
    hops = seen.hops
    if hops is not None:
        hops = hops._replace(negatives=torch.where(some[..., None, None], hops.negatives, 0))
    return seen._replace(negatives=torch.where(some[..., None], seen.negatives, 0), hops=hops)


def chosen(vectors: Float[Tensor, "*b n d"], places: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """The vectors at these places of each row, or of the pool that rows share.

    >>> chosen(torch.tensor([[1.0], [2.0]]), torch.tensor([[1], [0], [1]])).squeeze(-1)
    tensor([[2.],
            [1.],
            [2.]])
    """
    if vectors.ndim == 3:
        starts = torch.arange(len(places), device=places.device)[:, None] * vectors.shape[1]
        places, vectors = places + starts, vectors.flatten(0, 1)
    # An embedding look-up: the gradient of indexing takes several times as long.
    return functional.embedding(places, vectors)


def shares(seed: int, seen: Embedded, n: int, purpose: int = 0) -> Float[Tensor, "b n"]:
    """``n`` random numbers in [0, 1) for each row, keyed by (seed, epoch, sample, place) and what they are for."""
    places = torch.arange(n, device=seen.samples.device)
    bits = keyed.words(keyed.mix(seed, seen.epoch, MADE, purpose), seen.samples[:, None], places)
    return keyed.high(bits, 1 << 24).to(seen.queries.dtype) / (1 << 24)  # exact in float32
