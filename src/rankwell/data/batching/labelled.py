"""Batches of rows and their labels."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell import keyed
from rankwell.data.batching.passes import Batches, in_blocks
from rankwell.data.labelled_rows import indicators, take_features
from rankwell.lists import take_lists
from rankwell.types import Features, Ragged

__all__ = ["LabelBatch", "LabelBatches"]


class LabelBatch(NamedTuple):
    """Rows, a list of all labels each: 1 for those that the row has. ``index`` are the rows' numbers in the data."""

    features: Features
    labels: Float[Tensor, "b labels"]
    index: Int[Tensor, " b"]  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    offsets: None = None
    """Lists are of one length: they need none."""
    weights: Float[Tensor, " labels"] | None = None
    """Of labels; None where all count alike."""


class LabelBatches(Batches[LabelBatch]):
    """Each row once a pass, in random order, ``batch_size`` at a time; the last batch may be smaller.

    Labels become a table of ones and zeros a batch at a time: memory O(batch · labels), never O(rows · labels).

    >>> none = Ragged(torch.zeros(3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    >>> labels = Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 2]))
    >>> batches = LabelBatches(Features(torch.ones(2, 1), none, 0), labels, 3, batch_size=2, seed=0)
    >>> next(batches.of_epoch(0)).labels.sum(0)
    tensor([1., 0., 1.])
    """

    def __init__(
        self,
        features: Features,
        labels: Ragged,
        num_labels: int,
        batch_size: int,
        *,
        seed: int,
        weights: Float[Tensor, " labels"] | None = None,
    ) -> None:
        super().__init__(len(labels.offsets) - 1, batch_size, seed=seed)
        self.features, self.labels, self.num_labels, self.weights = features, labels, num_labels, weights

    def rows(self, epoch: int) -> Ragged:
        """A permutation, cut into batches."""
        order = torch.randperm(len(self), generator=keyed.generator(self.seed, epoch)).to(self.labels.values.device)
        return in_blocks(order, self.batch_size)

    def batch(self, index: Int[Tensor, " b"]) -> LabelBatch:
        """These rows."""
        labels = indicators(take_lists(self.labels, index), self.num_labels)
        return LabelBatch(take_features(self.features, index), labels, index, weights=self.weights)
