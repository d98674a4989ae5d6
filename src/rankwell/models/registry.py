"""What a model must offer, and the models by name.

A model is built as ``Model(num_users, num_items, *, own parameters)``, gets its state from the training interactions by
``initialise(known, seed=…)``, and scores the catalogue by ``score_all(queries, out=None)``. All that it needs to score is in
its ``state_dict``: loading that into a model freshly built with the same arguments restores it, without ``initialise``.
"""

from typing import ClassVar, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.registry import Registry
from rankwell.types import Ragged

__all__ = ["MODELS", "Model", "check_known"]


class Model(Protocol):
    """What training, evaluation and serving ask of a model; every implementation is also an ``nn.Module``."""

    trainable: ClassVar[bool]
    """False where ``initialise`` is the whole fit."""
    num_users: int
    num_items: int

    def initialise(self, known: Ragged, *, seed: int) -> None:
        """Set the state from the training interactions: item codes, ascending within a user."""
        ...

    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each user, written to ``out`` if given; its rows may be strided."""
        ...


MODELS: Registry[type[nn.Module]] = Registry(
    "model",
    {
        "interactions": ("num_users", "num_items"),
        "examples": ("shape",),
        "lists": ("num_features",),
        "sequences": ("num_items",),
        "retrieval": (),
        "rerank": (),
        "labels": ("num_numbers", "num_categories", "num_labels"),
    },
)


def check_known(known: Ragged, num_users: int, num_items: int) -> None:
    """Raise :class:`InputError` unless the lists are one a user, of item codes below ``num_items``.

    >>> check_known(Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 4, 1])), num_users=2, num_items=4)
    Traceback (most recent call last):
    rankwell.errors.InputError: items of known must be codes from 0 to 3: got 0 to 4.
    """
    offsets, items = known
    if offsets.ndim != 1 or offsets.numel() != num_users + 1 or offsets.is_floating_point():
        raise InputError(
            f"known must have num_users + 1 = {num_users + 1} integer offsets: got {offsets.dtype} of shape"
            f" {tuple(offsets.shape)}."
        )
    if items.ndim != 1 or items.is_floating_point() or items.dtype == torch.bool:
        raise InputError(f"items of known must be integers [n]: got {items.dtype} of shape {tuple(items.shape)}.")
    if int(offsets[0]) != 0 or int(offsets[-1]) != items.numel() or bool((offsets.diff() < 0).any()):
        raise InputError(
            f"offsets of known must start at 0, not fall, and end at the number of items, {items.numel()}."
        )
    if items.numel() and (int(items.min()) < 0 or int(items.max()) >= num_items):
        raise InputError(
            f"items of known must be codes from 0 to {num_items - 1}: got {int(items.min())} to {int(items.max())}."
        )
