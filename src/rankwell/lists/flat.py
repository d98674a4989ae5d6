"""Lists one behind the other in flat tensors: their operations in O(total) memory, with derivatives."""

# mypy: allow-untyped-calls

import functools
import warnings
from typing import Any, final

import torch
from torch import Tensor

from rankwell.lists.blocks import BLOCK_ITEMS, blocks
from rankwell.lists.layouts import Dense, absent_to_minimum
from rankwell.types import Mask, Offsets

__all__ = [
    "Flat",
]


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
        x = absent_to_minimum(x, self.where)
        return _SegmentLogSumExp.apply(x, self.offsets, self.segment)  # type: ignore[no-any-return]

    def log_softmax(self, x: Tensor) -> Tensor:
        """Log-softmax of segments."""
        return _SegmentLogSoftmax.apply(absent_to_minimum(x, self.where), self.offsets, self.segment)  # type: ignore[no-any-return]

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
        x = absent_to_minimum(x.detach(), self.where)
        return _segment_max(x, self.offsets)

    def count(self) -> Tensor:
        """Lengths, or valid items of each segment."""
        if self.where is None:
            return self.lengths
        return self.lengths.new_zeros(self.lengths.shape).index_add_(0, self.segment, self.where.to(self.lengths.dtype))

    def some(self) -> Mask | None:
        """Segments may be empty."""
        return self.count() > 0


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
