r"""Discounts under a relaxed permutation of each list: NeuralSort, and Sinkhorn's scaling of it.

Row r of NeuralSort's matrix says which item stands at position r:

.. math:: P_{r \cdot} = \operatorname{softmax}\left( \frac{(n + 1 - 2r)\, s - A}{\tau} \right), \qquad
    A_i = \sum_j |s_i - s_j|

A metric needs of it only the discount that each item gets, :math:`D_i = \sum_r P_{ri}\, d_r`. With Sinkhorn's scaling the
matrix is :math:`\operatorname{diag}(u)\, P \operatorname{diag}(v)`, and each iteration two products with a vector; the
backward pass goes through all of them, exactly. Rows go in chunks that are made again when they are needed; only what
fits :data:`KEPT_ENTRIES` is kept for the iterations.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rankwell.kernels.operators import applied, flatten, list_operator, no_second_derivative
from rankwell.lists import Opened, blocks
from rankwell.types import Mask, Offsets

__all__ = ["relaxed_discounts"]

CHUNK_ENTRIES = 1 << 17
"""Entries of matrices made at once."""

KEPT_ENTRIES = 1 << 24
"""Entries of one matrix that are kept for the iterations, 64 MB: lists of 4,096 items. Longer ones make theirs again."""

BLOCK_ITEMS = 1 << 13
"""Padded items of one block of lists."""


class _Sorted(NamedTuple):
    """Lists in the order of their scores, best first."""

    items: Tensor
    valid: Mask
    scores: Tensor
    """In float64: logits are differences of numbers that grow with the length; minus infinity where masked."""

    @property
    def n(self) -> Tensor:
        """Valid items of each list."""
        return self.valid.sum(-1, keepdim=True)

    def ties(self) -> tuple[Tensor, Tensor]:
        """The first place of each place's group of equals, and the one behind the last."""
        keys = -self.scores
        return torch.searchsorted(keys, keys), torch.searchsorted(keys, keys, right=True).minimum(self.n)

    def part(self, some: slice) -> "_Sorted":
        """Some of the lists."""
        return _Sorted(self.items[some], self.valid[some], self.scores[some])


