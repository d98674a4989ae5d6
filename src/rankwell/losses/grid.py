"""Queries against items: the arguments of an embedding loss, checked and cleaned, and the pairs that they make."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import Dense, in_full_precision, reduce
from rankwell.similarity import SIMILARITIES
from rankwell.types import Mask, Reduction, Similarity, Values, Weights

__all__ = [
    "Grid",
    "check_similarity",
    "diagonal",
    "logsumexp_where",
    "mean_where",
    "open_embeddings",
    "open_grid",
    "same_class",
]


class Grid(NamedTuple):
    """Embeddings of queries ``[*b, q, d]`` and items ``[*b, m, d]``, and what is known of each of their pairs."""

    queries: Tensor
    """Zero where no pair of the query counts."""
    items: Tensor
    """Zero where no pair of the item counts."""
    where: Mask | None
    """``[*b, q, m]``, None where all pairs count."""
    right: Mask
    """``[*b, q, m]``: pairs of a query and a positive."""
    weights: Tensor
    """Broadcastable to the pairs, zero where they do not count."""

    @property
    def wrong(self) -> Mask:
        """Pairs of a query and a negative."""
        return ~self.right if self.where is None else self.where & ~self.right

    def scores(self, similarity: Similarity) -> Tensor:
        """Similarities of all pairs."""
        return SIMILARITIES[similarity](self.queries, self.items)

    def there(self, axis: int) -> Mask:
        """Which queries (axis -1) or items (axis -2) have a pair that counts."""
        pairs = torch.ones_like(self.right) if self.where is None else self.where
        return pairs.any(axis)

    def mean_right(self, x: Tensor) -> Tensor:
        """Weighted means over the positives of each query; 0 where there are none."""
        return mean_where(self.weights * x, self.right)

    def query_weights(self) -> Tensor:
        """Mean weight of each query's positives; of all its items where it has none."""
        if self.weights.ndim == 0:
            return self.weights
        weights = self.weights.expand(self.right.shape)
        any_right = self.right.any(-1)
        return torch.where(any_right, mean_where(weights, self.right), mean_where(weights, self.where))

    def reduce(self, values: Tensor, reduction: Reduction) -> Values:
        """Reduce values of queries; a query counts when one of its pairs does."""
        return reduce(values, None if self.where is None else self.where.any(-1), reduction)


def mean_where(x: Tensor, where: Mask | None) -> Tensor:
    """Means along the last axis over what counts; 0 where nothing does."""
    lists = Dense(x, where)
    return lists.sum(x) / lists.count().clamp(min=1)


def logsumexp_where(x: Tensor, where: Mask) -> Tensor:
    """Logs of the sums of exponentials over what counts; the dtype's minimum where nothing does."""
    if x.shape[-1] == 0:
        return x.sum(-1) + torch.finfo(x.dtype).min
    return Dense(x, where).logsumexp(x)


def open_grid(
    queries: Tensor, items: Tensor, *, positives: Tensor | None, where: Mask | None, weights: Weights | None
) -> Grid:
    """Check the arguments of an embedding loss, and put zeros at queries, items and weights that no pair needs."""
    queries, items, where = open_embeddings(queries, items, where)
    shape = (*queries.shape[:-1], items.shape[-2])
    right = diagonal(queries, items) if positives is None else positives
    if right.dtype != torch.bool or right.shape != shape:
        raise InputError(
            f"positives must be boolean [*batch, queries, items] {shape}: got {tuple(right.shape)} of {right.dtype}."
        )
    weights = queries.new_ones(()) if weights is None else _broadcasts(weights, "weights", shape).to(queries.dtype)
    if where is not None:
        right, weights = right & where, torch.where(where, weights, 0)
    return Grid(queries, items, where, right, weights)


def open_embeddings(queries: Tensor, items: Tensor, where: Mask | None) -> tuple[Tensor, Tensor, Mask | None]:
    """Check embeddings and mask; in full precision, with zeros at those that are masked everywhere, the mask expanded."""
    for name, x in (("queries", queries), ("items", items)):
        if not x.is_floating_point():
            raise InputError(f"{name} must be floating point: got {x.dtype}. Convert by .float().")
    if min(queries.ndim, items.ndim) < 2 or (*queries.shape[:-2], queries.shape[-1]) != (
        *items.shape[:-2],
        items.shape[-1],
    ):
        raise InputError(
            "queries must be [*batch, q, d] and items [*batch, m, d] with the same *batch and d:"
            f" got {tuple(queries.shape)} and {tuple(items.shape)}."
        )
    queries, items = in_full_precision(queries), in_full_precision(items)
    if where is not None:
        if where.dtype != torch.bool:
            raise InputError(f"where must be boolean, true where a pair counts: got {where.dtype}.")
        shape = (*queries.shape[:-1], items.shape[-2])
        where = _broadcasts(where, "where", shape).expand(shape)
        queries = torch.where(where.any(-1)[..., None], queries, 0)
        items = torch.where(where.any(-2)[..., None], items, 0)
    return queries, items, where


def diagonal(queries: Tensor, items: Tensor) -> Bool[Tensor, "*batch q m"]:
    """Item i is query i's own."""
    q, m = queries.shape[-2], items.shape[-2]
    if q > m:
        raise InputError(f"without positives, item i is query i's own: got {q} queries and only {m} items.")
    return torch.eye(q, m, dtype=torch.bool, device=queries.device).expand(*queries.shape[:-1], m)


def check_similarity(similarity: str) -> None:
    """Raise unless there is one of that name."""
    if similarity not in SIMILARITIES:
        raise InputError(f"similarity must be one of {', '.join(SIMILARITIES)}: got {similarity!r}.")


def same_class(labels: Shaped[Tensor, "*batch n"]) -> tuple[Bool[Tensor, "*batch n n"], Bool[Tensor, "*batch n n"]]:
    """``positives`` and ``where`` of a batch of embeddings with class labels, each of them both query and item.

    Two of one class are positives, and none is compared with itself. A class with one embedding in the batch gives a query
    without positives: each loss says what it does then. Such a query counts in the mean, most often as 0, where other
    libraries leave it out: a batch with many of them has a smaller loss and smaller gradients. To leave them out, pass
    ``where=where & positives.any(-1, keepdim=True)``.

    >>> import torch
    >>> from rankwell.losses import same_class, supervised_contrastive_loss
    >>> positives, where = same_class(torch.tensor([4, 4, 9]))
    >>> positives.int()
    tensor([[0, 1, 0],
            [1, 0, 0],
            [0, 0, 0]], dtype=torch.int32)
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> supervised_contrastive_loss(x, x, positives=positives, where=where, temperature=1.0)  # 2 log(1 + 1/e) / 3
    tensor(0.2088)
    """
    apart = ~torch.eye(labels.shape[-1], dtype=torch.bool, device=labels.device).expand(*labels.shape, labels.shape[-1])
    return (labels[..., :, None] == labels[..., None, :]) & apart, apart


def _broadcasts(tensor: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor, if it broadcasts to the pairs without making them more."""
    padded = (1,) * (len(shape) - tensor.ndim) + tuple(tensor.shape)
    if len(padded) != len(shape) or any(a not in (1, b) for a, b in zip(padded, shape, strict=True)):
        raise InputError(f"{name} must broadcast to the pairs {shape}: got {tuple(tensor.shape)}.")
    return tensor
