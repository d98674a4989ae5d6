"""Look-up, normalisation, dropout and product of a training step as one function with one backward pass."""

# mypy: allow-untyped-calls, allow-untyped-decorators

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["contrast_product"]

SHORTEST = 1e-8
"""As :func:`~rankwell.similarity.normalise` has it."""


def contrast_product(
    users: Float[Tensor, "u d"],
    items: Float[Tensor, "i d"],
    queries: Int[Tensor, " b"],
    positives: Int[Tensor, " b"],
    negatives: Int[Tensor, " n"],
    *,
    unit: bool,
    kept: Float[Tensor, "b d"] | None,
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b n"]]:
    """Inner products of rows of two tables: of each query with its positive, and with negatives that all share.

    ``unit`` scales vectors to length one, ``kept`` then multiplies those of queries. It is what torch's operators give one by
    one, in a third of the operators and half of the memory; tables get sparse gradients, once.
    """
    scores: tuple[Tensor, Tensor] = _ContrastProduct.apply(users, items, queries, positives, negatives, unit, kept)
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
    ) -> tuple[Tensor, Tensor]:
        b = len(queries)
        ids = torch.cat([positives, negatives])
        rows, lengths = users.new_empty(b + len(ids), users.shape[1]), None
        torch.index_select(users, 0, queries, out=rows[:b])
        torch.index_select(items, 0, ids, out=rows[b:])
        if unit:
            lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_(min=SHORTEST)
            rows.div_(lengths)
        of_queries = rows[:b] if kept is None else rows[:b] * kept
        of_items = rows[b:]
        ctx.save_for_backward(rows, lengths, kept, of_queries, queries, ids)
        ctx.shapes = users.shape, items.shape
        return (of_queries * of_items[:b]).sum(-1), of_queries @ of_items[b:].T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_pos: Tensor, by_neg: Tensor) -> tuple[Tensor | None, ...]:
        rows, lengths, kept, of_queries, queries, ids = ctx.saved_tensors
        b = len(queries)
        grad, by_pos = torch.empty_like(rows), by_pos[:, None]
        torch.mm(by_neg, rows[2 * b :], out=grad[:b]).addcmul_(rows[b : 2 * b], by_pos)
        torch.mul(of_queries, by_pos, out=grad[b : 2 * b])
        torch.mm(by_neg.T, of_queries, out=grad[2 * b :])
        if kept is not None:
            grad[:b].mul_(kept)
        if lengths is not None:
            along = (grad * rows).sum(-1, keepdim=True)
            along.masked_fill_(lengths <= SHORTEST, 0)  # where the length is a constant, nothing is projected away
            grad.addcmul_(rows, along, value=-1).div_(lengths)
        of_users, of_items = (
            torch.sparse_coo_tensor(at[None], of, shape, check_invariants=False)
            for at, of, shape in zip((queries, ids), (grad[:b], grad[b:]), ctx.shapes, strict=True)
        )
        return of_users, of_items, None, None, None, None, None
