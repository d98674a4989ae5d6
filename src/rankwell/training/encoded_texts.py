"""Texts behind a model of texts, as the shared objectives ask for them: by codes of queries and documents."""

# mypy: allow-untyped-calls

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import ConfigError
from rankwell.lists import take_lists
from rankwell.models.text_model import Side
from rankwell.similarity import by_row
from rankwell.training.cached_gradients import in_chunks
from rankwell.types import Ragged, Similarity, Vectors

__all__ = ["EncodedTexts"]

QUERIES, DOCUMENTS = 0, 1
"""Keep the dropout of the two sides apart."""


class EncodedTexts(nn.Module):
    """Scores and vectors of a training step, by codes: queries in the place of users, documents in that of items.

    So contrast and embedding objectives, samplers, miners and memories train a model of texts as any other model of
    vectors. Each text of a step is encoded once, however often it stands in it: as a row's positive, in the pool of the
    batch, as a mined negative.

    ``micro_batch`` texts at a time are encoded, texts of like length together, with cached gradients
    (:func:`~rankwell.training.cached_gradients.in_chunks`). 0 encodes all at once and keeps the graph.

    It is no :class:`~rankwell.types.Scorer`: samplers that ask the model would have it encode the corpus at every step.

    Raises :class:`ConfigError` for a ``micro_batch`` below 0.
    """

    def __init__(self, model: Any, queries: Ragged, documents: Ragged, *, micro_batch: int = 0) -> None:
        super().__init__()
        if micro_batch < 0:
            raise ConfigError(f"micro_batch must be at least 0, which encodes a batch at once: got {micro_batch}.")
        self.model, self.micro_batch = model, micro_batch
        self.dim: int = model.dim
        self.similarity: Similarity = model.similarity
        self.num_items = len(documents.offsets) - 1
        self._tokens: dict[Side, Ragged] = {"query": queries, "document": documents}

    def encode(
        self, codes: Int[Tensor, " n"], side: Side, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n d"]:
        """Vectors of these texts, with gradient; each different one is encoded once."""
        different, places = codes.unique(return_inverse=True)
        if not len(different):
            nothing: Tensor = next(self.model.parameters()).new_zeros(0, self.dim)
            return nothing
        tokens = self._tokens[side]
        size = self.micro_batch or len(different)
        by_length = torch.arange(len(different))
        if self.micro_batch:
            by_length = tokens.offsets.diff()[different].argsort(stable=True)
        chunks = different[by_length].split(size)
        key = keyed.mix(0 if generator is None else generator.initial_seed(), QUERIES if side == "query" else DOCUMENTS)
        vectors = in_chunks(
            lambda chunk: self.model(take_lists(tokens, chunks[chunk]), side),
            len(chunks),
            key=key,
            cached=self.micro_batch > 0,
            device=next(self.model.parameters()).device,
        )
        if self.micro_batch:
            vectors = vectors[by_length.argsort()]
        return vectors[places]

    def contrast_vectors(
        self,
        queries: Int[Tensor, " b"],
        positives: Int[Tensor, "b *m"],
        negatives: Int[Tensor, "*b n"],
        *,
        generator: torch.Generator | None = None,
    ) -> Vectors:
        """The vectors of a step; see :class:`~rankwell.types.VectorModel`."""
        wanted = torch.cat([positives.flatten(), negatives.flatten()])
        found = self.encode(wanted, "document", generator=generator)
        pos, neg = found.split([positives.numel(), negatives.numel()])
        return Vectors(
            self.encode(queries, "query", generator=generator),
            pos.view(*positives.shape, self.dim),
            neg.view(*negatives.shape, self.dim),
        )

    def contrast_scores(
        self,
        queries: Int[Tensor, " b"],
        positives: Int[Tensor, "b *m"],
        negatives: Int[Tensor, "*b n"],
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Scores of positives ``[b]`` or ``[b, m]``, and of negatives ``[b, n]``, their own or a pool's."""
        seen = self.contrast_vectors(queries, positives, negatives, generator=generator)
        if positives.ndim == 1:
            return (seen.queries * seen.positives).sum(-1), by_row(seen.queries, seen.negatives)
        return by_row(seen.queries, seen.positives), by_row(seen.queries, seen.negatives)

    def pair_scores(
        self, queries: Int[Tensor, " n"], documents: Int[Tensor, " n"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, " n"]:
        """Scores of pairs."""
        right = self.encode(documents, "document", generator=generator)
        return (self.encode(queries, "query", generator=generator) * right).sum(-1)
