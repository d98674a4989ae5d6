"""The list contract: dense or ragged tensors in, one value a list out, reduced.

Loss bodies hold no branch for the layout. They either use the operations of :class:`Lists` (``sum``, ``mean``,
``logsumexp``, ``log_softmax``), which both layouts implement in O(total) memory, or take lists of similar length as padded
blocks of bounded size (:func:`blocks`), where a dense formula is at home.

Masked means absent: :func:`open_lists` replaces masked scores, labels and weights before any operation, so that NaN or
inf there reaches neither value nor gradient. Half precision is computed in float32.
"""

# mypy: allow-untyped-calls

import bisect
import functools
import itertools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, final

import torch
from jaxtyping import Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from rankwell.errors import InputError
from rankwell.types import Labels, Mask, Offsets, Ragged, Reduction, Scores, Values, Weights

__all__ = [
    "Block",
    "Dense",
    "Flat",
    "Lists",
    "Opened",
    "Rows",
    "blocks",
    "check_at_least",
    "check_count",
    "check_positive",
    "in_chunks",
    "in_full_precision",
    "offsets_from_ids",
    "offsets_from_sizes",
    "open_lists",
    "open_rows",
    "reduce",
    "take_lists",
    "with_slopes",
]

BLOCK_ITEMS = 1 << 18
"""Padded items that one block of lists may hold: what is made per block stays below a few megabytes."""


# ---------------------------------------------------------------------------------------------------------------- edges


def offsets_from_sizes(sizes: Tensor) -> Offsets:
    """Offsets from the lengths of consecutive lists (LightGBM's and XGBoost's ``group``).

    >>> offsets_from_sizes(torch.tensor([2, 0, 3]))
    tensor([0, 2, 2, 5])
    """
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def offsets_from_ids(ids: Tensor) -> Offsets:
    """Offsets from query ids whose equal values stand together; an id that comes back later is an error.

    >>> offsets_from_ids(torch.tensor([7, 7, 3, 3, 3]))
    tensor([0, 2, 5])
    """
    values, sizes = torch.unique_consecutive(ids, return_counts=True)
    if values.unique().numel() != values.numel():
        raise InputError(
            "query ids must stand together: an id comes back after another one. Sort the rows by id first."
        )
    return offsets_from_sizes(sizes)


def reduce(values: Values, valid: Mask | None, reduction: Reduction) -> Values:
    """Values of lists to what ``reduction`` asks for; the mean is over valid lists (all, for None)."""
    if valid is not None:
        values = torch.where(valid, values, 0)
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    if reduction == "mean":
        if valid is None and values.numel():
            return values.mean()
        return values.sum() / (1 if valid is None else valid.sum().clamp(min=1))
    raise InputError(f"reduction must be 'none', 'mean' or 'sum': got {reduction!r}.")


