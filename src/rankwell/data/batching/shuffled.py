"""Every row once, in random order."""

from collections.abc import Iterator

import torch
from torch import Tensor

from rankwell import keyed
from rankwell.data.batching.passes import BATCHES, Batch, PairBatches, in_blocks
from rankwell.types import Ragged

__all__ = ["ShuffledBatches", "batches"]


@BATCHES.register("interactions", name="shuffled")
class ShuffledBatches(PairBatches):
    """Every row once a pass, in random order; the last batch may be smaller.

    Time O(n) a pass, memory 8 bytes a row.

    >>> pairs = torch.tensor([0, 0, 1]), torch.tensor([5, 6, 7])
    >>> [len(batch.users) for batch in ShuffledBatches(pairs, 2, seed=0).of_epoch(0)]
    [2, 1]
    """

    def rows(self, epoch: int) -> Ragged:
        """A permutation, cut."""
        # Drawn on the CPU: generators of other devices give other numbers for the same seed.
        order = torch.randperm(len(self), generator=keyed.generator(self.seed, epoch))
        return in_blocks(order.to(self.users.device), self.batch_size)


def batches(data: tuple[Tensor, Tensor], *, batch_size: int, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
    """One shuffled pass over (users ``[n]``, items ``[n]``), from step ``start`` on: :class:`ShuffledBatches` in one call.

    The order depends on seed, epoch and n alone: not on the device, other random numbers or earlier passes.

    >>> pairs = torch.tensor([0, 0, 1]), torch.tensor([5, 6, 7])
    >>> [len(batch.users) for batch in batches(pairs, batch_size=2, seed=0, epoch=0)]
    [2, 1]
    """
    return ShuffledBatches(data, batch_size, seed=seed).of_epoch(epoch, start)
