"""The styles are one algebra: what makes a contrast or an embedding loss of a list loss."""

# mypy: allow-untyped-calls

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from rankwell.errors import ConfigError
from rankwell.lists import Dense, Rows, check_positive, open_rows
from rankwell.losses.grid import check_similarity, open_grid
from rankwell.losses.registry import ContrastLoss, EmbeddingLoss, Items, Neg, Pos, Positives, Queries
from rankwell.registry import Entry, Parameter, Search
from rankwell.types import Mask, Reduction, Similarity, Weights

__all__ = ["as_contrast", "contrast", "in_batch"]

FAR = 1e4
"""How far below all others, in temperatures, a negative of minus infinity is put: to a list loss it would be an error."""


def contrast(list_loss: Callable[..., Tensor], *, temperature: float = 1.0) -> ContrastLoss:
    """The list loss of positives and negatives in one list, labelled 1 and 0, over scores divided by ``temperature``.

    ``contrast(logistic_loss)`` is BPR, ``contrast(softmax_loss)`` the sampled softmax. Own parameters pass
    through in the call. A negative weighs the mean of its row's valid positives: that matters
    only to losses with a term for each item. A row without a valid positive gives 0, as in every contrast loss.
    A negative of minus infinity counts as one far below all others.

    >>> from rankwell.losses import softmax_loss
    >>> contrast(softmax_loss)(torch.tensor([2.0]), torch.tensor([[1.0, 3.0]]))  # log(1 + 1/e + e)
    tensor(1.4076)
    """
    check_positive(temperature, "temperature")

    def loss(
        pos: Pos,
        neg: Neg,
        *,
        pos_where: Mask | None = None,
        where: Mask | None = None,
        weights: Weights | None = None,
        reduction: Reduction = "mean",
        **own: Any,
    ) -> Tensor:
        rows = _concatenated(pos, neg, pos_where, where, weights, FAR * temperature)
        scores = rows.pop("scores") / temperature
        return list_loss(scores, **rows, reduction=reduction, **own)

    return _named(loss, "contrast", list_loss)


def _concatenated(
    pos: Pos, neg: Neg, pos_where: Mask | None, where: Mask | None, weights: Weights | None, far: float
) -> dict[str, Any]:
    """A list loss's arguments: positives first, then negatives."""
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    rows = rows._replace(given_neg=_finite(rows, far))
    valid = None
    if rows.pos_where is not None or rows.where is not None:
        left, right = (
            torch.ones_like(x, dtype=torch.bool) if mask is None else mask
            for x, mask in ((rows.pos, rows.pos_where), (rows.given_neg, rows.where))
        )
        valid = torch.cat([left, right & left.any(-1, keepdim=True)], -1)
    if weights is not None:
        of_pos = rows.weights.expand_as(rows.pos)
        of_neg = Dense(rows.pos, rows.pos_where).mean(of_pos)[..., None]
        weights = torch.cat([of_pos, of_neg.expand_as(rows.given_neg)], -1)
    labels = torch.cat([torch.ones_like(rows.pos), torch.zeros_like(rows.given_neg)], -1)
    return {"scores": torch.cat([rows.pos, rows.given_neg], -1), "labels": labels, "where": valid, "weights": weights}


def _finite(rows: Rows, far: float) -> Tensor:
    """The negatives, those of minus infinity so far below all other scores of their row."""
    there = rows.given_neg > -torch.inf
    others = torch.where(there if rows.where is None else there & rows.where, rows.given_neg, torch.inf)
    low = torch.cat([rows.pos, others], -1).detach().amin(-1, keepdim=True)
    return torch.where(there, rows.given_neg, low - low.abs() - far)


def in_batch(
    list_loss: Callable[..., Tensor], *, similarity: Similarity = "cosine", temperature: float = 1.0
) -> EmbeddingLoss:
    """The list loss of each query over all items: scores are similarities over ``temperature``, labels the positives, 1 or 0.

    ``in_batch(softmax_loss, temperature=t)`` is InfoNCE. Own parameters pass through in the call. An item or a query
    that is masked everywhere is replaced by zeros.

    >>> from rankwell.losses import softmax_loss
    >>> in_batch(softmax_loss)(torch.eye(2), torch.eye(2))  # log(1 + 1/e)
    tensor(0.3133)
    """
    check_similarity(similarity)
    check_positive(temperature, "temperature")

    def loss(
        queries: Queries,
        items: Items,
        *,
        positives: Positives | None = None,
        where: Mask | None = None,
        weights: Weights | None = None,
        reduction: Reduction = "mean",
        **own: Any,
    ) -> Tensor:
        grid = open_grid(queries, items, positives=positives, where=where, weights=weights)
        scores = grid.scores(similarity) / temperature
        weights = None if weights is None else grid.weights
        return list_loss(scores, grid.right, where=grid.where, weights=weights, reduction=reduction, **own)

    return _named(loss, "in_batch", list_loss)


def as_contrast(entry: Entry[Callable[..., Tensor]]) -> Entry[Callable[..., Tensor]]:
    """The entry as a contrast loss: a contrast loss itself, a list loss by :func:`contrast`.

    A list loss gains the parameter ``temperature``, unless it has one of its own.

    >>> from rankwell.losses import LOSSES
    >>> list(as_contrast(LOSSES["hinge"]).parameters)
    ['margin', 'temperature']
    """
    if entry.kind == "contrast":
        return entry
    if entry.kind != "list":
        raise ConfigError(f"loss {entry.name!r} is of kind {entry.kind!r}: only list and contrast losses take rows.")
    if "temperature" in entry.parameters:
        return replace(entry, kind="contrast", function=contrast(entry.function))

    def loss(pos: Pos, neg: Neg, *, temperature: float = 1.0, **rest: Any) -> Tensor:
        return contrast(entry.function, temperature=temperature)(pos, neg, **rest)

    search = Search(0.01, 1.0, log=True)
    parameters = {**entry.parameters, "temperature": Parameter("temperature", Annotated[float, search], 1.0, search)}
    return replace(entry, kind="contrast", function=_named(loss, "contrast", entry.function), parameters=parameters)


def _named(loss: Callable[..., Tensor], style: str, inner: Callable[..., Any]) -> Callable[..., Tensor]:
    """Name and document a loss after the one that it is made of."""
    while isinstance(inner, partial):
        inner = inner.func
    name = getattr(inner, "__name__", type(inner).__name__)
    loss.__name__ = loss.__qualname__ = f"{style}_{name}"
    loss.__doc__ = f"``{style}({name})``. {inner.__doc__ or ''}"
    return loss
