"""Batches of whole lists."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell import keyed
from rankwell.data.batching.passes import Batches, in_blocks
from rankwell.lists import take_lists
from rankwell.types import Ragged

__all__ = ["ListBatch", "ListBatches"]


class ListBatch(NamedTuple):
    """Documents of some lists, one list behind the other; ``index`` are the lists' numbers in the data."""

    features: Float[Tensor, "n f"]
    labels: Float[Tensor, " n"]
    offsets: Int[Tensor, " lists_plus_1"]
    index: Int[Tensor, " lists"]  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    weights: Float[Tensor, " n"] | None = None


class ListBatches(Batches[ListBatch]):
    """Each list once a pass, in random order, ``batch_size`` lists at a time; the last batch may be smaller.

    >>> batches = ListBatches(torch.eye(3), torch.ones(3), torch.tensor([0, 1, 3]), 2, seed=0)
    >>> [batch.offsets.tolist()[-1] for batch in batches.of_epoch(0)]
    [3]
    """

    def __init__(
        self,
        features: Float[Tensor, "n f"],
        labels: Float[Tensor, " n"],
        offsets: Int[Tensor, " lists_plus_1"],
        batch_size: int,
        *,
        seed: int,
        weights: Float[Tensor, " n"] | None = None,
    ) -> None:
        super().__init__(len(offsets) - 1, batch_size, seed=seed)
        self.features, self.labels, self.offsets, self.weights = features, labels, offsets, weights
        self._documents = Ragged(offsets, torch.arange(len(labels), device=offsets.device))

    def rows(self, epoch: int) -> Ragged:
        """A permutation, cut into batches."""
        order = torch.randperm(len(self), generator=keyed.generator(self.seed, epoch)).to(self.offsets.device)
        return in_blocks(order, self.batch_size)

    def batch(self, index: Int[Tensor, " lists"]) -> ListBatch:
        """These lists, whole."""
        taken = take_lists(self._documents, index)
        weights = None if self.weights is None else self.weights[taken.values]
        return ListBatch(self.features[taken.values], self.labels[taken.values], taken.offsets, index, weights)
