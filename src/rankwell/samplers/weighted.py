"""Items drawn by weights that are given."""

from typing import Annotated

from jaxtyping import Real
from torch import Tensor

from rankwell.errors import InputError
from rankwell.registry import Input, Search
from rankwell.samplers.catalogue import CatalogueSampler
from rankwell.samplers.collisions import Collisions
from rankwell.samplers.registry import sampler
from rankwell.types import Ragged

__all__ = ["WeightedSampler"]


@sampler(name="weighted", inputs={"item_weights": Input("catalogue", required=True)})
class WeightedSampler(CatalogueSampler):
    r"""Negatives drawn in proportion to a number that each item has: price, exposure, recency.

    .. math:: q_j = \frac{w_j}{\sum_k w_k}

    Items of weight 0 are never drawn. ``item_weights`` is an input of the data, not a parameter.

    Args:
        item_weights: ``[num_items]``, finite, none below 0.
        n: negatives of a row, or of the pool.
        shared: one pool for the whole batch.
        collisions: where a draw is a known positive of the row: ``redraw`` (rows only), ``mask`` or ``keep``; ``auto`` redraws
            for rows and masks in a pool.

    Raises:
        InputError: if there are no weights, their shape is another, one is below 0 or not finite, all are 0, or a row that
            redraws knows every item that has a weight.

    >>> import torch
    >>> known = Ragged(torch.tensor([0, 1]), torch.tensor([2]))
    >>> draw = WeightedSampler(known, 3, n=2, shared=False, seed=0, item_weights=torch.tensor([0.0, 1.0, 7.0]))
    >>> draw(torch.tensor([0]), torch.tensor([0]), epoch=0, step=0).ids
    tensor([[1, 1]])
    """

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        *,
        seed: int,
        n: Annotated[int, Search(64, 4096, log=True)] = 1024,
        shared: bool = True,
        collisions: Collisions = "auto",
        item_weights: Real[Tensor, " m"] | None = None,
    ) -> None:
        if item_weights is None:
            raise InputError("weighted draws by item_weights, one number an item: got none. Pass them.")
        super().__init__(known, num_items, seed=seed, n=n, shared=shared, collisions=collisions, weights=item_weights)
