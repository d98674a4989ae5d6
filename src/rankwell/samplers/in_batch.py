"""The batch's positives as negatives of each other, alone or mixed with draws from the catalogue."""

import math
from typing import Annotated, Literal, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor, nn

from rankwell.errors import InputError, UnknownName
from rankwell.registry import Search
from rankwell.samplers.catalogue import draw_pool
from rankwell.samplers.collisions import KnownItems, check_collisions
from rankwell.samplers.frequencies import Frequencies, PositiveFrequencies
from rankwell.samplers.registry import sampler
from rankwell.types import Negatives, Ragged, Scorer

__all__ = ["InBatchSampler", "MixedSampler", "PoolCollisions"]

PoolCollisions: TypeAlias = Literal["mask", "keep"]
"""What a pool can do where it holds what a row knows: mark all of it, or the row's own positive alone."""


@sampler(name="in_batch", paper="yi2019")
class InBatchSampler(nn.Module):
    r"""Negatives are the positives of the batch, its other rows' and one's own: a pool that costs no draw.

    .. math:: q_j = p_j \quad\text{or, with repeats masked,}\quad n q_j = 1 - (1 - p_j)^n

    where n is the number of positives in the batch and :math:`p_j` the probability that a row has positive j
    (:class:`~rankwell.samplers.frequencies.PositiveFrequencies`), so that popular items come up often, as ``log_q``
    says. Accidental hits are masked: what the row knows, and its own positive wherever it stands. As that is one of the n, a
    row's draws are the n − 1 others: :math:`\log n q_j` is too high by :math:`\log \frac{n}{n - 1}`.

    An item that several rows have as positive stands in the pool several times, which is what ``log_q`` of one draw is
    about. ``repeats="mask"`` leaves one of them: items then count once a batch, and ``log_q`` is such that
    :math:`n q_j` is the probability that the item is there at all. Both give the full softmax as n grows.

    The pool is sorted. Time O(known items of the rows + n log n). Needs the batch's positives.

    Args:
        collisions: ``mask`` marks all that the row knows, ``keep`` only the row's own positive.
        frequencies: ``counts`` of the known pairs, or an estimate as batches go by (``streaming``).
        rate: how fast the estimate follows.
        repeats: what becomes of an item that stands in the pool more than once: ``keep``, or ``mask`` all but one.

    Raises:
        InputError: if no positives are passed, or ``rate`` is not above 0 and at most 1.

    >>> known = Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1]))
    >>> draw = InBatchSampler(known, 3, seed=0)
    >>> got = draw(torch.tensor([0, 1]), torch.tensor([0, 2]), epoch=0, step=0, positives=torch.tensor([2, 1]))
    >>> got.ids, got.collisions, got.log_q.exp()
    (tensor([1, 2]), tensor([[False,  True],
            [ True, False]]), tensor([0.3333, 0.3333]))

    Source: :cite:`yi2019`, in-batch softmax with estimated frequencies; equation numbers unchecked. Differs from it: ``log_q``
    is of one draw, where the paper's is of a batch, and the positive stays uncorrected.
    """

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        *,
        seed: int,  # noqa: ARG002
        collisions: PoolCollisions = "mask",
        frequencies: Frequencies = "counts",
        rate: Annotated[float, Search(0.01, 0.5, log=True)] = 0.05,
        repeats: Literal["keep", "mask"] = "keep",
    ) -> None:
        super().__init__()
        if repeats not in ("keep", "mask"):
            raise UnknownName("way with repeats", repeats, ("keep", "mask"))
        self.collisions, self.repeats = check_collisions(num_items, 1, True, collisions), repeats
        self.known = KnownItems(known, num_items)
        self.frequencies = PositiveFrequencies(known, num_items, frequencies, rate)

    def forward(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],  # noqa: ARG002
        *,
        epoch: int,  # noqa: ARG002
        step: int,  # noqa: ARG002
        positives: Int[Tensor, "b *m"] | None = None,
        scorer: Scorer | None = None,  # noqa: ARG002
    ) -> Negatives:
        """The batch's positives, sorted, for all of its rows."""
        given = _needed(positives, "in_batch")
        ids = given.flatten().sort().values
        self.frequencies.update(ids)
        found = _hits(self.known, ids, queries, given, everything=self.collisions == "mask")
        # A positive that nobody knows was not counted: it is there, so it counts once.
        log_q = self.frequencies(ids).clamp(min=-math.log(max(len(self.known.pairs), 1)))
        if self.repeats == "mask":
            found[:, 1:] |= ids[1:] == ids[:-1]
            log_q = _log_presence(log_q, len(ids)) - math.log(len(ids))
        return Negatives(ids, log_q, found)


