"""A text as the mean of its words' vectors."""

import re
import zlib
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import ConfigError
from rankwell.lists import offsets_from_sizes
from rankwell.models.registry import MODELS
from rankwell.models.text_model import Side, Tokens, check_length
from rankwell.similarity import normalise
from rankwell.types import Ragged, Similarity

__all__ = ["BagOfWords"]

START = 90
"""Keeps the random numbers of the start apart from others with the same seed."""

_WORD = re.compile(r"\w+")


@MODELS.register("retrieval", name="bag_of_words", paper="weinberger2009")
class BagOfWords(nn.Module):
    r"""A text is the mean of its words' vectors, of length one; words are numbered by a hash.

    .. math:: v = \frac{\bar e}{\lVert \bar e \rVert}, \qquad \bar e = \frac{1}{n} \sum_{t=1}^{n} E_{h(w_t) \bmod m}

    Needs no vocabulary and no download, reads any alphabet, and trains in seconds. At its random start two texts are as
    like as they share words; training finds which other words mean the same. With ``pieces`` the three-letter pieces of words
    are words as well, so that forms of one word start alike. Time O(words · dim) a text, memory O(buckets · dim).

    Args:
        dim: entries of a vector.
        buckets: m, the rows of the table; words that share one are one word.
        max_length: words of a text that are read, from its start.
        pieces: whether the pieces of words are read, too.
        dropout: share of a text's entries that training leaves out.
        micro_batch: texts that a training step encodes at a time, with cached gradients; 0 for all.

    Raises:
        ConfigError: if ``dim`` or ``buckets`` is below 1, ``max_length`` below 3, or ``dropout`` not in [0, 1).

    >>> model = BagOfWords(dim=8)
    >>> model.initialise(seed=0)
    >>> vectors = model(model.tokens(["Red pots", "pots, red"], "query").lists, "query")
    >>> bool((vectors[0] - vectors[1]).abs().max() < 1e-6)
    True

    Source: :cite:`weinberger2009`, feature hashing; equation number unchecked. Differs from it: no hashed signs, and vectors
    that are learned.
    """

    trainable: ClassVar[bool] = True
    similarity: Similarity = "cosine"

    def __init__(
        self,
        *,
        dim: int = 64,
        buckets: int = 1 << 14,
        max_length: int = 128,
        pieces: bool = False,
        dropout: float = 0.0,
        micro_batch: int = 0,
    ) -> None:
        super().__init__()
        check_length(max_length, micro_batch=micro_batch)
        if dim < 1 or buckets < 1 or not 0 <= dropout < 1:
            raise ConfigError(
                f"dim and buckets must be at least 1 and dropout in [0, 1): got {dim}, {buckets} and {dropout}."
            )
        self.dim, self.max_length, self.pieces, self.micro_batch = dim, max_length, pieces, micro_batch
        self.tokens_key: tuple[object, ...] = ("bag_of_words", buckets, max_length, pieces)
        self.table = nn.Parameter(torch.empty(buckets, dim))
        self.dropout = nn.Dropout(dropout)

    def initialise(self, *, seed: int) -> None:
        """Random vectors, of length one on average."""
        with torch.no_grad():
            self.table.normal_(0, self.dim**-0.5, generator=keyed.generator(seed, START, device=self.table.device))

    def tokens(self, texts: Sequence[str], side: Side) -> Tokens:  # noqa: ARG002
        """Buckets of words; a text without a word has the bucket of the empty one."""
        split = [_WORD.findall(text.lower()) for text in texts]
        numbers = [
            [self._bucket(piece) for word in words[: self.max_length] for piece in self._parts(word)] for words in split
        ]
        numbers = [each or [self._bucket("")] for each in numbers]
        offsets = offsets_from_sizes(torch.tensor([len(each) for each in numbers], dtype=torch.int64))
        lists = Ragged(offsets, torch.tensor([number for each in numbers for number in each], dtype=torch.int64))
        return Tokens(lists, sum(len(words) > self.max_length for words in split))

    def forward(self, tokens: Ragged, side: Side) -> Float[Tensor, "n d"]:  # noqa: ARG002
        """A vector a text."""
        values, offsets = (part.to(self.table.device) for part in (tokens.values, tokens.offsets))
        means = nn.functional.embedding_bag(values, self.table, offsets, mode="mean", include_last_offset=True)
        vectors: Tensor = normalise(self.dropout(means))
        return vectors

    def _parts(self, word: str) -> list[str]:
        if not self.pieces:
            return [word]
        fenced = f"<{word}>"
        return [word, *(fenced[at : at + 3] for at in range(len(fenced) - 2))]

    def _bucket(self, word: str) -> int:
        return zlib.crc32(word.encode("utf-8", "surrogatepass")) % len(self.table)
