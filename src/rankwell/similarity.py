"""Similarities turn embeddings into scores: higher is more alike.

Each takes queries ``[*batch, q, d]`` and items ``[*batch, m, d]`` and gives ``[*batch, q, m]``, by one matrix product.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rankwell import types

__all__ = [
    "SIMILARITIES",
    "cosine",
    "dot",
    "negative_euclidean",
    "negative_squared_euclidean",
    "normalise",
]

Queries = Float[Tensor, "*batch q d"]
Items = Float[Tensor, "*batch m d"]
Scores = Float[Tensor, "*batch q m"]


def normalise(vectors: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    """Vectors of length one; those shorter than 1e-8 are divided by 1e-8, so that zero stays zero.

    >>> normalise(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """
    unit: Tensor = _Normalise.apply(vectors)[0]  # type: ignore[no-untyped-call]
    return unit


class _Normalise(torch.autograd.Function):
    """Unit vectors and lengths: seven passes in all, where the chain of torch's operators takes three times as long."""

    generate_vmap_rule = True

    @staticmethod
    def forward(vectors: Tensor) -> tuple[Tensor, Tensor]:
        lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp(min=1e-8)
        return vectors / lengths, lengths

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:  # noqa: ARG004
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_lengths: Tensor | None) -> Tensor:
        unit, lengths = ctx.saved_tensors
        grad = torch.zeros_like(unit) if grad is None else grad
        # Below the floor the length is a constant, and nothing is projected away.
        along = torch.where(lengths > 1e-8, (grad * unit).sum(-1, keepdim=True), 0)
        by_vectors = torch.addcmul(grad, unit, along, value=-1) / lengths
        both: Tensor = by_vectors if grad_lengths is None else by_vectors + grad_lengths * unit
        return both


def dot(queries: Queries, items: Items) -> Scores:
    """Inner products.

    >>> dot(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[11.,  2.]])
    """
    return queries @ items.mT


def cosine(queries: Queries, items: Items) -> Scores:
    """Inner products of the normalised vectors, in [-1, 1].

    >>> cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
    tensor([[1., 0.]])
    """
    return dot(normalise(queries), normalise(items))


def negative_squared_euclidean(queries: Queries, items: Items) -> Scores:
    """Minus the squared distances, by ``|q|^2 + |i|^2 - 2 q.i``; the absolute error is about 1e-7 of the squared norms.

    >>> negative_squared_euclidean(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([[-25.]])
    """
    squares = queries.square().sum(-1)[..., :, None] + items.square().sum(-1)[..., None, :]
    return -(squares - 2 * dot(queries, items)).clamp(min=0)


def negative_euclidean(queries: Queries, items: Items) -> Scores:
    """Minus the distances; at distance zero the gradient is zero.

    >>> negative_euclidean(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([[-5.]])
    """
    squares = -negative_squared_euclidean(queries, items)
    apart = squares > 0
    return -torch.where(apart, squares, 1).sqrt() * apart


SIMILARITIES: dict[types.Similarity, Callable[[Tensor, Tensor], Tensor]] = {
    "dot": dot,
    "cosine": cosine,
    "euclidean": negative_euclidean,
    "squared_euclidean": negative_squared_euclidean,
}
"""By the names that options take."""
