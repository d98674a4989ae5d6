"""Dropout whose random numbers come from a generator that the caller keys."""

import functools
import math

import torch
from torch import Tensor

__all__ = ["dropped", "kept"]

GOLDEN = (math.sqrt(5) - 1) / 2


def dropped(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The numbers with a share of them set to zero, and the others scaled by 1 / (1 − share).

    >>> dropped(torch.ones(4), 0.5, torch.Generator().manual_seed(1)).unique()
    tensor([0., 2.])
    """
    return x * kept(x.shape, share, generator, x.dtype)


def kept(shape: tuple[int, ...], share: float, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """What :func:`dropped` multiplies by: a share of zeros, otherwise 1 / (1 − share).

    Eight random bits an entry, an eighth of the draws that a uniform number each would take. Rows of the first axis are
    dropped by the multiple of 1/256 below or above the share, in turn and so that their mean is the share.
    """
    size = math.prod(shape)
    words = torch.empty((size + 7) // 8, dtype=torch.int64, device=generator.device)
    bits = words.random_(-(2**63), None, generator=generator).view(torch.uint8)[:size].view(shape)
    least = _thresholds(shape[0], share, bits.device).view(-1, *(1 for _ in shape[1:]))
    there = torch.empty(shape, dtype=dtype, device=bits.device)  # zeros and ones, in one pass
    return torch.ge(bits, least, out=there).mul_(1 / (1 - share))


@functools.lru_cache(maxsize=64)
def _thresholds(rows: int, share: float, device: torch.device) -> Tensor:
    """The least byte that is kept, by row; the multiples of the golden ratio are spread evenly between whole numbers."""
    turns = (torch.arange(rows, dtype=torch.float64, device=device) * GOLDEN) % 1
    return (256 * share + turns).floor().clamp(max=255).to(torch.uint8)
