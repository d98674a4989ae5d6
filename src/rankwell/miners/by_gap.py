"""Miners that hold negatives against the row's positives."""

from typing import Annotated

import torch
from torch import Tensor

from rankwell.lists import check_positive
from rankwell.miners.miner import MINERS, Miner, Seen, Step
from rankwell.registry import Search
from rankwell.types import Mask

__all__ = ["hard", "multi_similarity", "semi_hard"]


@MINERS.register("negatives", paper="schroff2015", complexity="m + n")
def hard() -> Miner:
    r"""Keeps the negatives that are scored as high as the positive, or higher.

    .. math:: \{ j : s_j \ge s_i \text{ for some positive } i \}

    Those that are ranked wrongly: ``triplet_loss(mining="hard")`` averages over the same. Where all are ranked rightly the
    hardest remains. Time O(m + n) a row.

    >>> hard()(torch.tensor([1.0]), torch.tensor([[2.0, 1.0, 0.9]]))
    tensor([[ True,  True, False]])

    Source: :cite:`schroff2015`, section 3.2. Differs from it: all such negatives, not the hardest alone.
    """

    def keep(seen: Seen) -> Mask:
        return seen.neg >= seen.worst_pos

    return Miner((Step("hard()", keep),))


@MINERS.register("negatives", paper="schroff2015", complexity="(m + n) log m")
def semi_hard(margin: Annotated[float, Search(0.05, 1.0, log=True)] = 0.2) -> Miner:
    r"""Keeps the negatives that are ranked below the positive, by less than a margin.

    .. math:: \{ j : 0 < s_i - s_j \le m \text{ for some positive } i \}

    They still cost a hinge of that margin, and are less often false than those of :func:`hard`: ``triplet_loss`` with
    ``mining="semi_hard"`` averages over the same. Where there are none the hardest remains. Positives are sorted, pairs are
    not made. Time O((m + n) log m) a row.

    Args:
        margin: m, in units of the scores.

    Raises:
        InputError: if ``margin`` is not above 0.

    >>> semi_hard(0.5)(torch.tensor([1.0]), torch.tensor([[1.0, 0.75, 0.5, 0.25]]))
    tensor([[False,  True,  True, False]])

    Source: :cite:`schroff2015`, eq. 4. Differs from it: over scores instead of distances, and all such negatives.
    """
    check_positive(margin, "margin")

    def keep(seen: Seen) -> Mask:
        return _next_above(seen) - seen.neg <= margin

    return Miner((Step(f"semi_hard({margin})", keep),))


def _next_above(seen: Seen) -> Tensor:
    """The least positive above each negative; infinity where there is none."""
    pos = torch.where(seen.pos_where, seen.pos, torch.inf)
    if pos.shape[-1] == 1:
        return torch.where(pos > seen.neg, pos, torch.inf)
    ascending = torch.cat([pos, pos.new_full((*pos.shape[:-1], 1), torch.inf)], -1).sort(-1).values
    return ascending.gather(-1, torch.searchsorted(ascending[..., :-1].contiguous(), seen.neg, right=True))


@MINERS.register("both", paper="wang2019", complexity="m + n")
def multi_similarity(epsilon: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1) -> Miner:
    r"""Keeps the pairs that tell something beside the other side's hardest.

    .. math:: \{ j : s_j + \epsilon > \min_{i \in P} s_i \}, \qquad \{ i \in P : s_i - \epsilon < \max_j s_j \}

    Both sides are held against what came in. ``multi_similarity_loss(epsilon=...)`` does the same inside of the loss. Where
    all negatives are far below all positives the hardest of each side remain. Time O(m + n) a row.

    Args:
        epsilon: a gap in units of the scores; the larger, the more pairs stay.

    Raises:
        InputError: if ``epsilon`` is not above 0.

    >>> pos, neg = torch.tensor([[0.9, 0.5]]), torch.tensor([[0.45, 0.3]])
    >>> multi_similarity(0.1).masks(pos, neg)  # 0.45 + 0.1 > 0.5, and 0.5 - 0.1 < 0.45
    Mined(pos_where=tensor([[False,  True]]), where=tensor([[ True, False]]))

    Source: :cite:`wang2019`, eq. 10 and 11; equation numbers unchecked.
    """
    check_positive(epsilon, "epsilon")

    def negatives(seen: Seen) -> Mask:
        return seen.neg + epsilon > seen.worst_pos

    def positives(seen: Seen) -> Mask:
        return seen.pos - epsilon < seen.best_neg

    return Miner((Step(f"multi_similarity({epsilon})", negatives, positives),))
