"""A pair of texts by the best match of each of the query's words."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.models.bag_of_words import BagOfWords
from rankwell.models.registry import MODELS
from rankwell.similarity import normalise
from rankwell.types import Ragged

__all__ = ["MaxSim"]

SCALE = 10.0
"""What cosines are multiplied by before training."""


@MODELS.register("rerank", name="max_sim", paper="khattab2020")
class MaxSim(nn.Module):
    r"""Each word of the query looks for the word of the document that is most like it.

    .. math:: s(q, d) = \frac{\gamma}{|q|} \sum_{i \in q} \max_{j \in d} \cos(e_i, e_j)

    Words are numbered by a hash, as in :class:`~rankwell.models.bag_of_words.BagOfWords`: no vocabulary, no download, seconds
    to train. At its random start it counts the query's words that the document has. The scale :math:`\gamma` is learned. Time
    and memory O(words of the query · words of the document) a pair.

    Args:
        dim: entries of a word's vector.
        buckets: rows of the table; words that share one are one word.
        max_length: words of a text that are read, from its start.
        micro_batch: pairs that a training step reads at a time, with cached gradients; 0 for all at once.

    Raises:
        ConfigError: if ``dim`` or ``buckets`` is below 1, or ``max_length`` below 3.

    >>> model = MaxSim(dim=64)
    >>> model.initialise(seed=0)
    >>> bool(model(["red pot"], ["a pot, red"]) > model(["red pot"], ["a pot, blue"]))
    True

    Source: :cite:`khattab2020`, the MaxSim of ColBERT; equation number unchecked. Differs from it: vectors of words instead of
    a transformer's, the mean over the query's words, and a learned scale.
    """

    trainable: ClassVar[bool] = True

    def __init__(self, *, dim: int = 32, buckets: int = 1 << 14, max_length: int = 128, micro_batch: int = 0) -> None:
        super().__init__()
        self.words = BagOfWords(dim=dim, buckets=buckets, max_length=max_length)
        self.micro_batch = micro_batch
        self.scale = nn.Parameter(torch.tensor(SCALE))

    def initialise(self, *, seed: int) -> None:
        """Random vectors."""
        self.words.initialise(seed=seed)
        with torch.no_grad():
            self.scale.fill_(SCALE)

    def forward(self, queries: Sequence[str], documents: Sequence[str]) -> Float[Tensor, " n"]:
        """A score a pair.

        Raises :class:`InputError` unless there are as many documents as queries, and at least one.
        """
        if len(queries) != len(documents) or not len(queries):
            raise InputError(
                f"queries and documents must be pairs, at least one: got {len(queries)} and {len(documents)}."
            )
        asked, of_query = self._padded(self.words.tokens(queries, "query").lists)
        told, of_document = self._padded(self.words.tokens(documents, "document").lists)
        likeness = (asked @ told.mT).masked_fill(~of_document[:, None], -torch.inf).amax(-1)
        return self.scale * likeness.masked_fill(~of_query, 0).sum(-1) / of_query.sum(-1)

    def cut(self, queries: Sequence[str], documents: Sequence[str]) -> int:
        """How many pairs have a text of more than ``max_length`` words."""
        return sum(
            self.words.tokens([query], "query").cut + self.words.tokens([document], "document").cut > 0
            for query, document in zip(queries, documents, strict=True)
        )

    def _padded(self, tokens: Ragged) -> tuple[Tensor, Tensor]:
        """Vectors of length one, and where there are words."""
        device = self.words.table.device
        lengths = tokens.offsets.diff().to(device)
        there = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
        ids = torch.zeros(there.shape, dtype=torch.int64, device=device)
        ids[there] = tokens.values.to(device)
        return normalise(self.words.table[ids]), there
