r"""What the pairs of a list weigh: gains of the labels, and factors of the ranks under the present scores.

A pair weighs the difference of its gains, times a factor that does not change when the two items change places.
"""

# mypy: allow-untyped-calls

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from rankwell.kernels.gains import exponential_gains

__all__ = ["WEIGHTS", "Items", "Weighing"]

Items: TypeAlias = Sequence[Tensor]
"""Tables of the items of lists: all of them ``[g, n]``, or as rows ``[g, r, 1]`` and columns ``[g, 1, c]`` of pairs."""


class Weighing(NamedTuple):
    """What the pairs of lists ``[g, n]`` weigh."""

    tables: Items
    """The gains, and what else the factor reads of an item."""
    factor: Callable[[Items, Items], Tensor] | None = None
    """From the tables of rows and columns; None is one."""
    every: bool = False
    """Whether an item has its gain over every other item, whatever the labels."""


def _ranks(like: Tensor) -> Tensor:
    return torch.arange(1, like.shape[-1] + 1, device=like.device, dtype=like.dtype).expand(like.shape)


def _discounts(like: Tensor) -> Tensor:
    n = like.shape[-1]
    # Kept on a CPU only: on another device a second stream might read what the first one has yet to write.
    table = _discount_table if like.device.type == "cpu" else _discount_table.__wrapped__
    return table(1 << n.bit_length(), like.dtype, like.device)[:n].expand(like.shape)


@functools.lru_cache(maxsize=4)
def _discount_table(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.arange(2, n + 2, device=device, dtype=dtype).log2_().reciprocal_()


def _gains(labels: Tensor, k: int) -> Tensor:
    """Exponential gains over the DCG of the best order cut at k; both over 2^top, so that large labels do not overflow."""
    labels = labels.clamp(min=0)
    gains = exponential_gains(labels, labels.amax(-1, keepdim=True))
    best = gains.topk(k).values
    ideal = best.mul_(_discounts(best)).sum(-1, keepdim=True)
    return gains.div_(ideal.masked_fill_(ideal <= 0, 1))


def _relevant(labels: Tensor) -> Tensor:
    return (labels >= 1).to(labels.dtype)


# Each of these takes labels in the order of the ranks, absent items last and labelled 0, the cut-off of the metric (n where
# there is none), and a parameter.


def _ndcg(labels: Tensor, k: int, _own: float) -> Weighing:
    return Weighing((_gains(labels, k), _discounts(labels)), lambda row, column: (row[1] - column[1]).abs_())


def _ndcg_loss1(labels: Tensor, k: int, _own: float) -> Weighing:
    return Weighing((_gains(labels, k) * _discounts(labels),), every=True)


def _ndcg_loss2(labels: Tensor, k: int, _own: float) -> Weighing:
    step = _steps(labels)
    return Weighing((_gains(labels, k), _ranks(labels).int()), lambda row, column: step(row[1], column[1]))


def _ndcg_loss2pp(labels: Tensor, k: int, mu: float) -> Weighing:
    step = _steps(labels)

    def factor(row: Items, column: Items) -> Tensor:
        return step(row[1], column[1]).mul_(mu).add_((row[2] - column[2]).abs_())

    return Weighing((_gains(labels, k), _ranks(labels).int(), _discounts(labels)), factor)


def _lambda_loss(labels: Tensor, k: int, own: float) -> Weighing:
    if k >= labels.shape[-1]:
        return _ndcg_loss2(labels, k, own)
    ranks, step = _ranks(labels), _steps(labels)

    def factor(row: Items, column: Items) -> Tensor:
        # The worse rank has the smaller discount; it counts where one of the two ranks is beyond k.
        discount = torch.minimum(row[2], column[2]).mul_(torch.maximum(row[3], column[3]))
        return step(row[1], column[1]).div_(discount.neg_().add_(1))

    return Weighing((_gains(labels, k), ranks.int(), _discounts(labels), (ranks > k).to(labels.dtype)), factor)


def _steps(like: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """How much the discount falls between ranks as far apart as two items, and one further; 0 for the item itself."""
    away = _ranks(like[:1])[0] - 1
    # The difference 1 / log(1 + d) - 1 / log(2 + d), less the cancellation of its digits at long distances.
    step = torch.log1p(1 / (1 + away)) * math.log(2) / (torch.log1p(away) * torch.log1p(1 + away))
    step = torch.where(away > 0, step, 0)

    def at(row: Tensor, column: Tensor) -> Tensor:
        apart = (row - column).abs_()
        return step.index_select(0, apart.view(-1)).view(apart.shape)  # a sixth of the time of step[apart]

    return at


def _mrr(labels: Tensor, _k: int, _own: float) -> Weighing:
    """The reciprocal rank changes when a relevant item passes the first one, or the first one goes."""
    relevant, reciprocal = _relevant(labels), 1 / _ranks(labels)
    best = (relevant * reciprocal).topk(min(2, labels.shape[-1])).values
    first, second = best[:, :1].expand(labels.shape), best[:, 1:].sum(-1, keepdim=True).expand(labels.shape)
    # Of the two items one is relevant: a sum over both is the entry of the other one, or of that one.
    other, is_first = (1 - relevant) * reciprocal, relevant * (reciprocal == first)

    def factor(row: Items, column: Items) -> Tensor:
        place = row[1] + column[1]
        overtakes = (place - row[3]).relu_()
        return overtakes.add_((row[3] - torch.maximum(place, row[4])).relu_().mul_(row[2] + column[2]))

    return Weighing((relevant, other, is_first, first, second), factor)


def _map(labels: Tensor, _k: int, _own: float) -> Weighing:
    """The average precision changes at both ranks, and at the relevant ones between them."""
    relevant, ranks = _relevant(labels), _ranks(labels)
    hits = relevant.cumsum(-1)
    within = (relevant / ranks).cumsum(-1)
    above = (hits - relevant + 1) / ranks - within
    below = within - relevant / ranks - hits / ranks

    def factor(row: Items, column: Items) -> Tensor:
        first = torch.lt(row[1], column[1]).to(row[2].dtype)
        change = torch.lerp(column[2] + row[3], row[2] + column[3], first)
        return change.relu_()

    return Weighing((relevant / hits[:, -1:].clamp(min=1), ranks, above, below), factor)


def _precision(labels: Tensor, k: int, _own: float) -> Weighing:
    inside = (_ranks(labels) <= k).to(labels.dtype)
    return Weighing((_relevant(labels) / k, inside), lambda row, column: (row[1] - column[1]).abs_())


def _arp(labels: Tensor, _k: int, _own: float) -> Weighing:
    return Weighing((labels,))


WEIGHTS: dict[str, Callable[[Tensor, int, float], Weighing]] = {
    "arp": _arp,
    "lambda_loss": _lambda_loss,
    "map": _map,
    "mrr": _mrr,
    "ndcg": _ndcg,
    "ndcg_loss1": _ndcg_loss1,
    "ndcg_loss2": _ndcg_loss2,
    "ndcg_loss2pp": _ndcg_loss2pp,
    "precision": _precision,
}
"""By the metric, or the loss."""
