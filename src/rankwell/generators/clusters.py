"""Two-level residual clusters of items that are seen in several ways."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.lists import check_count
from rankwell.similarity import normalise

__all__ = ["Clusters", "assign", "k_means", "residual_clusters"]

CENTRES, CHUNK = 43, 1 << 22
"""Keeps the random numbers of the first centres apart; distances made at once."""


class Clusters(NamedTuple):
    """Of every item the cluster at both levels, and how far the first level's are from each other."""

    first: Int[Tensor, " m"]
    second: Int[Tensor, " m"]
    distances: Float[Tensor, "c c"]


def residual_clusters(
    views: Sequence[Float[Tensor, "m _"]], sizes: tuple[int, int], *, seed: int, iterations: int = 10
) -> Clusters:
    """Cluster the items by all views together, then what the centres leave of them.

    Each view's vectors get length one and stand side by side. The first level's clusters are k-means of that; the second
    level's are k-means, one for all, of the differences from the first level's centres: residual quantisation. Items in the
    same of both are alike in all views. Time O(iterations · m · v · clusters), memory O(m v).

    Args:
        views: matrices of one row an item.
        sizes: clusters of each level at most; never more than there are items.
        seed: of the first centres.
        iterations: of k-means, at most.

    Raises:
        InputError: if views are not finite matrices of one row an item, or a size is below 1.

    >>> view = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> first, second, distances = residual_clusters([view], (2, 2), seed=0)
    >>> bool(first[0] == first[1] != first[2] == first[3]), distances.shape
    (True, torch.Size([2, 2]))
    """
    rows = len(views[0]) if views else 0
    if not rows or any(view.ndim != 2 or len(view) != rows or not view.isfinite().all() for view in views):
        raise InputError(
            f"views must be finite matrices of one row an item: got {[tuple(view.shape) for view in views]}."
        )
    check_count(iterations, "iterations")
    for size in sizes:
        check_count(size, "clusters")
    fused = torch.cat([normalise(view.float()) for view in views], 1)
    centres = k_means(fused, min(sizes[0], rows), seed=seed, iterations=iterations)
    first = assign(fused, centres)
    left = fused - centres[first]
    second = assign(left, k_means(left, min(sizes[1], rows), seed=seed + 1, iterations=iterations))
    return Clusters(first, second, torch.cdist(centres, centres))


def k_means(vectors: Float[Tensor, "m v"], k: int, *, seed: int, iterations: int) -> Float[Tensor, "k v"]:
    """Centres by Lloyd's iterations from k vectors that are drawn; a centre that loses all its vectors stays where it is.

    >>> k_means(torch.tensor([[0.0], [2.0], [10.0], [12.0]]), 2, seed=0, iterations=10).sort(0).values.squeeze(1)
    tensor([ 1., 11.])
    """
    start = torch.randperm(len(vectors), generator=keyed.generator(seed, CENTRES))[:k]
    centres = vectors[start.to(vectors.device)]
    for _ in range(iterations):
        nearest = assign(vectors, centres)
        counts = torch.zeros(k, device=vectors.device).index_add_(
            0, nearest, torch.ones(len(vectors), device=vectors.device)
        )
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        moved = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
        if moved.equal(centres):
            break
        centres = moved
    return centres


def assign(vectors: Float[Tensor, "m v"], centres: Float[Tensor, "k v"]) -> Int[Tensor, " m"]:
    """The nearest centre of each vector, in chunks.

    >>> assign(torch.tensor([[1.0], [8.0]]), torch.tensor([[9.0], [0.0]]))
    tensor([1, 0])
    """
    lengths = centres.square().sum(1)
    chunks = torch.split(vectors, max(1, CHUNK // len(centres)))
    return torch.cat([torch.addmm(lengths, chunk, centres.T, alpha=-2).argmin(1) for chunk in chunks])
