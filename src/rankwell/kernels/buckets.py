r"""Cross-entropy of rows against the items that they share a block with, blocks being rows and items that fit together.

With the blocks B of a row, each a set of items without the row's own and known ones,

.. math:: \ell = \log(1 + e^r), \qquad r = \max_{b \in B} \log \sum_{j \in b} e^{z_j - s_y}
    \quad\text{or}\quad r = \log \sum_{b \in B} \sum_{j \in b} \frac{e^{z_j - s_y}}{n_j}

where :math:`s_y` is the target's logit and :math:`n_j` how many of the row's blocks hold item j. Logits are made a piece of a
block at a time, and made again in the backward pass.
"""

# mypy: allow-untyped-calls

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.kernels.catalogue import all_finite, check_ids, in_place_of_infinite, row_keys
from rankwell.kernels.operators import applied, no_second_derivative, whole_operator
from rankwell.types import Ragged

__all__ = ["Plan", "bucketed_losses"]

PIECE_ITEMS = 4096
"""Items of a piece, unless the caller says otherwise."""

PIECE_LOGITS = 1 << 20
"""Logits made at once."""


class Plan(NamedTuple):
    """Rounds of blocks. Block c of a round holds the rows ``rows[bounds[c]:bounds[c + 1]]`` and the items of the blocks
    c - ``around`` to c + ``around``, cut from ``items`` likewise.
    """

    rows: Tensor
    """``[rounds, n]``, each row once a round at most."""
    row_bounds: Tensor
    """``[rounds, blocks + 1]``."""
    items: Tensor
    """``[rounds, k]``, each item once a round at most."""
    item_bounds: Tensor
    """``[rounds, blocks + 1]``."""


