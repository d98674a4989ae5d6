"""Every row once, with a weight by how rare its item is."""

from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.data.batching.passes import BATCHES
from rankwell.data.batching.shuffled import ShuffledBatches
from rankwell.errors import InputError
from rankwell.registry import Input, Search

__all__ = ["WeightedBatches"]


@BATCHES.register("interactions", name="weighted", paper="saito2020", inputs={"item_groups": Input("catalogue", "id")})
class WeightedBatches(ShuffledBatches):
    r"""Shuffled batches whose rows weigh more the rarer their item is, or the group of their item: one on average.

    .. math:: w \propto \min\left(E(c)^{-\eta},\, m\, \overline{E^{-\eta}}\right), \qquad
        E(c) = \frac{1 - \beta^c}{1 - \beta}

    c counts the rows of the item, or of its group. With :math:`\beta = 1`, where :math:`E(c) = c`, it is inverse propensity
    weighting: an item that is seen in proportion to :math:`c^\eta` counts as if all had been seen alike. With
    :math:`\eta = 1` and a :math:`\beta` below 1 it is class-balanced weighting by the effective number of samples. The value of
    a row is multiplied, its positive's and its negatives' part. ``class_balanced`` batches see rare rows more often instead.

    Time O(n) once, and a pass that of :class:`~rankwell.data.ShuffledBatches`; 4 bytes a row more.

    Args:
        item_groups: ``[num_items]``, the code of each item's group.
        exponent: :math:`\eta`; 0 for equal weights.
        beta: :math:`\beta`, in [0, 1].
        most: m, the largest weight before normalising, in mean weights: a few items with one row each would rule a step.

    Raises:
        InputError: for parameters out of range, or groups that are not one whole number an item.

    >>> pairs = torch.arange(4), torch.tensor([0, 0, 0, 1])
    >>> WeightedBatches(pairs, 4, seed=0, exponent=1.0).weights(torch.arange(4))  # 4 / (2 * 3), three times, and 4 / 2
    tensor([0.6667, 0.6667, 0.6667, 2.0000])

    Source: :cite:`saito2020`, whose propensities are counts to the power of .5, equation number unchecked; :cite:`cui2019`,
    eq. 2, for the effective number. Differs from both: rows' weights are one on average, and the whole row is weighted, not the
    positive's term alone.
    """

    def __init__(
        self,
        pairs: tuple[Int[Tensor, " n"], Int[Tensor, " n"]],
        batch_size: int,
        *,
        seed: int,
        exponent: Annotated[float, Search(0.0, 1.0)] = 0.5,
        beta: float = 1.0,
        most: float = 10.0,
        item_groups: Int[Tensor, " m"] | None = None,
    ) -> None:
        super().__init__(pairs, batch_size, seed=seed)
        if not (exponent >= 0 and 0 <= beta <= 1 and most >= 1):
            raise InputError(
                f"exponent must be at least 0, beta in [0, 1] and most at least 1: got {exponent}, {beta} and {most}."
            )
        groups = self.items
        if item_groups is not None:
            if item_groups.ndim != 1 or item_groups.is_floating_point():
                raise InputError(
                    f"item_groups must be one whole number an item: got {item_groups.dtype} {tuple(item_groups.shape)}."
                )
            groups = item_groups.to(self.items.device)[self.items]
        _, numbers, counts = torch.unique(groups, return_inverse=True, return_counts=True)
        counts = counts.double()
        effective = counts if beta == 1 else (1 - beta**counts) / (1 - beta)
        weights = (effective**-exponent)[numbers]
        weights = weights.clamp(max=most * float(weights.mean()) if len(self) else None)
        self._weights: Tensor = (weights / weights.mean()).float()

    def weights(self, index: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """What the values of these rows are multiplied by."""
        return self._weights[index]
