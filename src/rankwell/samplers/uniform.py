"""Items drawn uniformly, with known positives redrawn or masked."""

from typing import Annotated

from rankwell.registry import Search
from rankwell.samplers.catalogue import CatalogueSampler
from rankwell.samplers.collisions import Collisions
from rankwell.samplers.registry import sampler
from rankwell.types import Ragged

__all__ = ["UniformSampler"]


@sampler(name="uniform")
class UniformSampler(CatalogueSampler):
    r"""Negatives drawn uniformly from the catalogue, with replacement.

    .. math:: q_j = \frac{1}{|I|}, \qquad \text{redrawn:}\quad q_j = \frac{1}{|I| - |\text{known}_u|}

    Args:
        n: negatives of a row, or of the pool.
        shared: one pool for the whole batch, which turns scoring into one matrix product.
        collisions: where a draw is a known positive of the row: ``redraw`` (rows only), ``mask`` or ``keep``; ``auto`` redraws
            for rows and masks in a pool. A redraw is exact and needs no loop.

    Raises:
        InputError: if a row knows everything and collisions are redrawn, a pool should redraw, or ``n`` is below 1.

    >>> import torch
    >>> known = Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 2]))
    >>> draw = UniformSampler(known, num_items=3, n=4, shared=False, seed=0)
    >>> draw(torch.tensor([0, 1]), torch.tensor([0, 1]), epoch=0, step=0).ids[0]
    tensor([2, 2, 2, 2])
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
    ) -> None:
        super().__init__(known, num_items, seed=seed, n=n, shared=shared, collisions=collisions)
