r"""Cross-entropy of softmaxes over a whole catalogue, whose logits are never there all at once.

For one row with the positives T and the candidates C (all items but those known)

.. math::
    \ell = \sum_{t \in T} \Big( \log \sum_{j \in C} e^{z_j} - (1 - \epsilon)\, z_t
        - \frac{\epsilon}{|C|} \sum_{j \in C} z_j \Big), \qquad z_j = \langle h, w_j \rangle + c_j + [j \in T]\, u_j

Logits are made in blocks of rows and items that stay in the cache, once for the values and once more for the slopes, where
two more products use each block. What is subtracted from a row's logits and what is added to an item's are two more
columns of the product, so that a block is exponentiated as it comes. The subtrahend is a guess, the row's maximum over
the first chunk; only if later logits are so far above it that their sum grows out of bounds, all is made once more with
the maximum of the row. That question, and where the row's own items lie, is read off the device.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.kernels.operators import applied, no_second_derivative, whole_operator
from rankwell.lists import Flat
from rankwell.types import Ragged

__all__ = ["all_finite", "catalogue_losses", "check_ids", "check_offsets", "in_place_of_infinite", "row_keys"]

CHUNK_ITEMS = 512
"""Items of a block, unless the caller says otherwise."""

BLOCK_LOGITS = 1 << 20
"""Logits made at once: four megabytes in float32, which two cores keep in their caches."""

TOO_LARGE = 1e15
"""A sum of exponentials that asks for a better subtrahend: the slopes are made of terms as large, and must not overflow."""

NOTHING = 1e30
"""The subtrahend of a row without positives: all of its softmax is zero."""


def catalogue_losses(
    hidden: Tensor,
    items: Tensor,
    targets: Ragged,
    *,
    known: Ragged | None = None,
    column: Tensor | None = None,
    lift: Tensor | None = None,
    smoothing: float = 0.0,
    chunk: int | None = None,
) -> Tensor:
    """Values ``[r]`` of the formula for ``hidden [r, d]`` and ``items [m, d]``; ``column`` is c, ``lift`` is u, both ``[m]``.

    Ids below zero are absent from ``targets``; a row without any has value 0. A known item that is a row's target stays its
    candidate. Differentiable by ``hidden``, ``items`` and ``column``, once.
    """
    offsets, ids = (None, None) if known is None else known
    inputs = (hidden, items, column, lift, *targets, offsets, ids, smoothing, chunk or CHUNK_ITEMS)
    values: Tensor = applied(_CatalogueLosses, *inputs)[0]
    return values


# ----------------------------------------------------------------------------------------------------------------- ids


def check_offsets(name: str, offsets: Tensor, values: Tensor) -> None:
    """Raise unless the offsets cut the values into consecutive lists. Reads off the device."""
    if bool((offsets[0] != 0) | (offsets[-1] != values.numel()) | (offsets.diff() < 0).any()):
        raise InputError(
            f"offsets of {name} must start at 0, not fall, and end at the number of ids, {values.numel()}:"
            f" got first {int(offsets[0])} and last {int(offsets[-1])}."
        )


def check_ids(name: str, ids: Tensor, items: int, *, least: int = 0) -> None:
    """Raise unless the ids are items, or -1 where ``least`` says so. Reads off the device."""
    bad = (ids < least) | (ids >= items)
    if bool(bad.any()):
        absent = ", or -1 for none" if least < 0 else ""
        raise InputError(f"{name} must be rows of item_weight, 0 to {items - 1}{absent}: got {int(ids[bad][0])}.")


def row_keys(name: str, offsets: Tensor, ids: Tensor, items: int, *, least: int = 0) -> Tensor:
    """One number for each id of ragged lists that are checked: its list times the number of items, plus itself."""
    check_offsets(name, offsets, ids)
    check_ids(name, ids, items, least=least)
    return Flat(ids, offsets, None).segment.long() * items + ids


def all_finite(items: Tensor) -> bool:
    """Whether the sum of the items is: the look that costs least, and is seldom wrong. Reads off the device."""
    return bool(items.sum(dtype=torch.promote_types(items.dtype, torch.float)).isfinite())


def in_place_of_infinite(items: Tensor, removed: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """The items with zeros for those that are not finite, and the rows that such a one is a candidate of.

    ``removed`` are the keys of what is no candidate, each once.
    """
    bad = ~items.isfinite().all(1)
    masked = torch.zeros(rows, dtype=torch.long, device=items.device)
    masked.index_add_(0, removed // len(items), bad[removed % len(items)].long())
    return items.masked_fill(bad[:, None], 0), masked < bad.sum()


class _Places(NamedTuple):
    """The logits that are not like all others, each once and sorted by block: those of targets and of known items."""

    rows: Tensor
    """In the batch."""
    flat: Tensor
    """In the block."""
    pull: Tensor
    """What the logit enters the value with, beside the sums over all items."""
    lift: Tensor
    """What is added to the logit; minus infinity for a known item."""
    bounds: list[int]
    """Where the places of each block start."""


class _Block(NamedTuple):
    """The logits of some rows and items."""

    number: int
    """Which rows: of the tensors that are split into rows as blocks are, which one."""
    items: slice
    right: Tensor
    """The items' vectors and two more columns."""
    x: Tensor
    places: slice | None
    """Which of the places lie in it."""


