"""Negatives that were mined beforehand, beside those of another sampler or alone."""

# mypy: allow-untyped-calls

import torch
from jaxtyping import Int
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.samplers.collisions import KnownItems
from rankwell.samplers.registry import Sampler
from rankwell.types import Negatives, Ragged, Scorer

__all__ = ["MinedNegatives"]

CHOICE = 91
"""Keeps the choice among a row's negatives apart from other draws with the same seed."""


class MinedNegatives(nn.Module):
    r"""Hard negatives of each row, as a list of the data has them, in addition to what another sampler draws.

    ``n`` of a row's list are taken each time, all different, at random by (seed, epoch, sample); fewer where it has
    fewer. Where the other sampler makes a pool for the batch, the mined ones of all rows join it, so that each is a negative
    of every row but those that know it. Where it draws for each row, or there is none, a row has its own alone.

    What the other sampler states of :math:`\log q` stays right for its own columns; mined negatives are no draws, and nothing
    corrects them. Time O(b n), and of a pool O(b n log(b n)).

    Args:
        lists: items for each row of the data.
        known: the items that are no negatives, for each query.
        num_items: the size of the catalogue.
        seed: of the choice.
        n: taken for each row.
        beside: the other sampler; None for the row's own negatives alone.

    Raises:
        InputError: if ``n`` is below 1.

    >>> known = Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 1]))
    >>> mined = MinedNegatives(Ragged(torch.tensor([0, 2, 3]), torch.tensor([1, 2, 2])), known, 3, seed=0, n=2)
    >>> drawn = mined(torch.tensor([1]), torch.tensor([1]), epoch=0, step=0, positives=torch.tensor([1]))
    >>> drawn.ids, drawn.collisions  # one of the two places is empty: the row's positive, masked, stands in it
    (tensor([[2, 1]]), tensor([[False,  True]]))
    """

    def __init__(
        self, lists: Ragged, known: Ragged, num_items: int, *, seed: int, n: int = 1, beside: Sampler | None = None
    ) -> None:
        super().__init__()
        if n < 1:
            raise InputError(f"n must be at least 1: got {n}.")
        self.lists, self.seed, self.n = lists, seed, n
        self.known = KnownItems(known, num_items)
        self.beside = beside

    def forward(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],
        *,
        epoch: int,
        step: int,
        positives: Int[Tensor, "b *m"] | None = None,
        scorer: Scorer | None = None,
    ) -> Negatives:
        """What the other sampler draws, and what was mined."""
        if positives is None:
            raise InputError("mined negatives stand beside the batch's positives: pass positives.")
        own = positives if positives.ndim == 1 else positives[:, 0]
        mined, missing = self._chosen(samples, own, epoch)
        if self.beside is None:
            return Negatives(mined, None, missing | self.known.contains(queries, mined))
        drawn = self.beside(queries, samples, epoch=epoch, step=step, positives=positives, scorer=scorer)
        if drawn.ids.ndim == 1:
            ids, places = mined[~missing].unique(), torch.arange(len(queries), device=mined.device)
            pool = ids.expand(len(queries), -1)
            hits = self.known.contains(queries, pool) | (pool == own[places, None])
            return _joined(drawn, ids, hits)
        return _joined(drawn, mined, missing | self.known.contains(queries, mined))

    def _chosen(self, samples: Tensor, own: Tensor, epoch: int) -> tuple[Int[Tensor, "b n"], Tensor]:
        """``n`` of each row's list in the order of their hashes, and where there are not so many."""
        starts = self.lists.offsets[samples]
        sizes = self.lists.offsets[samples + 1] - starts
        width = max(int(sizes.max()) if len(sizes) else 0, self.n)
        places = torch.arange(width, device=samples.device)
        keys = keyed.words(keyed.mix(self.seed, epoch, CHOICE), samples[:, None], places)
        order = keys.masked_fill(places >= sizes[:, None], torch.iinfo(torch.int64).max).argsort(dim=1, stable=True)[
            :, : self.n
        ]
        missing = order >= sizes[:, None]
        found = (
            self.lists.values[(starts[:, None] + order).masked_fill(missing, 0)] if len(self.lists.values) else order
        )
        return torch.where(missing, own[:, None], found), missing


def _joined(drawn: Negatives, ids: Tensor, collisions: Tensor) -> Negatives:
    """Two sets of columns as one, with the log q of one draw among as many as both have."""
    first, more = drawn.ids.shape[-1], ids.shape[-1]
    there = torch.zeros(len(collisions), first, dtype=torch.bool, device=ids.device)
    there = there if drawn.collisions is None else drawn.collisions
    log_q = None
    if drawn.log_q is not None:
        # Both are corrected by log(n q), n counting all columns: so q is scaled for the first, and 1 / n for the others.
        count = torch.tensor(float(first + more), device=ids.device)
        stated = (drawn.log_q + (first / count).log()).expand(*drawn.log_q.shape[:-1], first)
        log_q = torch.cat([stated, (-count.log()).expand(*stated.shape[:-1], more)], -1)
    return Negatives(torch.cat([drawn.ids, ids], -1), log_q, torch.cat([there, collisions], 1))