def in_full_precision(tensor: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def check_positive(value: float, name: str) -> None:
    """Raise unless the number is above zero; NaN is not."""
    if not value > 0:
        raise InputError(f"{name} must be above 0: got {value}.")


def check_at_least(value: float, name: str, least: float = 0) -> None:
    """Raise unless the number is ``least`` or above; NaN is not."""
    if not value >= least:
        raise InputError(f"{name} must be at least {least}: got {value}.")


def check_count(value: int | None, name: str, *, least: int = 1, optional: bool = False) -> None:
    """Raise unless it is a whole number of at least ``least``, or None where that is ``optional``."""
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        or_none = ", or None" if optional else ""
        raise InputError(f"{name} must be a whole number of at least {least}{or_none}: got {value!r}.")


def _check_types(scores: dict[str, Tensor], masks: dict[str, Mask | None]) -> None:
    """Raise unless scores are floating point and masks boolean."""
    for name, x in scores.items():
        if not x.is_floating_point():
            raise InputError(f"{name} must be floating point: got {x.dtype}. Convert by .float().")
    for name, mask in masks.items():
        if mask is not None and mask.dtype != torch.bool:
            raise InputError(f"{name} must be boolean, true where an item is there: got {mask.dtype}.")


# -------------------------------------------------------------------------------------------------------------- layouts


class Lists(Protocol):
    """What both layouts offer. ``x`` holds one number an item."""

    where: Mask | None

    def sum(self, x: Tensor) -> Tensor:
        """Sums over the valid items of each list."""
        ...

    def mean(self, x: Tensor) -> Tensor:
        """Means over the valid items of each list; 0 where there are none."""
        ...

    def logsumexp(self, x: Tensor) -> Tensor:
        """Log of the sum of exponentials over the valid items of each list; the dtype's minimum where there are none."""
        ...

    def log_softmax(self, x: Tensor) -> Tensor:
        """``x`` less its list's logsumexp, exact where all of a list is far from zero; no use at masked items."""
        ...

    def cross_entropy(self, shares: Tensor, x: Tensor) -> Tensor:
        """Sums over the valid items of each list of ``shares`` times minus the log-softmax of ``x``."""
        ...

    def spread(self, v: Tensor) -> Tensor:
        """One number a list, to its items; dense, an axis that broadcasts."""
        ...

    def kth_largest(self, x: Tensor, k: int) -> Tensor:
        """The k-th largest valid item of each list, minus infinity where there are fewer. It has no gradient."""
        ...

    def largest(self, x: Tensor) -> Tensor:
        """The largest valid item of each list, the dtype's minimum where there are none. It has no gradient."""
        ...

    def count(self) -> Tensor:
        """Valid items of each list, as integers."""
        ...

    def some(self) -> Mask | None:
        """Whether each list has a valid item; None where all have one for certain."""
        ...


@final
class Dense:
    """Lists as rows: ``[*batch, list]``."""

    def __init__(self, like: Tensor, where: Mask | None) -> None:
        self._like, self.where = like, where

    def sum(self, x: Tensor) -> Tensor:
        """Sums along the last axis."""
        return (x if self.where is None else torch.where(self.where, x, 0)).sum(-1)

    def mean(self, x: Tensor) -> Tensor:
        """Means along the last axis."""
        n = self._like.shape[-1]
        return self.sum(x) / (max(n, 1) if self.where is None else self.count().clamp(min=1))

    def logsumexp(self, x: Tensor) -> Tensor:
        """Logsumexp along the last axis."""
        if x.shape[-1] == 0:
            return x.new_full(x.shape[:-1], torch.finfo(x.dtype).min)
        if x.shape[-1] == 1 and self.where is None:  # one positive, most often
            return x.squeeze(-1)
        return torch.logsumexp(_absent_to_minimum(x, self.where), -1)

    def log_softmax(self, x: Tensor) -> Tensor:
        """Log-softmax along the last axis."""
        return torch.log_softmax(_absent_to_minimum(x, self.where), -1)

    def cross_entropy(self, shares: Tensor, x: Tensor) -> Tensor:
        """Cross-entropy along the last axis."""
        return -self.sum(shares * self.log_softmax(x))

    def spread(self, v: Tensor) -> Tensor:
        """A last axis of one."""
        return v[..., None]

    def kth_largest(self, x: Tensor, k: int) -> Tensor:
        """The k-th largest along the last axis."""
        if k > x.shape[-1]:
            return x.new_full(x.shape[:-1], -torch.inf)
        x = x.detach() if self.where is None else torch.where(self.where, x.detach(), -torch.inf)
        return x.topk(k, -1).values[..., -1]

    def largest(self, x: Tensor) -> Tensor:
        """The largest along the last axis."""
        if not x.shape[-1]:
            return x.new_full(x.shape[:-1], torch.finfo(x.dtype).min)
        return _absent_to_minimum(x.detach(), self.where).amax(-1)

    def count(self) -> Tensor:
        """Valid items of each row."""
        if self.where is not None:
            return _count_true(self.where)
        return torch.full(self._like.shape[:-1], self._like.shape[-1], device=self._like.device)

    def some(self) -> Mask | None:
        """Rows of any length that are not masked have one."""
        return None if self.where is None and self._like.shape[-1] else self.count() > 0


def _count_true(where: Mask) -> Tensor:
    """How many are true along the last axis."""
    n = where.shape[-1]
    if torch.compiler.is_compiling():  # fuses the sum, and cannot see where a tensor starts in its storage
        return where.sum(-1)
    if not n or n % 8 or n > 8 * 255 or not where.is_contiguous() or where.storage_offset() % 8:
        return where.sum(-1)
    # Eight at a time: bytes add up inside 64-bit words without carrying. Twenty times as fast as a sum of booleans.
    return where.view(torch.int64).sum(-1, keepdim=True).view(torch.uint8).sum(-1)


@final
class Flat:
    """Lists one behind the other: ``[total]`` with ``offsets``."""

    def __init__(self, like: Tensor, offsets: Offsets, where: Mask | None) -> None:
        self.where = where
        self.offsets = offsets
        self.lengths = offsets.diff()
        self.segment = torch.repeat_interleave(self.lengths.int(), output_size=like.numel())

    def sum(self, x: Tensor) -> Tensor:
        """Sums of segments."""
        x = x.expand(self.segment.shape) if self.where is None else torch.where(self.where, x, 0)
        return _SegmentSum.apply(x, self.offsets, self.segment)  # type: ignore[no-any-return]

    def mean(self, x: Tensor) -> Tensor:
        """Means of segments."""
        return self.sum(x) / self.count().clamp(min=1)

    def logsumexp(self, x: Tensor) -> Tensor:
        """Logsumexp of segments."""
        x = _absent_to_minimum(x, self.where)
        return _SegmentLogSumExp.apply(x, self.offsets, self.segment)  # type: ignore[no-any-return]

    def log_softmax(self, x: Tensor) -> Tensor:
        """Log-softmax of segments."""
        return _SegmentLogSoftmax.apply(_absent_to_minimum(x, self.where), self.offsets, self.segment)  # type: ignore[no-any-return]

    def cross_entropy(self, shares: Tensor, x: Tensor) -> Tensor:
        """Cross-entropy of segments, in half the passes that its parts would take."""
        if self.where is not None:
            # Half the minimum, so that the distance to a list's largest is finite.
            shares, x = torch.where(self.where, shares, 0), torch.where(self.where, x, torch.finfo(x.dtype).min / 2)
        return _SegmentCrossEntropy.apply(shares.expand_as(x), x, self.offsets, self.segment)  # type: ignore[no-any-return]

    def spread(self, v: Tensor) -> Tensor:
        """A gather by segment."""
        return _Spread.apply(v, self.offsets, self.segment)  # type: ignore[no-any-return]

    def kth_largest(self, x: Tensor, k: int) -> Tensor:
        """The k-th largest of padded blocks of segments."""
        found = x.new_full(self.lengths.shape, -torch.inf)
        for chosen, items, valid in blocks(self.offsets, BLOCK_ITEMS // 4):
            there = valid if self.where is None else valid & self.where[items]
            found[chosen] = Dense(items, there).kth_largest(x.detach()[items], k)
        return found

    def largest(self, x: Tensor) -> Tensor:
        """The largest of segments."""
        x = _absent_to_minimum(x.detach(), self.where)
        return _segment_max(x, self.offsets)

    def count(self) -> Tensor:
        """Lengths, or valid items of each segment."""
        if self.where is None:
            return self.lengths
        return self.lengths.new_zeros(self.lengths.shape).index_add_(0, self.segment, self.where.to(self.lengths.dtype))

    def some(self) -> Mask | None:
        """Segments may be empty."""
        return self.count() > 0


def _absent_to_minimum(x: Tensor, where: Mask | None) -> Tensor:
    # The minimum, not -inf: a list with nothing valid then has finite values and gradients.
    return x if where is None else torch.where(where, x, torch.finfo(x.dtype).min)


def _segment_sum(x: Tensor, offsets: Tensor, segment: Tensor) -> Tensor:
    if x.device.type != "cpu" or not 0 < x.numel() < 1 << 31 or not torch.backends.mkl.is_available():
        return torch.segment_reduce(x, "sum", offsets=offsets, unsafe=True, initial=0)
    # Row sums of a sparse matrix, by MKL on all threads: a quarter of the time of segment_reduce, which has one. Every item
    # stands in the column of its list, because these numbers are there already.
    _compressed_once()
    lists = offsets.numel() - 1
    rows = torch.sparse_csr_tensor(offsets.int(), segment, x, (lists, lists), check_invariants=False)
    return torch.mv(rows, x.new_ones(lists))


@functools.cache
def _compressed_once() -> None:
    """Hear out torch, which announces that compressed tensors are a beta feature, once a process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        none = torch.zeros(2, dtype=torch.int32)
        torch.sparse_csr_tensor(none, none[:0], torch.zeros(0), (1, 1), check_invariants=False)


def _segment_max(x: Tensor, offsets: Tensor) -> Tensor:
    return torch.segment_reduce(x, "max", offsets=offsets, unsafe=True, initial=torch.finfo(x.dtype).min)


class _SegmentSum(torch.autograd.Function):
    """Segment sums whose backward pass is one gather; adjoint of :class:`_Spread`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offsets: Tensor, segment: Tensor) -> Tensor:
        ctx.save_for_backward(offsets, segment)
        return _segment_sum(x.contiguous(), offsets, segment)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        offsets, segment = ctx.saved_tensors
        return _Spread.apply(grad, offsets, segment), None, None


class _Spread(torch.autograd.Function):
    """A gather by list whose backward pass is a segment sum, not a scatter."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, offsets: Tensor, segment: Tensor) -> Tensor:
        ctx.save_for_backward(offsets, segment)
        return v.index_select(0, segment)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        offsets, segment = ctx.saved_tensors
        return _SegmentSum.apply(grad, offsets, segment), None, None


class _SegmentLogSumExp(torch.autograd.Function):
    """Stable segment logsumexp that keeps nothing but its input and output for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offsets: Tensor, segment: Tensor) -> Tensor:
        least = torch.finfo(x.dtype).min
        top = _segment_max(x, offsets)
        total = _segment_sum((x - top.index_select(0, segment)).exp_(), offsets, segment)
        value = torch.where(total > 0, top + total.log(), least)
        ctx.save_for_backward(x, value, offsets, segment)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, value, offsets, segment = ctx.saved_tensors
        softmax = (x - _Spread.apply(value, offsets, segment)).exp()
        return softmax * _Spread.apply(grad, offsets, segment), None, None


