"""Virtual negatives between sampled ones, chosen by clusters of items, and between a hard one and the positive."""

# mypy: allow-untyped-calls

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.generators.clusters import residual_clusters
from rankwell.generators.generator import Embedded, Made, chosen, generator, shares, whole
from rankwell.lists import check_count
from rankwell.registry import Input, Search
from rankwell.types import Ragged

__all__ = ["Esans"]


@generator(name="esans", paper="xing2025", inputs={"item_views": Input("catalogue")})
class Esans(nn.Module):
    r"""ESANS: beside the sampled negatives, points between two easy ones, and between a hard one and the positive.

    .. math:: e = \alpha\, e_i + (1 - \alpha)\, e_j, \quad \alpha \sim U(0, 1) \qquad\text{and}\qquad
        e^\prime = \beta\, e_+ + (1 - \beta)\, e_h, \quad \beta \sim U(\beta_{\min}, \beta_{\max})

    Which sampled negatives are easy or hard is said by two levels of residual clusters of the catalogue
    (:func:`~rankwell.generators.clusters.residual_clusters`). i and j are of other first-level clusters than the positive:
    cluster C with probability :math:`\propto e^{-\lVert C - C_+ \rVert}` among those that the row's negatives are of, then any
    of these alike. h is of the positive's first cluster and another second one. A row whose sampled negatives have nobody
    there goes without, so sample many.

    The clusters are of ``item_views``, or of the model's own item vectors: then they are made anew at the first step of an
    epoch and every ``refresh`` steps. Before the first all are one cluster: easy points are between any two. Gradients flow
    to the positive and the negatives. Time O(b n + b (easy + hard) d), memory O(b n + b clusters + b (easy + hard) d), and of
    a refresh that of k-means.

    Args:
        item_views: matrices of one row an item (text, image, behaviour).
        easy: points between two easy negatives.
        hard: points between a hard negative and the positive.
        clusters: of the first level.
        subclusters: of the second level.
        beta_min: least share of the positive; below 0, the point lies beyond the hard negative.
        beta_max: largest share of the positive.
        refresh: steps between two clusterings of the model's vectors.

    Raises:
        InputError: if ``easy`` and ``hard`` are both 0 or one is below, ``clusters``, ``subclusters`` or ``refresh`` is below
            1, not ``beta_min`` <= ``beta_max`` < 1, views do not fit, or a model without vectors should be clustered.

    >>> views = [torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])]
    >>> known = Ragged(torch.tensor([0, 1]), torch.tensor([0]))
    >>> make = Esans(known, 3, 1, seed=0, item_views=views, clusters=2, easy=1, hard=1)
    >>> row, ids = torch.tensor([[1.0]]), torch.tensor([0])
    >>> made = make(Embedded(row, row, torch.tensor([[5.0], [7.0]]), None, ids, ids, torch.tensor([1, 2]), ids))
    >>> made.vectors[0, 0], made.where  # item 2 is in the other cluster: both ends are it
    (tensor([7.]), tensor([[True, True]]))

    Source: :cite:`xing2025`; formulas not confirmed: abstract and notes on it alone could be read. Differs: drawn among the
    sampled negatives of a row, not in the catalogue. The notes let :math:`\beta` go from -0.5 to 1.5; at 1 a point is the
    positive itself, and beyond it no negative, so that the default ends at 0.5. Views come aligned; the paper learns to
    align them.
    """

    first: Tensor
    second: Tensor
    distances: Tensor

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        dim: int,  # noqa: ARG002
        *,
        seed: int,
        item_views: Sequence[Tensor] | None = None,
        easy: int = 32,
        hard: int = 32,
        clusters: int = 32,
        subclusters: int = 8,
        beta_min: Annotated[float, Search(-0.5, 0.25)] = -0.5,
        beta_max: Annotated[float, Search(0.25, 0.9)] = 0.5,
        refresh: int = 1000,
    ) -> None:
        super().__init__()
        for name, count, least in (("easy", easy, 0), ("hard", hard, 0), ("refresh", refresh, 1)):
            check_count(count, name, least=least)
        check_count(clusters, "clusters")
        check_count(subclusters, "subclusters")
        if not easy + hard or not -torch.inf < beta_min <= beta_max < 1:
            raise InputError(
                "esans makes at least one point, with beta_min <= beta_max < 1:"
                f" got easy {easy}, hard {hard}, beta_min {beta_min}, beta_max {beta_max}."
            )
        self.seed, self.easy, self.hard, self.refresh = seed, easy, hard, refresh
        self.betas, self.sizes = (beta_min, beta_max), (min(clusters, num_items), min(subclusters, num_items))
        device = known.values.device
        for name in ("first", "second"):
            self.register_buffer(name, torch.zeros(num_items, dtype=torch.int64, device=device))
        self.register_buffer("distances", torch.zeros(self.sizes[0], self.sizes[0], device=device))
        self.fixed = item_views is not None
        if item_views is not None:
            if any(len(view) != num_items for view in item_views):
                raise InputError(f"item_views must have one row for each of {num_items} items.")
            self._cluster([torch.as_tensor(view, device=device) for view in item_views], seed)

    @staticmethod
    def size(easy: int, hard: int, **_: Any) -> tuple[int, int]:
        """Vectors made a row, and for all rows."""
        return easy + hard, 0

    def forward(self, seen: Embedded) -> Made:
        """The points between easy negatives, then those between hard ones and the positive."""
        seen = whole(seen)
        valid = seen.where
        if valid is None:
            valid = seen.negative_ids.new_ones((len(seen.queries), seen.negative_ids.shape[-1]), dtype=torch.bool)
        of_easy, of_hard = self._weights(seen, valid)
        ends, there = _drawn(of_easy, shares(self.seed, seen, 2 * self.easy, purpose=0))
        one, other = chosen(seen.negatives, ends).chunk(2, 1)
        alpha = shares(self.seed, seen, self.easy, purpose=1)[..., None]
        end, hard_there = _drawn(of_hard, shares(self.seed, seen, self.hard, purpose=2))
        low, high = self.betas
        beta = low + (high - low) * shares(self.seed, seen, self.hard, purpose=3)[..., None]
        hard = torch.lerp(chosen(seen.negatives, end), seen.positives[:, None], beta)
        where = torch.cat([there.expand(-1, self.easy), hard_there.expand(-1, self.hard)], 1)
        made = torch.cat([torch.lerp(one, other, alpha), hard], 1)
        return Made(made, where, beside=True)

    @torch.no_grad()
    def update(self, seen: Embedded) -> None:
        """Cluster the model's vectors, when it is time."""
        if self.fixed or seen.step % self.refresh:
            return
        if seen.scorer is None:
            raise InputError("esans clusters the model's item vectors, and this model has none. Give item_views.")
        self._cluster([seen.scorer.item_vectors()], self.seed)

    def _cluster(self, views: Sequence[Tensor], seed: int) -> None:
        found = residual_clusters(views, self.sizes, seed=seed)
        for name, value in found._asdict().items():
            getattr(self, name).copy_(value)

    @torch.no_grad()
    def _weights(self, seen: Embedded, valid: Bool[Tensor, "b n"]) -> tuple[Tensor, Tensor]:
        """How likely a row draws each of its negatives, as an easy one and as a hard one; not normalised."""
        cluster, own = self.first[seen.negative_ids].expand(valid.shape), self.first[seen.positive_ids][:, None]
        apart = self.distances[own, cluster]
        counts = apart.new_zeros(len(valid), len(self.distances)).scatter_add_(1, cluster, valid.to(apart))
        clustered = self.distances.any()
        other = valid & ((cluster != own) | ~clustered)
        beside = self.second[seen.negative_ids] != self.second[seen.positive_ids][:, None]
        # Cluster by cluster first, then alike within: members share what their cluster has.
        easy = other * (-apart).exp() / counts.gather(1, cluster).clamp(min=1)
        return easy, (valid & (cluster == own) & beside).to(apart)


def _drawn(
    weights: Float[Tensor, "b n"], numbers: Float[Tensor, "b k"]
) -> tuple[Int[Tensor, "b k"], Bool[Tensor, "b 1"]]:
    """Places drawn in proportion to the weights, by their running sum; and whether a row has any."""
    below = weights.double().cumsum(1)
    total = below[:, -1:].contiguous()
    places = torch.searchsorted(below, numbers * total, right=True)
    # Rounding must not lead behind the last that has a weight.
    return torch.minimum(places, torch.searchsorted(below, total)), total > 0
