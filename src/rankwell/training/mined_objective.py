"""Losses of embeddings with more items than the batch's own: those that were mined for its rows."""

# mypy: allow-untyped-calls

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.generators import Embedded
from rankwell.samplers import Sampler
from rankwell.training.in_batch import EmbeddingObjective
from rankwell.training.objective import Play
from rankwell.types import Mask, Scorer

__all__ = ["MinedEmbeddingObjective"]


class _Widened(NamedTuple):
    """A batch, and the items that its queries are compared with: its own, then the others."""

    users: Int[Tensor, " b"]
    items: Int[Tensor, " b"]
    index: Int[Tensor, " b"]  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    pool: Int[Tensor, " n"]
    weights: Float[Tensor, " b"] | None


@dataclass
class MinedEmbeddingObjective(EmbeddingObjective):
    """An embedding loss of the batch's queries, and of its items and those that a sampler adds, each once.

    All of :class:`EmbeddingObjective`; the sampler's items are compared with every query that does not know them, not with the
    row's alone. What the sampler says of log q is not looked at.
    """

    sampler: Sampler = field(kw_only=True)

    def plays(self, batch: Any, *, epoch: int, step: int) -> Iterator[Play]:
        """One play: the mean loss of the batch."""
        drawn = self.sampler(batch.users, batch.index, epoch=epoch, step=step, positives=batch.items)
        ids = drawn.ids.unique()
        pool = torch.cat([batch.items, ids[~torch.isin(ids, batch.items)]])
        widened = _Widened(batch.users, batch.items, batch.index, pool, getattr(batch, "weights", None))
        yield from super().plays(widened, epoch=epoch, step=step)

    def items(self, batch: Any) -> Tensor:
        """Those of the rows, then the sampler's."""
        pool: Tensor = batch.pool
        return pool

    def looked_up(self, batch: Any, negatives: Mask, epoch: int, step: int, dropout: torch.Generator) -> Embedded:
        """The vectors of queries and items."""
        more = batch.pool[len(batch.items) :]
        looked = self.model.contrast_vectors(batch.users, batch.items, more, generator=dropout)  # type: ignore[operator]
        return Embedded(
            looked.queries,
            looked.positives,
            torch.cat([looked.positives, looked.negatives]),
            negatives,
            batch.users,
            batch.items,
            batch.pool,
            batch.index,
            epoch,
            step,
            self.model.similarity == "cosine",
            looked.hops,
            self.model if isinstance(self.model, Scorer) else None,
        )
