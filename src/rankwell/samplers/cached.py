"""A cache of hard negatives for each query."""

# mypy: allow-untyped-calls

from typing import Annotated, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.lists import check_count, check_positive
from rankwell.registry import Search
from rankwell.samplers.candidates import CHOICE, candidate_scores, choose, unknown_candidates
from rankwell.samplers.catalogue import CatalogueSampler
from rankwell.samplers.registry import sampler
from rankwell.types import Negatives, Ragged, Scorer

__all__ = ["CachedSampler"]

START, REFRESH = 8, 9
"""Keep the first filling, and what stays in the cache, apart from what else is keyed by seed and epoch."""

BLOCK = 1 << 16
"""Caches that are filled at a time."""


@sampler(name="cached", kind="model", paper="zhang2019")
class CachedSampler(nn.Module):
    r"""Negatives drawn from a cache of each query's hard ones, which every batch refreshes.

    .. math:: H_u \leftarrow \text{N of } H_u \cup R_u \text{ without replacement}, \propto e^{s_j / t}

    :math:`R_u` are M fresh items, uniform among those that the query does not know, and so is what the cache starts with. Its
    size N says how much of what was found hard is remembered, M how much is looked for: over many batches a query sees far
    more of the catalogue than the candidates of one (:class:`~rankwell.samplers.dns.DNSSampler`). An item is in a cache
    once, unless the query has fewer unknown items than places.

    A query is refreshed once a batch, however often it is there. The lowest of its samples is the key, so that the order of
    rows changes nothing. What a row draws depends on the cache, and so on the batches before: the cache is a buffer, which
    checkpoints keep. No ``log_q`` is stated. Time O((N + M) (d + log(N + M))) a row, for vectors of length d; memory
    4 N bytes a query, whatever the size of the catalogue.

    Args:
        n: negatives of a row, none twice; at most ``size``.
        size: N, the items that the cache has for each query.
        candidates: M, the fresh items that each refresh looks at.
        temperature: t, in units of the scores; the lower, the fewer easy items stay.
        pick: ``uniform`` from the cache, or ``softmax``, by the scores once more.

    Raises:
        InputError: if ``n`` is above ``size``, ``temperature`` is not above 0, a row knows everything, or no scorer is passed.

    >>> from rankwell.models import MatrixFactorisation
    >>> model = MatrixFactorisation(1, 99, dim=1, similarity="dot")
    >>> table = {"users": torch.ones(1, 1), "items": torch.arange(99.0)[:, None]}
    >>> model.load_state_dict(table)
    <All keys matched successfully>
    >>> draw = CachedSampler(Ragged(torch.tensor([0, 1]), torch.tensor([98])), 99, seed=0, n=2, size=2)
    >>> for epoch in range(20):  # it finds and keeps the two best that are not known
    ...     got = draw(torch.tensor([0]), torch.tensor([0]), epoch=epoch, step=0, scorer=model)
    >>> got.ids.sort().values
    tensor([[96, 97]])

    Source: :cite:`zhang2019`, NSCaching, by its code; equation numbers unchecked. Differs from it: a cache for each query,
    not for the heads and tails of a graph; it is refreshed before it is drawn from, at every batch; an item is in it once;
    known positives never are.
    """

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        *,
        seed: int,
        n: Annotated[int, Search(1, 30, log=True)] = 10,
        size: Annotated[int, Search(8, 128, log=True)] = 30,
        candidates: Annotated[int, Search(8, 128, log=True)] = 30,
        temperature: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1,
        pick: Literal["uniform", "softmax"] = "uniform",
    ) -> None:
        super().__init__()
        for name, count in (("n", n), ("size", size), ("candidates", candidates)):
            check_count(count, name)
        check_positive(temperature, "temperature")
        if n > size:
            raise InputError(f"cached draws n items of the cache, at most all: got n = {n} and a size of {size}.")
        if pick not in ("uniform", "softmax"):
            raise UnknownName("value of pick", pick, ("uniform", "softmax"))
        self.seed, self.n, self.temperature, self.pick = seed, n, temperature, pick
        self._fresh = unknown_candidates(known, num_items, seed=seed, n=candidates)
        start = unknown_candidates(known, num_items, seed=keyed.mix(seed, START), n=size)
        self.cache: Tensor
        self.register_buffer("cache", _filled(start, known))

    @torch.no_grad()
    def forward(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],
        *,
        epoch: int,
        step: int,
        positives: Int[Tensor, "b *m"] | None = None,  # noqa: ARG002
        scorer: Scorer | None = None,
    ) -> Negatives:
        """Refresh the caches of the batch's queries, and draw from them."""
        owners, of_row = torch.unique(queries, return_inverse=True)
        first = samples.new_zeros(len(owners)).scatter_reduce(0, of_row, samples, "amin", include_self=False)
        fresh = self._fresh(owners, first, epoch=epoch, step=step).ids
        items = torch.cat([self.cache[owners].long(), fresh], 1).sort(1).values
        weights = candidate_scores(scorer, "cached", owners, items) / self.temperature
        weights[:, 1:].masked_fill_(items[:, 1:] == items[:, :-1], -torch.inf)  # a union has each once
        size = self.cache.shape[1]
        kept = choose(weights, size, keyed.mix(self.seed, epoch, REFRESH), first)[1]
        items, weights = items.gather(1, kept), weights.gather(1, kept)
        self.cache[owners] = items.int()
        chances = weights if self.pick == "softmax" else weights.masked_fill(~weights.isneginf(), 0.0)
        drawn = choose(chances[of_row], self.n, keyed.mix(self.seed, epoch, CHOICE), samples)[1]
        return Negatives(items[of_row].gather(1, drawn), None, None)


def _filled(start: CatalogueSampler, known: Ragged) -> Int[Tensor, "users size"]:
    """What caches hold before anything is scored: uniform among the unknown, some users at a time."""
    users = torch.arange(len(known.offsets) - 1, device=known.offsets.device)
    cache = torch.empty(len(users), start.n, dtype=torch.int32, device=users.device)
    for some in users.split(BLOCK):
        cache[some] = start(some, some, epoch=0, step=0).ids.int()
    return cache
