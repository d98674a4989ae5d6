"""Singular vectors of the degree-normalised interactions: what graph filters and spectral starts are made of."""

import warnings
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rankwell.errors import InputError
from rankwell.models.registry import check_known
from rankwell.similarity import normalise
from rankwell.types import Ragged

__all__ = ["NormalisedInteractions", "compressed", "normalised_interactions", "spectral_start", "truncated_svd"]

OVERSAMPLING = 16
"""Columns beyond the rank: the last wanted directions converge as fast as the gap to the first unwanted one behind these."""


class NormalisedInteractions(NamedTuple):
    r"""The matrix :math:`\tilde R = D_u^{-1/2} R\, D_i^{-1/2}` by rows and by columns, with the degrees it was divided by.

    Both orders are kept because a product with a transposed compressed matrix is several times slower.
    """

    rows: Float[Tensor, "users items"]
    """Sparse, compressed rows."""
    columns: Float[Tensor, "items users"]
    """Its transpose, sparse, compressed rows."""
    user_degrees: Float[Tensor, " users"]
    item_degrees: Float[Tensor, " items"]


def normalised_interactions(known: Ragged, num_items: int) -> NormalisedInteractions:
    r"""Interactions divided by the square roots of user and item degrees.

    .. math:: \tilde r_{ui} = r_{ui} / \sqrt{d_u\, d_i}

    Its largest singular value is 1. A user or item without interactions has an empty row. Time O(n log n) for n interactions.

    >>> normalised_interactions(Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1])), 3).rows.to_dense()
    tensor([[0.7071, 0.5000, 0.0000],
            [0.0000, 0.7071, 0.0000]])
    """
    offsets, items = known
    lengths = offsets.diff()
    num_users = lengths.numel()
    users = torch.repeat_interleave(torch.arange(num_users, device=items.device), lengths, output_size=items.numel())
    item_counts = torch.bincount(items, minlength=num_items)
    user_degrees, item_degrees = lengths.float(), item_counts.float()
    values = (user_degrees[users] * item_degrees[items]).rsqrt()
    order = items.argsort(stable=True)
    item_offsets = torch.cat([item_counts.new_zeros(1), item_counts.cumsum(0)])
    return NormalisedInteractions(
        compressed(offsets, items, values, (num_users, num_items)),
        compressed(item_offsets, users[order], values[order], (num_items, num_users)),
        user_degrees,
        item_degrees,
    )


def truncated_svd(
    known: Ragged, num_items: int, rank: int, *, seed: int, iterations: int = 5
) -> tuple[Float[Tensor, "users r"], Float[Tensor, " r"], Float[Tensor, "items r"]]:
    r"""The largest singular values of the degree-normalised interactions, and their vectors.

    .. math:: D_u^{-1/2} R\, D_i^{-1/2} \approx U\, \mathrm{diag}(\sigma)\, V^\top

    ``(left, values, right)`` with values falling. Subspace iteration from a random start, ``rank`` + 16 columns; each of the
    ``iterations`` multiplies by the matrix and its transpose, which squares the decay of the singular values once more, and
    the last step solves the problem exactly inside the subspace. Where ``rank`` + 16 columns fill the smaller side, the
    result is exact up to float32. Time O(iterations · (n r + (users + items) r²)) for n interactions; memory two blocks
    of (users + items) · (r + 16). The same seed gives the same bits; of each pair of vectors the right one's largest entry
    is positive. Where the matrix has a lower rank than asked for, the rest is zeros.

    >>> known = Ragged(torch.tensor([0, 2, 4, 5]), torch.tensor([0, 1, 0, 1, 2]))
    >>> left, values, right = truncated_svd(known, 3, rank=3, seed=0)
    >>> values
    tensor([1., 1., 0.])

    Source: :cite:`halko2011`, algorithms 4.4 and 5.1. Differs: the blocks are made orthonormal by the eigenvectors of their
    Gram matrix (float64), not by Householder reflections, which took twice the time; directions below 1e-3 of a block's
    largest are dropped there.
    """
    num_users = known.offsets.numel() - 1
    check_known(known, num_users, num_items)
    smaller = min(num_users, num_items)
    if not 1 <= rank <= smaller:
        raise InputError(f"rank must be from 1 to the smaller of users and items, {smaller}: got {rank}.")
    return _svd(normalised_interactions(known, num_items), rank, seed, iterations)


