"""Shuffled passes over interactions, keyed by seed and epoch so that a run resumes in the middle of one."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from rankwell import keyed
from rankwell.errors import ConfigError, InputError

__all__ = ["Batch", "batches", "num_batches"]


class Batch(NamedTuple):
    """Users and items ``[b]``, int64, and ``index`` ``[b]``: each pair's row in the data, the key for samplers."""

    users: Int[Tensor, " b"]
    items: Int[Tensor, " b"]
    index: Int[Tensor, " b"]  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch


def batches(data: tuple[Tensor, Tensor], *, batch_size: int, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
    """One shuffled pass over (users ``[n]``, items ``[n]``), from step ``start`` on; the last batch may be smaller.

    The order depends on seed, epoch and n alone: not on the device, other random numbers or earlier passes, and the batches
    from step s on are those that a whole pass gives from there. Tensors may be on any device; batches are on the same.
    Time O(n) at the start, memory 8 bytes a row.

    Raises :class:`InputError` for users and items of different shape, :class:`ConfigError` for a batch size below 1 or a
    start outside 0 … number of batches.

    >>> pairs = torch.tensor([0, 0, 1]), torch.tensor([5, 6, 7])
    >>> [len(batch.users) for batch in batches(pairs, batch_size=2, seed=0, epoch=0)]
    [2, 1]
    """
    users, items = data
    if users.dim() != 1 or users.shape != items.shape:
        raise InputError(
            f"users and items must have one dimension and the same shape: got {tuple(users.shape)} and {tuple(items.shape)}."
        )
    steps = num_batches(len(users), batch_size)
    if not 0 <= start <= steps:
        raise ConfigError(f"start must be a step of the epoch, 0 … {steps}: got {start}.")
    return _batches(users, items, batch_size, keyed.generator(seed, epoch), start)


def num_batches(rows: int, batch_size: int) -> int:
    """How many batches a pass has, the last partial one included.

    >>> num_batches(5, 2)
    3
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1: got {batch_size}.")
    return math.ceil(rows / batch_size)


def _batches(users: Tensor, items: Tensor, batch_size: int, generator: torch.Generator, start: int) -> Iterator[Batch]:
    # The permutation is drawn on the CPU: generators of other devices give other numbers for the same seed.
    order = torch.randperm(len(users), generator=generator).to(users.device)
    for first in range(start * batch_size, len(order), batch_size):
        index = order[first : first + batch_size]
        yield Batch(users[index], items[index], index)
