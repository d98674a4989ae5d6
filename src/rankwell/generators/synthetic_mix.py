"""Written negatives and sampled ones, mixed row by row."""

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.generators.described import TEXTS, Described, DescribedNegatives
from rankwell.generators.generator import Embedded, Made, chosen, generator, whole
from rankwell.lists import check_count
from rankwell.registry import Search
from rankwell.types import Ragged

__all__ = ["SyntheticMix"]


@generator(name="synthetic_mix", kind="text", paper="li2024syneg", inputs=TEXTS)
class SyntheticMix(DescribedNegatives):
    r"""SyNeg's mixture: each of a row's k negatives is a written one with probability ``ratio``, else a sampled one.

    .. math:: e_j = \begin{cases} \hat e_{uj} & \text{with probability } \rho \\ e_{n_j} & \text{otherwise} \end{cases}

    where :math:`\hat e_{uj}` is drawn from the descriptions of the row. Rows without any keep what was sampled.

    Texts and items must lie in one space. Where the catalogue's own text vectors come too (``described.items``), a linear map
    W from texts to the model's vectors is learnt beside the loss, from the batch's positives,

    .. math:: \lambda\, \operatorname{mean}_i \lVert W t_i - \operatorname{sg}(e_i) \rVert^2, \qquad
        \hat e_{uj} = \operatorname{sg}(W)\, t_{uj}

    and the loss does not move W. Without them vectors are taken as they are, and must be as long as the model's. Gradients flow
    to the sampled negatives. Time and memory O(b k (d + t)), and O(b k t d) time for the map.

    Args:
        ratio: :math:`\rho`, the share of written negatives.
        k: negatives a row; at least as many are to be sampled.
        map_weight: :math:`\lambda`.
        table: a file of described negatives, for the command line.
        described: what such a file holds, along the data (:class:`~rankwell.generators.Described`).

    Raises:
        InputError: if there are no descriptions, their shapes do not fit, ``k`` is below 1 or above the number sampled,
            ``ratio`` is not in [0, 1], ``map_weight`` not above 0, or the lengths differ without text vectors of items.

    >>> described = Described(torch.tensor([[[9.0, 9.0]]]), torch.tensor([0, -1]))
    >>> known = Ragged(torch.tensor([0]), torch.tensor([], dtype=torch.int64))
    >>> make = SyntheticMix(known, 2, 2, seed=0, ratio=1.0, k=1, described=described)
    >>> rows, pool, ids = torch.eye(2), torch.tensor([[1.0, 2.0]]), torch.arange(2)
    >>> make(Embedded(rows, rows, pool, None, ids, ids, ids[:1], samples=ids)).vectors.squeeze(1)
    tensor([[9., 9.],
            [1., 2.]])

    Source: :cite:`li2024syneg`, of which the abstract was read: formula not confirmed. Differs from it: a row may be that of a
    recommender; the map is ours, since SyNeg trains the encoder of the texts itself.
    """

    def __init__(
        self,
        known: Ragged,  # noqa: ARG002
        num_items: int,
        dim: int,
        *,
        seed: int,
        ratio: Annotated[float, Search(0.1, 0.9)] = 0.5,
        k: int = 8,
        map_weight: Annotated[float, Search(0.1, 10.0, log=True)] = 1.0,
        table: str = "",  # noqa: ARG002
        described: Described | None = None,
    ) -> None:
        check_count(k, "k")
        if not 0 <= ratio <= 1 or not map_weight > 0:
            raise InputError(
                f"ratio must be in [0, 1] and map_weight above 0: got ratio {ratio}, map_weight {map_weight}."
            )
        super().__init__(described, "synthetic_mix", num_items, seed=seed, k=k)
        self.ratio, self.map_weight = ratio, map_weight
        length = self.vectors.shape[2]
        if self.items is None and length != dim:
            raise InputError(
                f"text vectors have length {length} and the model's {dim}: give text vectors of the items too, so that a map"
                f" can be learnt, or set --model.dim {length}."
            )
        # From zero: the problem is convex, and nothing is drawn.
        self.map = nn.Parameter(torch.zeros(dim, length)) if self.items is not None else None

    def __call__(self, seen: Embedded) -> Made:
        """``k`` negatives a row, in place of the sampled ones."""
        seen = whole(seen)
        texts, there = self.described(seen)
        written = (texts if self.map is None else texts @ self.map.detach().T).to(seen.negatives.dtype)
        places = self.places(seen)
        use = there & self.coins(seen, self.ratio)
        where = use | self.valid(seen, places)
        made = torch.where(use[..., None], written, chosen(seen.negatives, places))
        return Made(torch.where(where[..., None], made, 0), where, penalty=self._penalty(seen))

    def _penalty(self, seen: Embedded) -> Float[Tensor, ""] | None:
        """How far the map is from turning the positives' texts into their vectors."""
        if self.map is None or self.items is None:
            return None
        away = self.items[seen.positive_ids] @ self.map.T - seen.positives.detach()
        return self.map_weight * away.square().sum(-1).mean()
