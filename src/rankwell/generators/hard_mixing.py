"""Mixtures of a row's hardest negatives, with each other and with the query."""

from typing import Annotated, Any

import torch
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.generators.generator import MADE, Embedded, Made, chosen, generator, shares, whole
from rankwell.lists import check_count
from rankwell.registry import Search
from rankwell.similarity import by_row, normalise
from rankwell.types import Ragged

__all__ = ["HardMixing"]


@generator(name="hard_mixing", paper="kalantidis2020")
class HardMixing:
    r"""MoCHi: beside the sampled negatives, convex mixtures of pairs of the hardest, and of the hardest with the query.

    .. math:: h = \frac{\alpha\, n_i + (1 - \alpha)\, n_j}{\lVert \cdot \rVert}, \quad \alpha \sim U(0, 1)
        \qquad\text{and}\qquad
        h^\prime = \frac{\beta\, q + (1 - \beta)\, n_j}{\lVert \cdot \rVert}, \quad \beta \sim U(0, \beta_{\max})

    where i and j are drawn uniformly from the row's ``hardest`` valid negatives, two different ones where there are two. With
    :math:`\beta_{\max} \le 0.5` the query's share is always the smaller. Length one is given under the cosine alone.
    Gradients flow to the negatives; the query within a mixture is a constant, or it would be pushed from itself. Time
    O(b n d), memory O(b n + b (pairs + with_query) d).

    Args:
        hardest: how many of the highest scored negatives are mixed.
        pairs: mixtures of two negatives.
        with_query: mixtures with the query.
        most_query: :math:`\beta_{\max}`.

    Raises:
        InputError: if ``hardest`` is below 1, both numbers of mixtures are 0 or one is below, or ``most_query`` is not above 0
            and at most 0.5.

    >>> make = HardMixing(Ragged(torch.tensor([0]), torch.tensor([], dtype=torch.int64)), 4, 1, seed=0, hardest=2, pairs=3)
    >>> row, ids = torch.tensor([[1.0]]), torch.tensor([0])
    >>> pool = torch.tensor([[1.0], [2.0], [-5.0]])
    >>> made = make(Embedded(row, row, pool, None, ids, ids, torch.tensor([1, 2, 3]), ids))
    >>> made.vectors.shape, bool((made.vectors[:, :3] >= 1).all()), made.beside  # the two hardest are 1 and 2
    (torch.Size([1, 35, 1]), True, True)

    Source: :cite:`kalantidis2020`, equations 4 and 5 (numbers unchecked). Differs from it: the hardest of the sampled negatives
    instead of those of a queue; the pair is of two different ones.
    """

    def __init__(
        self,
        known: Ragged,  # noqa: ARG002
        num_items: int,  # noqa: ARG002
        dim: int,  # noqa: ARG002
        *,
        seed: int,
        hardest: int = 128,
        pairs: int = 32,
        with_query: int = 32,
        most_query: Annotated[float, Search(0.05, 0.5)] = 0.5,
    ) -> None:
        check_count(hardest, "hardest")
        check_count(pairs, "pairs", least=0)
        check_count(with_query, "with_query", least=0)
        if not pairs + with_query or not 0 < most_query <= 0.5:
            raise InputError(
                "hard_mixing makes at least one mixture, and most_query must be above 0 and at most 0.5:"
                f" got pairs {pairs}, with_query {with_query}, most_query {most_query}."
            )
        self.seed, self.hardest, self.pairs, self.with_query, self.most_query = (
            seed,
            hardest,
            pairs,
            with_query,
            most_query,
        )

    @staticmethod
    def size(pairs: int, with_query: int, **_: Any) -> tuple[int, int]:
        """Vectors made a row, and for all rows."""
        return pairs + with_query, 0

    def __call__(self, seen: Embedded) -> Made:
        """The mixtures of pairs, then those with the query, beside the sampled negatives."""
        seen = whole(seen)
        with torch.no_grad():
            scores = by_row(seen.queries, seen.negatives)
            if seen.where is not None:
                scores = torch.where(seen.where, scores, -torch.inf)
            hard = scores.topk(min(self.hardest, scores.shape[1]), sorted=True)
            counts = (hard.values > -torch.inf).sum(-1, keepdim=True)  # the valid ones stand in front
        first, second = self._drawn(seen, counts)
        ones, others = (chosen(seen.negatives, hard.indices.gather(1, places)) for places in (first, second))
        alpha = shares(self.seed, seen, self.pairs, purpose=0)[..., None]
        beta = shares(self.seed, seen, self.with_query, purpose=1)[..., None] * self.most_query
        query = (normalise(seen.queries) if seen.unit else seen.queries).detach()[:, None]
        of_pairs = torch.lerp(ones[:, : self.pairs], others, alpha)
        there = counts > 0
        made = torch.cat([of_pairs, torch.lerp(ones[:, self.pairs :], query, beta)], 1)
        return Made(made, there.expand(made.shape[:-1]), beside=True)

    def _drawn(self, seen: Embedded, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Places among the hardest: one of each mixture, and another of each pair."""
        places = torch.arange(self.pairs + self.with_query, device=counts.device)
        bits = keyed.words(keyed.mix(self.seed, seen.epoch, MADE, 2), seen.samples[:, None], places)
        first = keyed.high(bits, counts)
        step = 1 + keyed.low(bits, (counts - 1).clamp(min=0))
        return first, (first + step)[:, : self.pairs] % counts.clamp(min=1)
