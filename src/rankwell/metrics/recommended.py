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

    ``reduction``: ``"none"`` is one value a user, ``uncounted`` for users that do not count; ``"mean"`` is over users that
    count. Metrics of kind ``catalogue`` are one number for all users together and take neither.

    What else the data knows (how often an item was used, what users have, vectors of items) is a required keyword argument.
    Work is done in blocks of users, so that memory beyond inputs and values is bounded.
    """

    def __call__(self, items: ItemLists, *, reduction: Reduction = "mean", uncounted: float = 0.0) -> Values:
        """One value a user, reduced."""
        ...


def check_ids(items: Tensor, num_items: int) -> Bool[Tensor, "users k"]:
    """Which places hold an item. Raises :class:`InputError` unless the ids are codes of the catalogue."""
    if items.ndim != 2 or _fractional(items):
        raise InputError(f"items must be integer codes [users, k]: got {items.dtype} of shape {tuple(items.shape)}.")
    if items.numel() and int(items.max()) >= num_items:
        raise InputError(f"items must be codes below the {num_items} of the catalogue: got {int(items.max())}.")
    return items >= 0


def check_lists(lists: Ragged | None, name: str, users: int, num_items: int | None = None) -> Ragged:
    """The lists of all users. Raises :class:`InputError` unless there is one a user, of codes of the catalogue.

    Without ``num_items`` any integers will do.
    """
    if not isinstance(lists, Ragged) or lists.offsets.numel() - 1 != users:
        got = f"{lists.offsets.numel() - 1} lists" if isinstance(lists, Ragged) else type(lists).__name__
        raise InputError(f"{name} must be Ragged with one list for each of the {users} users: got {got}.")
    offsets, codes = lists
    if offsets.ndim != 1 or codes.ndim != 1 or _fractional(offsets) or _fractional(codes):
        raise InputError(
            f"{name} must hold integer offsets [users + 1] and item codes [total]: got {offsets.dtype} of shape"
            f" {tuple(offsets.shape)} and {codes.dtype} of shape {tuple(codes.shape)}."
        )
    if int(offsets[0]) or int(offsets[-1]) != codes.numel() or bool((offsets.diff() < 0).any()):
        raise InputError(
            f"offsets of {name} must start at 0, not fall, and end at the number of item codes, {codes.numel()}:"
            f" got first {int(offsets[0])} and last {int(offsets[-1])}."
        )
    if num_items is not None and codes.numel():
        least, most = (int(x) for x in codes.aminmax())
        if least < 0 or most >= num_items:
            raise InputError(
                f"{name} must be codes of the {num_items} items of the catalogue, from 0:"
                f" got {least if least < 0 else most}."
            )
    return lists


def _fractional(x: Tensor) -> bool:
    return x.is_floating_point() or x.dtype == torch.bool


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