class _Sheet:
    """Rows, items and places, with the buffers that every block is made in."""

    def __init__(
        self, hidden: Tensor, items: Tensor, column: Tensor | None, lift: Tensor | None, target_offsets: Tensor,
        targets: Tensor, known_offsets: Tensor | None, known: Tensor | None, smoothing: float, chunk: int,
    ) -> None:  # fmt: skip
        (self.r, self.d), self.m = hidden.shape, items.shape[0]
        self.items, self.column, self.lift, self.smoothing = items, column, lift, smoothing
        self.chunk = min(chunk, self.m)
        self.step = max(1, min(self.r, BLOCK_LOGITS // self.chunk))
        self.left = torch.cat([hidden, hidden.new_zeros(self.r, 1), hidden.new_ones(self.r, 1)], 1)
        self.right = torch.cat([hidden.new_zeros(self.chunk, self.d), hidden.new_ones(self.chunk, 2)], 1)
        self.right[:, -1] = 0
        self.buffer = hidden.new_empty(self.step * self.chunk)
        self._count(target_offsets, targets, known_offsets, known)

    def _count(
        self, target_offsets: Tensor, targets: Tensor, known_offsets: Tensor | None, known: Tensor | None
    ) -> None:
        """Count targets and candidates, and find the places."""
        keys = row_keys("targets", target_offsets, targets, self.m, least=-1)[targets >= 0]
        keys, times = keys.unique(return_counts=True)
        removed = keys[:0]
        if known is not None and known_offsets is not None:
            removed = row_keys("known", known_offsets, known, self.m).unique()
            removed = removed[~torch.isin(removed, keys)]
        self.changed = self.lift is not None or removed.numel() > 0
        self.spoilt: Tensor | None = None
        """Rows with a candidate that is not finite, if it is known for others, who must not meet it in a product."""
        if removed.numel() and not all_finite(self.items):
            self.items, self.spoilt = in_place_of_infinite(self.items, removed, self.r)
        if removed.numel() and self.smoothing and self.column is not None and not all_finite(self.column):
            column, spoilt = in_place_of_infinite(self.column[:, None], removed, self.r)
            self.column, self.spoilt = column[:, 0], spoilt if self.spoilt is None else self.spoilt | spoilt
        zeros, times = self.left.new_zeros(self.r), times.to(self.left.dtype)
        self.count = zeros.index_add(0, keys // self.m, times)
        candidates = self.m - zeros.index_add(0, removed // self.m, zeros.new_ones(()).expand(removed.shape))
        self.even = self.smoothing / candidates.clamp(min=1)
        """What the logit of every candidate enters the value with."""
        own = (1 - self.smoothing) * times / self.count[keys // self.m]
        of_targets = torch.zeros_like(own) if self.lift is None else self.lift[keys % self.m].to(own.dtype)
        constant = of_targets * (own + self.even[keys // self.m])
        self.constant = zeros.index_add(0, keys // self.m, constant)
        self.places = self._sorted(
            torch.cat([keys, removed]),
            torch.cat([own, -self.even[removed // self.m]]),
            torch.cat([of_targets, zeros.new_full(removed.shape, -torch.inf)]),
        )
        self.raw = torch.empty_like(self.places.pull)
        """What the logits at the places were, less their row's subtrahend."""

    def _sorted(self, keys: Tensor, pull: Tensor, lift: Tensor) -> _Places:
        rows, items = keys // self.m, keys % self.m
        across, down = max(1, -(-self.r // self.step)), -(-self.m // self.chunk)
        chunk = items // self.chunk
        width = (self.m - chunk * self.chunk).clamp(max=self.chunk)
        flat = rows % self.step * width + items % self.chunk
        block = chunk * across + rows // self.step
        order = block.argsort()
        bounds = [0, *torch.bincount(block, minlength=across * down).cumsum(0).tolist()]
        return _Places(rows[order], flat[order], pull[order], lift[order], bounds)

    def subtract(self, x: Tensor) -> None:
        """Make later blocks of logits less this, one a row."""
        self.left[:, self.d] = -x

    def blocks(self, items: int) -> Iterator[_Block]:
        """Logits of the first ``items`` items, chunk by chunk. The next block is written over the last one."""
        lefts = self.left.split(self.step)
        for start in range(0, items, self.chunk):
            chunk = slice(start, min(start + self.chunk, self.m))
            right = self.right[: chunk.stop - start]
            right[:, : self.d] = self.items[chunk]
            if self.column is not None:
                right[:, -1] = self.column[chunk]
            turned, first = right.T, start // self.chunk * len(lefts)
            for i, left in enumerate(lefts):
                x = self.buffer[: left.shape[0] * right.shape[0]]
                torch.mm(left, turned, out=x.view(left.shape[0], right.shape[0]))
                places = self._place(x, first + i)
                yield _Block(i, chunk, right, x.view(left.shape[0], right.shape[0]), places)

    def _place(self, x: Tensor, number: int) -> slice | None:
        """Keep the logits at the places of a block, and write what they are to be."""
        start, stop = self.places.bounds[number : number + 2]
        if start == stop:
            return None
        here = slice(start, stop)
        flat, raw = self.places.flat[here], self.raw[here]
        torch.index_select(x, 0, flat, out=raw)
        if self.changed:
            lift = self.places.lift[here]
            x[flat] = torch.where(lift == -torch.inf, lift, raw + lift)
        return here


# -------------------------------------------------------------------------------------------------------------- forward


def _catalogue_losses(
    hidden: Tensor, items: Tensor, column: Tensor | None, lift: Tensor | None, target_offsets: Tensor,
    targets: Tensor, known_offsets: Tensor | None, known: Tensor | None, smoothing: float, chunk: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Values of the rows, what was subtracted from their logits, and the sums of the exponentials of what was left.

    The latter two stay apart: the log of one added to the other is rounded to where large logits are.
    """
    sheet = _Sheet(hidden, items, column, lift, target_offsets, targets, known_offsets, known, smoothing, chunk)
    top = _maxima(sheet, sheet.chunk)
    total, linear = _sums(sheet, top)
    valid = sheet.count > 0
    if bool((valid & ~((total >= 0.5) & (total < TOO_LARGE))).any()):
        top = _maxima(sheet, sheet.m)
        total, linear = _sums(sheet, top)
    if sheet.spoilt is not None:
        total.masked_fill_(sheet.spoilt, torch.nan)
    values = torch.where(valid, sheet.count * (total.log() - linear), 0)
    return values, torch.where(valid, top, NOTHING), torch.where(valid, total, 1)


def _maxima(sheet: _Sheet, items: int) -> Tensor:
    """Largest logits of the rows over the first items; finite."""
    sheet.subtract(sheet.left.new_zeros(()))
    top = sheet.left.new_full((sheet.r,), -torch.inf)
    tops = top.split(sheet.step)
    for block in sheet.blocks(items):
        torch.maximum(tops[block.number], block.x.amax(1), out=tops[block.number])
    return torch.where(top == -torch.inf, 0, top)


def _sums(sheet: _Sheet, top: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of exponentials of the logits less ``top``, and what of the value is linear in these."""
    sheet.subtract(top)
    total = torch.zeros_like(top)
    totals, everything = total.split(sheet.step), torch.zeros_like(sheet.right[0])
    for number, _, right, x, _ in sheet.blocks(sheet.m):
        totals[number].add_(x.exp_().sum(1))
        if sheet.smoothing and number == 0:
            everything += right.sum(0)
    places = sheet.places
    # A known item may be infinitely good, and is no less absent.
    pulled = torch.where(places.pull == 0, 0, places.pull * sheet.raw)
    linear = sheet.constant.index_add(0, places.rows, pulled)
    return total, linear + sheet.even * (sheet.left @ everything) if sheet.smoothing else linear


# ------------------------------------------------------------------------------------------------------------- backward


def _catalogue_slopes(
    grad: Tensor, top: Tensor, total: Tensor, by: list[bool], hidden: Tensor, items: Tensor, column: Tensor | None,
    lift: Tensor | None, target_offsets: Tensor, targets: Tensor, known_offsets: Tensor | None,
    known: Tensor | None, smoothing: float, chunk: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients by hidden states, by items and by the column, of those that ``by`` asks for; the others are empty."""
    sheet = _Sheet(hidden, items, column, lift, target_offsets, targets, known_offsets, known, smoothing, chunk)
    sheet.subtract(top)
    scale, spread = grad * sheet.count / total, grad * sheet.count * sheet.even
    pull = -sheet.places.pull * total[sheet.places.rows]
    outputs = by_hidden, by_items, by_column = _like(by, hidden, items)
    by_rows, weights = by_hidden.split(sheet.step), scale.split(sheet.step)
    rows, last = (scale[:, None] * hidden).split(sheet.step), len(weights) - 1
    part = None if items.dtype == hidden.dtype else hidden.new_empty(sheet.chunk, sheet.d)
    everything, evenly = torch.zeros_like(sheet.right[0]), spread @ hidden
    for number, of_items, right, x, places in sheet.blocks(sheet.m):
        x.exp_()
        if places is not None:
            x.view(-1).index_add_(0, sheet.places.flat[places], pull[places])
        if smoothing and number == 0:
            everything += right.sum(0)
        if by[0]:
            by_rows[number].addmm_(x, right[:, : sheet.d])
        if by[1]:
            of_chunk = by_items[of_items] if part is None else part[: x.shape[1]]
            if number == 0:
                torch.mm(x.T, rows[0], out=of_chunk)
                if smoothing:
                    of_chunk.sub_(evenly)
            else:
                of_chunk.addmm_(x.T, rows[number])
            if part is not None and number == last:
                by_items[of_items] = of_chunk
        if by[2]:
            by_column[of_items].addmv_(x.T, weights[number])
    if by[0]:
        by_hidden.mul_(scale[:, None]).sub_(spread[:, None] * everything[: sheet.d])
    if by[2]:
        by_column.sub_(spread.sum())
    return outputs


def _like(by: list[bool], hidden: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.zeros_like(hidden) if by[0] else hidden.new_empty(0),
        torch.empty_like(items) if by[1] else items.new_empty(0),
        hidden.new_zeros(items.shape[0] if by[2] else 0),
    )


# ------------------------------------------------------------------------------------------------------------ operators


_losses = whole_operator(_catalogue_losses, lambda hidden, *_: tuple(torch.empty_like(hidden[:, 0]) for _ in range(3)))
_slopes = no_second_derivative(
    whole_operator(_catalogue_slopes, lambda _grad, _top, _total, by, hidden, items, *_: _like(by, hidden, items)),
    "losses over a catalogue",
)


class _CatalogueLosses(torch.autograd.Function):
    """Values, and what the slopes are made with."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor, Tensor] = _losses(*inputs)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        *tensors, ctx.smoothing, ctx.chunk = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[1:], *tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 10
        top, total, *tensors = ctx.saved_tensors
        by = list(ctx.needs_input_grad[:3])
        outputs = _slopes(grad, top, total, by, *tensors, ctx.smoothing, ctx.chunk)
        return *(x if wanted else None for x, wanted in zip(outputs, by, strict=True)), *(None,) * 7
