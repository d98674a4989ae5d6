"""Limits of the norms of rows."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["limit_norms"]


@torch.no_grad()
def limit_norms(rows: Float[Tensor, "n d"], most: float) -> None:
    """Scale rows whose Euclidean norm is above ``most`` back to it, in place.

    >>> rows = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    >>> limit_norms(rows, 1.0)
    >>> rows
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])

    Source: :cite:`srebro2005`, max-norm limits of factorisations; of hidden weights :cite:`srivastava2014`; equation numbers
    unchecked.
    """
    norms = rows.norm(dim=1, keepdim=True)
    # To a hair below, so that rounding leaves nothing above the limit.
    rows.mul_(torch.where(norms > most, most * (1 - 1e-6) / norms, 1.0))
