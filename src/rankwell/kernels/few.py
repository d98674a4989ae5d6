"""What is not zero, where nearly all is."""

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["few_nonzero"]


def few_nonzero(x: Tensor) -> Int[Tensor, " k"]:
    """Flat places of what is not 0, ascending. Eight bytes are looked at together first: a fraction of the time of ``nonzero``.

    >>> few_nonzero(torch.tensor([0, 0, 7, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], dtype=torch.uint8))
    tensor([2, 7])
    """
    flat, wide = x.view(-1), max(1, 8 // x.element_size())
    if wide == 1 or len(flat) % wide or flat.storage_offset() % wide:
        return flat.nonzero().squeeze(1)
    words = flat.view(torch.int64).nonzero().squeeze(1)
    there = flat.view(-1, wide).index_select(0, words).view(-1).nonzero().squeeze(1)
    shift = wide.bit_length() - 1
    return (words.index_select(0, there >> shift) << shift) + (there & (wide - 1))
