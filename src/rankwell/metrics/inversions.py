"""Pairs of items in the right order, counted without making them."""

import torch
from torch import Tensor

__all__ = ["lower_behind", "runs"]

SMALL = 16
"""Length of the blocks inside which pairs are compared directly."""


def lower_behind(labels: Tensor, weights: Tensor | None) -> Tensor:
    """For each position, the weight (None: the number) of the later positions whose label is lower: ``[rows, n]``, float64.

    Blocks of 16 compare all their pairs; then neighbouring blocks are merged, twice as long each time: what stands in the
    left one looks up its label in the sorted right one. Time O(n log² n) a row, memory O(n).
    """
    rows, n = labels.shape
    size = SMALL
    while size < n:
        size *= 2
    weights = labels.new_ones((), dtype=torch.float64) if weights is None else weights.double()
    # What is added stands last with the highest label and no weight.
    labels = torch.nn.functional.pad(labels, (0, size - n), value=torch.inf)
    weights = torch.nn.functional.pad(weights.expand(rows, n), (0, size - n))
    found = _inside_blocks(labels, weights)
    length = SMALL
    while length < size:
        left, right = labels.reshape(rows, -1, 2, length).unbind(2)
        ordered, order = right.sort(dim=-1)
        behind = weights.reshape(rows, -1, 2, length)[:, :, 1].gather(-1, order).cumsum(-1)
        below = torch.searchsorted(ordered, left.contiguous())
        lower = torch.nn.functional.pad(behind, (1, 0)).gather(-1, below)
        found.view(rows, -1, 2, length)[:, :, 0] += lower
        length *= 2
    return found[:, :n]


def _inside_blocks(labels: Tensor, weights: Tensor) -> Tensor:
    blocks, loads = labels.reshape(-1, SMALL), weights.reshape(-1, SMALL)
    found = torch.zeros_like(loads)
    for shift in range(1, SMALL):
        lower = blocks[:, shift:] < blocks[:, :-shift]
        found[:, :-shift] += loads[:, shift:] * lower
    return found.view(labels.shape)


def runs(*keys: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last position of each run of equal keys ``[rows, n]``: where all of them stay the same."""
    n = keys[0].shape[-1]
    places = torch.arange(n, device=keys[0].device)
    changes = torch.stack([key[..., 1:] != key[..., :-1] for key in keys]).any(0)
    opens = torch.nn.functional.pad(changes, (1, 0), value=True)
    closes = torch.nn.functional.pad(changes, (0, 1), value=True)
    start = torch.where(opens, places, 0).cummax(-1).values
    until_end = torch.where(closes.flip(-1), places, 0).cummax(-1).values
    return start, n - until_end.flip(-1)
