"""The registry of losses, and the contract of each kind: its arguments are documented here, once."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeAlias

from jaxtyping import Bool, Float
from torch import Tensor

from rankwell.registry import Registry
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Values, Weights

__all__ = [
    "LOSSES",
    "ContrastLoss",
    "EmbeddingLoss",
    "Items",
    "ListLoss",
    "Neg",
    "Pos",
    "Positives",
    "Queries",
    "contrast_loss",
    "embedding_loss",
    "list_loss",
]

Pos: TypeAlias = Float[Tensor, "..."]
"""Scores of positives: ``[*batch]``, or ``[*batch, m]`` for several."""

Neg: TypeAlias = Float[Tensor, "*batch n"]
"""Scores of negatives."""

Queries: TypeAlias = Float[Tensor, "*batch q d"]
Items: TypeAlias = Float[Tensor, "*batch m d"]
Positives: TypeAlias = Bool[Tensor, "*batch q m"]


class ListLoss(Protocol):
    """A loss of the scores and labels of whole lists."""

    def __call__(
        self,
        scores: Scores,
        labels: Labels,
        *,
        where: Mask | None = None,
        weights: Weights | None = None,
        offsets: Offsets | None = None,
        reduction: Reduction = "mean",
        **own: Any,
    ) -> Values:
        """One value a list, reduced.

        Args:
            scores: ``[*batch, list]``; flat ``[total]`` beside ``offsets``. Half precision is computed in float32.
            labels: relevance, of the same shape; higher is more relevant.
            where: true where an item is there. What is masked is as good as removed, NaN and inf included.
            weights: broadcast to ``scores``: one an item, or ``[*batch, 1]`` for one a list.
            offsets: ``[lists + 1]``, where each ragged list starts, and the total at the end.
            reduction: ``"none"``, one value a list; ``"sum"``; ``"mean"``, over the lists that have a valid item.

        Raises:
            InputError: if shapes do not fit, scores are not floating point or the mask not boolean, the offsets do not cut
                the scores, or the reduction is unknown.
        """
        ...


class ContrastLoss(Protocol):
    """A loss of the scores of positives against those of negatives."""

    def __call__(
        self,
        pos: Pos,
        neg: Neg,
        *,
        pos_where: Mask | None = None,
        where: Mask | None = None,
        weights: Weights | None = None,
        reduction: Reduction = "mean",
        **own: Any,
    ) -> Values:
        """One value a row, reduced.

        Args:
            pos: ``[*batch]``, or ``[*batch, m]`` for several positives a row.
            neg: ``[*batch, n]``.
            pos_where: true where a positive is there; broadcasts to ``pos``.
            where: true where a negative is there; broadcasts to ``neg``. A row without negatives keeps its other terms.
            weights: of the positives; broadcast to ``pos``. A term of the negatives alone is weighed by their mean.
            reduction: ``"none"``, one value a row; ``"sum"``; ``"mean"``, over the rows that have a valid positive.

        Raises:
            InputError: if shapes do not fit, scores are not floating point or masks not boolean, or the reduction is
                unknown.
        """
        ...


class EmbeddingLoss(Protocol):
    """A loss of embeddings: every query against every item."""

    def __call__(
        self,
        queries: Queries,
        items: Items,
        *,
        positives: Positives | None = None,
        where: Mask | None = None,
        weights: Weights | None = None,
        reduction: Reduction = "mean",
        **own: Any,
    ) -> Values:
        """One value a query, reduced.

        Args:
            queries: ``[*batch, q, d]``.
            items: ``[*batch, m, d]``.
            positives: ``[*batch, q, m]``, true where the item is right for the query; None for the diagonal.
            where: true where the pair counts, broadcastable to ``[*batch, q, m]``; leave out self-pairs here.
            weights: broadcast to ``[*batch, q, m]``; ``[*batch, q, 1]`` for one a query.
            reduction: ``"none"``, one value a query; ``"sum"``; ``"mean"``, over the queries that have a valid item.

        Raises:
            InputError: if shapes do not fit or an option is unknown.
        """
        ...


LOSSES: Registry[Callable[..., Tensor]] = Registry(
    "loss",
    {
        "list": ("scores", "labels", "where", "weights", "offsets", "reduction"),
        "contrast": ("pos", "neg", "pos_where", "where", "weights", "reduction"),
        "embedding": ("queries", "items", "positives", "where", "weights", "reduction"),
    },
    suffix="_loss",
)
"""Every loss by its name: the function's, less ``_loss``."""

list_loss = partial(LOSSES.register, "list")
contrast_loss = partial(LOSSES.register, "contrast")
embedding_loss = partial(LOSSES.register, "embedding")
