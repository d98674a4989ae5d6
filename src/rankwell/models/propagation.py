"""Averaging over neighbours in the graph of users and items, step by step, with its gradient."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Disturb", "layer_mean", "layers_of", "propagated"]

Disturb: TypeAlias = Callable[[Tensor], Tensor]
"""Adds something that is constant in the vectors, so that slopes stay as they are."""


def propagated(users: Tensor, items: Tensor, rows: Tensor, columns: Tensor, layers: int) -> tuple[Tensor, Tensor]:
    """Users and items, averaged over none to ``layers`` products with a symmetric graph: users from items, and back.

    ``rows`` is the matrix, sparse or not, of users by items, ``columns`` its transpose. The mean is a symmetric operator
    itself: the backward pass is the same products with the same two matrices, and keeps nothing.

    >>> rows = torch.tensor([[0.5, 2.0]])
    >>> propagated(torch.ones(1, 1), torch.zeros(2, 1), rows, rows.T, 2)[0]  # (1 + 0 + .5 * .5 + 2 * 2) / 3
    tensor([[1.7500]])
    """
    of_users, of_items = _Propagated.apply(users, items, rows, columns, layers)  # type: ignore[no-untyped-call]
    return of_users, of_items


def layers_of(
    users: Tensor, items: Tensor, rows: Tensor, columns: Tensor, layers: int, disturb: Disturb | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Users and items after none, one, … of these products, each of them disturbed where asked.

    >>> rows = torch.tensor([[0.5, 2.0]])
    >>> layers_of(torch.ones(1, 1), torch.zeros(2, 1), rows, rows.T, 2)[2]  # of users: .5 * .5 + 2 * 2
    (tensor([[4.2500]]), tensor([[0.],
            [0.]]))
    """
    flat = _Layers.apply(users, items, rows, columns, layers, disturb)  # type: ignore[no-untyped-call]
    return [(users, items), *zip(flat[::2], flat[1::2], strict=True)]


def layer_mean(layers: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Users and items, averaged over layers."""
    users, items = layers[0]
    for more_users, more_items in layers[1:]:
        users, items = users + more_users, items + more_items
    return users / len(layers), items / len(layers)


class _Propagated(torch.autograd.Function):
    """The mean over layers, forward and backward."""

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, rows: Tensor, columns: Tensor, layers: int
    ) -> tuple[Tensor, Tensor]:
        ctx.given = rows, columns, layers
        return _horner(users, items, rows, columns, layers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, users: Tensor, items: Tensor) -> tuple[Tensor | None, ...]:
        return (*_horner(users, items, *ctx.given), None, None, None)


def _horner(users: Tensor, items: Tensor, rows: Tensor, columns: Tensor, layers: int) -> tuple[Tensor, Tensor]:
    """(E + A (E + A (…))) / (layers + 1): as many products, and no layer is kept."""
    of_users, of_items = users, items
    for _ in range(layers):
        of_users, of_items = torch.addmm(users, rows, of_items), torch.addmm(items, columns, of_users)
    return of_users / (layers + 1), of_items / (layers + 1)


class _Layers(torch.autograd.Function):
    """All layers but the first; their gradients are added up while they are propagated back, as Horner does."""

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, rows: Tensor, columns: Tensor, layers: int, disturb: Disturb | None
    ) -> tuple[Tensor, ...]:
        ctx.matrices = rows, columns
        made: list[Tensor] = []
        for _ in range(layers):
            users, items = rows @ items, columns @ users
            if disturb is not None:
                users, items = disturb(users), disturb(items)
            made += users, items
        return tuple(made)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns = ctx.matrices
        users, items = grads[-2:]
        for at in range(len(grads) - 4, -1, -2):
            users, items = torch.addmm(grads[at], rows, items), torch.addmm(grads[at + 1], columns, users)
        return rows @ items, columns @ users, None, None, None, None
