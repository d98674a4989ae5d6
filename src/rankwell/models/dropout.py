"""Dropout whose random numbers come from a generator that the caller keys."""

import math

import torch
from torch import Tensor

__all__ = ["dropped", "kept"]


def dropped(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The numbers with a share of them set to zero, and the others scaled by 1 / (1 − share).

    Sixteen random bits an entry, a quarter of the draws that a uniform number each would take: a share is met to 2^-16.

    >>> dropped(torch.ones(4), 0.5, torch.Generator().manual_seed(1)).unique()
    tensor([0., 2.])
    """
    return x * kept(x.shape, share, generator, x.dtype)


def kept(shape: tuple[int, ...], share: float, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """What :func:`dropped` multiplies by: a share of zeros, otherwise 1 / (1 − share)."""
    size = math.prod(shape)
    words = torch.empty((size + 3) // 4, dtype=torch.int64, device=generator.device)
    bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)[:size]
    there = torch.empty(shape, dtype=dtype, device=generator.device)  # zeros and ones, in one pass
    return torch.ge(bits.view(shape), round(share * 2**16) - 2**15, out=there).mul_(1 / (1 - share))
