"""Passes over interactions in batches: what every way of batching shares, and the names of the ways."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import ClassVar, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell.errors import ConfigError, InputError
from rankwell.registry import Registry
from rankwell.types import Ragged

__all__ = ["BATCHES", "Batch", "Batches", "PairBatches", "in_blocks", "num_batches"]

B = TypeVar("B")

AHEAD = 1 << 15
"""Rows that are looked up at once, for batches to come."""


class Batch(NamedTuple):
    """Users and items ``[b]``, int64, and ``index`` ``[b]``: each pair's row in the data, the key for samplers.

    ``weights`` ``[b]`` are what the values of rows are multiplied by before their mean is taken, None where all count alike.
    ``coming`` are the users of this batch and of those that follow, a list for each, where that is known: a sampler can look
    up for all of them at once.
    """

    users: Int[Tensor, " b"]
    items: Int[Tensor, " b"]
    index: Int[Tensor, " b"]  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    weights: Float[Tensor, " b"] | None = None
    coming: Ragged | None = None


class Batches(nn.Module, Generic[B]):
    """A way of cutting the rows of the data into the batches of a pass.

    A subclass says which rows each batch of an epoch has (:meth:`rows`), as a function of seed, epoch and its buffers
    alone; how many batches that makes (:meth:`steps`), if it is another number than rows / batch size, rounded up; and what is
    in a batch of rows.

    One whose batches depend on how training goes ``learns``: the loop tells it the losses of rows after each step. What it
    remembers is in buffers; checkpoints keep them.

    Raises :class:`ConfigError` for a batch size below 1.
    """

    learns: ClassVar[bool] = False

    def __init__(self, num_rows: int, batch_size: int, *, seed: int) -> None:
        super().__init__()
        self.num_rows, self.batch_size, self.seed = num_rows, batch_size, seed
        self.least = num_batches(num_rows, batch_size)

    def __len__(self) -> int:
        """How many rows the data have."""
        return self.num_rows

    def steps(self, epoch: int) -> int:  # noqa: ARG002
        """How many batches the pass has."""
        return self.least

    def rows(self, epoch: int) -> Ragged:
        """The rows of each batch of the pass: as many lists as :meth:`steps` says."""
        raise NotImplementedError

    def batch(self, index: Int[Tensor, " b"]) -> B:
        """The batch of these rows."""
        raise NotImplementedError

    def of_epoch(self, epoch: int, start: int = 0) -> Iterator[B]:
        """The batches of a pass from step ``start`` on: those that a whole pass gives from there.

        Raises :class:`ConfigError` for a start outside 0 … number of batches.
        """
        steps = self.steps(epoch)
        if not 0 <= start <= steps:
            raise ConfigError(f"start must be a step of the epoch, 0 … {steps}: got {start}.")
        return self._batches(self.rows(epoch), start)

    def learn(self, index: Int[Tensor, " b"], values: Float[Tensor, " b"]) -> None:
        """Take in the losses of the rows of a step."""

    def _batches(self, rows: Ragged, start: int) -> Iterator[B]:
        for first, last in itertools.pairwise(rows.offsets.tolist()[start:]):
            yield self.batch(rows.values[first:last])


class PairBatches(Batches[Batch]):
    """Batches of pairs of user and item.

    Built as ``PairBatches(pairs, batch_size, *, seed, own parameters)`` from (users ``[n]``, items ``[n]``), which may be on
    any device.

    Raises :class:`InputError` for users and items of different shape.
    """

    def __init__(self, pairs: tuple[Int[Tensor, " n"], Int[Tensor, " n"]], batch_size: int, *, seed: int) -> None:
        users, items = pairs
        if users.dim() != 1 or users.shape != items.shape:
            raise InputError(
                "users and items must have one dimension and the same shape:"
                f" got {tuple(users.shape)} and {tuple(items.shape)}."
            )
        super().__init__(len(users), batch_size, seed=seed)
        self.users, self.items = users, items

    def batch(self, index: Int[Tensor, " b"]) -> Batch:
        """The pairs of these rows."""
        # index_select, for tensor indexing takes several times as long.
        return Batch(self.users.index_select(0, index), self.items.index_select(0, index), index, self.weights(index))

    def weights(self, index: Int[Tensor, " b"]) -> Float[Tensor, " b"] | None:  # noqa: ARG002
        """What the values of these rows are to be multiplied by; None where all count alike."""
        return None

    def _batches(self, rows: Ragged, start: int) -> Iterator[Batch]:
        """Looked up for some batches at a time, and handed out one by one."""
        at_once = max(1, AHEAD // self.batch_size)
        for first in range(start, len(rows.offsets) - 1, at_once):
            bounds = rows.offsets[first : first + at_once + 1]
            together = self.batch(rows.values[bounds[0] : bounds[-1]])
            coming: Ragged | None = Ragged(bounds - bounds[0], together.users)
            sizes = bounds.diff().tolist()
            parts = (
                [None] * len(sizes) if each is None else each.split_with_sizes(sizes)
                for each in (together.users, together.items, together.index, together.weights)
            )
            for users, items, rows_of, weights in zip(*parts, strict=True):
                yield Batch(users, items, rows_of, weights, coming)
                coming = None


BATCHES: Registry[Callable[..., PairBatches]] = Registry("batch", {"interactions": ("pairs", "batch_size", "seed")})


def num_batches(rows: int, batch_size: int) -> int:
    """How many batches a pass has, the last partial one included.

    >>> num_batches(5, 2)
    3
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1: got {batch_size}.")
    return math.ceil(rows / batch_size)


def in_blocks(order: Int[Tensor, " n"], size: int) -> Ragged:
    """Consecutive rows in batches of one size; the last may be smaller.

    >>> in_blocks(torch.tensor([4, 0, 2]), 2).offsets
    tensor([0, 2, 3])
    """
    starts = torch.arange(0, len(order), size, device=order.device)
    return Ragged(torch.cat([starts, starts.new_full((1,), len(order))]), order)
