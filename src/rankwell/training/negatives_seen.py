"""What training sees of its negatives: how many count, how hard they are, and whose gradient moves the model."""

import functools
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.samplers.collisions import KnownItems
from rankwell.training.objective import Contrast
from rankwell.types import Ragged

__all__ = ["NegativesSeen"]

COUNTS = (
    *("steps", "rows", "drawn", "collisions", "used", "violating", "suspected", "held_out"),
    *("with_gradient", "rows_with_gradient", "effective"),
)
"""What is summed over the steps of an epoch, beside gradients by rank and by popularity."""

LAST_RANKS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
"""The last rank of each group of ranks but the open one."""

GROUPS = 10
"""Of items, by popularity."""

NEAR = 0.95
"""Share of its positive's score above which a negative is suspected to be a positive."""


class NegativesSeen(nn.Module):
    r"""Figures of the negatives that an objective trains on, summed over an epoch.

    Give it to a :class:`~rankwell.training.ContrastObjective` as its observer. At every ``every``-th step of an epoch, from
    the first on, it looks at some rows of the batch, evenly spaced: as many as have ``scores`` negatives together, and at
    least one. With :math:`s_{ij}` the model's score of negative j in row i, :math:`s_{ip}` those of its positives, U the pairs
    (i, j) that reach the loss (no collision, and left by the miner), and

    .. math:: g_{ij} = \left| \frac{\partial L}{\partial s_{ij}} \right|

    :meth:`finish` gives, over all rows of the observed steps:

    - ``collision_rate``: the share of draws that the sampler marked as known positives; 0 where it promises that there are
      none. ``used``: :math:`|U|` / draws. ``negatives``: :math:`|U|` / rows.
    - ``violating``: the share of U with :math:`s_{ij} > \min_{p} s_{ip}`: above the row's positive, or above the lowest of
      several.
    - ``suspected_false``: the share of U with :math:`s_{ij} > s^+_i - 0.05\,|s^+_i|`, where :math:`s^+_i = \max_p s_{ip}`. What
      :func:`~rankwell.miners.false_negative_filter` would drop by the model's own scores. A young model is suspicious of
      much: read it beside the next figure.
    - ``held_out_positives``: the share of U that are held-out positives of the row's user: false negatives for certain, and a
      lower bound of all. None without ``held_out``, and for negatives that are no items.
    - ``with_gradient``: the share of U with :math:`g_{ij} > 0`. A softmax gives some to all but what underflows.
    - ``effective``: the effective number of negatives of a row, :math:`(\sum_j g_{ij})^2 / \sum_j g_{ij}^2`, averaged over
      the rows with any gradient. 1: one negative moves the row; n: n do, all alike.
    - ``by_rank``: shares of :math:`\sum g` by the place of the negative in its row, the highest score of U first, in groups of
      ranks; beside them the shares of U (``negatives``).
    - ``by_popularity``: shares of :math:`\sum g` by tenths of the catalogue, the least popular in training first (equal counts
      by code); beside them the shares of all draws (``drawn``). None for negatives that are no items.

    The gradient is caught by a hook on the scores, so that every loss is covered, with its temperature, weights and correction;
    the step's weights keep their bits. A step that is never carried out does not count. The sums are in buffers, so that
    checkpoints keep those of a half epoch. Time O(scores · log n) a look: with the defaults at most half a plain step of 1,024
    rows on one core (shared pool of 1,024, or 10 negatives each), so 1 % of training. Memory O(scores).

    Args:
        known: each user's training positives, for the popularity.
        num_items: size of the catalogue.
        every: steps from one look to the next.
        scores: of negatives, that one look takes at most.
        held_out: positives of users that are not trained on, sorted as ``known``; those of validation.

    Raises:
        InputError: if ``every`` or ``scores`` is below 1.

    >>> seen = NegativesSeen(Ragged(torch.tensor([0, 1]), torch.tensor([0])), num_items=3)
    >>> pos, neg = torch.tensor([1.0]), torch.tensor([[2.0, 0.0]], requires_grad=True)
    >>> batch = {"users": torch.tensor([0]), "positives": torch.tensor([0]), "ids": torch.tensor([1, 2]), "log_q": None}
    >>> none = dict.fromkeys(("collisions", "where", "pos_where"))
    >>> seen(Contrast(**batch, **none, pos=pos, neg=neg, epoch=0, step=0))
    >>> (neg * torch.tensor([3.0, 1.0])).sum().backward()  # gradients 3 and 1: an effective number of 4² / 10
    >>> figures = seen.finish()
    >>> figures["violating"], figures["effective"], figures["by_rank"]["gradient"]
    (0.5, 1.6, [0.75, 0.25])

    Source: the effective number is Kish's effective sample size (:cite:`kish1965`), with gradients for weights; suspects are
    those of TopK-PercPos (:cite:`moreira2024`), judged by the model itself instead of a teacher; equation numbers unchecked.
    """

    decile: Tensor
    sums: Tensor
    by_rank: Tensor
    by_popularity: Tensor

    def __init__(
        self, known: Ragged, num_items: int, *, every: int = 50, scores: int = 32_768, held_out: Ragged | None = None
    ) -> None:
        super().__init__()
        if every < 1 or scores < 1:
            raise InputError(f"every and scores must be at least 1: got every {every}, scores {scores}.")
        self.every, self.scores = every, scores
        self.held_out = None if held_out is None else KnownItems(held_out, num_items)
        order = torch.bincount(known.values, minlength=num_items).argsort(stable=True)
        tenths = torch.arange(num_items, device=order.device) * GROUPS // num_items
        self.register_buffer("decile", torch.empty_like(order).index_put_((order,), tenths), persistent=False)
        sizes = {"sums": (len(COUNTS),), "by_rank": (2, len(LAST_RANKS) + 1), "by_popularity": (2, GROUPS)}
        for name, size in sizes.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64, device=order.device))

    def looks(self, step: int) -> bool:
        """Whether it is a step to look at."""
        return step % self.every == 0

    def forward(self, seen: Contrast) -> None:
        """Look at a step, once its gradient is known."""
        rows, n = seen.neg.shape
        some = slice(None, None, math.ceil(rows / max(self.scores // max(n, 1), 1)) or 1)
        ids = seen.ids if seen.ids is None or seen.ids.ndim == 1 else seen.ids[some]
        parts = (None if each is None else each[some] for each in (seen.collisions, seen.where, seen.pos_where))
        collisions, where, pos_where = parts
        # Nothing of the graph: a hook that held its own tensor would keep the step's memory. And a copy, for the loss may
        # write over the scores.
        looked = seen._replace(
            users=seen.users[some],
            positives=seen.positives[some],
            ids=ids,
            log_q=None,
            collisions=collisions,
            pos=seen.pos.detach()[some],
            neg=seen.neg.detach()[some].clone(),
            where=where,
            pos_where=pos_where,
        )
        seen.neg.register_hook(functools.partial(self._add, looked, some))  # type: ignore[no-untyped-call]

    def finish(self) -> dict[str, Any] | None:
        """The figures since the last call, and sums that begin anew; None where nothing was observed."""
        count = dict(zip(COUNTS, self.sums.tolist(), strict=True))
        by_rank, by_popularity = self.by_rank.clone(), self.by_popularity.clone()
        for sums in (self.sums, self.by_rank, self.by_popularity):
            sums.zero_()
        if not count["steps"]:
            return None
        groups = max(int(by_rank[1].count_nonzero()), 1)
        ranks, popularity = (_shares(sums) for sums in (by_rank[:, :groups], by_popularity))
        used, items = max(count["used"], 1.0), bool(by_popularity[1].any())
        return {
            "steps": int(count["steps"]),
            "rows": int(count["rows"]),
            "negatives": count["used"] / count["rows"],
            "collision_rate": count["collisions"] / max(count["drawn"], 1.0),
            "used": count["used"] / max(count["drawn"], 1.0),
            "violating": count["violating"] / used,
            "suspected_false": count["suspected"] / used,
            "held_out_positives": count["held_out"] / used if items and self.held_out else None,
            "with_gradient": count["with_gradient"] / used,
            "effective": count["effective"] / max(count["rows_with_gradient"], 1.0),
            "by_rank": {"ranks": _names()[:groups], "gradient": ranks[0], "negatives": ranks[1]},
            "by_popularity": {"gradient": popularity[0], "drawn": popularity[1]} if items else None,
        }

    @torch.no_grad()
    def _add(self, seen: Contrast, some: slice, grad: Float[Tensor, "b n"]) -> None:
        """Add the rows of a step, and the gradient of theirs among the whole batch's."""
        used = torch.ones_like(seen.neg, dtype=torch.bool) if seen.where is None else seen.where.expand_as(seen.neg)
        g = torch.where(used, grad[some].abs(), 0.0).double()
        lowest, near = _levels(seen)
        mass, squares = g.sum(-1), g.square().sum(-1)
        moved = squares > 0
        counts = {
            "steps": 1.0,
            "rows": len(g),
            "drawn": g.numel(),
            "collisions": 0.0 if seen.collisions is None else seen.collisions.sum(),
            "used": used.sum(),
            "violating": (used & (seen.neg > lowest)).sum(),
            "suspected": (used & (seen.neg > near)).sum(),
            "held_out": self._held_out(seen, used),
            "with_gradient": (g > 0).sum(),
            "rows_with_gradient": moved.sum(),
            "effective": torch.where(moved, mass.square() / torch.where(moved, squares, 1.0), 0.0).sum(),
        }
        self.sums += torch.stack([torch.as_tensor(counts[name], device=g.device).double() for name in COUNTS])
        order = seen.neg.masked_fill(~used, -torch.inf).argsort(dim=-1, descending=True, stable=True)
        places = torch.arange(1, g.shape[1] + 1, device=g.device)
        groups = torch.bucketize(places, places.new_tensor(LAST_RANKS))
        sorted_sums = torch.stack([g.gather(1, order).sum(0), used.gather(1, order).sum(0).double()])
        self.by_rank.index_add_(1, groups, sorted_sums)
        if seen.ids is not None:
            tenths = self.decile[seen.ids]
            drawn = torch.ones_like(g) if tenths.ndim == 2 else g.new_full(tenths.shape, len(g))
            sums = torch.stack([(g if tenths.ndim == 2 else g.sum(0)).flatten(), drawn.flatten()])
            self.by_popularity.index_add_(1, tenths.flatten(), sums)

    def _held_out(self, seen: Contrast, used: Tensor) -> Tensor | float:
        if self.held_out is None or seen.ids is None:
            return 0.0
        return (used & self.held_out.contains(seen.users, seen.ids.expand_as(used))).sum()


def _levels(seen: Contrast) -> tuple[Tensor, Tensor]:
    """``[b, 1]`` twice: the lowest positive's score, and where a negative is suspect; infinite for rows without positives."""
    pos = seen.pos[:, None] if seen.pos.ndim == 1 else seen.pos
    there = torch.ones_like(pos, dtype=torch.bool) if seen.pos_where is None else seen.pos_where.view_as(pos)
    lowest = pos.masked_fill(~there, torch.inf).amin(-1, keepdim=True)
    best = pos.masked_fill(~there, -torch.inf).amax(-1, keepdim=True)
    near = best - (1 - NEAR) * best.abs()
    return lowest, torch.where(there.any(-1, keepdim=True), near, torch.inf)


def _shares(sums: Tensor) -> list[list[float]]:
    """Rows that add up to one; zeros for a row without any."""
    totals = sums.sum(-1, keepdim=True)
    shares: list[list[float]] = (sums / torch.where(totals > 0, totals, 1.0)).tolist()
    return shares


def _names() -> list[str]:
    """Of the groups of ranks."""
    firsts = [1, *(last + 1 for last in LAST_RANKS)]
    closed = zip(firsts, LAST_RANKS, strict=False)
    spans = [str(first) if first == last else f"{first}-{last}" for first, last in closed]
    return [*spans, f"{firsts[-1]} and more"]
