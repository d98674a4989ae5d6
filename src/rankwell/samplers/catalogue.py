"""Draws from one distribution over the catalogue, for rows or for a pool."""

import functools
import math

import numpy as np
import torch
from jaxtyping import Int, Real
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.samplers.alias import AliasTable, whole_weights
from rankwell.samplers.collisions import KnownItems, UnknownItems, check_collisions, marked
from rankwell.types import Negatives, Ragged, Scorer

__all__ = ["CatalogueSampler", "draw_pool"]

AT_ONCE = 1 << 15
"""Draws of pools made at once, for steps to come."""

PAIRS_AT_ONCE = 1 << 19
"""Known pairs that are looked through at once, for steps to come: some 20 megabytes while it lasts."""

ROWS, AGAIN = 3, 6
"""Keep the draws of rows, and what replaces known items among them, apart from what else is keyed by seed and epoch."""


class CatalogueSampler:
    r"""Items drawn with replacement in proportion to fixed weights; all alike without weights.

    ``shared=True`` gives the whole batch one pool of ``n`` items, sorted, which turns scoring into one matrix product; an
    item that a row knows as a positive is marked in ``collisions`` (``"mask"``, the default for a pool) or let be
    (``"keep"``). ``shared=False`` draws ``n`` items for each row: ``"redraw"`` (default) leaves out what the row knows,
    ``"mask"`` and ``"keep"`` draw from all.

    A redraw is exact and needs no loop: where the first draw is known to the row, a second one is made among the weight
    that the row has left (:class:`~rankwell.samplers.collisions.UnknownItems`). With the share :math:`\kappa` of all weight
    that it knows, an unknown item comes with the probability

    .. math:: q_j + \kappa\, \frac{q_j}{1 - \kappa} = \frac{q_j}{1 - \kappa}

    which is what ``log_q`` then says, row by row. Otherwise it is :math:`\log q_j`. Both are exact for the whole numbers
    that weights are rounded to. O(1) a draw, and O(log interactions) where it was known; memory O(interactions + items).
    """

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        *,
        seed: int,
        n: int,
        shared: bool,
        collisions: str,
        weights: Real[Tensor, " m"] | None = None,
    ) -> None:
        self.collisions = check_collisions(num_items, n, shared, collisions)
        if weights is not None and weights.shape != (num_items,):
            raise InputError(f"weights must be one an item, shape ({num_items},): got {tuple(weights.shape)}.")
        self.num_items, self.seed, self.n, self.shared = num_items, seed, n, shared
        device = known.values.device
        whole = None if weights is None else whole_weights(weights.to(device))
        self._table = None if whole is None else AliasTable(whole)
        uniform = torch.full((1,), -math.log(num_items), device=device)
        self._log_q = uniform if whole is None else (whole.double() / whole.sum()).log().float()
        self._known = KnownItems(known, num_items)
        self._coming = Ragged(torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)), 0, 0
        self._found: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        if self.collisions == "redraw":
            ones = torch.ones(num_items, dtype=torch.int64, device=device)
            self._unknown = UnknownItems(self._known, ones if whole is None else whole)
            self._unknown.refuse_full(f"all {num_items:,} items" if whole is None else "every item that has a weight")
            self._log_share = (self._unknown.left.double() / self._unknown.total).log().float()

    def __call__(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],
        *,
        epoch: int,
        step: int,
        positives: Int[Tensor, "b *m"] | None = None,  # noqa: ARG002
        scorer: Scorer | None = None,  # noqa: ARG002
    ) -> Negatives:
        """Negatives for the rows of a batch; positives and scorer are not looked at."""
        if self.shared:
            ids = self._pool(epoch, step, samples)
            if self.collisions == "keep":
                return Negatives(ids, self._log_q_of(ids), None)
            places = self._places(ids, queries, epoch, step)
            return Negatives(ids, self._log_q_of(ids), functools.partial(marked, len(queries), ids, places), places)
        places = torch.arange(self.n, device=samples.device)
        bits = keyed.words(keyed.mix(self.seed, epoch, ROWS), samples[:, None], places)
        ids = keyed.high(bits, self.num_items) if self._table is None else self._table.draw(bits)
        if self.collisions == "keep":
            return Negatives(ids, self._log_q_of(ids), None)
        found = self._known.contains(queries, ids)
        if self.collisions == "mask":
            return Negatives(ids, self._log_q_of(ids), found)
        rows, columns = found.nonzero(as_tuple=True)
        again = keyed.words(keyed.mix(self.seed, epoch, AGAIN), samples[rows], columns)
        owners = queries[rows]
        ids[rows, columns] = self._unknown.find(owners, keyed.high(again, self._unknown.left[owners]))
        return Negatives(ids, self._log_q_of(ids) - self._log_share[queries, None], None)

    def expect(self, rows: Ragged, *, epoch: int, step: int) -> None:
        """Batches to come: the rows of each from this step on. A pool's known items are then found for several at once."""
        self._coming = rows, epoch, step

    def _places(self, pool: Tensor, rows: Tensor, epoch: int, step: int) -> Tensor:
        """Where rows know what is in the pool."""
        if (epoch, step) not in self._found:
            self._found = self._look_ahead(epoch, step)
        expected, places = self._found.pop((epoch, step), (None, None))
        if expected is not None and places is not None and torch.equal(expected, rows):
            return places
        one = Ragged(torch.tensor([0, len(rows)], device=rows.device), rows)
        return self._known.places_in_pools(pool[None], one)[0]

    def _look_ahead(self, epoch: int, step: int) -> dict[tuple[int, int], tuple[Tensor, Tensor]]:
        """By epoch and step, the rows that are expected and their places, as far as what they know does not take much room."""
        coming, of_epoch, first = self._coming
        if epoch != of_epoch or not 0 <= step - first < len(coming.offsets) - 1:
            return {}
        bounds = coming.offsets[step - first :]
        rows, bounds = coming.values[bounds[0] :], bounds - bounds[0]
        pairs = self._known.sizes.index_select(0, rows).cumsum(0).index_select(0, bounds[1:] - 1)
        count = max(1, int((pairs <= PAIRS_AT_ONCE).sum()))
        several = Ragged(bounds[: count + 1], rows[: bounds[count]])
        steps = range(step, step + count)
        pools = torch.stack([self._pool(epoch, each, rows) for each in steps])
        parts = torch.split(several.values, several.offsets.diff().tolist())
        found = zip(parts, self._known.places_in_pools(pools, several), strict=True)
        return {(epoch, each): of_step for each, of_step in zip(steps, found, strict=True)}

    def _pool(self, epoch: int, step: int, like: Tensor) -> Tensor:
        return draw_pool(self._table or self.num_items, self.n, self.seed, epoch, step, like=like)

    def _log_q_of(self, ids: Tensor) -> Tensor:
        return self._log_q if self._table is None else self._log_q[ids]


def draw_pool(
    source: AliasTable | int, n: int, seed: int, epoch: int, step: int, *, like: Int[Tensor, " b"]
) -> Int[Tensor, " n"]:
    """The sorted pool of a step: ``n`` draws from a table, or uniform below a number."""
    at_once = max(1, AT_ONCE // n)
    return _pools(source, n, seed, epoch, step // at_once, at_once, like.device)[step % at_once].clone()


@functools.lru_cache(maxsize=4)
def _pools(
    source: AliasTable | int, n: int, seed: int, epoch: int, block: int, steps: int, device: torch.device
) -> Int[Tensor, "steps n"]:
    """The pools of consecutive steps: as many operators as for one, of which small ones are most of the time."""
    keys = [keyed.mix(seed, epoch, step) for step in range(block * steps, (block + 1) * steps)]
    bits = keyed.words(0, torch.tensor(keys, device=device)[:, None], torch.arange(n, device=device))
    ids = keyed.high(bits, source) if isinstance(source, int) else source.draw(bits)
    if ids.device.type == "cpu":
        return torch.from_numpy(np.sort(ids.numpy()))  # a tenth of the time
    return ids.sort().values
