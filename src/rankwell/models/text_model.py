"""What a model of texts must offer: tokens once, vectors of tokens as often as needed."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from rankwell.errors import ConfigError
from rankwell.lists import take_lists
from rankwell.types import Ragged, Similarity

__all__ = ["Side", "TextModel", "Tokens", "check_length", "encode_tokens"]

Side: TypeAlias = Literal["query", "document"]
"""What a text is: models may precede queries and documents by other prompts, or cut them at other lengths."""


class Tokens(NamedTuple):
    """Token ids of texts, and how many of the texts are longer than the model reads."""

    lists: Ragged
    cut: int


@runtime_checkable
class TextModel(Protocol):
    """A model of kind ``retrieval`` that turns texts into vectors; every implementation is also an ``nn.Module``.

    It is built from its own parameters alone, by ``initialise(seed=…)`` it gets its start, and all that it needs to encode is
    then in its ``state_dict``. ``tokens`` is a function of texts and parameters, not of weights, so that it runs once.
    """

    trainable: ClassVar[bool]
    dim: int
    """Entries of a vector."""
    similarity: Similarity
    """``cosine`` or ``dot``. Under the cosine the vectors that ``forward`` gives have length one."""
    micro_batch: int
    """Texts encoded at a time in training, with cached gradients; 0 for the whole batch."""
    tokens_key: tuple[object, ...]
    """What tokens depend on beside the text: models with equal ones share tokens."""

    def initialise(self, *, seed: int) -> None:
        """Set the weights to those before training."""
        ...

    def tokens(self, texts: Sequence[str], side: Side) -> Tokens:
        """Token ids of each text, cut at the model's length; at least one a text."""
        ...

    def __call__(self, tokens: Ragged, side: Side) -> Float[Tensor, "n d"]:
        """A vector a text. Dropout draws from torch's global generator, which the caller has seeded."""
        ...


@torch.no_grad()
def encode_tokens(
    model: Any, tokens: Ragged, side: Side, *, block: int = 64, progress: Any = None
) -> Float[Tensor, "n d"]:
    """Vectors of many texts without gradient, on the processor; texts of like length share a block, so that little is padded.

    ``progress`` is told how many are done, of how many. The model's mode stays as it is: call ``eval()`` for vectors without
    dropout.
    """
    lengths = tokens.offsets.diff()
    order = lengths.argsort(descending=True, stable=True)
    made = torch.empty(len(lengths), model.dim)
    for first in range(0, len(order), block):
        chosen = order[first : first + block]
        made[chosen] = model(take_lists(tokens, chosen), side).float().cpu()
        if progress:
            progress(first + len(chosen), len(order))
    return made


def check_length(max_length: int, longest: int | None = None, *, micro_batch: int = 0) -> None:
    """Raise :class:`ConfigError` for a length that no text fits, or that the model does not reach, and for parts below 0."""
    if micro_batch < 0:
        raise ConfigError(f"micro_batch must be at least 0, which encodes a batch at once: got {micro_batch}.")
    if max_length < 3:
        raise ConfigError(f"max_length must be at least 3 tokens: got {max_length}.")
    if longest is not None and max_length > longest:
        raise ConfigError(f"max_length must be at most the model's {longest} tokens: got {max_length}. Lower it.")
