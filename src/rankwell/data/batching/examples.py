"""Batches of examples with their classes."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from rankwell.data.batching.passes import Batches, PairBatches
from rankwell.types import Ragged

__all__ = ["ExampleBatch", "ExampleBatches"]


class ExampleBatch(NamedTuple):
    """Some examples, and the codes of their classes; ``index`` are their rows in the data."""

    features: Float[Tensor, "b *shape"]
    classes: Int[Tensor, " b"]
    index: Int[Tensor, " b"]  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch


class ExampleBatches(Batches[ExampleBatch]):
    """Examples in the batches that pairs of (example, class) come in: any way of batching pairs is one of batching examples.

    >>> import torch
    >>> from rankwell.data.batching import ClassBalancedBatches
    >>> classes = torch.tensor([0, 1, 0, 1, 1])
    >>> pairs = ClassBalancedBatches((torch.arange(5), classes), 4, seed=0, per_class=2)
    >>> [batch.classes.sort().values.tolist() for batch in ExampleBatches(torch.eye(5), pairs).of_epoch(0)]
    [[0, 0, 1, 1], [0, 0, 1, 1]]
    """

    def __init__(self, features: Float[Tensor, "n *shape"], pairs: PairBatches) -> None:
        super().__init__(len(pairs), pairs.batch_size, seed=pairs.seed)
        self.features, self.pairs = features, pairs

    def steps(self, epoch: int) -> int:
        """As many as of pairs."""
        return self.pairs.steps(epoch)

    def rows(self, epoch: int) -> Ragged:
        """Those of the pairs."""
        return self.pairs.rows(epoch)

    def batch(self, index: Int[Tensor, " b"]) -> ExampleBatch:
        """These examples."""
        return ExampleBatch(self.features[index], self.pairs.items[index], index)
