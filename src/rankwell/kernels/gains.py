r"""Gains of labels, which overflow unless it is known what they will be divided by."""

import math

import torch
from torch import Tensor

__all__ = ["exponential_gains"]


def exponential_gains(labels: Tensor, top: Tensor | None = None) -> Tensor:
    r"""The gain :math:`2^y - 1` of labels :math:`y \ge 0`; divided by :math:`2^{top}`, if that is given.

    In float32 it overflows from a label of 128 on. A metric that is a ratio of gains is the same whatever they are
    divided by: with the largest label for ``top``, which broadcasts, they are at most 1.

    >>> exponential_gains(torch.tensor([0.0, 1.0, 2.0]))
    tensor([0., 1., 3.])
    >>> exponential_gains(torch.tensor([0.0, 199.0, 200.0]), torch.tensor(200.0))
    tensor([0.0000, 0.5000, 1.0000])
    """
    if top is None:
        return torch.exp2(labels) - 1
    # Not the difference of two powers, in which small labels lose their digits.
    return -torch.expm1(-math.log(2) * labels) * torch.exp2(labels - top)
