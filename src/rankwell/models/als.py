"""Alternating least squares, by the library implicit: a baseline for every table."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell.errors import InputError, require
from rankwell.lists import check_count, take_lists
from rankwell.models.registry import MODELS, check_known
from rankwell.registry import Search
from rankwell.types import Ragged

__all__ = ["ALS"]

USERS = 64
"""New users whose vectors are solved for at a time."""


@MODELS.register("interactions", name="als", paper="hu2008", complexity="items · dim a query")
class ALS(nn.Module):
    r"""Weighted matrix factorisation by alternating least squares.

    .. math:: \min_{p, q} \sum_{u, i} c_{ui} (r_{ui} - p_u \cdot q_i)^2 + \lambda\Big(\sum_u |p_u|^2 + \sum_i |q_i|^2\Big),
        \qquad c_{ui} = \alpha \text{ for known items, } 1 \text{ for others}

    What many services run. It is fitted by implicit (extra ``als``), in seconds; the model here keeps its vectors and
    scores by one matrix product. A new user's vector solves the same problem with the items' vectors as they are,

    .. math:: p = \alpha \Big(Q^\top Q + \lambda I + (\alpha - 1) \sum_{i \in H} q_i q_i^\top\Big)^{-1} \sum_{i \in H} q_i

    in O(history · dim² + dim³).

    Args:
        dim: length of the vectors.
        alpha: confidence in a known item.
        regularisation: :math:`\lambda`.
        iterations: passes over users and items.

    Raises:
        InputError: if ``dim`` or ``iterations`` is below 1, ``alpha`` is not above 0, or ``regularisation`` below 0.

    Source: :cite:`hu2008`, eq. 3; equation number unchecked. Differs from it: what implicit does, conjugate gradients among it.
    """

    trainable: ClassVar[bool] = False
    users: Tensor
    items: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: Annotated[int, Search(16, 256, log=True)] = 64,
        alpha: Annotated[float, Search(1.0, 100.0, log=True)] = 10.0,
        regularisation: Annotated[float, Search(0.01, 100.0, log=True)] = 10.0,
        iterations: int = 15,
    ) -> None:
        super().__init__()
        check_count(dim, "dim")
        check_count(iterations, "iterations")
        if not alpha > 0 or not regularisation >= 0:
            raise InputError(f"alpha must be above 0 and regularisation at least 0: got {alpha} and {regularisation}.")
        self.num_users, self.num_items = num_users, num_items
        self.alpha, self.regularisation, self.iterations = alpha, regularisation, iterations
        self.register_buffer("users", torch.zeros(num_users, dim))
        self.register_buffer("items", torch.zeros(num_items, dim))

    def initialise(self, known: Ragged, *, seed: int) -> None:
        """Fit."""
        check_known(known, self.num_users, self.num_items)
        als, sparse = require("implicit.als", "als"), require("scipy.sparse", "als")
        ones = torch.ones(len(known.values)).numpy()
        shape = (self.num_users, self.num_items)
        matrix = sparse.csr_matrix((ones, known.values.cpu().numpy(), known.offsets.cpu().numpy()), shape=shape)
        with require("threadpoolctl", "als").threadpool_limits(1, "blas"):  # implicit has threads of its own
            fitted = als.AlternatingLeastSquares(
                factors=self.users.shape[1],
                alpha=self.alpha,
                regularization=self.regularisation,
                iterations=self.iterations,
                num_threads=torch.get_num_threads(),
                random_state=seed % 2**32,
            )
            fitted.fit(matrix, show_progress=False)
        self.users.copy_(torch.from_numpy(fitted.user_factors))
        self.items.copy_(torch.from_numpy(fitted.item_factors))

    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each user."""
        return torch.mm(self.users[queries], self.items.T, out=out)

    def score_history(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each list of item codes (no code twice in a list): of new users."""
        asked = torch.arange(len(history.offsets) - 1, device=history.offsets.device)
        users = [self._solved(take_lists(history, block)) for block in torch.split(asked, USERS) if len(block)]
        return torch.mm(torch.cat([self.users[:0], *users]), self.items.T, out=out)

    def _solved(self, history: Ragged) -> Tensor:
        """The vectors of new users."""
        sizes = history.offsets.diff()
        rows = torch.repeat_interleave(sizes, output_size=len(history.values))
        places = torch.arange(len(rows), device=rows.device) - history.offsets[:-1][rows]
        known = self.items.new_zeros(len(sizes), max(int(sizes.max()), 1), self.items.shape[1])
        known[rows, places] = self.items[history.values]
        own = (self.alpha - 1) * known.mT @ known + self.items.T @ self.items
        own.diagonal(dim1=1, dim2=2).add_(self.regularisation)
        # Without regularisation and with few items there are several solutions: of least squares, the shortest.
        inverse: Tensor = torch.linalg.pinv(own, hermitian=True)
        return (inverse @ (self.alpha * known.sum(1))[..., None])[..., 0]
