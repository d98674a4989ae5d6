"""What another model says of negatives: BM25 or a frozen encoder, for losses that weigh negatives by it."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.errors import InputError
from rankwell.text.bm25 import BM25
from rankwell.types import Contrast, Ragged

__all__ = ["Between", "Likeness", "Says", "encoder_likeness", "word_likeness"]

Between: TypeAlias = Literal["query_document", "queries", "documents"]
"""What is compared: a query with the negative, with the query that the negative answers, or its positive with the negative."""

Says: TypeAlias = Callable[[Int[Tensor, " b"], Int[Tensor, "..."]], Float[Tensor, "b n"]]
"""Scores of each of b texts by code with texts by code, ``[n]`` for all of them or ``[b, n]``."""


class Likeness:
    """How like a row's negatives are to what it looks for, as another model sees it: ``similarities`` of Soft-InfoNCE.

    :meth:`among` takes codes of a batch's queries, their positives and the negatives, ``[n]`` shared by the rows or ``[b, n]``,
    and gives ``[b, n]`` numbers without gradient. Called, it does so for what an objective puts before its loss. Between
    ``queries``, a negative stands for the first query that it answers, as in a batch of pairs; one that answers none gets 0.
    Built by :func:`word_likeness` or :func:`encoder_likeness`.

    Source: :cite:`li2023`. Its code compares queries with queries by BM25 and by SimCSE, and queries with codes by a trained
    model.
    """

    def __init__(self, says: Says, between: Between, positives: Ragged, num_documents: int) -> None:
        self.says, self.between = says, between
        self._query_of = _first_query(positives, num_documents) if between == "queries" else None

    def __call__(self, seen: Contrast) -> Float[Tensor, "b n"]:
        """Similarities of a step's negatives; a row with several positives is compared by its own one, the first."""
        if seen.ids is None:
            raise InputError("similarities are of documents: these negatives are none. Leave the generator out.")
        return self.among(seen.users, seen.positives if seen.positives.ndim == 1 else seen.positives[:, 0], seen.ids)

    def among(
        self, queries: Int[Tensor, " b"], positives: Int[Tensor, " b"], negatives: Int[Tensor, "..."]
    ) -> Float[Tensor, "b n"]:
        """Similarities of negatives."""
        asked = positives if self.between == "documents" else queries
        if self._query_of is None:
            return self.says(asked.cpu(), negatives.cpu()).to(queries.device)
        stand_in = self._query_of[negatives.cpu()]
        said = self.says(asked.cpu(), stand_in.clamp(min=0))
        return torch.where(stand_in >= 0, said, 0).to(queries.device)


def word_likeness(
    queries: Sequence[str], documents: Sequence[str], positives: Ragged, *, between: Between = "queries"
) -> Likeness:
    """By :class:`~rankwell.text.bm25.BM25` over all the texts that are compared with, not over those of a batch.

    >>> positives = Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 1]))
    >>> like = word_likeness(["sort a list", "sort a table"], ["sorted(x)", "t.sort()"], positives)
    >>> bool(like.among(torch.tensor([0]), torch.tensor([0]), torch.tensor([1])) > 0)  # both sort
    True
    """
    index = BM25(queries if between == "queries" else documents)
    asking = documents if between == "documents" else queries

    def says(asked: Tensor, told: Tensor) -> Tensor:
        told = told.expand(len(asked), -1)
        rows = [index.scores(asking[code])[row] for code, row in zip(asked.tolist(), told, strict=True)]
        return torch.stack(rows) if rows else torch.zeros(told.shape)

    return Likeness(says, between, positives, len(documents))


def encoder_likeness(
    queries: Float[Tensor, "q d"],
    documents: Float[Tensor, "n d"],
    positives: Ragged,
    *,
    between: Between = "query_document",
) -> Likeness:
    """By products of vectors that a frozen encoder has made once of all texts: cosines, where these have length one.

    Raises :class:`InputError` where the vectors have different sizes.

    >>> like = encoder_likeness(torch.eye(2), torch.eye(2), Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 1])))
    >>> like.among(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([0, 1]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    if queries.shape[1:] != documents.shape[1:]:
        raise InputError(
            f"queries and documents must have vectors of one size: got {tuple(queries.shape)}, {tuple(documents.shape)}."
        )
    asking, telling = (
        documents if between == "documents" else queries,
        queries if between == "queries" else documents,
    )

    def says(asked: Tensor, told: Tensor) -> Tensor:
        if told.ndim == 1:
            return asking[asked] @ telling[told].T
        return (asking[asked][:, None] * telling[told]).sum(-1)

    return Likeness(says, between, positives, len(documents))


def _first_query(positives: Ragged, num_documents: int) -> Int[Tensor, " n"]:
    """The lowest query that each document answers, or -1."""
    rows = torch.repeat_interleave(positives.offsets.diff())
    found = torch.full((num_documents,), len(positives.offsets))
    found.scatter_reduce_(0, positives.values, rows, "amin")
    return torch.where(found < len(positives.offsets), found, -1)
