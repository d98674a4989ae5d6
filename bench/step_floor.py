"""How short the training step of ``bench/step.py`` can be: the same work in flat operators, beside ours and the products.

    python bench/step_floor.py [--steps 320]

No classes, no autograd: the sampled softmax of cosines with dropout and masked known positives, its gradient by hand, Adam.
It differs from ours in two things. Weights and moments of a row lie side by side, so that one gather and one scatter serve.
And it knows the batches of 32 steps ahead: pools, known positives in them, distinct rows and what repeats are found for all of
them at once. The mean over steps has that planning in it, the median has not.
"""

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from step import BATCH, DEGREE, DIM, ITEMS, NEGATIVES, USERS, products, step
from torch import Tensor

from rankwell.samplers.collisions import KnownItems
from rankwell.training.allocator import keep_freed_memory
from rankwell.types import Ragged

AHEAD, TEMPERATURE, RATE, BETA1, BETA2, EPS = 32, 0.1, 0.01, 0.9, 0.999, 1e-8


@dataclass
class Rows:
    """Distinct rows of a table in a step, and which of them each look-up is."""

    distinct: Tensor
    which: Tensor


def distinct(rows: Tensor, size: int) -> list[Rows]:
    """Of each of the steps, by one sort."""
    steps = torch.arange(len(rows) + 1)
    found, which = torch.unique(steps[:-1, None] * size + rows, return_inverse=True)
    starts = torch.searchsorted(found, steps * size).tolist()
    return [Rows(found[a:b] % size, which[k] - a) for k, (a, b) in enumerate(itertools.pairwise(starts))]


def planned(known: Ragged) -> Iterator[tuple[Rows, Rows, Tensor]]:
    """Rows of users, rows of positives and pool, and flat places of known positives, step by step."""
    items, users = KnownItems(known, ITEMS), torch.repeat_interleave(known.offsets.diff())
    while True:
        for some in torch.randperm(len(users)).split(AHEAD * BATCH)[:-1]:
            of_users, positives = users[some].view(AHEAD, BATCH), known.values[some].view(AHEAD, BATCH)
            pools = torch.randint(ITEMS, (AHEAD, NEGATIVES)).sort(1).values
            places = items.places_in_pools(pools, Ragged(torch.arange(AHEAD + 1) * BATCH, of_users.view(-1)))
            yield from zip(
                distinct(of_users, USERS), distinct(torch.cat([positives, pools], 1), ITEMS), places, strict=True
            )


class Flat:
    """Two tables ``[rows, 3, dim]`` of weights and moments, and their steps."""

    def __init__(self, known: Ragged) -> None:
        self.users, self.items = torch.zeros(USERS, 3, DIM), torch.zeros(ITEMS, 3, DIM)
        for table in (self.users, self.items):
            table[:, 0].normal_()
        self.steps, self.count = planned(known), 0

    @torch.no_grad()
    def once(self) -> None:
        """A step."""
        of_users, of_items, places = next(self.steps)
        kept = torch.empty(BATCH, DIM, dtype=torch.uint8).random_().ge(26).float().mul_(256 / 230)
        user_rows = self.users.index_select(0, of_users.distinct)
        item_rows = self.items.index_select(0, of_items.distinct)
        loss, *slopes = loss_and_slopes(user_rows[:, 0], item_rows[:, 0], of_users.which, of_items.which, kept, places)
        self.count += 1
        for table, at, rows, slope in (
            (self.users, of_users.distinct, user_rows, slopes[0]),
            (self.items, of_items.distinct, item_rows, slopes[1]),
        ):
            self.adam(rows, slope)
            table.index_copy_(0, at, rows)
        loss.item()

    def adam(self, rows: Tensor, slope: Tensor) -> None:
        """Of distinct rows, in place."""
        weights, first, second = rows.unbind(1)
        of_first, of_second = 1 - BETA1**self.count, math.sqrt(1 - BETA2**self.count)
        first.lerp_(slope, 1 - BETA1)
        second.mul_(BETA2).addcmul_(slope, slope, value=1 - BETA2)
        weights.addcdiv_(first, second.sqrt().add_(EPS * of_second), value=-RATE * of_second / of_first)


def loss_and_slopes(
    users: Tensor, items: Tensor, user_at: Tensor, item_at: Tensor, kept: Tensor, places: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean sampled softmax over the batch, and its gradient with respect to the distinct rows."""
    lengths = [torch.linalg.vector_norm(rows, dim=-1, keepdim=True) for rows in (users, items)]
    units = [rows / length for rows, length in zip((users, items), lengths, strict=True)]
    queries, looked_up = units[0].index_select(0, user_at).mul_(kept), units[1].index_select(0, item_at)
    positives, pool = looked_up[:BATCH], looked_up[BATCH:]
    most = 256 / 230 / TEMPERATURE  # no score is above it, so no maximum is needed
    pos = (queries * positives).sum(-1).div_(TEMPERATURE).sub_(most)
    scores = torch.mm(queries, pool.T)
    scores.view(-1).index_fill_(0, places, -math.inf)
    scores.mul_(1 / TEMPERATURE).sub_(most).exp_()
    of_pos = pos.exp()
    total = scores.sum(1).add_(of_pos)
    loss = (total.log() - pos).mean()
    scale = 1 / (BATCH * TEMPERATURE)
    scores.mul_((scale / total)[:, None])
    by_pos = ((of_pos / total - 1) * scale)[:, None]
    by_queries = torch.mm(scores, pool).addcmul_(positives, by_pos).mul_(kept)
    by_items = torch.empty_like(looked_up)
    torch.mul(queries, by_pos, out=by_items[:BATCH])
    torch.mm(scores.T, queries, out=by_items[BATCH:])
    slopes = []
    for at, slope, unit, length in zip((user_at, item_at), (by_queries, by_items), units, lengths, strict=True):
        summed = torch.zeros_like(unit).index_add_(0, at, slope)
        slopes.append(summed.addcmul_(unit, (summed * unit).sum(-1, keepdim=True), value=-1).div_(length))
    return loss, slopes[0], slopes[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=320)
    steps = parser.parse_args().steps
    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    known = Ragged(
        torch.arange(USERS + 1) * DEGREE,
        torch.rand(USERS, ITEMS // 8, generator=generator).topk(DEGREE).indices.sort(1).values.flatten() * 8,
    )
    runs = {"products": products(), "ours": step("sampled_softmax", known, cosine=True), "flat": Flat(known).once}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(steps + 10):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if number >= 10:
                seconds[name].append(time.perf_counter() - started)
    for what, of in (("median", statistics.median), ("mean", statistics.fmean)):
        ms = {name: of(values) * 1e3 for name, values in seconds.items()}
        parts = (f"{name} {value:5.2f} ms, {value / ms['products']:4.2f} ×" for name, value in ms.items())
        print(f"{what:>6}  " + "   ".join(parts))


if __name__ == "__main__":
    main()
