"""Batches in which no item stands twice."""

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from rankwell import keyed
from rankwell.data.batching.passes import BATCHES, PairBatches
from rankwell.types import Ragged

__all__ = ["NoDuplicatesBatches"]

ROWS, ITEMS, ORDER = 35, 36, 37
"""Keep the orders of rows, items and batches apart from what else is keyed by seed and epoch."""

Rows = NDArray[np.int64]


@BATCHES.register("interactions", name="no_duplicates")
class NoDuplicatesBatches(PairBatches):
    r"""No item twice in a batch, and every row once a pass: no negative in the batch is then the row's own positive.

    .. math:: B = \max\left(\lceil n / b \rceil, \max_i c_i\right)

    batches, for the :math:`c_i` rows of item i need as many. Rows are dealt out like cards, item by item: the rows of an item
    fall into different batches, and batches differ by one row in size. Where an item is so popular that it alone decides, they
    are smaller than asked for, and all of one size: filling them in turn would leave a tail of batches with a handful
    of rows, each without negatives. Items, the rows of one, and batches are in random order.

    With ``users`` no user stands twice either. Of a user's rows in one batch the others then wait for the next that has
    neither the user nor the item, and what is left in the end makes a few small batches more; n log n time, as before.

    Time O(n log n) a pass, memory 40 bytes a row.

    Args:
        users: whether no user may stand in a batch twice either.

    >>> pairs = torch.arange(5), torch.tensor([7, 7, 7, 8, 9])  # item 7 needs three batches
    >>> [sorted(batch.items.tolist()) for batch in NoDuplicatesBatches(pairs, 4, seed=0).of_epoch(0)]
    [[7, 9], [7], [7, 8]]
    """

    def __init__(
        self,
        pairs: tuple[Int[Tensor, " n"], Int[Tensor, " n"]],
        batch_size: int,
        *,
        seed: int,
        users: bool = False,
    ) -> None:
        super().__init__(pairs, batch_size, seed=seed)
        self.unique_users = users
        self._times = _occurrences(self.items)
        if users:
            self._times = torch.maximum(self._times, _occurrences(self.users))
        self._dealt_to = max(self.least, int(self._times.max()) if len(self) else 0)
        self._settled: tuple[int, Ragged] | None = None

    def steps(self, epoch: int) -> int:
        """How many batches the pass has: the same for every epoch, unless users wait."""
        return len(self.rows(epoch).offsets) - 1 if self.unique_users else self._dealt_to

    def rows(self, epoch: int) -> Ragged:
        """The rows of each batch."""
        if not self.unique_users:
            return self._dealt(epoch)
        if self._settled is None or self._settled[0] != epoch:
            self._settled = epoch, self._without_repeats(self._dealt(epoch))
        return self._settled[1]

    def _dealt(self, epoch: int) -> Ragged:
        """Rows item by item, dealt to the batches in turn."""
        order = self._order(epoch, ROWS, torch.arange(len(self), device=self.items.device))
        order = order[self._order(epoch, ITEMS, self.items[order])]
        blank = order.new_full((-len(order) % max(self._dealt_to, 1),), -1)
        hands = torch.cat([order, blank]).view(-1, self._dealt_to).T
        hands = hands[self._order(epoch, ORDER, torch.arange(self._dealt_to, device=order.device))]
        there = hands >= 0
        return Ragged(torch.cat([there.new_zeros(1, dtype=torch.int64), there.sum(1).cumsum(0)]), hands[there])

    def _order(self, epoch: int, purpose: int, ids: Tensor) -> Tensor:
        """A random order in which equal ids stand together, and keep theirs."""
        words = keyed.words(keyed.mix(self.seed, epoch, purpose), ids, torch.zeros_like(ids))
        return words.argsort(stable=True)

    def _without_repeats(self, dealt: Ragged) -> Ragged:
        """The same rows; those whose user or item the batch has already wait for a later one."""
        users, items, times, values = (x.cpu().numpy() for x in (self.users, self.items, self._times, dealt.values))
        hands = np.split(values, dealt.offsets[1:-1].cpu().numpy())
        waiting: Rows = values[:0]
        kept: list[Rows] = []
        while len(waiting) or len(kept) < len(hands):
            hand = np.concatenate([waiting, hands[len(kept)]]) if len(kept) < len(hands) else waiting
            # Whoever needs the most batches goes first: to wait would cost them one that they cannot spare.
            hand = hand[np.argsort(-times[hand], kind="stable")]
            fits = _first(users[hand]) & _first(items[hand])
            fits &= np.cumsum(fits) <= self.batch_size
            kept.append(hand[fits])
            waiting = hand[~fits]
        sizes = torch.tensor([0, *map(len, kept)], device=dealt.values.device)
        return Ragged(sizes.cumsum(0), torch.from_numpy(np.concatenate(kept)).to(dealt.values.device))


def _occurrences(ids: Tensor) -> Tensor:
    """How often each row's id occurs."""
    _, numbers, counts = torch.unique(ids, return_inverse=True, return_counts=True)
    occurrences: Tensor = counts[numbers]
    return occurrences


def _first(ids: Rows) -> NDArray[np.bool_]:
    """Whether each is the first of its value."""
    first = np.zeros(len(ids), dtype=np.bool_)
    first[np.unique(ids, return_index=True)[1]] = True
    return first
