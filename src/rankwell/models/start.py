"""The start of tables of vectors, a row a user and a row an item."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.models.registry import check_known
from rankwell.models.spectral import spectral_start
from rankwell.types import Ragged

__all__ = ["Init", "check_tables", "fill_tables"]

Init: TypeAlias = Literal["normal", "xavier", "spectral"]
INITS = ("normal", "xavier", "spectral")
COMPARED = ("cosine", "dot")

START = 2
"""Keeps the random numbers of the start apart from those drawn for other purposes with the same seed."""


def check_tables(dim: int, similarity: str, init: str, init_std: float) -> None:
    """Raise :class:`InputError` or :class:`UnknownName` for settings of tables that make no sense."""
    if dim < 1 or not init_std >= 0:
        raise InputError(f"dim must be at least 1, init_std at least 0: got dim {dim}, init_std {init_std}.")
    for what, name, known in (("similarity", similarity, COMPARED), ("init", init, INITS)):
        if name not in known:
            raise UnknownName(what, name, known)


@torch.no_grad()
def fill_tables(
    users: Tensor,
    items: Tensor,
    known: Ragged,
    *,
    init: Init,
    init_std: float,
    similarity: Literal["cosine", "dot"],
    seed: int,
) -> None:
    """Set vectors to their start, in place, after a check of the interactions.

    ``normal`` with standard deviation ``init_std``; ``xavier``, uniform (Glorot); or ``spectral``, the singular vectors of the
    degree-normalised interactions (:func:`~rankwell.models.spectral_start`).
    """
    check_known(known, len(users), len(items))
    if init == "spectral":
        start = spectral_start(known, len(items), users.shape[1], seed, similarity=similarity)
        users.copy_(start[0])
        items.copy_(start[1])
        return
    for number, table in enumerate((users, items)):
        # Drawn on the CPU, so that a seed means the same numbers on every device.
        drawn, generator = torch.empty(table.shape, dtype=table.dtype), keyed.generator(seed, number, START)
        if init == "normal":
            drawn.normal_(0, init_std, generator=generator)
        else:
            nn.init.xavier_uniform_(drawn, generator=generator)
        table.copy_(drawn)