class _SegmentLogSoftmax(torch.autograd.Function):
    """Segment log-softmax, centred before the sum, that keeps nothing but its output for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offsets: Tensor, segment: Tensor) -> Tensor:
        top = _segment_max(x, offsets)
        # Two buffers for all: a new one costs as much as what is written to it.
        value = top.index_select(0, segment)
        torch.sub(x, value, out=value)
        buffer = value.exp()
        log_total = _segment_sum(buffer, offsets, segment).log()
        value.sub_(torch.index_select(log_total, 0, segment, out=buffer))
        ctx.save_for_backward(value, offsets, segment)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        value, offsets, segment = ctx.saved_tensors
        total = _SegmentSum.apply(grad, offsets, segment)
        return grad - value.exp() * _Spread.apply(total, offsets, segment), None, None


NEAR, FAR = 16.0, 64.0
"""Scores that lie no further apart than this, over all lists, lose no more than 1e-6 by a common centre; no list underflows."""


def _centred(x: Tensor, offsets: Tensor, segment: Tensor) -> Tensor:
    """A new tensor: ``x`` less about the largest of its list; of all lists, in a third of the time, where that does as well."""
    top = None
    if x.device.type == "cpu" and x.numel():  # elsewhere a look at the numbers would wait for the device
        least, largest = x.aminmax()
        if bool(largest - least < NEAR):
            return x - largest
        if bool(largest - least < FAR):  # the logsumexp will do, as far as a common centre gives it: sums are faster
            top = largest + _segment_sum((x - largest).exp_(), offsets, segment).log_()
    top = _segment_max(x, offsets) if top is None else top
    centred = top.index_select(0, segment)
    return torch.sub(x, centred, out=centred)


class _SegmentCrossEntropy(torch.autograd.Function):
    """Cross-entropy of segments, centred before the sums. New buffers cost as much as what is written to them: it has few."""

    @staticmethod
    def forward(ctx: Any, shares: Tensor, x: Tensor, offsets: Tensor, segment: Tensor) -> Tensor:
        shares = shares.contiguous()
        centred = _centred(x, offsets, segment)
        buffer = centred.exp()
        total = _segment_sum(buffer, offsets, segment)
        total = torch.where(total == 0, 1, total)
        own = _segment_sum(torch.mul(shares, centred, out=buffer), offsets, segment)
        mass = _segment_sum(shares, offsets, segment)
        ctx.save_for_backward(shares, x, centred, total, mass, offsets, segment)
        return total.log() * mass - own

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        shares, x, centred, total, mass, offsets, segment = ctx.saved_tensors
        if torch.is_grad_enabled():  # for second derivatives: of operations that have them
            log_p = _SegmentLogSoftmax.apply(x, offsets, segment)
            spread = _Spread.apply(grad, offsets, segment)
            mass = _Spread.apply(grad * _SegmentSum.apply(shares, offsets, segment), offsets, segment)
            return -spread * log_p, log_p.exp() * mass - spread * shares, None, None
        buffer = (grad * mass / total).index_select(0, segment)
        by_x = centred.exp().mul_(buffer)
        torch.index_select(grad, 0, segment, out=buffer)
        by_shares = None
        if ctx.needs_input_grad[0]:
            by_shares = total.log().index_select(0, segment).sub_(centred).mul_(buffer)
        return by_shares, by_x.sub_(buffer.mul_(shares)), None, None


# ---------------------------------------------------------------------------------------------------------------- lists


class Opened(NamedTuple):
    """Checked and cleaned arguments of a list loss, with the operations of their layout."""

    lists: Lists
    scores: Tensor
    labels: Tensor
    weights: Tensor
    """One an item, or a tensor of ones that broadcasts."""

    @property
    def where(self) -> Mask | None:
        """The mask, None where all is valid."""
        return self.lists.where

    def mean(self, x: Tensor) -> Tensor:
        """Means over the valid items of each list; 0 where there are none."""
        return self.lists.mean(x)

    def cross_entropy(self, shares: Tensor, x: Tensor) -> Tensor:
        """Weighted sums of ``shares`` times minus the log-softmax of ``x``, over the valid items of each list."""
        if self.weights.ndim:
            return self.lists.cross_entropy(self.weights * shares, x)
        return self.weights * self.lists.cross_entropy(shares, x)

    def reduce(self, values: Tensor, reduction: Reduction) -> Values:
        """Reduce values of lists; a list counts when it has a valid item."""
        return reduce(values, self.lists.some(), reduction)


def open_lists(
    scores: Scores, labels: Labels, *, where: Mask | None, weights: Weights | None, offsets: Offsets | None
) -> Opened:
    """Check the arguments of a list loss, and put harmless numbers where ``where`` is false."""
    _check_types({"scores": scores}, {"where": where})
    if labels.shape != scores.shape:
        raise InputError(
            f"labels must have the shape of scores: got labels {_shape(labels)} and scores {_shape(scores)}."
        )
    if scores.ndim == 0:
        raise InputError("scores must have a list axis: got a scalar.")
    if offsets is not None:
        _check_offsets(offsets, scores)
    scores = in_full_precision(scores)
    labels = labels.to(scores.dtype)
    weights = scores.new_ones(()) if weights is None else _fits(weights, "weights", scores).to(scores.dtype)
    if where is not None:
        where = _fits(where, "where", scores).expand(scores.shape)
        scores, labels, weights = (torch.where(where, x, 0) for x in (scores, labels, weights))
    lists: Lists = Dense(scores, where) if offsets is None else Flat(scores, offsets, where)
    return Opened(lists, scores, labels, weights)


def _fits(tensor: Tensor, name: str, scores: Tensor) -> Tensor:
    """The tensor, if it broadcasts to the scores without making them larger."""
    padded = (1,) * (scores.ndim - tensor.ndim) + tuple(tensor.shape)
    if len(padded) != scores.ndim or any(a not in (1, b) for a, b in zip(padded, scores.shape, strict=True)):
        raise InputError(f"{name} must broadcast to scores {_shape(scores)}: got {_shape(tensor)}.")
    return tensor


def _check_offsets(offsets: Offsets, scores: Tensor) -> None:
    """Raise unless the offsets cut the flat scores into consecutive lists. Reads two numbers off the device."""
    if not isinstance(offsets, Tensor) or offsets.dtype not in (torch.int32, torch.int64):
        given = offsets.dtype if isinstance(offsets, Tensor) else f"a {type(offsets).__name__}"
        raise InputError(
            f"offsets must be a tensor of int64 or int32: got {given}. Convert by torch.as_tensor(…).long()."
        )
    if scores.ndim != 1 or offsets.ndim != 1 or offsets.numel() == 0:
        raise InputError(
            "with offsets, scores must be flat [total] and offsets [lists + 1]:"
            f" got scores {_shape(scores)} and offsets {_shape(offsets)}."
        )
    bad = (offsets[0] != 0) | (offsets[-1] != scores.numel()) | (offsets.diff() < 0).any()
    if bool(bad):
        raise InputError(
            f"offsets must start at 0, not fall, and end at the number of scores, {scores.numel()}:"
            f" got first {int(offsets[0])} and last {int(offsets[-1])}."
        )


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


# ----------------------------------------------------------------------------------------------------------------- rows


class Rows(NamedTuple):
    """Checked and cleaned arguments of a contrast loss: ``pos [*b, m]``, ``neg [*b, n]``, one value a row."""

    pos: Tensor
    given_neg: Tensor
    """As given: whatever stands at masked places."""
    pos_where: Mask | None
    where: Mask | None
    weights: Tensor
    """Of the positives, broadcastable to ``pos``."""
    overwrite: bool = False
    """Whether the negatives are the loss's to write over, once; absent ones are minus infinity already."""

    @property
    def neg(self) -> Tensor:
        """Minus infinity where masked: so bad a negative vanishes from sums of hinges, of softplus and of exponentials."""
        if self.where is None or self.overwrite:
            return self.given_neg
        neg: Tensor = _Absent.apply(self.given_neg, self.where)
        return neg

    def mean_pos(self, x: Tensor) -> Tensor:
        """Means over the valid positives of each row; 0 where there are none."""
        return _masked_mean(x, self.pos_where)

    def count_neg(self) -> Tensor:
        """How many valid negatives each row has, ``[*b]``."""
        return Dense(self.given_neg, self.where).count()

    def sum_pos(self, x: Tensor) -> Tensor:
        """Weighted sums over the valid positives of each row."""
        return Dense(self.pos, self.pos_where).sum(self.weights * x)

    def logsumexp_neg(self, temperature: float, *, absent: float = -torch.inf) -> Tensor:
        """Logsumexp of the negatives divided by the temperature; ``absent`` in rows that have none."""
        if not self.given_neg.shape[-1]:
            return self.given_neg.new_full(self.given_neg.shape[:-1], absent)
        value: Tensor
        if self.overwrite:
            value = _logsumexp_in_place(self.given_neg, temperature)
        else:
            value = _ScaledLogSumExp.apply(self.given_neg, self.where, temperature)[0]
        return value if absent == -torch.inf else torch.where(value == -torch.inf, absent, value)

    def max_neg(self) -> Tensor:
        """The best negative of each row; minus infinity in rows that have none."""
        if not self.given_neg.shape[-1]:
            return self.given_neg.new_full(self.given_neg.shape[:-1], -torch.inf)
        return self.neg.amax(-1)

    def reduce(self, values: Tensor, reduction: Reduction) -> Values:
        """Reduce values of rows; a row counts when it has a valid positive."""
        return reduce(values, Dense(self.pos, self.pos_where).some(), reduction)


