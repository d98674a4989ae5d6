"""What metrics of recommended items share: their call, the check of ids, means over lists, blocks of users."""

from collections.abc import Iterator
from typing import Protocol, TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import BLOCK_ITEMS
from rankwell.types import Ragged, Reduction, Values

__all__ = ["ItemLists", "RecommendedMetric", "check_ids", "check_lists", "mean_of", "user_blocks"]

ItemLists: TypeAlias = Int[Tensor, "users k"]
"""Recommended items, best first; an id below 0 where there is none (as in :class:`~rankwell.evaluation.TopItems`)."""


class RecommendedMetric(Protocol):
    """The call of metrics of recommended items, which know neither scores nor labels.

    ``items``: codes of the recommended items, ``[users, k]``, best first. Below 0 nothing stands there, as
    :func:`~rankwell.evaluation.top_items` writes it; the order of the items does not count.

    ``reduction``: ``"none"`` is one value a user, 0 for users that do not count; ``"mean"`` is over users that count. Metrics
    of kind ``catalogue`` are one number for all users together and take none.

    What else the data knows (how often an item was used, what users have, vectors of items) is a required keyword argument.
    Work is done in blocks of users, so that memory beyond inputs and values is bounded.
    """

    def __call__(self, items: ItemLists, *, reduction: Reduction = "mean") -> Values:
        """One value a user, reduced."""
        ...


def check_ids(items: Tensor, num_items: int) -> Bool[Tensor, "users k"]:
    """Which places hold an item. Raises :class:`InputError` unless the ids are codes of the catalogue."""
    if items.ndim != 2 or items.is_floating_point() or items.dtype == torch.bool:
        raise InputError(f"items must be integer codes [users, k]: got {items.dtype} of shape {tuple(items.shape)}.")
    if items.numel() and int(items.max()) >= num_items:
        raise InputError(f"items must be codes below the {num_items} of the catalogue: got {int(items.max())}.")
    return items >= 0


def check_lists(lists: Ragged | None, name: str, users: int) -> Ragged:
    """The lists of all users. Raises :class:`InputError` where there are none, or of other users."""
    if not isinstance(lists, Ragged) or lists.offsets.numel() - 1 != users:
        got = f"{lists.offsets.numel() - 1} lists" if isinstance(lists, Ragged) else type(lists).__name__
        raise InputError(f"{name} must be Ragged with one list for each of the {users} users: got {got}.")
    return lists


def mean_of(of_items: Tensor, items: Tensor, present: Tensor) -> Tensor:
    """Means of what belongs to the items over each user's list; 0 for empty lists."""
    total = torch.where(present, of_items[items.clamp(min=0)], 0).sum(-1)
    return total / present.sum(-1).clamp(min=1)


def user_blocks(cost: Int[Tensor, " users"]) -> Iterator[slice]:
    """Consecutive users whose costs sum to at most ``BLOCK_ITEMS``; a user that costs more stands alone."""
    ends = cost.cumsum(0)
    first, done = 0, 0
    while first < cost.numel():
        last = max(first + 1, int(torch.searchsorted(ends, done + BLOCK_ITEMS, right=True)))
        yield slice(first, last)
        first, done = last, int(ends[last - 1])