@sampler(name="mixed", paper="yang2020")
class MixedSampler(nn.Module):
    r"""Negatives are the positives of the batch and n items drawn uniformly from the catalogue, in one pool.

    .. math:: q_j = \frac{b\, p_j + n / |I|}{b + n}

    for b positives in the batch: the mixture's exact probability, which every member of the pool gets, wherever it came from.
    With :class:`InBatchSampler` alone, an item that is never a positive is never a negative either; here every item is.

    The pool is sorted; items may be repeated. Accidental hits are masked as there. Time O(known items of the rows + (b + n)
    log (b + n)). Needs the batch's positives.

    Args:
        n: items drawn from the catalogue, beside the positives.
        collisions: ``mask`` marks all that the row knows, ``keep`` only the row's own positive.
        frequencies: ``counts`` of the known pairs, or an estimate as batches go by (``streaming``).
        rate: how fast the estimate follows.

    Raises:
        InputError: if no positives are passed, ``n`` is below 1, or ``rate`` is not above 0 and at most 1.

    >>> known = Ragged(torch.tensor([0, 1, 2]), torch.tensor([1, 1]))
    >>> draw = MixedSampler(known, 2, seed=0, n=2)  # item 1: (2 + 2/2) / 4, item 0: (0 + 2/2) / 4
    >>> got = draw(torch.tensor([0, 1]), torch.tensor([0, 1]), epoch=0, step=0, positives=torch.tensor([1, 1]))
    >>> got.ids, got.log_q.exp()
    (tensor([0, 0, 1, 1]), tensor([0.2500, 0.2500, 0.7500, 0.7500]))

    Source: :cite:`yang2020`, mixed negative sampling; from memory, formula not confirmed.
    """

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        *,
        seed: int,
        n: Annotated[int, Search(64, 4096, log=True)] = 1024,
        collisions: PoolCollisions = "mask",
        frequencies: Frequencies = "counts",
        rate: Annotated[float, Search(0.01, 0.5, log=True)] = 0.05,
    ) -> None:
        super().__init__()
        self.collisions = check_collisions(num_items, n, True, collisions)
        self.num_items, self.seed, self.n = num_items, seed, n
        self.known = KnownItems(known, num_items)
        self.frequencies = PositiveFrequencies(known, num_items, frequencies, rate)

    def forward(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],
        *,
        epoch: int,
        step: int,
        positives: Int[Tensor, "b *m"] | None = None,
        scorer: Scorer | None = None,  # noqa: ARG002
    ) -> Negatives:
        """One pool for all rows of the batch."""
        given = _needed(positives, "mixed")
        drawn = draw_pool(self.num_items, self.n, self.seed, epoch, step, like=samples)
        ids = torch.cat([given.flatten(), drawn]).sort().values
        self.frequencies.update(given.flatten())
        rows = given.numel()
        uniform = math.log(self.n / self.num_items)
        mixture = torch.logaddexp(self.frequencies(ids) + math.log(rows), torch.full((), uniform, device=ids.device))
        found = _hits(self.known, ids, queries, given, everything=self.collisions == "mask")
        return Negatives(ids, mixture - math.log(rows + self.n), found)


def _hits(known: KnownItems, pool: Tensor, queries: Tensor, positives: Tensor, *, everything: bool) -> Tensor:
    """``[b, n]``: where the pool has the row's own positives, or everything that it knows."""
    own = positives.flatten(1) if positives.ndim > 1 else positives[:, None]
    places = torch.arange(len(queries), device=pool.device).repeat_interleave(own.shape[1])
    items = own.flatten()
    if everything:
        of_rows, theirs = known.of(queries)
        places, items = torch.cat([places, of_rows]), torch.cat([items, theirs])
    return known.in_pool(pool, len(queries), places, items)


def _needed(positives: Tensor | None, name: str) -> Tensor:
    if positives is None:
        raise InputError(f"{name} draws from the batch's positives: pass positives.")
    return positives


def _log_presence(log_p: Tensor, n: int) -> Tensor:
    """The logarithm of 1 − (1 − p)^n, which small p would round away."""
    return torch.log(-torch.expm1(n * torch.log1p(-log_p.exp())))
