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
    "amid",
    "by_row",
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
    dtype = torch.promote_types(queries.dtype, items.dtype)
    # Autocast would multiply in half precision, and what stands on the scores would lose its digits. Meta has none.
    with torch.autocast("cpu" if queries.is_meta else queries.device.type, enabled=False):
        return queries.to(dtype) @ items.to(dtype).mT


def by_row(queries: Float[Tensor, "b d"], items: Float[Tensor, "*b n d"]) -> Float[Tensor, "b n"]:
    """Inner products of each query with its own items ``[b, n, d]``, or with those ``[n, d]`` that all share.

    >>> by_row(torch.tensor([[1.0], [2.0]]), torch.tensor([[[3.0]], [[5.0]]]))
    tensor([[ 3.],
            [10.]])
    """
    return queries @ items.T if items.ndim == 2 else torch.bmm(items, queries[:, :, None]).squeeze(2)


def cosine(queries: Queries, items: Items) -> Scores:
    """Inner products of the normalised vectors, in [-1, 1].

    >>> cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
    tensor([[1., 0.]])
    """
    return dot(normalise(queries), normalise(items))


def negative_squared_euclidean(queries: Queries, items: Items) -> Scores:
    """Minus the squared distances, by ``|q|^2 + |i|^2 - 2 q.i`` from a point amid the items.

    In float32 the absolute error is about 1e-7 of the largest squared distance from that point, wherever the origin is.

    >>> negative_squared_euclidean(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([[-25.]])
    """
    centre = amid(items)
    queries, items = queries - centre, items - centre
    squares = queries.square().sum(-1)[..., :, None] + items.square().sum(-1)[..., None, :]
    return -(squares - 2 * dot(queries, items)).clamp(min=0)


def amid(vectors: Float[Tensor, "*batch m d"]) -> Float[Tensor, "..."]:
    """About the mean, as a constant: no distance depends on where it is. Zeros, which masked vectors are, do not pull it."""
    if not vectors.numel():
        return vectors.new_zeros(())
    vectors = vectors.detach()
    some = vectors.isfinite().all(-1, keepdim=True) & vectors.any(-1, keepdim=True)
    mean = torch.where(some, vectors, 0).sum(-2, keepdim=True) / some.sum(-2, keepdim=True).clamp(min=1)
    # Rounded to about an eighth of the spread, a power of two (exactly so in bfloat16): the differences from numbers of few
    # digits are then exact, and equal distances stay equal.
    spread = torch.where(some, vectors - mean, 0).abs().amax((-2, -1), keepdim=True)
    step = (spread.log2().floor() - 3).exp2().bfloat16().to(mean.dtype)
    centre = (mean / step).round() * step
    return torch.where(centre.isfinite(), centre, 0)


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
