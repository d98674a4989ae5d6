"""Work on a few numbers of many: where they are, their order, and products with a matrix that is 0 elsewhere."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

__all__ = ["few_nonzero", "few_products", "true_places"]


def true_places(mask: Bool[Tensor, "*n"]) -> Int[Tensor, " k"]:
    """Flat places of what is true, ascending. On a processor by numpy, in a fraction of the time of torch."""
    if mask.device.type != "cpu":
        return mask.nonzero().squeeze(1)
    return torch.from_numpy(np.flatnonzero(mask.numpy()))


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


def few_products(
    places: Int[Tensor, " k"],
    values: Float[Tensor, " k"],
    left: Float[Tensor, "b d"],
    right: Float[Tensor, "n d"],
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "n d"]]:
    """A matrix ``[b, n]`` that has values at these flat places, ascending, and is 0 elsewhere: it times ``right``, and its
    transpose times ``left``. Time O(k d), and a sort of k numbers.

    >>> few_products(torch.tensor([1, 2]), torch.tensor([3.0, 5.0]), torch.eye(2), torch.eye(2))
    (tensor([[0., 3.],
            [5., 0.]]), tensor([[0., 5.],
            [3., 0.]]))
    """
    n = len(right)
    rows, columns = places // n, places % n
    if n <= 1 << 16 and columns.device.type == "cpu":  # a radix sort: a fifth of the time
        order = torch.from_numpy(np.argsort(columns.numpy().astype(np.uint16), kind="stable"))
    else:
        order = columns.argsort(stable=True)
    by_column, of_rows = columns.index_select(0, order), rows.index_select(0, order)
    return (
        _sums(rows, columns, right, values, len(left)),
        _sums(by_column, of_rows, left, values.index_select(0, order), n),
    )


def _sums(owners: Tensor, ids: Tensor, vectors: Tensor, weights: Tensor, count: int) -> Tensor:
    """Weighted sums ``[count, d]`` of the vectors of each owner; owners ascend."""
    starts = torch.searchsorted(owners, torch.arange(count, device=owners.device))
    return functional.embedding_bag(ids, vectors, starts, mode="sum", per_sample_weights=weights)
