"""The operations of lists, whatever their layout, and dense lists."""

# mypy: allow-untyped-calls

from typing import Protocol, final

import torch
from torch import Tensor

from rankwell.types import Mask

__all__ = [
    "Dense",
    "Lists",
    "absent_to_minimum",
]


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
        if self.where is None and x.shape[-1] == 1:
            return x.squeeze(-1)
        return (x if self.where is None else torch.where(self.where, x, 0)).sum(-1)

    def mean(self, x: Tensor) -> Tensor:
        """Means along the last axis."""
        n = self._like.shape[-1]
        if self.where is None:
            return self.sum(x) / n if n > 1 else self.sum(x)
        return self.sum(x) / self.count().clamp(min=1)

    def logsumexp(self, x: Tensor) -> Tensor:
        """Logsumexp along the last axis."""
        if x.shape[-1] == 0:
            return x.new_full(x.shape[:-1], torch.finfo(x.dtype).min)
        if x.shape[-1] == 1 and self.where is None:  # one positive, most often
            return x.squeeze(-1)
        return torch.logsumexp(absent_to_minimum(x, self.where), -1)

    def log_softmax(self, x: Tensor) -> Tensor:
        """Log-softmax along the last axis."""
        return torch.log_softmax(absent_to_minimum(x, self.where), -1)

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
        return absent_to_minimum(x.detach(), self.where).amax(-1)

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


def absent_to_minimum(x: Tensor, where: Mask | None) -> Tensor:
    """The numbers, where masked the dtype's minimum."""
    # Not -inf: a list with nothing valid then has finite values and gradients.
    return x if where is None else torch.where(where, x, torch.finfo(x.dtype).min)
