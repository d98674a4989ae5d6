"""Hard negatives between the query and the positive of other rows."""

# mypy: allow-untyped-calls

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rankwell.generators.generator import Embedded, Made, chosen, generator
from rankwell.generators.known import known_in_pool
from rankwell.kernels.arcs import Ends, nearest_points, shortest
from rankwell.lists import check_count
from rankwell.samplers.collisions import KnownItems
from rankwell.similarity import normalise
from rankwell.types import Ragged

__all__ = ["LoopNegatives"]

CHUNK_CURVES = 1 << 15
"""Pairs of curves compared at once, some hundred bytes each."""


@generator(name="loop_negatives", paper="vasudeva2021")
class LoopNegatives:
    r"""LoOp: beside the sampled negatives, where the curves of other rows come nearest to the row's own.

    .. math:: y_{rs} = \arg\min_{y \in [q_s, p_s]} \; \min_{x \in [q_r, p_r]} \lVert x - y \rVert^2

    for the k rows s whose curve comes nearest, each of which gives its point. A curve joins a row's query and its positive:
    great arcs between unit vectors under the cosine, segments otherwise, as in :func:`~rankwell.losses.loop_loss`, whose
    closed form it shares (:mod:`rankwell.kernels.arcs`). Rows of the same query, and those whose positive the row's query
    knows, are left out. Gradients flow to both ends of the other row's curve; the place on it is a constant.

    Time O(b^2 d) for the inner products and O(b^2) for some hundred operations on each pair of rows, in chunks; memory O(b^2),
    and O(b k d) for what is made. The vectors depend on the whole batch.

    Args:
        k: other rows that give a negative.

    Raises:
        InputError: if ``k`` is below 1.

    >>> make = LoopNegatives(Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 1])), 2, 2, seed=0, k=1)
    >>> ids = torch.tensor([0, 1])
    >>> queries, positives = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[4.0, 0.0], [5.0, 5.0]])
    >>> make(Embedded(queries, positives, positives, None, ids, ids, ids, ids)).vectors.squeeze(1)
    tensor([[1., 1.],
            [1., 0.]])

    Source: :cite:`vasudeva2021`; equation numbers unchecked. Differs from it: the query is compared with the point on the other
    curve, not the distance of both points taken, so that any contrast loss can use it; the classes are the rows'
    pairs of query and positive, and the k nearest of all are taken, not one that is paired beforehand.
    """

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        dim: int,  # noqa: ARG002
        *,
        seed: int,  # noqa: ARG002
        k: int = 8,
    ) -> None:
        check_count(k, "k")
        self.k = k
        self._known = KnownItems(known, num_items)

    @staticmethod
    def size(k: int, **_: Any) -> tuple[int, int]:
        """Vectors made a row, and for all rows."""
        return k, 0

    def __call__(self, seen: Embedded) -> Made:
        """A point of the curve of each of the k nearest rows."""
        queries, positives = seen.queries, seen.positives
        if seen.unit:
            queries, positives = normalise(queries), normalise(positives)
        with torch.no_grad():
            curves = _Curves(queries.detach(), positives.detach(), linear=not seen.unit)
            nearest, rows = curves.nearest(self._others(seen), min(self.k, len(queries)))
            points = curves.points(rows)[..., 2:]
        there = nearest < torch.inf
        made = points[..., :1] * chosen(queries, rows) + points[..., 1:] * chosen(positives, rows)
        return Made(made, there, beside=True)

    def _others(self, seen: Embedded) -> Bool[Tensor, "b b"]:
        """Which rows may give a negative to which."""
        pool, order = seen.positive_ids.sort()
        knows = known_in_pool(self._known, pool, seen.query_ids, seen.positive_ids)
        there = torch.empty_like(knows).index_copy_(1, order, ~knows)
        return there & (seen.query_ids[:, None] != seen.query_ids)


class _Curves:
    """The rows' curves, by the inner products of all their ends."""

    def __init__(self, queries: Float[Tensor, "b d"], positives: Float[Tensor, "b d"], *, linear: bool) -> None:
        self.queries, self.across, self.positives = queries @ queries.T, queries @ positives.T, positives @ positives.T
        self.linear = linear

    def nearest(self, others: Bool[Tensor, "b b"], k: int) -> tuple[Float[Tensor, "b k"], Int[Tensor, "b k"]]:
        """Squared distances to the k nearest curves, infinite where there are fewer, and whose they are."""
        b = len(others)
        everyone = torch.arange(b, device=others.device)
        found = []
        for rows in everyone.split(max(1, CHUNK_CURVES // b)):
            costs = shortest(self._ends(rows[:, None], everyone[None]))
            found.append(torch.where(others[rows], costs, torch.inf).topk(k, largest=False))
        return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])

    def points(self, rows: Int[Tensor, "b k"]) -> Float[Tensor, "b k 4"]:
        """Weights of the ends of the row's own curve, and of those of these rows, in the nearest points."""
        return nearest_points(self._ends(torch.arange(len(rows), device=rows.device)[:, None], rows))

    def _ends(self, r: Tensor, s: Tensor) -> Ends:
        products = (
            self.across[r, r],
            self.across[s, s],
            self.queries[r, s],
            self.across[r, s],
            self.across[s, r],
            self.positives[r, s],
        )
        if not self.linear:
            return Ends(*products)
        lengths = (self.queries[r, r], self.positives[r, r], self.queries[s, s], self.positives[s, s])
        return Ends(*products, lengths)