def _masked_mean(x: Tensor, where: Mask | None) -> Tensor:
    return Dense(x, where).sum(x) / Dense(x, where).count().clamp(min=1)


def open_rows(
    pos: Tensor,
    neg: Tensor,
    *,
    pos_where: Mask | None,
    where: Mask | None,
    weights: Weights | None,
    overwrite: bool | None = None,
) -> Rows:
    """Check the arguments of a contrast loss, and put 0 at masked positives.

    ``pos`` is ``[*b]`` (one positive) or ``[*b, m]``; ``neg`` is ``[*b, n]``; ``pos_where`` and ``weights`` broadcast to
    ``pos``, ``where`` to ``neg``. With ``overwrite``, negatives are the loss's: see :class:`Rows`.
    """
    _check_types({"pos": pos, "neg": neg}, {"pos_where": pos_where, "where": where})
    single = pos.ndim == neg.ndim - 1
    if neg.ndim == 0 or pos.ndim not in (neg.ndim - 1, neg.ndim) or pos.shape[: neg.ndim - 1] != neg.shape[:-1]:
        raise InputError(
            f"pos must be [*b] or [*b, m] and neg [*b, n] with the same *b: got pos {_shape(pos)}, neg {_shape(neg)}."
        )
    pos, neg = in_full_precision(pos), in_full_precision(neg)
    weights = pos.new_ones(()) if weights is None else _fits(weights, "weights", pos).to(pos.dtype)
    if pos_where is not None:
        pos_where = _fits(pos_where, "pos_where", pos).expand(pos.shape)
        pos, weights = torch.where(pos_where, pos, 0), torch.where(pos_where, weights, 0)
        pos_where = pos_where[..., None] if single else pos_where
    if single:
        pos = pos[..., None]
        weights = weights[..., None] if weights.ndim else weights
    if where is not None:
        where = _fits(where, "where", neg).expand(neg.shape)
    return Rows(pos, neg, pos_where, where, weights, bool(overwrite))


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
        scale = 1 / temperature
        terms = x * scale if where is None else torch.where(where, x, -torch.inf).mul_(scale)
        top = terms.amax(-1, keepdim=True)
        top = torch.where(top == -torch.inf, 0, top)
        terms = terms.sub_(top).exp_()
        total = terms.sum(-1, keepdim=True)
        return (top + total.log()).squeeze(-1), terms, total

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


