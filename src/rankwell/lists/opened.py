"""The arguments of a list loss, checked and cleaned."""

# mypy: allow-untyped-calls

from typing import NamedTuple

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists.edges import check_types, fits, in_full_precision, reduce, shape
from rankwell.lists.flat import Flat
from rankwell.lists.layouts import Dense, Lists
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Values, Weights

__all__ = [
    "Opened",
    "open_lists",
]


class Opened(NamedTuple):
    """Checked and cleaned arguments of a list loss, with the operations of their layout."""

    lists: Lists
    scores: Tensor
    labels: Tensor
    weights: Tensor
    """One an item, or a tensor of ones that broadcasts."""

    @property
    def where(self) -> Mask | None:
        """The mask, None where all is valid."""
        return self.lists.where

    def mean(self, x: Tensor) -> Tensor:
        """Means over the valid items of each list; 0 where there are none."""
        return self.lists.mean(x)

    def cross_entropy(self, shares: Tensor, x: Tensor) -> Tensor:
        """Weighted sums of ``shares`` times minus the log-softmax of ``x``, over the valid items of each list."""
        if self.weights.ndim:
            return self.lists.cross_entropy(self.weights * shares, x)
        return self.weights * self.lists.cross_entropy(shares, x)

    def reduce(self, values: Tensor, reduction: Reduction) -> Values:
        """Reduce values of lists; a list counts when it has a valid item."""
        return reduce(values, self.lists.some(), reduction)


def open_lists(
    scores: Scores, labels: Labels, *, where: Mask | None, weights: Weights | None, offsets: Offsets | None
) -> Opened:
    """Check the arguments of a list loss, and put harmless numbers where ``where`` is false."""
    check_types({"scores": scores}, {"where": where})
    if labels.shape != scores.shape:
        raise InputError(
            f"labels must have the shape of scores: got labels {shape(labels)} and scores {shape(scores)}."
        )
    if scores.ndim == 0:
        raise InputError("scores must have a list axis: got a scalar.")
    if offsets is not None:
        _check_offsets(offsets, scores)
    scores = in_full_precision(scores)
    labels = labels.to(scores.dtype)
    weights = scores.new_ones(()) if weights is None else fits(weights, "weights", scores).to(scores.dtype)
    if where is not None:
        where = fits(where, "where", scores).expand(scores.shape)
        scores, labels, weights = (torch.where(where, x, 0) for x in (scores, labels, weights))
    lists: Lists = Dense(scores, where) if offsets is None else Flat(scores, offsets, where)
    return Opened(lists, scores, labels, weights)


def _check_offsets(offsets: Offsets, scores: Tensor) -> None:
    """Raise unless the offsets cut the flat scores into consecutive lists. Reads two numbers off the device."""
    if not isinstance(offsets, Tensor) or offsets.dtype not in (torch.int32, torch.int64):
        given = offsets.dtype if isinstance(offsets, Tensor) else f"a {type(offsets).__name__}"
        raise InputError(
            f"offsets must be a tensor of int64 or int32: got {given}. Convert by torch.as_tensor(…).long()."
        )
    if scores.ndim != 1 or offsets.ndim != 1 or offsets.numel() == 0:
        raise InputError(
            "with offsets, scores must be flat [total] and offsets [lists + 1]:"
            f" got scores {shape(scores)} and offsets {shape(offsets)}."
        )
    bad = (offsets[0] != 0) | (offsets[-1] != scores.numel()) | (offsets.diff() < 0).any()
    if bool(bad):
        raise InputError(
            f"offsets must start at 0, not fall, and end at the number of scores, {scores.numel()}:"
            f" got first {int(offsets[0])} and last {int(offsets[-1])}."
        )
