"""Items drawn uniformly, with known positives redrawn or masked."""

import math
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.lists import take_lists
from rankwell.samplers.registry import sampler
from rankwell.types import Negatives, Ragged

__all__ = ["UniformSampler"]

ROWS = 3
"""Keeps the draws of rows apart from what else is keyed by seed and epoch."""


@sampler(name="uniform")
class UniformSampler:
    """Negatives drawn uniformly from the catalogue, with replacement.

    ``shared=True`` gives the whole batch one pool of ``n`` items, which turns scoring into one matrix product; an item that
    a row knows as a positive is marked in ``collisions`` (``collisions="mask"``, the only choice a pool leaves) or let be
    (``"keep"``). ``shared=False`` draws ``n`` items for each row: ``"redraw"`` (default) draws from the items that the row
    does not know, ``"mask"`` and ``"keep"`` from all.

    ``log_q`` is ``-log`` of the number of items that a draw can give: all, or those that the row does not know. A redraw is
    exact and needs no loop, whatever share of the catalogue a user knows: the r-th unknown item is found by one binary
    search over (known item − its rank), O(log interactions) a draw. A pool's collisions cost O(known items of the rows).

    Draws are keyed by (seed, epoch, sample), a pool's by (seed, epoch, step).

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
        n: int = 1024,
        shared: bool = True,
        collisions: Literal["auto", "redraw", "mask", "keep"] = "auto",
    ) -> None:
        if num_items < 1 or n < 1:
            raise InputError(f"a sampler needs at least one item and one negative: got {num_items} items, n = {n}.")
        if shared and collisions == "redraw":
            raise InputError(
                "a pool shared by the batch cannot redraw for one row: mask collisions, or set shared to false."
            )
        if collisions not in ("auto", "redraw", "mask", "keep"):
            raise UnknownName("way with collisions", collisions, ("auto", "redraw", "mask", "keep"))
        self.known, self.num_items, self.seed, self.n, self.shared = known, num_items, seed, n, shared
        self.collisions = ("mask" if shared else "redraw") if collisions == "auto" else collisions
        self._sizes = known.offsets.diff()
        users = torch.repeat_interleave(torch.arange(len(self._sizes), device=known.values.device), self._sizes)
        if self.collisions == "redraw":
            self._refuse_full_rows()
            rank = torch.arange(len(known.values), device=known.values.device) - known.offsets[users]
            # Ascending over the whole array: within a user (item − rank) does not fall, and it stays below num_items.
            self._unknown_before = users * num_items + known.values - rank
        elif self.collisions == "mask" and not shared:
            self._pairs = users * num_items + known.values
        elif self.collisions == "mask":
            self._column = torch.full((num_items,), -1, dtype=torch.int64, device=known.values.device)

    def __call__(self, queries: Int[Tensor, " b"], samples: Int[Tensor, " b"], *, epoch: int, step: int) -> Negatives:
        """Negatives for rows of ``queries``; ``samples`` are the rows' numbers in the data, the key of their draws."""
        if self.shared:
            pool = keyed.mix(self.seed, epoch, step)
            ids = keyed.draws(pool, samples.new_zeros(()), self.n, self.num_items).sort().values
            return Negatives(ids, self._log_q(ids), self._in_pool(queries, ids) if self.collisions == "mask" else None)
        key = keyed.mix(self.seed, epoch, ROWS)
        if self.collisions == "redraw":
            unknown = self.num_items - self._sizes[queries]
            ids = self._unknown_items(queries, keyed.draws(key, samples, self.n, unknown))
            return Negatives(ids, -unknown.double().log().float()[:, None], None)
        ids = keyed.draws(key, samples, self.n, self.num_items)
        return Negatives(ids, self._log_q(ids), self._is_known(queries, ids) if self.collisions == "mask" else None)

    def _log_q(self, ids: Tensor) -> Tensor:
        return torch.full((1,), -math.log(self.num_items), device=ids.device)

    def _unknown_items(self, queries: Tensor, ranks: Tensor) -> Tensor:
        """The item of that rank among the items that the row does not know."""
        wanted = queries[:, None] * self.num_items + ranks
        passed = torch.searchsorted(self._unknown_before, wanted, right=True) - self.known.offsets[queries, None]
        return ranks + passed

    def _in_pool(self, queries: Tensor, pool: Tensor) -> Tensor:
        """``[b, n]``: whether the row knows the item in that column of the sorted pool."""
        again = torch.cat([pool.new_zeros(1, dtype=torch.bool), pool[1:] == pool[:-1]])
        first = (~again).nonzero().squeeze(1)
        self._column[pool[first]] = first
        lists = take_lists(self.known, queries)
        rows = torch.repeat_interleave(torch.arange(len(queries), device=pool.device), lists.offsets.diff())
        known = lists.values
        hit = self._column[known]
        self._column[pool[first]] = -1
        there = (hit >= 0).nonzero().squeeze(1)
        found = torch.zeros((len(queries), len(pool)), dtype=torch.bool, device=pool.device)
        found[rows[there], hit[there]] = True
        repeats = again.nonzero().squeeze(1)
        found[:, repeats] = found[:, torch.searchsorted(pool, pool[repeats])]
        return found

    def _is_known(self, queries: Tensor, ids: Tensor) -> Tensor:
        """``[b, n]``: whether the row knows the item, by one binary search each."""
        if not len(self._pairs):
            return torch.zeros_like(ids, dtype=torch.bool)
        wanted = queries[:, None] * self.num_items + ids
        return self._pairs[torch.searchsorted(self._pairs, wanted).clamp(max=len(self._pairs) - 1)] == wanted

    def _refuse_full_rows(self) -> None:
        full = (self._sizes >= self.num_items).nonzero()
        if len(full):
            raise InputError(
                f"nothing is left to draw for {len(full):,} users who know all {self.num_items:,} items"
                f" (first: row {int(full[0])}). Leave them out, or set collisions to keep."
            )
