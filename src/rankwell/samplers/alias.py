"""Weighted draws in constant time: whole-number weights and the alias table made of them."""

import torch
from jaxtyping import Int, Real
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError

__all__ = ["AliasTable", "whole_weights"]

TOTAL = 2**31 - 1
"""What whole weights add up to at most: the largest bound that 32 random bits are multiplied by."""


def whole_weights(weights: Real[Tensor, " m"]) -> Int[Tensor, " m"]:
    """Weights as whole numbers that sum to 2^31 − 1 at most; what is above 0 stays above 0.

    Everything that is drawn and stated (frequencies, log q, what a row has left) is computed from these, so that it agrees
    exactly; only the wish behind the weights is rounded, by half a unit of 2^31.

    >>> whole_weights(torch.tensor([1.0, 0.0, 3.0])).tolist()
    [536870911, 0, 1610612733]
    """
    if weights.ndim != 1 or not bool((torch.isfinite(weights) & (weights >= 0)).all()) or not bool(weights.any()):
        raise InputError(
            "weights of items must be [num_items] numbers, finite, none below 0 and one at least above it: got shape"
            f" {tuple(weights.shape)}{f', {weights.min():.6g} to {weights.max():.6g}' if weights.numel() else ''}."
        )
    share = weights.double() / weights.double().max()  # so that the sum cannot overflow
    positive = weights > 0
    room = TOTAL - int(positive.sum())
    whole = torch.floor(share / share.sum() * room).long()
    return torch.where(positive, whole.clamp(min=1), 0)


class AliasTable:
    """Draws items in proportion to whole weights: one column, one comparison, whatever the catalogue's size.

    Each of m columns holds the same mass; a column's own item has the mass below ``threshold`` and one other item,
    ``alias``, the rest. Light items are filled up by heavy ones in order of their number: who fills whom is one search in
    the running sums of what is lacking and what is left over, so that the table is made without a loop over items, in
    O(m log m). In integers it is exact.

    >>> table = AliasTable(torch.tensor([1, 0, 3]))  # columns of 4: 3 + 1 of item 2, 0 + 4 of item 2, 4 of item 2 itself
    >>> table.threshold.tolist(), table.alias.tolist()
    ([3, 0, 4], [2, 2, 2])
    """

    def __init__(self, weights: Int[Tensor, " m"]) -> None:
        self.total = int(weights.sum())
        mass = weights * len(weights)
        lights, heavies = (mass < self.total).nonzero().squeeze(1), (mass >= self.total).nonzero().squeeze(1)
        own = self.total - mass[lights]
        lacking, left_over = own.cumsum(0), (mass[heavies] - self.total).cumsum(0)
        self.threshold = torch.full_like(weights, self.total)
        self.alias = torch.arange(len(weights), device=weights.device)
        self.threshold[lights] = mass[lights]
        self.alias[lights] = heavies[torch.searchsorted(left_over, lacking - own, right=True)]
        # A heavy item whose last light one takes more than it can spare is filled up by the next heavy one.
        until = torch.searchsorted(lacking, left_over, right=True)
        begins = torch.cat([lacking - own, lacking.new_full((1,), self.total * len(weights))])[until]
        short = (begins < left_over).nonzero().squeeze(1)
        self.threshold[heavies[short]] = self.total - (lacking[until[short]] - left_over[short])
        self.alias[heavies[short]] = heavies[short + 1]

    def draw(self, bits: Int[Tensor, "*b"]) -> Int[Tensor, "*b"]:
        """An item for each 64 random bits."""
        columns = keyed.high(bits, len(self.alias))
        return torch.where(keyed.low(bits, self.total) < self.threshold[columns], columns, self.alias[columns])
