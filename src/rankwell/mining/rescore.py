"""Scores of pairs by a second model: one that reads query and document together, or another encoder."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.errors import ConfigError, require
from rankwell.mining.vectors import Vectors

__all__ = ["CrossScores", "EncoderScores", "load_cross_encoder"]

PAIRS = 8192
"""Pairs scored at a time, whatever the model's batches."""


class CrossScores:
    """By a cross-encoder of sentence-transformers: slow, and a better judge."""

    def __init__(self, model: Any, queries: Sequence[str], documents: Sequence[str], batch_size: int) -> None:
        self.model, self.queries, self.documents, self.batch_size = model, queries, documents, batch_size

    def __call__(self, queries: Int[Tensor, " n"], documents: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Scores of pairs."""
        scores = [torch.zeros(0)]
        for first in range(0, len(queries), PAIRS):
            rows, ids = (numbers[first : first + PAIRS].tolist() for numbers in (queries, documents))
            pairs = [(self.queries[row], self.documents[one]) for row, one in zip(rows, ids, strict=True)]
            given = self.model.predict(
                pairs, batch_size=self.batch_size, convert_to_tensor=True, show_progress_bar=False
            )
            if given.ndim != 1:
                raise ConfigError(
                    f"a model that rescores must give one score a pair: this gives {given.shape[-1]}. Choose a reranker."
                )
            scores.append(given.float().cpu())
        return torch.cat(scores)


class EncoderScores:
    """By the products of a second encoder's vectors."""

    def __init__(self, queries: Vectors, documents: Vectors) -> None:
        self.queries, self.documents = queries, documents

    def __call__(self, queries: Int[Tensor, " n"], documents: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Scores of pairs."""
        scores = [torch.zeros(0)]
        for first in range(0, len(queries), PAIRS):
            here = slice(first, first + PAIRS)
            scores.append((self.queries.take(queries[here]) * self.documents.take(documents[here])).sum(1).cpu())
        return torch.cat(scores)


def load_cross_encoder(name: str, *, download: bool = False) -> Any:
    """A cross-encoder of sentence-transformers, by name or folder. Nothing is downloaded unless ``download`` says so."""
    library = require("sentence_transformers", "text")
    try:
        return library.CrossEncoder(name, local_files_only=not download)
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        advice = "Check name and connection" if download else "Give a folder, or allow the download by --download"
        raise ConfigError(f"cross-encoder {name!r} cannot be loaded: {said}. {advice}.") from error
