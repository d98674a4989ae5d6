"""EASE: a linear model between items, in closed form."""

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from rankwell.errors import InputError
from rankwell.models.history import HistoryModel, co_occurrences
from rankwell.models.registry import MODELS
from rankwell.models.spectral import compressed
from rankwell.registry import Search
from rankwell.types import Ragged

__all__ = ["EASE"]

MOST_ITEMS = 30_000
"""Catalogues above this would need more than 3.6 GB for the matrix alone, and hours for its inverse."""


@MODELS.register("interactions", name="ease", paper="steck2019", complexity="items · history a query")
class EASE(HistoryModel):
    r"""Each item as a weighted sum of all others: ridge regression with a zero diagonal.

    .. math:: s_u = r_u B, \qquad B_{ij} = -\frac{P_{ij}}{P_{jj}},\; B_{jj} = 0,
        \qquad P = (R^\top R + \lambda I)^{-1}

    A strong baseline on catalogues of a few thousand items. Fit: one Cholesky inverse, O(items³) time and two
    item × item matrices of memory; the model keeps one. Scoring adds up the rows of a user's history.

    Args:
        regularisation: :math:`\lambda`, in interactions; more for sparser data.

    Raises:
        InputError: if ``regularisation`` is not above 0, or the catalogue has more than 30,000 items.

    >>> model = EASE(2, 2, regularisation=1.0)
    >>> model.initialise(Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1])), seed=0)
    >>> model.score_all(torch.tensor([1]))  # R'R + I is [[2, 1], [1, 3]], its inverse [[3, -1], [-1, 2]] / 5
    tensor([[0.3333, 0.0000]])

    Source: :cite:`steck2019`, eq. 8; equation number unchecked. Differs from it: none intended.
    """

    weights: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        regularisation: Annotated[float, Search(10.0, 1000.0, log=True)] = 100.0,
    ) -> None:
        super().__init__(num_users, num_items)
        if not regularisation > 0:
            raise InputError(f"regularisation must be above 0: got {regularisation}.")
        if num_items > MOST_ITEMS:
            raise InputError(
                f"ease holds an item × item matrix and takes at most {MOST_ITEMS:,} items: got {num_items:,}."
                " Take graph_filter or item_knn."
            )
        self.regularisation = regularisation
        self.register_buffer("weights", torch.zeros(num_items, num_items))

    @torch.no_grad()
    def initialise(self, known: Ragged, *, seed: int) -> None:  # noqa: ARG002 - the contract's; nothing is drawn
        """Invert the regularised co-occurrences."""
        self.remember(known)
        gram = torch.cat([block for _, block in co_occurrences(known, self.num_items)], 1)
        gram.diagonal().add_(self.regularisation)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        self.weights = inverse.div_(-inverse.diagonal().clone())
        self.weights.fill_diagonal_(0)

    def score_history(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each list of item codes (no code twice in a list)."""
        ones = torch.ones(len(history.values), dtype=self.weights.dtype, device=self.weights.device)
        rows = compressed(history.offsets, history.values, ones, (len(history.offsets) - 1, self.num_items))
        scores = rows @ self.weights
        return scores if out is None else out.copy_(scores)