def bucketed_losses(
    hidden: Tensor,
    items: Tensor,
    targets: Tensor,
    plan: Plan,
    *,
    around: int = 0,
    largest: bool = False,
    known: Ragged | None = None,
    column: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Values ``[r]``, and whether the row is in a block: others, and those with target -1, have value 0.

    ``largest``: of the row's blocks the one with the largest value, not the sum of all. ``column [m]`` is added to the
    logits of all items but a row's target. Differentiable by ``hidden`` and ``items``, once.
    """
    offsets, ids = (None, None) if known is None else known
    inputs = (hidden, items, targets, offsets, ids, column, *plan, around, largest, chunk or PIECE_ITEMS)
    values, _, best = applied(_BucketedLosses, *inputs)
    return values, best >= 0


class _Blocks:
    """The blocks of a plan, cut into pieces, and the logits of a piece."""

    def __init__(
        self, hidden: Tensor, items: Tensor, targets: Tensor, known_offsets: Tensor | None, known: Tensor | None,
        column: Tensor | None, rows: Tensor, row_bounds: Tensor, choices: Tensor, item_bounds: Tensor,
        around: int, largest: bool, chunk: int,
    ) -> None:  # fmt: skip
        self.hidden, self.items, self.column, self.around, self.chunk = hidden, items, column, around, chunk
        self.rows, self.choices = rows, choices
        self.row_bounds, self.item_bounds = row_bounds.tolist(), item_bounds.tolist()
        self.r, self.m = hidden.shape[0], items.shape[0]
        self.there = targets >= 0
        self.spoilt: Tensor | None = None
        """Rows with a candidate that is not finite, wherever it lies."""
        self._exclude(targets, known_offsets, known)
        self.place = torch.full((self.m,), -1, device=hidden.device)
        """Where each item lies in the piece at hand, -1 if it does not."""
        self.seen_in = None
        if not largest and rows.shape[0] > 1:
            self.seen_in = _block_of_each(rows, row_bounds, self.r), _block_of_each(choices, item_bounds, self.m)
        own = self.items.index_select(0, targets.clamp(min=0)).to(hidden.dtype)
        self.own, self.own_logits = own, (hidden * own).sum(-1)

    def _exclude(self, targets: Tensor, offsets: Tensor | None, known: Tensor | None) -> None:
        """For each row its own items, one behind the other: known ones and the target."""
        check_ids("targets", targets, self.m, least=-1)
        every = torch.arange(self.r, device=targets.device)
        keys = (every * self.m + targets)[self.there]
        removed = keys[:0]
        if known is not None and offsets is not None:
            removed = row_keys("known", offsets, known, self.m)
        if not all_finite(self.items):
            absent = removed.unique()
            absent = absent[~torch.isin(absent, keys)]
            self.items, self.spoilt = in_place_of_infinite(self.items, absent, self.r)
        keys = torch.cat([keys, removed])
        keys = keys.sort().values
        self.excluded = keys % self.m
        self.starts = torch.searchsorted(keys, torch.arange(self.r + 1, device=keys.device) * self.m)

    def __iter__(self) -> Iterator[tuple[int, Tensor, list[Tensor]]]:
        """Number, rows and pieces of items of each block, a piece of its rows at a time."""
        number = -1
        for i, (row_bounds, item_bounds) in enumerate(zip(self.row_bounds, self.item_bounds, strict=True)):
            for c in range(len(row_bounds) - 1):
                number += 1
                first, last = max(0, c - self.around), min(len(row_bounds) - 1, c + 1 + self.around)
                items = self.choices[i, item_bounds[first] : item_bounds[last]].long()
                rows = self.rows[i, row_bounds[c] : row_bounds[c + 1]].long()
                if items.numel():
                    step = max(1, PIECE_LOGITS // min(self.chunk, items.numel()))
                    pieces = list(items.split(self.chunk))
                    yield from ((number, some, pieces) for some in rows.split(step) if some.numel())

    def logits(self, rows: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of a piece less the target's, less the log of how many blocks of the row hold the item; items' vectors."""
        vectors = self.items.index_select(0, items).to(self.hidden.dtype)
        x = self.hidden.index_select(0, rows) @ vectors.T
        x -= self.own_logits[rows, None]
        if self.column is not None:
            x += self.column[items]
        if self.seen_in is not None:
            times = torch.zeros_like(x)
            for of_row, of_item in zip(*self.seen_in, strict=True):
                times += (of_row[rows][:, None] - of_item[items]).abs() <= self.around
            x -= times.log_()
        x[self._own(rows, items)] = -torch.inf
        return x, vectors

    def _own(self, rows: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Where in a piece the rows' own items lie."""
        self.place[items] = torch.arange(items.numel(), device=items.device)
        sizes = self.starts[rows + 1] - self.starts[rows]
        row = torch.repeat_interleave(torch.arange(rows.numel(), device=rows.device), sizes)
        within = torch.arange(row.numel(), device=rows.device) - (sizes.cumsum(0) - sizes)[row]
        column = self.place[self.excluded[self.starts[rows][row] + within]]
        self.place[items] = -1
        return row[column >= 0], column[column >= 0]


def _block_of_each(order: Tensor, bounds: Tensor, n: int) -> Tensor:
    """Which block of each round holds each of the ``n``."""
    blocks = torch.full((order.shape[0], n), -(1 << 30), dtype=torch.int32, device=order.device)
    places = torch.arange(order.shape[1], device=order.device).expand(order.shape)
    within = torch.searchsorted(bounds.contiguous(), places.contiguous(), right=True, out_int32=True) - 1
    return blocks.scatter_(1, order.long(), torch.where(places < bounds[:, -1:], within, -(1 << 30)))


def _bucketed_losses(
    hidden: Tensor, items: Tensor, targets: Tensor, known_offsets: Tensor | None, known: Tensor | None,
    column: Tensor | None, rows: Tensor, row_bounds: Tensor, choices: Tensor, item_bounds: Tensor,
    around: int, largest: bool, chunk: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Values, r, and the number of the row's best (or of some) block; -1 where there is none."""
    blocks = _Blocks(
        hidden, items, targets, known_offsets, known, column, rows, row_bounds, choices, item_bounds,
        around, largest, chunk,
    )  # fmt: skip
    rest = hidden.new_full((blocks.r,), -torch.inf)
    best = torch.full((blocks.r,), -1, device=hidden.device)
    for number, some, pieces in blocks:
        here = hidden.new_full(some.shape, -torch.inf)
        for piece in pieces:
            here = torch.logaddexp(here, blocks.logits(some, piece)[0].logsumexp(1))
        before = rest[some]
        better = (best[some] < 0) | (here > before)
        rest[some] = torch.maximum(here, before) if largest else torch.logaddexp(here, before)
        best[some] = torch.where(better, number, best[some])
    if blocks.spoilt is not None:
        rest.masked_fill_(blocks.spoilt, torch.nan)
    valid = blocks.there & (best >= 0)
    values = functional.softplus(rest, threshold=40)
    return torch.where(valid, values, 0), rest, torch.where(valid, best, -1)


def _bucketed_slopes(
    grad: Tensor, rest: Tensor, best: Tensor, by: list[bool], hidden: Tensor, items: Tensor, targets: Tensor,
    known_offsets: Tensor | None, known: Tensor | None, column: Tensor | None, rows: Tensor,
    row_bounds: Tensor, choices: Tensor, item_bounds: Tensor, around: int, largest: bool, chunk: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients by hidden states and by items, of those that ``by`` asks for; the others are empty."""
    blocks = _Blocks(
        hidden, items, targets, known_offsets, known, column, rows, row_bounds, choices, item_bounds,
        around, largest, chunk,
    )  # fmt: skip
    scale = torch.where(best >= 0, grad, 0)
    lse = torch.where(best >= 0, functional.softplus(rest, threshold=40), torch.inf)
    of_own = -scale * torch.sigmoid(rest)
    by_hidden = of_own[:, None] * blocks.own
    by_items = torch.zeros_like(items, dtype=hidden.dtype) if by[1] else hidden.new_zeros(0, items.shape[1])
    if by[1]:
        by_items.index_add_(0, targets.clamp(min=0), of_own[:, None] * hidden)
    for number, some, pieces in blocks:
        some = some[best[some] == number] if largest else some
        weighted = scale[some, None] * hidden[some] if by[1] else None
        for piece in pieces:
            x, vectors = blocks.logits(some, piece)
            x.sub_(lse[some, None]).exp_()
            if by[0]:
                by_hidden.index_add_(0, some, scale[some, None] * (x @ vectors))
            if weighted is not None:
                by_items.index_add_(0, piece, x.T @ weighted)
    return (by_hidden if by[0] else hidden.new_empty(0)), by_items.to(items.dtype) if by[1] else items.new_empty(0)


_losses = whole_operator(
    _bucketed_losses,
    lambda hidden, _items, targets, *_: (
        hidden[:, 0].clone(),
        hidden[:, 0].clone(),
        torch.empty_like(targets, dtype=torch.long),
    ),
)
_slopes = no_second_derivative(
    whole_operator(
        _bucketed_slopes,
        lambda _grad, _rest, _best, by, hidden, items, *_: (
            torch.empty_like(hidden) if by[0] else hidden.new_empty(0),
            torch.empty_like(items) if by[1] else items.new_empty(0),
        ),
    ),
    "losses over a catalogue",
)


class _BucketedLosses(torch.autograd.Function):
    """Values, and what the slopes are made with."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor, Tensor] = _losses(*inputs)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        *tensors, ctx.around, ctx.largest, ctx.chunk = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[1:], *tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 13
        rest, best, *tensors = ctx.saved_tensors
        by = list(ctx.needs_input_grad[:2])
        outputs = _slopes(grad, rest, best, by, *tensors, ctx.around, ctx.largest, ctx.chunk)
        return *(x if wanted else None for x, wanted in zip(outputs, by, strict=True)), *(None,) * 11
