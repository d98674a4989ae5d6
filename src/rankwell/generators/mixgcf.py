"""Hard negatives of candidates that are mixed with the positive, hop by hop."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.generators.generator import Embedded, Made, generator, shares, whole
from rankwell.lists import check_count
from rankwell.types import Hops, Ragged

__all__ = ["MixGCF"]


@generator(name="mixgcf", paper="huang2021")
class MixGCF:
    r"""Each negative is pooled of the hardest candidate of every hop, mixed with the positive.

    .. math:: e^{\prime (l)}_j = \alpha^{(l)} e^{(l)}_+ + (1 - \alpha^{(l)}) e^{(l)}_j, \qquad
        e^{(l)}_- = e^{\prime (l)}_x \;\text{with}\; x = \arg\max_j \langle q, e^{\prime (l)}_j \rangle, \qquad
        e_- = \operatorname{pool}_l e^{(l)}_-

    with :math:`\alpha^{(l)} \sim U(0, 1)` for each negative and hop, the same for all candidates j, so that the hardest mixture
    is that of the hardest candidate. The candidates are the sampled negatives, which it replaces: 16 to 64 in the paper, with
    BPR. Of a thousand the hardest is often a positive that nobody knows. ``k`` negatives have their own candidates, every k-th
    of them each. A model without hops has one. Gradients flow to the positive and the candidates
    that were picked, none through the choice. Time O(b n h d), memory O(b n h): the mixtures of the picked alone are made.

    Args:
        k: negatives a row.

    Raises:
        InputError: if ``k`` is below 1, or there are fewer candidates.

    >>> make = MixGCF(Ragged(torch.tensor([0]), torch.tensor([], dtype=torch.int64)), 3, 2, seed=0)
    >>> row = torch.tensor([[1.0, 0.0]])
    >>> pool = torch.tensor([[0.0, 1.0], [0.5, 0.5]])  # the second scores higher
    >>> ids = torch.tensor([0])
    >>> made = make(Embedded(row, row, pool, None, ids, ids, torch.tensor([1, 2]), ids)).vectors.squeeze()
    >>> share = (made[0] - 0.5) / 0.5  # of the positive
    >>> bool(0 <= share < 1), made[1].allclose(0.5 * (1 - share))
    (True, True)

    Source: :cite:`huang2021`, equation numbers unchecked. As in its code, :math:`\alpha` is drawn for a row and a hop, not for
    a candidate. Differs from it: candidates are what the sampler gives, which is to leave known positives out.
    """

    def __init__(
        self,
        known: Ragged,  # noqa: ARG002
        num_items: int,  # noqa: ARG002
        dim: int,  # noqa: ARG002
        *,
        seed: int,
        k: int = 1,
    ) -> None:
        check_count(k, "k")
        self.seed, self.k = seed, k

    @staticmethod
    def size(k: int, **_: Any) -> tuple[int, int]:
        """Vectors made a row, and for all rows."""
        return k, 0

    def __call__(self, seen: Embedded) -> Made:
        """``k`` negatives a row, in place of the candidates."""
        n = seen.negative_ids.shape[-1]
        if n < self.k:
            raise InputError(
                f"mixgcf makes k = {self.k} negatives of at least as many candidates: got {n}. Sample more."
            )
        seen = whole(seen)
        hops = seen.hops or Hops(seen.positives[:, None], seen.negatives[..., None, :], lambda hop: hop.squeeze(-2))
        places, there = self._hardest(seen, hops.negatives.detach())
        b, h = len(seen.queries), hops.positives.shape[1]
        layers = torch.arange(h, device=places.device)
        if hops.negatives.ndim == 3:
            picked = hops.negatives[places, layers]
        else:
            picked = hops.negatives[torch.arange(b, device=places.device)[:, None, None], places, layers]
        alpha = shares(self.seed, seen, self.k * h).view(b, self.k, h, 1)
        mixed = hops.pool(torch.lerp(picked, hops.positives[:, None], alpha))
        return Made(mixed, there)

    def _hardest(
        self, seen: Embedded, negatives: Float[Tensor, "*b n h d"]
    ) -> tuple[Int[Tensor, "b k h"], Bool[Tensor, "b k"]]:
        """The hardest candidate of each group and hop, and whether the group has one."""
        queries = seen.queries.detach()
        scores = torch.einsum("bd,nhd->bnh" if negatives.ndim == 3 else "bd,bnhd->bnh", queries, negatives)
        if seen.where is not None:
            scores = torch.where(seen.where[..., None], scores, -torch.inf)
        # Column j belongs to group j mod k: a pool is sorted, and neighbours in it are alike.
        scores = functional.pad(scores, (0, 0, 0, -scores.shape[1] % self.k), value=-torch.inf)
        best, places = scores.view(len(scores), -1, self.k, scores.shape[2]).max(1)
        return places * self.k + torch.arange(self.k, device=places.device)[:, None], best.amax(-1) > -torch.inf
