"""The arguments of a contrast loss, checked and cleaned, and sums of its negatives in few passes."""

# mypy: allow-untyped-calls

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rankwell.errors import InputError
from rankwell.lists.edges import check_types, fits, in_full_precision, reduce, shape
from rankwell.lists.layouts import Dense
from rankwell.types import Mask, Overwrite, Reduction, Values, Weights

__all__ = [
    "Rows",
    "in_chunks",
    "open_rows",
    "with_slopes",
]

CHUNK_ITEMS = 1 << 18
"""Scores of a chunk: a megabyte. An operator on less takes longer to start than to run."""

FAR = 16.0
"""Exponents up to which exponentials are summed as they are: in float32 exact to 2e-6, and far from overflow."""


class Rows(NamedTuple):
    """Checked and cleaned arguments of a contrast loss: ``pos [*b, m]``, ``neg [*b, n]``, one value a row."""

    pos: Tensor
    given_neg: Tensor
    """As given: whatever stands at masked places."""
    pos_where: Mask | None
    where: Mask | None
    weights: Tensor
    """Of the positives, broadcastable to ``pos``."""
    even: bool
    """Whether these are all 1, where a product is spared."""
    overwrite: Overwrite | None = None
    """Where the negatives are the loss's to write over, once; absent ones are minus infinity already."""

    @property
    def neg(self) -> Tensor:
        """Minus infinity where masked: so bad a negative vanishes from sums of hinges, of softplus and of exponentials."""
        if self.where is None or self.overwrite is not None:
            return self.given_neg
        neg: Tensor = _Absent.apply(self.given_neg, self.where)
        return neg

    def mean_pos(self, x: Tensor) -> Tensor:
        """Means over the valid positives of each row, of weighted terms; 0 where there are none."""
        return Dense(self.pos, self.pos_where).mean(x if self.even else self.weights * x)

    def by_mean_weight(self, values: Tensor) -> Tensor:
        """Values of rows, times the mean weight of their valid positives; 0 where there are none."""
        if self.even and self.pos_where is None and self.pos.shape[-1]:
            return values
        return values * Dense(self.pos, self.pos_where).mean(self.weights.expand_as(self.pos))

    def count_neg(self) -> Tensor:
        """How many valid negatives each row has, ``[*b]``."""
        if self.overwrite is not None and self.overwrite.absent is not None:
            *rows, n = self.given_neg.shape
            absent = torch.bincount(self.overwrite.absent // max(n, 1), minlength=math.prod(rows))
            return n - absent.view(rows)
        return Dense(self.given_neg, self.where).count()

    def sum_pos(self, x: Tensor) -> Tensor:
        """Weighted sums over the valid positives of each row."""
        return Dense(self.pos, self.pos_where).sum(x if self.even else self.weights * x)

    def logsumexp_neg(self, temperature: float, *, absent: float = -torch.inf) -> Tensor:
        """Logsumexp of the negatives divided by the temperature; ``absent`` in rows that have none."""
        if not self.given_neg.shape[-1]:
            return self.given_neg.new_full(self.given_neg.shape[:-1], absent)
        if self.overwrite is not None:
            return _logsumexp_in_place(self.given_neg, temperature, self.overwrite.most, absent)
        value: Tensor = _ScaledLogSumExp.apply(self.given_neg, self.where, temperature)[0]
        return value if absent == -torch.inf else torch.where(value == -torch.inf, absent, value)

    def max_neg(self) -> Tensor:
        """The best negative of each row; minus infinity in rows that have none."""
        if not self.given_neg.shape[-1]:
            return self.given_neg.new_full(self.given_neg.shape[:-1], -torch.inf)
        return self.neg.amax(-1)

    def reduce(self, values: Tensor, reduction: Reduction) -> Values:
        """Reduce values of rows; a row counts when it has a valid positive."""
        return reduce(values, Dense(self.pos, self.pos_where).some(), reduction)


def open_rows(
    pos: Tensor,
    neg: Tensor,
    *,
    pos_where: Mask | None,
    where: Mask | None,
    weights: Weights | None,
    overwrite: Overwrite | None = None,
) -> Rows:
    """Check the arguments of a contrast loss, and put 0 at masked positives.

    ``pos`` is ``[*b]`` (one positive) or ``[*b, m]``; ``neg`` is ``[*b, n]``; ``pos_where`` and ``weights`` broadcast to
    ``pos``, ``where`` to ``neg``. With ``overwrite``, negatives are the loss's: see :class:`Rows`.
    """
    check_types({"pos": pos, "neg": neg}, {"pos_where": pos_where, "where": where})
    single = pos.ndim == neg.ndim - 1
    if neg.ndim == 0 or pos.ndim not in (neg.ndim - 1, neg.ndim) or pos.shape[: neg.ndim - 1] != neg.shape[:-1]:
        raise InputError(
            f"pos must be [*b] or [*b, m] and neg [*b, n] with the same *b: got pos {shape(pos)}, neg {shape(neg)}."
        )
    pos, neg = in_full_precision(pos), in_full_precision(neg)
    even = weights is None
    weights = pos.new_ones(()) if weights is None else fits(weights, "weights", pos).to(pos.dtype)
    if pos_where is not None:
        pos_where = fits(pos_where, "pos_where", pos).expand(pos.shape)
        pos, weights = torch.where(pos_where, pos, 0), torch.where(pos_where, weights, 0)
        pos_where = pos_where[..., None] if single else pos_where
    if single:
        pos = pos[..., None]
        weights = weights[..., None] if weights.ndim else weights
    if where is not None:
        where = fits(where, "where", neg).expand(neg.shape)
    if overwrite is not None and neg.is_leaf and neg.requires_grad:
        raise InputError(
            "overwrite: neg is a parameter, whose values would be lost. Leave overwrite out, or give a copy."
        )
    return Rows(pos, neg, pos_where, where, weights, even, overwrite)


class _Absent(torch.autograd.Function):
    """Minus infinity where masked. Contrast losses have no gradient there, so the backward pass hands it on unchanged."""

    generate_vmap_rule = True

    @staticmethod
    def forward(neg: Tensor, where: Tensor) -> Tensor:
        return torch.where(where, neg, -torch.inf)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return grad, None


class _ScaledLogSumExp(torch.autograd.Function):
    """Logsumexp of ``x`` / temperature along the last axis, in half the passes: it keeps the exponentials.

    These and their sum are outputs whose slopes are known, with the maximum that they are taken against as a constant: it
    cancels in the softmax. The backward pass is made of them, and so has derivatives itself.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, where: Tensor | None, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        given = x if where is None else torch.where(where, x, -torch.inf)
        top = given.amax(-1, keepdim=True)
        top = torch.where(top == -torch.inf, 0, top)
        terms = _exponentials(given - top if where is None else given.sub_(top), temperature)
        total = terms.sum(-1, keepdim=True)
        return (top / temperature + total.log()).squeeze(-1), terms, total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        if torch.compiler.is_compiling():  # no second derivatives there in any case
            ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)  # no zeros for the exponentials
        ctx.save_for_backward(*output[1:])
        ctx.temperature = inputs[2]

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, by_terms: Tensor | None = None, by_total: Tensor | None = None
    ) -> tuple[Tensor | None, None, None]:
        terms, total = ctx.saved_tensors
        slopes = []
        if grad is not None:
            slopes.append(terms * (grad[..., None] / (ctx.temperature * torch.where(total == 0, 1, total))))
        # Of second and higher derivatives only.
        slopes += [terms * by / ctx.temperature for by in (by_terms, by_total) if by is not None]
        return sum(slopes[1:], start=slopes[0]) if slopes else None, None, None


def _exponentials(gaps: Tensor, temperature: float) -> Tensor:
    """Of ``gaps`` / temperature, in their place; of base 2, for a natural one that underflows takes torch a hundred times as
    long."""
    return gaps.mul_(1 / (temperature * math.log(2))).exp2_()


def _logsumexp_in_place(x: Tensor, temperature: float, most: float, absent: float) -> Tensor:
    """Logsumexp of ``x`` / temperature along the last axis, which leaves the exponentials in ``x``; ``absent`` of nothing.

    Where no score is far from 0, exponentials are safe without taking away the maximum: two passes fewer.
    """
    terms = x.detach()
    if most <= FAR * temperature:
        total = terms.mul_(1 / temperature).exp_().sum(-1)
        values = total.log()
    else:
        top = terms.amax(-1)
        terms.sub_(top.masked_fill_(top == -torch.inf, 0)[..., None])
        total = _exponentials(terms, temperature).sum(-1)
        values = top.div_(temperature).add_(total.log())
    none = total == 0
    return with_slopes(x, values.masked_fill_(none, absent), terms, total.masked_fill_(none, 1).mul_(temperature))


def with_slopes(
    x: Tensor, values: Tensor, slopes: Tensor, over: Tensor | float = 1.0, places: Tensor | None = None
) -> Tensor:
    """Values ``[*b]`` of the rows of ``x``, whose slopes are ``slopes / over`` and may stand in the memory of ``x``.

    With ``places``, flat and ascending, these are slopes of the scores there, ``[k]``; all others are 0. They are
    differentiated once: the gradient then stands where they were. A product that made ``x`` may take the slopes as they are,
    and multiplies what it makes of them, which is smaller, by what belongs to the rows: its node has ``slopes``, None so far.
    """
    made: Tensor = _WithSlopes.apply(
        x, values, slopes, over, places, x.grad_fn if hasattr(x.grad_fn, "slopes") else None
    )
    return made


def in_chunks(x: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Some rows of ``[*b, n]`` at a time, as stay in the cache, each beside room for as many numbers."""
    rows = x.view(x.shape[:-1].numel(), x.shape[-1])
    step = max(1, CHUNK_ITEMS // max(rows.shape[1], 1))
    spare = torch.empty_like(rows[:step])
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        yield some, rows[some], spare[: len(rows[some])]


class _WithSlopes(torch.autograd.Function):
    """One matrix from the scores to their gradient, where each new one would leave the cache."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, values: Tensor, slopes: Tensor, over: Tensor | float, places: Tensor | None, product: Any
    ) -> Tensor:
        ctx.over, ctx.product, ctx.shape = over, product, x.shape
        ctx.watched = bool(x._backward_hooks)  # somebody looks at the gradient
        ctx.save_for_backward(
            slopes, places
        )  # so that a second backward pass is an error: the first one writes over it
        return values.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slopes, places = ctx.saved_tensors
        of_rows = (grad / ctx.over)[..., None]
        if ctx.product is not None:
            ctx.product.slopes = slopes, of_rows, places
            if not ctx.watched:  # nobody does
                return grad.new_zeros(()).expand(ctx.shape), None, None, None, None, None
        if places is not None:
            of_places = slopes * of_rows.view(-1).index_select(0, places // ctx.shape[-1])
            by_x = grad.new_zeros(ctx.shape.numel()).index_copy_(0, places, of_places).view(ctx.shape)
        else:
            by_x = slopes.mul_(of_rows) if ctx.product is None else slopes * of_rows
        return by_x, None, None, None, None, None
