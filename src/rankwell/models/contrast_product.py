"""Look-up, normalisation and product of a training step as one function with one backward pass."""

# mypy: allow-untyped-calls, allow-untyped-decorators

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from rankwell.kernels.few import few_products

__all__ = ["contrast_product", "own_product"]

SHORTEST = 1e-8
"""As :func:`~rankwell.similarity.normalise` has it."""

CHUNK_NUMBERS = 1 << 17
"""Entries of item vectors that are looked up at once: half a megabyte, which stays in a core's cache."""


def contrast_product(
    users: Float[Tensor, "u d"],
    items: Float[Tensor, "i d"],
    queries: Int[Tensor, " b"],
    positives: Int[Tensor, " b"],
    negatives: Int[Tensor, " n"],
    *,
    unit: bool,
    kept: Float[Tensor, "b d"] | None,
    most: float = 1.0,
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b n"]]:
    """Inner products of rows of two tables: of each query with its positive, and with negatives that all share.

    ``unit`` scales vectors to length one, ``kept`` then multiplies those of queries by ``most`` at most. It is what torch's
    operators give one by one, in a third of the operators and half of the memory; tables get sparse gradients, once. The
    graph's node of the scores knows their largest magnitude, as ``most``.
    """
    most = most if unit else math.inf
    scores: tuple[Tensor, Tensor] = _ContrastProduct.apply(
        users, items, queries, positives, negatives, unit, kept, most
    )
    return scores


class _ContrastProduct(torch.autograd.Function):
    """Rows are queries, positives and negatives, one behind the other."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        queries: Tensor,
        positives: Tensor,
        negatives: Tensor,
        unit: bool,
        kept: Tensor | None,
        most: float,
    ) -> tuple[Tensor, Tensor]:
        ids = torch.cat([positives, negatives])
        sizes = len(queries), len(positives), len(negatives)
        rows, lengths = users.new_empty(sum(sizes), users.shape[1]), None
        of_queries, of_positives, of_pool = rows.split_with_sizes(sizes)
        torch.index_select(users, 0, queries, out=of_queries)
        torch.index_select(items, 0, ids, out=rows[len(queries) :])
        if unit:
            lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_(min=SHORTEST)
            rows.div_(lengths)
        if kept is not None:
            of_queries = of_queries * kept
        ctx.save_for_backward(rows, lengths, kept, of_queries, queries, ids)
        ctx.sizes, ctx.shapes, ctx.most, ctx.slopes = sizes, (users.shape, items.shape), most, None
        return (of_queries * of_positives).sum(-1), of_queries @ of_pool.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_pos: Tensor, by_neg: Tensor) -> tuple[Tensor | None, ...]:
        rows, lengths, kept, of_queries, queries, ids = ctx.saved_tensors
        _, of_positives, of_pool = rows.split_with_sizes(ctx.sizes)
        grad, by_pos = torch.empty_like(rows), by_pos[:, None]
        by_queries, by_positives, by_pool = grad.split_with_sizes(ctx.sizes)
        if ctx.slopes is None:
            _products(by_neg, of_queries, of_pool, by_queries, by_pool)
        else:
            slopes, of_rows, places = ctx.slopes
            scaled = of_queries * of_rows
            if places is None:
                _products(slopes, scaled, of_pool, by_queries, by_pool)
            else:
                for by, made in zip((by_queries, by_pool), few_products(places, slopes, scaled, of_pool), strict=True):
                    by.copy_(made)
            by_queries.mul_(of_rows)
        by_queries.addcmul_(of_positives, by_pos)
        torch.mul(of_queries, by_pos, out=by_positives)
        if kept is not None:
            by_queries.mul_(kept)
        if lengths is not None:
            along = (grad * rows).sum(-1, keepdim=True)
            along.masked_fill_(lengths <= SHORTEST, 0)  # where the length is a constant, nothing is projected away
            grad.addcmul_(rows, along, value=-1).div_(lengths)
        of_users, of_items = (
            torch.sparse_coo_tensor(at[None], of, shape, check_invariants=False)
            for at, of, shape in zip((queries, ids), (by_queries, grad[len(queries) :]), ctx.shapes, strict=True)
        )
        return of_users, of_items, None, None, None, None, None, None


def _products(slopes: Tensor, queries: Tensor, items: Tensor, by_queries: Tensor, by_items: Tensor) -> None:
    """Slopes ``[b, n]`` times items, and transposed times queries, into the last two.

    On a processor each thread makes a product of its own rows: threads share one product badly if the result is narrow.
    """
    (b, n), threads = slopes.shape, torch.get_num_threads()
    if slopes.device.type != "cpu" or b % threads or not slopes.is_contiguous():
        torch.mm(slopes, items, out=by_queries)
        torch.mm(slopes.T, queries, out=by_items)
        return
    of_queries, of_slopes = queries.view(threads, -1, queries.shape[1]), slopes.view(threads, -1, n)
    torch.bmm(of_slopes, items.expand(threads, -1, -1), out=by_queries.view_as(of_queries))
    first, *more = torch.bmm(of_queries.transpose(1, 2), of_slopes).unbind()
    for each in more:
        first += each
    by_items.copy_(first.T)


def own_product(
    vectors: Float[Tensor, "b d"], items: Float[Tensor, "i d"], ids: Int[Tensor, "b n"], *, unit: bool
) -> Float[Tensor, "b n"]:
    """Inner products of each vector with the rows of a table that are its own; ``unit`` scales the rows to length one.

    Rows are looked up a chunk of queries at a time, and again on the way back. So no pass over ``b n d`` numbers leaves the
    cache but the one that writes the table's gradient, which is sparse. No second derivatives.
    """
    scores: Tensor = _OwnProduct.apply(vectors, items, ids, unit)
    return scores


class _OwnProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, items: Tensor, ids: Tensor, unit: bool) -> Tensor:
        scores = vectors.new_empty(ids.shape)
        lengths = torch.empty_like(scores) if unit else None
        for chunk, rows in _chunks(items, ids):
            torch.bmm(rows, vectors[chunk, :, None], out=scores[chunk, :, None])
            if lengths is not None:
                torch.linalg.vector_norm(rows, dim=-1, out=lengths[chunk])
        if lengths is not None:
            scores.div_(lengths.clamp_(min=SHORTEST))
        ctx.save_for_backward(vectors, items, ids, scores, lengths)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        vectors, items, ids, scores, lengths = ctx.saved_tensors
        along = None
        if lengths is not None:
            grad = grad / lengths
            along = (grad * scores).div_(lengths)
            along.masked_fill_(lengths <= SHORTEST, 0)  # where the length is a constant, nothing is projected away
        by_vectors, by_rows = torch.empty_like(vectors), items.new_empty(*ids.shape, items.shape[1])
        for chunk, rows in _chunks(items, ids):
            torch.bmm(grad[chunk, None], rows, out=by_vectors[chunk, None])
            torch.mul(grad[chunk, :, None], vectors[chunk, None], out=by_rows[chunk])
            if along is not None:
                by_rows[chunk].addcmul_(rows, along[chunk, :, None], value=-1)
        by_items = torch.sparse_coo_tensor(
            ids.view(1, -1), by_rows.view(-1, items.shape[1]), items.shape, check_invariants=False
        )
        return by_vectors, by_items, None, None


def _chunks(items: Tensor, ids: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some of the queries, and the items' rows ``[queries, n, d]`` for them."""
    size = max(1, CHUNK_NUMBERS // max(1, ids.shape[1] * items.shape[1])) if items.device.type == "cpu" else len(ids)
    for first in range(0, len(ids), max(1, size)):
        some = ids[first : first + size]
        yield slice(first, first + size), items.index_select(0, some.flatten()).view(*some.shape, items.shape[1])
