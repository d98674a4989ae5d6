"""Miners that keep the best-scored: of the negatives so many or such a share, of the positives one."""

import math
from typing import Annotated

import torch

from rankwell.errors import InputError
from rankwell.miners.miner import MINERS, Miner, Seen, Step
from rankwell.registry import Search
from rankwell.types import Mask

__all__ = ["easy_positive", "hardest", "top_fraction"]

ROUNDING = 2e-7
"""Share taken off before rounding up, more than float32 may be off: a tenth of 30 is 3, not 4."""


@MINERS.register("negatives", paper="hermans2017", complexity="n")
def hardest(k: Annotated[int, Search(1, 100, log=True)] = 10) -> Miner:
    r"""Keeps the k best-scored negatives of each row.

    .. math:: \{ j : \text{fewer than } k \text{ negatives have a score above } s_j \}

    A loss over these is the loss over ``neg.topk(k)``; with k = 1 a hinge is that of the batch-hard triplet, and of SimCE.
    :func:`top_fraction` keeps a share. Of scores that are equal at the edge any may stay. Time O(n) a row.

    Args:
        k: how many; all, where there are fewer.

    Raises:
        InputError: if ``k`` is below 1.

    >>> hardest(2)(torch.tensor([0.0]), torch.tensor([[3.0, 1.0, 2.0]]))
    tensor([[ True, False,  True]])

    Source: :cite:`hermans2017`, "batch hard", for k = 1. Differs from it: any k, and the positives stay as they are.
    """
    if k < 1:
        raise InputError(f"k must be at least 1: got {k}.")

    def keep(seen: Seen) -> Mask:
        best = seen.neg.topk(min(k, seen.neg.shape[-1]), -1, sorted=False).indices
        return torch.zeros_like(seen.where).scatter(-1, best, True)

    return Miner((Step(f"hardest({k})", keep),))


@MINERS.register("negatives", paper="shrivastava2016", complexity="n log(f n)")
def top_fraction(fraction: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1) -> Miner:
    r"""Keeps a share of each row's negatives, the best-scored ones.

    .. math:: \{ j : \text{fewer than } \lceil f n \rceil \text{ negatives have a score above } s_j \}

    n counts what is there, so that rows with many masked negatives keep fewer; :func:`hardest` keeps a number. Time
    O(n log(f n)) a row.

    Args:
        fraction: f, above 0 and up to 1, which keeps all.

    Raises:
        InputError: if ``fraction`` is not in (0, 1].

    >>> top_fraction(0.5)(torch.tensor([0.0]), torch.tensor([[3.0, 1.0, 2.0]]))  # half of three, rounded up
    tensor([[ True, False,  True]])

    Source: :cite:`shrivastava2016`. Differs from it: negatives of one row compete, by score, where there all examples of a
    batch do, by loss.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"fraction must be above 0 and at most 1: got {fraction}.")
    share = fraction * (1 - ROUNDING)

    def keep(seen: Seen) -> Mask:
        number = (seen.where.sum(-1, keepdim=True, dtype=torch.int32) * share).ceil()
        order = seen.neg.topk(math.ceil(seen.neg.shape[-1] * share), -1).indices
        return torch.zeros_like(seen.where).scatter(
            -1, order, torch.arange(order.shape[-1], device=order.device) < number
        )

    return Miner((Step(f"top_fraction({fraction})", keep),))


@MINERS.register("positives", paper="xuan2020", complexity="m")
def easy_positive() -> Miner:
    r"""Keeps the best-scored positive of each row.

    .. math:: \{ i : s_i = \max_{i' \in P} s_{i'} \}

    A query then need not be near all of its positives, only near one. Of equal scores the first stays. Negatives stay as they
    are; a row with one positive is left alone. Time O(m) a row.

    >>> pos, neg = torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[0.0]])
    >>> easy_positive().masks(pos, neg).pos_where
    tensor([[False,  True, False]])

    Source: :cite:`xuan2020`, section 3; equation number unchecked.
    """

    def keep(seen: Seen) -> Mask:
        scores = torch.where(seen.pos_where, seen.pos, -torch.inf)
        return torch.zeros_like(seen.pos_where).scatter(-1, scores.argmax(-1, keepdim=True), True)

    return Miner((Step("easy_positive()", positives=keep),))