def spectral_start(
    known: Ragged, num_items: int, dim: int, seed: int, *, similarity: Literal["cosine", "dot"] = "cosine"
) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
    r"""Vectors of users and items to start a matrix factorisation from.

    .. math:: p_u = U_u\, \sigma^{1/2}, \qquad q_i = V_i\, \sigma^{1/2}

    so that :math:`p_u \cdot q_i` is the best approximation of the degree-normalised interactions by ``dim`` dimensions.

    - ``"cosine"``: rows of length one. The lengths, and with them the popularity of items, are lost; training has to find
      what is worth keeping of it.
    - ``"dot"``: the degrees multiplied back in, :math:`\sqrt{d_u}\, p_u` and :math:`\sqrt{d_i}\, q_i`, so that the scores
      approximate the interactions themselves, 0 and 1.

    Rows and columns that the matrix leaves at zero (no interactions; more dimensions than its rank) get normal noise of
    standard deviation .01: a vector of zeros would have no gradient, or no direction. Time and memory are
    :func:`truncated_svd`'s.

    >>> known = Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]))
    >>> users, items = spectral_start(known, 2, dim=2, seed=0, similarity="dot")
    >>> (users @ items.T).round(decimals=3).abs()
    tensor([[1., 1.],
            [0., 1.]])
    """
    if similarity not in ("cosine", "dot"):
        raise InputError(f"similarity must be 'cosine' or 'dot': got {similarity!r}.")
    num_users = known.offsets.numel() - 1
    check_known(known, num_users, num_items)
    matrix = normalised_interactions(known, num_items)
    left, values, right = _svd(matrix, min(dim, num_users, num_items), seed, iterations=5)
    generator = torch.Generator().manual_seed(seed)
    users, items = (_widened(vectors * values.sqrt(), dim, generator) for vectors in (left, right))
    if similarity == "cosine":
        return normalise(users), normalise(items)
    # Those without interactions keep their noise.
    return (
        users * matrix.user_degrees.clamp(min=1).sqrt()[:, None],
        items * matrix.item_degrees.clamp(min=1).sqrt()[:, None],
    )


def _svd(matrix: NormalisedInteractions, rank: int, seed: int, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    num_users, num_items = matrix.rows.shape
    width = min(rank + OVERSAMPLING, num_users, num_items)
    # Drawn on the CPU, so that a seed means the same numbers on every device.
    start = torch.randn(num_items, width, generator=torch.Generator().manual_seed(seed))
    right = _orthonormal(start.to(matrix.rows.device))
    for _ in range(iterations):
        left = _orthonormal(matrix.rows @ right)
        right = _orthonormal(matrix.columns @ left)
    image = matrix.rows @ right
    squares, rotation = _gram_eigenvectors(image)
    values, rotation = squares[:rank].sqrt(), rotation[:, :rank]
    right = right @ rotation
    largest = right.gather(0, right.abs().argmax(0, keepdim=True))
    rotation, right = rotation * largest.sign(), right * largest.sign()
    present = values > 0
    left = image @ rotation / torch.where(present, values, 1)
    return left * present, values, right * present


def _orthonormal(block: Float[Tensor, "n r"]) -> Float[Tensor, "n r"]:
    """An orthonormal basis of the block's columns; zeros for directions that it does not have."""
    squares, rotation = _gram_eigenvectors(block)
    return block @ (rotation * torch.where(squares > 0, squares, torch.inf).rsqrt())


def _gram_eigenvectors(block: Float[Tensor, "n r"]) -> tuple[Float[Tensor, " r"], Float[Tensor, "r r"]]:
    """Squared singular values of the block, falling, and its right singular vectors; 0 where float32 cannot tell."""
    squares, rotation = torch.linalg.eigh((block.T @ block).double())
    squares, rotation = squares.flip(0), rotation.flip(1)
    squares = torch.where(squares > 1e-6 * squares[0], squares, 0)
    return squares.to(block.dtype), rotation.to(block.dtype)


def _widened(vectors: Float[Tensor, "n r"], dim: int, generator: torch.Generator) -> Float[Tensor, "n dim"]:
    """Vectors of ``dim`` columns, with noise in columns and rows that are zero."""
    noise = 0.01 * torch.randn(vectors.shape[0], dim, generator=generator).to(vectors.device)
    wide = torch.cat([vectors, vectors.new_zeros(vectors.shape[0], dim - vectors.shape[1])], 1)
    empty = (wide == 0).all(0) | (wide == 0).all(1, keepdim=True)
    return torch.where(empty, noise, wide)


def compressed(offsets: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix by its compressed rows."""
    with warnings.catch_warnings():
        # torch announces that compressed tensors are a beta feature, once a process.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        # MKL takes 32-bit indices; torch would convert wider ones at every product.
        return torch.sparse_csr_tensor(offsets.int(), columns.int(), values, shape, check_invariants=True)
