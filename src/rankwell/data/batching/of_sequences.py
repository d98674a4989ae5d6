"""Passes over sequences: windows of them, in random order."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell import keyed
from rankwell.data.batching.passes import Batches, in_blocks
from rankwell.errors import ConfigError, UnknownName
from rankwell.lists import offsets_from_sizes
from rankwell.types import Ragged

__all__ = ["SequenceBatch", "SequenceBatches"]


class SequenceBatch(NamedTuple):
    """Windows of sequences, as the events that are to be foretold in them: a row an event, its window's rows together.

    ``users``, ``items`` and ``index`` ``[n]`` are of a :class:`~rankwell.data.Batch`: whose event, which item, its number in
    the data. ``history`` holds the event before each, window by window: its values stand beside the items.
    """

    users: Int[Tensor, " n"]
    items: Int[Tensor, " n"]
    index: Int[Tensor, " n"]  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    history: Ragged
    weights: Float[Tensor, " n"] | None = None


class SequenceBatches(Batches[SequenceBatch]):
    r"""Every event that follows another is foretold once a pass: sequences in windows, windows in random order.

    A sequence of n events has n − 1 to foretell, which are cut into windows of ``max_length`` from the newest on; the oldest
    window has what is left. An event's history is its window's beginning. ``windows="last"`` leaves out all but the newest
    window of a user, as the published code of SASRec does. A batch has ``batch_size`` windows; the last may have fewer.

    Time O(events) a pass, memory 24 bytes a window.

    Args:
        sequences: the items of each user, oldest first.
        batch_size: windows of a batch.
        seed: of the order.
        max_length: events of a window.
        windows: ``all``, or a user's ``last``.

    Raises:
        ConfigError: if ``max_length`` or ``batch_size`` is below 1.

    >>> batches = SequenceBatches(Ragged(torch.tensor([0, 4, 5]), torch.tensor([7, 8, 9, 6, 5])), 2, seed=0, max_length=2)
    >>> for batch in batches.of_epoch(0):
    ...     print(batch.history, batch.items)
    Ragged(offsets=tensor([0, 2, 3]), values=tensor([8, 9, 7])) tensor([9, 6, 8])
    """

    def __init__(
        self,
        sequences: Ragged,
        batch_size: int,
        *,
        seed: int,
        max_length: int = 50,
        windows: Literal["all", "last"] = "all",
    ) -> None:
        if max_length < 1:
            raise ConfigError(f"max_length must be at least 1: got {max_length}.")
        if windows not in ("all", "last"):
            raise UnknownName("value of windows", windows, ("all", "last"))
        offsets, items = sequences
        targets = (offsets.diff() - 1).clamp(min=0)
        counts = (targets + max_length - 1).div(max_length, rounding_mode="floor")
        if windows == "last":
            counts.clamp_(max=1)
        users = torch.repeat_interleave(counts)
        newer = torch.arange(len(users), device=users.device) - (counts.cumsum(0) - counts)[users]
        ends = offsets[1:][users] - newer * max_length
        super().__init__(len(users), batch_size, seed=seed)
        self.users, self.events = users, items
        self._starts = torch.maximum(ends - max_length, offsets[users] + 1)
        self._sizes = ends - self._starts

    def rows(self, epoch: int) -> Ragged:
        """A permutation of the windows, cut."""
        # Drawn on the CPU: generators of other devices give other numbers for the same seed.
        order = torch.randperm(len(self), generator=keyed.generator(self.seed, epoch))
        return in_blocks(order.to(self.users.device), self.batch_size)

    def batch(self, index: Int[Tensor, " windows"]) -> SequenceBatch:
        """The events of these windows."""
        sizes = self._sizes[index]
        offsets = offsets_from_sizes(sizes)
        shift = torch.repeat_interleave(self._starts[index] - offsets[:-1], sizes)
        users = torch.repeat_interleave(self.users[index], sizes)
        events = shift + torch.arange(len(shift), device=shift.device)
        return SequenceBatch(users, self.events[events], events, Ragged(offsets, self.events[events - 1]))