def _sorted(scores: Tensor, where: Mask, offsets: Offsets, rows: int) -> Iterator[_Sorted]:
    """Blocks of lists, as many at once as their matrices allow."""
    for _, items, valid in blocks(offsets, BLOCK_ITEMS):
        valid = valid & where[items]
        ordered, order = torch.where(valid, scores[items].double(), -torch.inf).sort(-1, descending=True)
        block = _Sorted(items.gather(-1, order), valid.gather(-1, order), ordered)
        step = max(1, CHUNK_ENTRIES // (items.shape[1] * min(rows, items.shape[1])))
        for first in range(0, len(items), step):
            yield block.part(slice(first, first + step))


def _prefix(x: Tensor) -> Tensor:
    return torch.nn.functional.pad(x.cumsum(-1), (1, 0))


class _Matrix:
    """NeuralSort's matrices of a few lists, the first ``rows`` positions of each, in chunks of rows."""

    def __init__(self, lists: _Sorted, rows: int, temperature: float, dtype: torch.dtype, keep: bool) -> None:
        self.valid = lists.valid
        self.rows = min(rows, lists.valid.shape[1])
        self.scores = torch.where(lists.valid, lists.scores, 0)
        self.temperature, self.dtype = temperature, dtype
        place = torch.arange(self.scores.shape[1], device=self.scores.device)
        before = _prefix(self.scores)
        self.slope = lists.n - 1.0 - 2 * place  # n + 1 - 2 r with r counted from 1
        # The sum of |s_i - s_j| is that of what stands before, less s, and of s less what stands behind.
        self.spread = before[:, :-1] - before[:, -1:] + before[:, 1:] + self.slope * self.scores
        size = self.valid.shape[0] * self.rows * self.valid.shape[1]
        self.kept = list(self._made()) if keep and size <= KEPT_ENTRIES else None

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of rows with their part of the matrix, ``[g, r, n]``; 0 where masked."""
        return iter(self.kept) if self.kept is not None else self._made()

    def _made(self) -> Iterator[tuple[slice, Tensor]]:
        step = max(1, CHUNK_ENTRIES // self.valid.numel())
        for first in range(0, self.rows, step):
            some = slice(first, min(first + step, self.rows))
            # The largest logit of row r is that of the item at place r.
            logits = self.slope[:, some, None] * (self.scores[:, None] - self.scores[:, some, None])
            logits.sub_(self.spread[:, None] - self.spread[:, some, None]).div_(self.temperature)
            # Above 0 only by rounding, or where masked: there exponentials must stay finite. Subnormal numbers, and what a
            # product or two makes so, are worked with ten times more slowly: below e^-70 of the largest there is nothing.
            part = logits.clamp_(-80, 0).to(self.dtype).exp_().mul_(self.valid[:, None])
            part = torch.threshold_(part, math.exp(-70), 0.0)
            part.div_(part.sum(-1, keepdim=True).clamp(min=torch.finfo(self.dtype).tiny))
            yield some, part.mul_(self.valid[:, some, None])

    def times(self, x: Tensor) -> Tensor:
        """P x, of columns ``[g, n]`` to rows."""
        return torch.cat([(part @ x[..., None]).squeeze(-1) for _, part in self.chunks()], -1)

    def transposed(self, x: Tensor) -> Tensor:
        """P' x, of rows to columns."""
        total = torch.zeros_like(self.valid, dtype=self.dtype)
        for some, part in self.chunks():
            total += (x[:, None, some] @ part).squeeze(-2)
        return total


def _scalings(matrix: _Matrix, iterations: int) -> tuple[list[Tensor], list[Tensor]]:
    """Sinkhorn's row and column scalings, from the first on: columns are scaled first, rows last."""
    one = matrix.valid.to(matrix.dtype)
    u, v = [one[:, : matrix.rows]], [one]
    for _ in range(iterations):
        v.append(one / torch.where(matrix.valid, matrix.transposed(u[-1]), 1))
        u.append(one / torch.where(matrix.valid, matrix.times(v[-1]), 1))
    return u, v


def _table(lists: _Sorted, k: int) -> Tensor:
    """The discount at each place, in float64."""
    place = torch.arange(lists.valid.shape[1], device=lists.valid.device)
    return torch.where(place < k, 1 / torch.log2(2.0 + place.double()), 0)


def _relaxed(
    scores: Tensor, where: Tensor, offsets: Tensor, k: int, temperature: float, iterations: int, hard: bool
) -> Tensor:
    """Discount of each item; ``hard``: by the true permutation, averaged over ties."""
    discounts = torch.zeros_like(scores)
    for lists in _sorted(scores, where, offsets, scores.shape[0] if iterations else k):
        table = _table(lists, k)
        if hard:
            start, end = lists.ties()
            value = (_prefix(table)[end] - _prefix(table)[start]) / (end - start).clamp(min=1)
        else:
            matrix = _Matrix(lists, table.numel() if iterations else k, temperature, scores.dtype, iterations > 0)
            u, v = _scalings(matrix, iterations)
            value = v[-1] * matrix.transposed(u[-1] * table[: matrix.rows].to(scores.dtype))
        discounts.index_add_(0, lists.items.flatten(), (value.to(scores.dtype) * lists.valid).flatten())
    return discounts


def _relaxed_slopes(
    scores: Tensor, grad: Tensor, where: Tensor, offsets: Tensor, k: int, temperature: float, iterations: int
) -> Tensor:
    """Gradient of the soft discounts by the scores."""
    slopes = torch.zeros_like(scores)
    for lists in _sorted(scores, where, offsets, scores.shape[0] if iterations else k):
        table = _table(lists, k).to(scores.dtype)
        matrix = _Matrix(lists, table.numel() if iterations else k, temperature, scores.dtype, iterations > 0)
        by_entry = _by_entries(matrix, table[: matrix.rows], grad[lists.items] * lists.valid, iterations)
        by_spread = torch.zeros_like(lists.scores)
        direct = torch.zeros_like(lists.scores)
        for some, part in matrix.chunks():
            by_logit = by_entry[0][:, some] @ by_entry[1].mT
            by_logit = part * (by_logit - (part * by_logit).sum(-1, keepdim=True))
            by_spread += by_logit.sum(-2)
            direct += (matrix.slope[:, None, some].to(scores.dtype) @ by_logit).squeeze(-2)
        # A pair's |s_i - s_j| stands in the sums of both; equals have no slope.
        start, end = lists.ties()
        sums = _prefix(by_spread)
        signs = lists.n - end - start
        of_others = sums[:, -1:] - sums.gather(-1, end) - sums.gather(-1, start)
        value = (direct - signs * by_spread - of_others) / temperature
        slopes.index_add_(0, lists.items.flatten(), (value * lists.valid).to(slopes.dtype).flatten())
    return slopes


def _by_entries(matrix: _Matrix, table: Tensor, grad: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """The gradient by the matrix, as a product of ``[g, r, m]`` and ``[g, n, m]``."""
    u, v = _scalings(matrix, iterations)
    last = u[-1] * table
    left, right = [last], [grad * v[-1]]
    if not iterations:
        return left[0][..., None], right[0][..., None]
    by_v = grad * matrix.transposed(last)
    by_u = matrix.times(right[0]) * table
    for t in range(iterations, 0, -1):
        by_rows = -by_u * u[t].square()
        by_v = by_v + matrix.transposed(by_rows)
        by_columns = -by_v * v[t].square()
        left += [by_rows, u[t - 1]]
        right += [v[t], by_columns]
        by_u, by_v = matrix.times(by_columns), torch.zeros_like(by_v)
    return torch.stack(left, -1), torch.stack(right, -1)


relaxed = list_operator(_relaxed)
relaxed_slopes = no_second_derivative(list_operator(_relaxed_slopes), "losses of soft ranks")


class _Relaxed(torch.autograd.Function):
    """The discounts; their slopes are those of the soft matrix, also where the hard one gave the values."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        return relaxed(*inputs)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        *tensors, ctx.k, ctx.temperature, ctx.iterations, _ = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scores, where, offsets = ctx.saved_tensors
        slopes = relaxed_slopes(scores, grad, where, offsets, ctx.k, ctx.temperature, ctx.iterations)
        return slopes, None, None, None, None, None, None


def relaxed_discounts(
    opened: Opened, k: int | None, temperature: float, *, iterations: int = 0, hard: bool = False
) -> Tensor:
    r"""Discount :math:`\sum_{r \le k} P_{ri} / \log_2(1 + r)` of each item under its list's relaxed permutation.

    Without ``iterations`` of Sinkhorn's scaling: time O(n k + n log n), memory O(n). With them O(iterations x n^2), and the
    matrix of one list is kept up to 64 MB; longer lists make it again in every iteration. ``hard``: the
    values are those of the true permutation, the slopes still those of the soft one.
    """
    scores, where, offsets = flatten(opened)
    k = max(1, scores.shape[0]) if k is None else k
    discounts = applied(_Relaxed, scores, where, offsets, k, temperature, iterations, hard)
    return discounts.reshape(opened.scores.shape)  # type: ignore[no-any-return]
