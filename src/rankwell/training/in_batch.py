"""Losses of embeddings: each query of a batch against all of its items, and what a generator adds to them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankwell import keyed
from rankwell.generators import Embedded, Generator, Made, Updated
from rankwell.generators.known import known_in_pool
from rankwell.lists import reduce
from rankwell.miners import Miner
from rankwell.samplers.collisions import KnownItems
from rankwell.similarity import dot, normalise
from rankwell.training.generated import check_vectors
from rankwell.training.objective import DROPOUT, MINING, Play, own_term
from rankwell.training.smoothing import Smoothing
from rankwell.types import Auxiliary, Contrast, Mask, Ragged, Scorer

__all__ = ["EmbeddingObjective", "InBatchObjective"]


@dataclass
class InBatchObjective:
    """An embedding loss of the queries and the items of a batch: the steps of any of them.

    A subclass says what it looks up, and which of the items are right for which query. Nothing is sampled and nothing
    corrected. The loss compares by its own similarity; vectors have length one where the model compares by the cosine. Where a
    batch has weights of its own, they multiply the values of its queries.

    A ``generator`` may add vectors: those that the batch shares, as a memory's, for every query; those of a row, for its own
    query alone. It sees the batch's items as the negatives that it makes its own of, but those that are none of the query's.
    The miner looks at the model's scores. Memory O(b^2 + b d), and O(b^2 k + b k d) for k vectors a row.
    """

    model: nn.Module
    loss: Callable[..., Tensor]
    seed: int = field(kw_only=True)
    miner: Miner = field(default_factory=Miner, kw_only=True)
    generator: Generator | None = field(default=None, kw_only=True)
    groups: dict[str, nn.Module] = field(init=False)
    smoothing: Smoothing = field(default=Smoothing(), init=False)

    def __post_init__(self) -> None:
        self.groups = {"model": self.model}
        self._beside: tuple[str, ...] = ()
        if isinstance(self.generator, nn.Module):
            self.groups["generator"] = self.generator
            self._beside = ("generator",) if any(True for _ in self.generator.parameters()) else ()

    def plays(self, batch: Any, *, epoch: int, step: int) -> Iterator[Play]:
        """One play: the mean loss of the batch."""
        dropout = keyed.generator(self.seed, epoch, step, DROPOUT, device=batch.index.device)
        positives, where = self.pairs(batch)
        negatives = ~positives if where is None else where & ~positives
        seen = self.looked_up(batch, negatives, epoch, step, dropout)
        items = seen.negatives
        if self.generator is not None:
            made = self.generator(seen)
            items, where = _with_made(seen, made, positives, where)
            positives = nn.functional.pad(positives, (0, len(items) - len(seen.negatives)))
        if self.miner.steps:
            drawn = keyed.generator(self.seed, epoch, step, MINING, device=batch.index.device)
            where = self.miner.in_batch(dot(seen.queries, items), positives, where=where, generator=drawn)
        given = {"positives": positives, "where": where, **self.given(batch, len(items))}
        loss = self.smoothing.of_pairs(self.loss, epoch, step)
        of_rows = getattr(batch, "weights", None)
        if of_rows is None:
            value = loss(seen.queries, items, **given)
        else:
            there = None if where is None else where.any(-1)  # as losses count queries
            value = reduce(loss(seen.queries, items, **given, reduction="none") * of_rows, there, "mean")
        if isinstance(self.model, Auxiliary):
            value = value + own_term(self.model, self._as_contrast(seen, negatives), self.seed)
        yield Play(value, beside=self._beside)
        maker: object = self.generator
        if isinstance(maker, Updated):
            maker.update(seen)

    def pairs(self, batch: Any) -> tuple[Mask, Mask | None]:
        """``positives`` and ``where`` of the batch, as the loss takes them."""
        raise NotImplementedError

    def looked_up(self, batch: Any, negatives: Mask, epoch: int, step: int, dropout: torch.Generator) -> Embedded:
        """The vectors of the batch; its items stand for the sampled negatives, and ``negatives`` says of which queries."""
        raise NotImplementedError

    def given(self, batch: Any, num_items: int) -> Mapping[str, Any]:  # noqa: ARG002
        """What else the loss is called with."""
        return {}

    def _as_contrast(self, seen: Embedded, negatives: Mask) -> Contrast:
        """The batch as rows of one positive and negatives: the items that the user does not know."""
        scores, users, items = dot(seen.queries, seen.positives), seen.query_ids, seen.positive_ids
        where = negatives[:, : len(items)]
        return Contrast(
            users, items, items, None, None, scores.diagonal(), scores, where, None, epoch=seen.epoch, step=seen.step
        )


@dataclass
class EmbeddingObjective(InBatchObjective):
    """An embedding loss of the batch's users and items.

    A row's positive is its item. Whatever else its user knows, of the batch or of a memory, is left out of that row. The others
    are its negatives: as popular as positives are. ``weights`` holds one number for each row of the data. A model that is
    :class:`~rankwell.types.Auxiliary` adds a term of its own.

    Raises :class:`~rankwell.errors.ConfigError` for a model without vectors.
    """

    known: Ragged
    weights: Float[Tensor, " n"] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_vectors(self.model, "a loss of embeddings compares")
        super().__post_init__()
        self._known = KnownItems(self.known, self.model.num_items)  # type: ignore[arg-type]

    def pairs(self, batch: Any) -> tuple[Mask, Mask | None]:
        """The row's own item, and those that its user does not know beside it."""
        items = self.items(batch)
        pool, order = items.sort()
        found = known_in_pool(self._known, pool, batch.users, batch.items)
        known = torch.empty_like(found).index_copy_(1, order, found)
        own = torch.eye(*known.shape, dtype=torch.bool, device=known.device)
        return own, own | ~known

    def items(self, batch: Any) -> Tensor:
        """Codes of what the queries are compared with, the rows' own items first."""
        own: Tensor = batch.items
        return own

    def looked_up(self, batch: Any, negatives: Mask, epoch: int, step: int, dropout: torch.Generator) -> Embedded:
        """The vectors of users and items."""
        looked = self.model.contrast_vectors(  # type: ignore[operator]
            batch.users, batch.items, batch.items[:0], generator=dropout
        )
        return Embedded(
            looked.queries,
            looked.positives,
            looked.positives,
            negatives,
            batch.users,
            batch.items,
            batch.items,
            batch.index,
            epoch,
            step,
            self.model.similarity == "cosine",
            looked.hops,
            self.model if isinstance(self.model, Scorer) else None,
        )

    def given(self, batch: Any, num_items: int) -> Mapping[str, Any]:  # noqa: ARG002
        """Weights of rows."""
        return {"weights": None if self.weights is None else self.weights[batch.index][:, None]}


def _with_made(seen: Embedded, made: Made, positives: Mask, where: Mask | None) -> tuple[Tensor, Mask]:
    """The batch's items and those that the generator adds, and which pairs count."""
    vectors = normalise(made.vectors) if seen.unit else made.vectors
    b = len(seen.queries)
    there = torch.ones(b, vectors.shape[-2], dtype=torch.bool, device=vectors.device)
    there = there if made.where is None else there & made.where
    if vectors.ndim == 3:  # each row's for its own query: blocks on the diagonal
        own = torch.eye(b, dtype=torch.bool, device=vectors.device)
        vectors, there = vectors.flatten(0, 1), (own[:, :, None] & there[:, None]).flatten(1)
    batch = torch.ones_like(positives) if where is None else where
    batch = batch if made.beside else batch & positives
    return torch.cat([seen.negatives, vectors]), torch.cat([batch, there], 1)
