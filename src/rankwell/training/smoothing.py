"""Label smoothing: a little of the loss that other labels would give, for every kind of loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rankwell import keyed
from rankwell.errors import ConfigError
from rankwell.lists import Dense, Flat

__all__ = ["Smoothing"]

PURPOSE = 96
"""Keeps the random numbers of what is exchanged apart from those drawn for other purposes at the same step."""

Loss = Callable[..., Tensor]

OF_ROWS = frozenset(
    {"where", "pos_where", "positives", "weights", "reduction", "query_ids", "num_items", "key", "generator"}
)
"""Inputs that stay right when a positive and a negative of a row change places."""


@dataclass(frozen=True)
class Smoothing:
    r"""A share ε of the labels is taken from what is relevant and spread over the rest; 0 leaves a loss as it is.

    Labels of lists become :math:`(1 - \epsilon)\, y + \epsilon\, \bar y`, with the mean of the list's valid labels.

    Losses without labels tell a positive from its negatives, and are smoothed by exchanging the two:

    .. math:: \ell' = (1 - \epsilon)\, \ell(p, N) + \epsilon\, \mathbb{E}_j\, \ell\left(n_j, N \setminus n_j \cup p\right)

    where j is uniform over the valid negatives of the row; of several positives, a uniform one is exchanged. A step draws one
    j for each row, keyed by (seed, epoch, step, row), which is unbiased, and takes the loss twice. For
    the sampled softmax this is uniform label smoothing whose share ε goes to the negatives alone. For losses of embeddings the
    exchange is made in ``positives``; for heads, the negatives are the other items of the catalogue. A row without a negative
    keeps its loss. After a correction by log q the corrected score of a negative takes the positive's place: it differs by a
    constant, without a gradient.

    Raises :class:`ConfigError` for a share outside [0, 1), and where the loss takes something of single negatives beside their
    scores (a teacher, rewards, classes, a memory's ids), which would stay behind.

    >>> from rankwell.losses import softmax_loss
    >>> smoothed = Smoothing(0.5).of_lists(softmax_loss)
    >>> smoothed(torch.zeros(2), torch.tensor([1.0, 0.0]))  # labels .75 and .25: log 2
    tensor(0.6931)

    Source: :cite:`szegedy2016`, section 7, for labels; the exchange is ours.
    """

    epsilon: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon < 1:
            raise ConfigError(f"label_smoothing must be in [0, 1): got {self.epsilon}.")

    def of_lists(self, loss: Loss) -> Loss:
        """A list loss of smoothed labels."""
        if not self.epsilon:
            return loss

        def smoothed(scores: Tensor, labels: Tensor, **given: Any) -> Tensor:
            where, offsets = given.get("where"), given.get("offsets")
            lists = Dense(scores, where) if offsets is None else Flat(scores, offsets, where)
            labels = labels.to(scores.dtype)
            return loss(scores, (1 - self.epsilon) * labels + self.epsilon * lists.spread(lists.mean(labels)), **given)

        return smoothed

    def of_rows(self, loss: Loss, epoch: int, step: int) -> Loss:
        """A contrast loss, and that of the row with one exchanged pair."""
        if not self.epsilon:
            return loss

        def smoothed(pos: Tensor, neg: Tensor, **given: Any) -> Tensor:
            _check(given)
            one = pos.ndim < neg.ndim
            several = pos[..., None] if one else pos
            left, right = given.get("pos_where"), given.get("where")
            key = keyed.mix(self.seed, epoch, step, PURPOSE)
            i, some = _drawn(several, left, keyed.mix(key, 0))
            j, others = _drawn(neg, right, keyed.mix(key, 1))
            both = some & others
            mine, theirs = several.gather(-1, i), neg.gather(-1, j)
            swapped = several.scatter(-1, i, torch.where(both, theirs, mine))
            rest = neg.scatter(-1, j, torch.where(both, mine, theirs))
            exchanged = loss(swapped[..., 0] if one else swapped, rest, **given)
            return (1 - self.epsilon) * loss(pos, neg, **given) + self.epsilon * exchanged

        return smoothed

    def of_pairs(self, loss: Loss, epoch: int, step: int) -> Loss:
        """An embedding loss, and that of positives of which each query has exchanged one."""
        if not self.epsilon:
            return loss

        def smoothed(queries: Tensor, *items: Tensor, **given: Any) -> Tensor:
            _check(given)
            positives, where = given.pop("positives"), given.get("where")
            key = keyed.mix(self.seed, epoch, step, PURPOSE)
            right, wrong = (x if where is None else x & where for x in (positives, ~positives))
            i, some = _drawn(positives, right, keyed.mix(key, 0))
            j, others = _drawn(positives, wrong, keyed.mix(key, 1))
            both = some & others
            exchanged = positives.scatter(-1, i, positives.gather(-1, i) & ~both)
            exchanged = exchanged.scatter(-1, j, exchanged.gather(-1, j) | both)
            of = (loss(queries, *items, positives=each, **given) for each in (positives, exchanged))
            return (1 - self.epsilon) * next(of) + self.epsilon * next(of)

        return smoothed

    def of_targets(self, loss: Loss, epoch: int, step: int) -> Loss:
        """A head loss, and that of other targets."""
        if not self.epsilon:
            return loss

        def smoothed(hidden: Tensor, item_weight: Tensor, targets: Tensor, **given: Any) -> Tensor:
            _check(given)
            value = loss(hidden, item_weight, targets, **given)
            if (items := len(item_weight)) < 2:
                return value
            rows = torch.arange(len(targets), device=targets.device)
            words = keyed.words(keyed.mix(self.seed, epoch, step, PURPOSE), rows, torch.zeros_like(rows))
            others = (targets + 1 + keyed.high(words, items - 1)) % items
            return (1 - self.epsilon) * value + self.epsilon * loss(hidden, item_weight, others, **given)

        return smoothed


def _drawn(like: Tensor, where: Tensor | None, key: int) -> tuple[Int[Tensor, "*b 1"], Bool[Tensor, "*b 1"]]:
    """A uniform valid place of each row, and whether it has one."""
    rows = torch.arange(like[..., :1].numel(), device=like.device).view(*like.shape[:-1], 1)
    words = keyed.words(key, rows, torch.zeros_like(rows))
    if where is None:
        return keyed.high(words, like.shape[-1]), torch.ones_like(rows, dtype=torch.bool)
    upto = where.expand(like.shape).cumsum(-1)
    counts = upto[..., -1:]
    place = torch.searchsorted(upto, keyed.high(words, counts) + 1).clamp(max=like.shape[-1] - 1)
    return place, counts > 0


def _check(given: dict[str, Any]) -> None:
    if odd := [name for name, value in given.items() if name not in OF_ROWS and value is not None]:
        raise ConfigError(
            f"training.label_smoothing exchanges a positive and a negative, and the loss takes {odd[0]}, which would stay"
            " behind. Set it to 0, or choose another loss."
        )
