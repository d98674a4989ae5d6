"""Interactions for losses of embeddings: each user of a batch against all of its items."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import ConfigError
from rankwell.generators import Embedded, Generator, Updated
from rankwell.generators.known import known_in_pool
from rankwell.miners import Miner
from rankwell.samplers.collisions import KnownItems
from rankwell.similarity import dot, normalise
from rankwell.training.generated import check_vectors
from rankwell.training.objective import DROPOUT, MINING, Play, own_term
from rankwell.types import Auxiliary, Contrast, Mask, Ragged, Scorer

__all__ = ["EmbeddingObjective"]


@dataclass
class EmbeddingObjective:
    """An embedding loss of the batch's users and items.

    A user's positives are its row's item and whatever else of the batch it knows; the others are its negatives. Nothing is
    sampled and nothing corrected: the items are as popular as positives are. The loss compares by its own similarity; vectors
    have length one where the model compares by the cosine.

    A ``generator`` may add vectors that the batch shares, as a memory does; what a user knows of them is left out for it. The
    miner looks at the model's scores. ``weights`` holds one number for each row of the data. A model that is
    :class:`~rankwell.types.Auxiliary` adds a term of its own. Memory O(b^2 + b d).

    Raises :class:`~rankwell.errors.ConfigError` for a model without vectors, or a generator whose vectors are of rows.
    """

    model: nn.Module
    loss: Callable[..., Tensor]
    known: Ragged
    seed: int
    weights: Float[Tensor, " n"] | None = None
    miner: Miner = field(default_factory=Miner)
    generator: Generator | None = None
    groups: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        check_vectors(self.model)
        self.groups = {"model": self.model}
        self._known = KnownItems(self.known, self.model.num_items)  # type: ignore[arg-type]
        self._beside: tuple[str, ...] = ()
        if isinstance(self.generator, nn.Module):
            self.groups["generator"] = self.generator
            self._beside = ("generator",) if any(True for _ in self.generator.parameters()) else ()

    def plays(self, batch: Any, *, epoch: int, step: int) -> Iterator[Play]:
        """One play: the mean loss of the batch."""
        dropout = keyed.generator(self.seed, epoch, step, DROPOUT, device=batch.users.device)
        seen = self._looked_up(batch, epoch, step, dropout)
        items, where = seen.positives, None
        positives = self._positives(batch)
        if self.generator is not None:
            items, where = self._with_made(self.generator, seen)
            positives = nn.functional.pad(positives, (0, len(items) - len(batch.items)))
        if self.miner.steps:
            drawn = keyed.generator(self.seed, epoch, step, MINING, device=batch.users.device)
            where = self.miner.in_batch(dot(seen.queries, items), positives, where=where, generator=drawn)
        weights = None if self.weights is None else self.weights[batch.index][:, None]
        value = self.loss(seen.queries, items, positives=positives, where=where, weights=weights)
        if isinstance(self.model, Auxiliary):
            value = value + own_term(self.model, self._as_contrast(seen, positives), self.seed)
        yield Play(value, beside=self._beside)
        maker: object = self.generator
        if isinstance(maker, Updated):
            maker.update(seen)

    def _looked_up(self, batch: Any, epoch: int, step: int, dropout: torch.Generator) -> Embedded:
        """The vectors of the batch; its items stand for the sampled negatives, which there are none of."""
        looked = self.model.contrast_vectors(  # type: ignore[operator]
            batch.users, batch.items, batch.items[:0], generator=dropout
        )
        return Embedded(
            looked.queries,
            looked.positives,
            looked.positives,
            None,
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

    def _as_contrast(self, seen: Embedded, positives: Mask) -> Contrast:
        """The batch as rows of one positive and negatives: the items that the user does not know."""
        scores, users, items = dot(seen.queries, seen.positives), seen.query_ids, seen.positive_ids
        where = ~positives[:, : len(items)]
        return Contrast(
            users, items, items, None, None, scores.diagonal(), scores, where, None, epoch=seen.epoch, step=seen.step
        )

    def _positives(self, batch: Any) -> Mask:
        pool, order = batch.items.sort()
        found = known_in_pool(self._known, pool, batch.users, batch.items)
        return torch.empty_like(found).index_copy_(1, order, found)

    def _with_made(self, generator: Generator, seen: Embedded) -> tuple[Tensor, Mask]:
        """The batch's items and those that the generator adds, and which pairs count."""
        made = generator(seen)
        if made.vectors.ndim != 2:
            raise ConfigError(
                "losses of embeddings compare every user with every item: choose a generator whose vectors the batch shares,"
                " as memory, or none."
            )
        vectors = normalise(made.vectors) if seen.unit else made.vectors
        b = len(seen.queries)
        there = torch.ones(b, len(vectors), dtype=torch.bool, device=vectors.device)
        there = there if made.where is None else there & made.where
        return torch.cat([seen.positives, vectors]), torch.cat([there.new_ones(b, b), there], 1)
