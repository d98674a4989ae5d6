"""Items drawn by how often they occur, and by their rank in that."""

from typing import Annotated

import torch
from jaxtyping import Int
from torch import Tensor

from rankwell.errors import InputError
from rankwell.registry import Search
from rankwell.samplers.catalogue import CatalogueSampler
from rankwell.samplers.collisions import Collisions, KnownItems
from rankwell.samplers.registry import sampler
from rankwell.types import Ragged

__all__ = ["LogUniformSampler", "PopularitySampler", "count_items"]


def count_items(known: Ragged, num_items: int) -> Int[Tensor, " m"]:
    """How many rows know each item."""
    return KnownItems(known, num_items).known.values.bincount(minlength=num_items)


@sampler(name="popularity", paper="mikolov2013")
class PopularitySampler(CatalogueSampler):
    r"""Negatives drawn by a power of their popularity.

    .. math:: q_j = \frac{(c_j + a)^\alpha}{\sum_k (c_k + a)^\alpha}

    with the count :math:`c_j` of rows that know item j. ``exponent=0`` is uniform, 1 the popularity itself. One alias table is
    built once; a draw takes one look and one comparison. Rows that redraw do so in proportion to the weight that they have left
    (:class:`~rankwell.samplers.catalogue.CatalogueSampler`), and ``log_q`` says so.

    Args:
        n: negatives of a row, or of the pool.
        shared: one pool for the whole batch.
        collisions: where a draw is a known positive of the row: ``redraw`` (rows only), ``mask`` or ``keep``; ``auto`` redraws
            for rows and masks in a pool.
        exponent: :math:`\alpha`; 0.75 in word2vec.
        smoothing: :math:`a`, added to each count, so that items nobody knows can be drawn too; with 0 they are not.

    Raises:
        InputError: if ``exponent`` or ``smoothing`` is below 0, no item has a weight, or a row that redraws has none left.

    >>> import torch
    >>> known = Ragged(torch.tensor([0, 1, 2, 3]), torch.tensor([1, 1, 1]))  # counts 0 and 3: weights 1 and 4
    >>> draw = PopularitySampler(known, num_items=2, n=2, collisions="keep", exponent=1.0, seed=0)
    >>> got = draw(torch.tensor([0]), torch.tensor([0]), epoch=0, step=0)
    >>> got.ids.tolist(), got.log_q.exp()
    ([0, 1], tensor([0.2000, 0.8000]))

    Source: :cite:`mikolov2013`, the noise distribution of negative sampling, counts to the power of 3/4; there is no equation
    number for it. Differs from it: smoothing.
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
        exponent: Annotated[float, Search(0.0, 1.0)] = 0.75,
        smoothing: float = 1.0,
    ) -> None:
        if not exponent >= 0 or not smoothing >= 0:
            raise InputError(f"exponent and smoothing must be at least 0: got {exponent} and {smoothing}.")
        counts = count_items(known, num_items).double() + smoothing
        weights = torch.where(counts > 0, counts**exponent, 0)
        super().__init__(known, num_items, seed=seed, n=n, shared=shared, collisions=collisions, weights=weights)


@sampler(name="log_uniform")
class LogUniformSampler(CatalogueSampler):
    r"""Negatives drawn by their rank in popularity, as Zipf's law has it.

    .. math:: q_j = \frac{\log (r_j + 1) - \log r_j}{\log (|I| + 1)}, \qquad r_j = 1 \text{ for the most popular item}

    The logarithm of a rank is then nearly uniform. Items are ranked by how many rows know them, equal ones by their code:
    codes need not be sorted by frequency. Heavier on the head than the popularity itself, where that falls more slowly than
    1/rank.

    Args:
        n: negatives of a row, or of the pool.
        shared: one pool for the whole batch.
        collisions: where a draw is a known positive of the row: ``redraw`` (rows only), ``mask`` or ``keep``; ``auto`` redraws
            for rows and masks in a pool.

    Raises:
        InputError: if a row knows everything and collisions are redrawn, a pool should redraw, or ``n`` is below 1.

    >>> import torch
    >>> known = Ragged(torch.tensor([0, 1, 2]), torch.tensor([2, 2]))  # ranks 2, 3, 1
    >>> draw = LogUniformSampler(known, num_items=3, n=2, collisions="keep", seed=1)
    >>> got = draw(torch.tensor([0]), torch.tensor([0]), epoch=0, step=0)
    >>> got.ids, got.log_q.exp() * torch.tensor(4.0).log()  # log(3/2), log(2)
    (tensor([0, 2]), tensor([0.4055, 0.6931]))

    Source: not a paper's; the sampler of TensorFlow's ``log_uniform_candidate_sampler``, by its documentation. Differs from
    it: items are ranked here, and draws are with replacement.
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
        ranked = count_items(known, num_items).argsort(descending=True, stable=True)
        weights = torch.empty(num_items, dtype=torch.float64, device=known.values.device)
        ranks = torch.arange(1, num_items + 1, dtype=torch.float64, device=known.values.device)
        weights[ranked] = torch.log1p(1 / ranks)
        super().__init__(known, num_items, seed=seed, n=n, shared=shared, collisions=collisions, weights=weights)
