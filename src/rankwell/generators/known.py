"""Which of a pool's items the rows know."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rankwell.samplers.collisions import KnownItems

__all__ = ["known_in_pool"]


def known_in_pool(
    known: KnownItems, pool: Int[Tensor, " n"], queries: Int[Tensor, " b"], positives: Int[Tensor, " b"]
) -> Bool[Tensor, "b n"]:
    """True where an item of the sorted pool is the row's positive, or known to it. Time O(known items of the rows + n).

    >>> from rankwell.types import Ragged
    >>> known = KnownItems(Ragged(torch.tensor([0, 2]), torch.tensor([0, 3])), num_items=5)
    >>> known_in_pool(known, torch.tensor([0, 1, 2, 3]), torch.tensor([0]), torch.tensor([2]))
    tensor([[ True, False,  True,  True]])
    """
    places, items = known.of(queries)
    places = torch.cat([torch.arange(len(queries), device=places.device), places])
    return known.in_pool(pool, len(queries), places, torch.cat([positives, items]))