def _logsumexp_in_place(x: Tensor, temperature: float) -> Tensor:
    """Logsumexp of ``x`` / temperature along the last axis, which leaves the exponentials in ``x``."""
    terms = x.detach()
    top = terms.amax(-1, keepdim=True)
    top.masked_fill_(top == -torch.inf, 0).mul_(1 / temperature)
    torch.sub(terms, top, out=terms) if temperature == 1 else torch.add(-top, terms, alpha=1 / temperature, out=terms)
    total = terms.exp_().sum(-1, keepdim=True)
    over = total.masked_fill(total == 0, 1).mul_(temperature).squeeze(-1)
    return with_slopes(x, top.add_(total.log()).squeeze(-1), terms, over)


def with_slopes(x: Tensor, values: Tensor, slopes: Tensor, over: Tensor | float = 1.0) -> Tensor:
    """Values ``[*b]`` of the rows of ``x``, whose slopes are ``slopes / over`` and may stand in the memory of ``x``.

    They are differentiated once: the gradient then stands there.
    """
    made: Tensor = _WithSlopes.apply(x, values, slopes, over)
    return made


def in_chunks(x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of ``[*b, n]`` in chunks that stay in the cache, each beside room for as many numbers."""
    rows = x.view(x.shape[:-1].numel(), x.shape[-1])
    step = max(1, BLOCK_ITEMS // max(rows.shape[1], 1))
    spare = torch.empty_like(rows[:step])
    for part in rows.split(step):
        yield part, spare[: len(part)]


class _WithSlopes(torch.autograd.Function):
    """One matrix from the scores to their gradient, where each new one would leave the cache."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, values: Tensor, slopes: Tensor, over: Tensor | float) -> Tensor:
        ctx.over = over
        ctx.save_for_backward(slopes)  # so that a second backward pass is an error: the first one writes over it
        return values.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return slopes.mul_((grad / ctx.over)[..., None]), None, None, None


# --------------------------------------------------------------------------------------------------------------- blocks


class Block(NamedTuple):
    """Lists of similar length, padded: where each list stands, and each of its items."""

    lists: Tensor
    """``[g]``: which lists these are."""
    items: Tensor
    """``[g, n]``: positions in the flat tensors; padding points at the list's first item."""
    valid: Mask
    """``[g, n]``: false at padding."""


def blocks(offsets: Offsets, limit: int = BLOCK_ITEMS) -> Iterator[Block]:
    """Lists grouped by length into padded blocks of at most ``limit`` items (one list at least). Empty lists are left out.

    Lengths in a block differ by less than a quarter, so that padding adds at most a quarter. Waits for the device before
    the first block.
    """
    lengths = None if offsets.numel() == 2 else offsets.diff()
    if lengths is None or (lengths.numel() and bool((lengths == lengths[0]).all())):
        yield from _equal_blocks(offsets, limit)
        return
    in_order, by_length = lengths.sort(stable=True)
    sizes, counts = (x.tolist() for x in torch.unique_consecutive(in_order, return_counts=True))
    ends = list(itertools.accumulate(counts))  # where the lists of each size end, by length
    first = ends[0] if sizes[:1] == [0] else 0
    while first < len(by_length):
        largest = sizes[bisect.bisect_right(ends, first)] * 5 // 4
        last = ends[bisect.bisect_right(sizes, largest) - 1]
        width = sizes[bisect.bisect_left(ends, last)]
        last = min(last, first + max(1, limit // width))
        width = sizes[bisect.bisect_left(ends, last)]
        chosen = by_length[first:last]
        place = torch.arange(width, device=offsets.device)
        valid = place < lengths[chosen, None]
        yield Block(chosen, offsets[chosen, None] + place * valid, valid)
        first = last


def _equal_blocks(offsets: Offsets, limit: int) -> Iterator[Block]:
    """Lists of one length need no sort and no padding."""
    lists, width = offsets.numel() - 1, int(offsets[1])
    for first in range(0, lists if width else 0, max(1, limit // max(width, 1))):
        last = min(first + max(1, limit // width), lists)
        yield Block(
            torch.arange(first, last, device=offsets.device),
            torch.arange(first * width, last * width, device=offsets.device).view(-1, width),
            torch.ones(last - first, width, dtype=torch.bool, device=offsets.device),
        )


def take_lists(ragged: Ragged, queries: Int[Tensor, " q"]) -> Ragged:
    """The lists of these queries, one behind the other, in their order. Time O(values taken).

    >>> take_lists(Ragged(torch.tensor([0, 2, 2, 3]), torch.tensor([7, 8, 9])), torch.tensor([2, 0, 1]))
    Ragged(offsets=tensor([0, 1, 3, 3]), values=tensor([9, 7, 8]))
    """
    # index_select, for tensor indexing takes several times as long.
    starts, ends = (ragged.offsets.index_select(0, at) for at in (queries, queries + 1))
    offsets = torch.cat([starts.new_zeros(1), (ends - starts).cumsum(0)])
    # A place is the one before plus one, but where a list begins: quicker than to repeat the starts.
    jumps = starts.clone()
    jumps[:1] -= 1
    jumps[1:] -= ends[:-1]
    steps = starts.new_ones(int(offsets[-1]) + 1).index_add_(0, offsets[:-1], jumps)
    return Ragged(offsets, ragged.values.index_select(0, steps[:-1].cumsum(0)))
