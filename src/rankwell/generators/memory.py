"""Vectors of earlier batches' items as negatives."""

# mypy: allow-untyped-calls

from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.generators.generator import Embedded, Made, generator
from rankwell.generators.known import known_in_pool
from rankwell.losses.memory import EmbeddingMemory
from rankwell.registry import Search
from rankwell.samplers.collisions import KnownItems
from rankwell.samplers.frequencies import PositiveFrequencies
from rankwell.types import Ragged

__all__ = ["MemoryNegatives"]


@generator(name="memory", paper="wang2021cbns")
class MemoryNegatives(nn.Module):
    r"""Negatives are the positives of earlier batches, as their vectors were then: a cross-batch memory, or a momentum queue.

    .. math:: \log q_j = \log p_j, \qquad v_j \leftarrow m\, v_j + (1 - m)\, e_j

    A ring of the last ``size`` items that were positives (:class:`~rankwell.losses.EmbeddingMemory`). They cost no look-up
    and get no gradient. Each stands for one draw with the probability :math:`p_j` that a row has positive j, counted
    in the training pairs; so that the sampled softmax stays corrected, alone or beside sampled negatives. Until the ring is
    full, :math:`q` counts the places that are taken. The row's positive and all that its query knows are masked.

    With a momentum m above 0 what is put in is the mean of the item's new vector and of the one that the ring has of it. That
    is the slow encoder of a momentum queue (MoCo) where the encoder is a look-up: an item's slow vector moves when the item
    comes up, not at every step, and no second table is kept. Time O(known items of the rows + size log size), and of
    scoring O(b size d); memory O(b size + size d + catalogue).

    Args:
        size: places of the memory.
        momentum: m, the share of the remembered vector; 0 puts vectors in as they are.
        beside: whether the sampled negatives stay beside them; without, the first step has no negatives.

    Raises:
        InputError: if ``size`` is below 1, or ``momentum`` is not in [0, 1).

    >>> make = MemoryNegatives(Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 2])), 3, 1, seed=0, size=2)
    >>> rows, ids = torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1])
    >>> seen = Embedded(rows, rows, rows, None, ids, torch.tensor([0, 2]), torch.tensor([[1], [1]]), ids)
    >>> make(seen).where.any(), make.update(seen)
    (tensor(False), None)
    >>> make(seen).where, make(seen).vectors.squeeze(1)  # each row leaves out its own
    (tensor([[False,  True],
            [ True, False]]), tensor([1., 2.]))

    Source: :cite:`wang2021cbns`, cross-batch negatives with their correction, after :cite:`wang2020xbm` and :cite:`he2020`
    (equation numbers unchecked). Differs: counted frequencies; no warm-up; the momentum is of vectors, as said.
    """

    slot: Tensor
    """Where the ring last put each item; stale where another item stands there."""

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        dim: int,
        *,
        seed: int,  # noqa: ARG002
        size: int = 4096,
        momentum: Annotated[float, Search(0.0, 0.99)] = 0.0,
        beside: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise InputError(f"momentum must be at least 0 and below 1: got {momentum}.")
        self.momentum, self.beside = momentum, beside
        self.known = KnownItems(known, num_items)
        self.frequencies = PositiveFrequencies(known, num_items, "counts")
        self.memory = EmbeddingMemory(size, dim)
        self.register_buffer("slot", torch.zeros(num_items, dtype=torch.int64))

    @staticmethod
    def size(size: int, **_: Any) -> tuple[int, int]:
        """Vectors made a row, and for all rows."""
        return 0, size

    def forward(self, seen: Embedded) -> Made:
        """The memory, sorted by item, for all rows of the batch."""
        vectors, ids, filled = self.memory.contents()
        ids, order = ids.sort()
        filled = filled[order]
        there = filled & ~known_in_pool(self.known, ids, seen.query_ids, seen.positive_ids)
        taken = filled.sum().clamp(min=1)
        # A positive that nobody knows was not counted: it is there, so it counts once.
        least = 1 / max(len(self.known.pairs), 1)
        log_q = self.frequencies(ids).exp().clamp(min=least).log() + (taken / len(ids)).log()
        return Made(vectors[order].to(seen.queries.dtype), there, log_q, beside=self.beside)

    @torch.no_grad()
    def update(self, seen: Embedded) -> None:
        """Put in the positives of the step."""
        ids, vectors = seen.positive_ids, seen.positives.detach()
        if self.momentum:
            vectors = self._slowed(ids, vectors)
        before, size = self.memory.count.clone(), len(self.memory.ids)
        self.memory.update(vectors, ids)
        places = (before + torch.arange(len(ids), device=before.device)) % size
        # Of an item that came twice, all occurrences have the same vector: one of the places, and always the same one.
        self.slot.scatter_reduce_(0, ids, places, "amax", include_self=False)

    def _slowed(self, ids: Int[Tensor, " b"], vectors: Float[Tensor, "b d"]) -> Tensor:
        """Moved from what the ring has of the items, where it has something."""
        old, old_ids, filled = self.memory.contents()
        at = self.slot[ids]
        there = filled[at] & (old_ids[at] == ids)
        return torch.where(there[:, None], torch.lerp(vectors, old[at].to(vectors), self.momentum), vectors)
