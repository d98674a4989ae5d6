"""A table of described negatives: text vectors with the ids that they are for, as one file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.atomic import write_atomically
from rankwell.errors import DataError, InputError, require
from rankwell.generators import Described

__all__ = ["Table"]

HEADER = "rankwell.described"
"""The header's entry for ids and facts."""


@dataclass(frozen=True)
class Table:
    """Vectors ``[m, k, t]`` of descriptions: of users or, with ``items``, of pairs of user and item; ids are texts.

    ``catalogue`` and ``item_vectors`` ``[items, t]`` are all items with vectors of their own texts by the same encoder.
    """

    vectors: Float[Tensor, "m k t"]
    users: Sequence[str]
    items: Sequence[str] | None = None
    catalogue: Sequence[str] = ()
    item_vectors: Float[Tensor, "items t"] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """What made it: encoder, writer, template."""

    def __post_init__(self) -> None:
        counts = {len(self.vectors), len(self.users), len(self.users if self.items is None else self.items)}
        of_items = len(self.catalogue), 0 if self.item_vectors is None else len(self.item_vectors)
        if len(counts) > 1 or of_items[0] != of_items[1]:
            raise InputError(
                f"a table must have an id for each vector: got {len(self.vectors)} descriptions of {len(self.users)} users,"
                f" and {of_items[1]} item vectors of {of_items[0]} items."
            )

    def save(self, path: Path) -> None:
        """Write the table as a safetensors file, atomically."""
        safetensors = require("safetensors.torch", "text")
        tensors = {"vectors": self.vectors.contiguous()}
        if self.item_vectors is not None:
            tensors["item_vectors"] = self.item_vectors.contiguous()
        ids = {"users": list(self.users), "items": self.items and list(self.items), "catalogue": list(self.catalogue)}
        header = {HEADER: json.dumps({**ids, "facts": self.facts})}
        with write_atomically(path, require("safetensors", "text").SafetensorError) as temporary:
            safetensors.save_file(tensors, temporary, metadata=header)

    @classmethod
    def load(cls, path: Path) -> "Table":
        """Read what :meth:`save` wrote; :class:`DataError` for what is no such file."""
        safetensors = require("safetensors", "text")
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                said = json.loads((file.metadata() or {})[HEADER])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dictionary)
            ids = (said["users"], said["items"], said["catalogue"])
            return cls(tensors["vectors"], *ids, tensors.get("item_vectors"), said["facts"])
        except FileNotFoundError as error:
            raise DataError(f"there is no table {path}. Make it by 'rankwell describe'.") from error
        except (safetensors.SafetensorError, OSError, ValueError, LookupError, TypeError) as error:
            raise DataError(
                f"{path} is no table of described negatives: {error}. Make it by 'rankwell describe'."
            ) from error

    def aligned(
        self,
        user_ids: Sequence[Any],
        item_ids: Sequence[Any],
        users: Int[Tensor, " n"],
        items: Int[Tensor, " n"],
    ) -> Described:
        """The table for the rows of data: pairs ``users``, ``items`` of codes, and the ids that codes stand for.

        Rows that it does not describe get none; a table that describes no row at all is a :class:`DataError`.
        """
        of_user = _codes(self.users, user_ids)
        keys, wanted = of_user, users
        if self.items is not None:
            of_item = _codes(self.items, item_ids)
            keys = torch.where((of_user < 0) | (of_item < 0), -1, of_user * len(item_ids) + of_item)
            wanted = users * len(item_ids) + items
        rows = _found(keys, wanted)
        if len(rows) and not bool((rows >= 0).any()):
            raise DataError(
                "the table describes no row of the data: its users are others. Make it of the same data, with the same"
                " options of data and seed."
            )
        return Described(self.vectors, rows, self._of_items(item_ids))

    def _of_items(self, item_ids: Sequence[Any]) -> Float[Tensor, "items t"] | None:
        """Vectors of items in the order of the data's codes; None where one is missing."""
        if self.item_vectors is None:
            return None
        places = {name: place for place, name in enumerate(self.catalogue)}
        order = [places.get(str(name), -1) for name in item_ids]
        return None if -1 in order else self.item_vectors[torch.tensor(order, dtype=torch.int64)]


def _codes(ids: Sequence[str], vocabulary: Sequence[Any]) -> Int[Tensor, " m"]:
    """The place of each id in a vocabulary, −1 where it is not in there."""
    places = {str(name): place for place, name in enumerate(vocabulary)}
    return torch.tensor([places.get(name, -1) for name in ids], dtype=torch.int64)


def _found(keys: Int[Tensor, " m"], wanted: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Where in ``keys`` each wanted one is, −1 where it is not."""
    if not len(keys):
        return torch.full_like(wanted, -1)
    order = keys.argsort()
    places = torch.searchsorted(keys[order], wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[order][places] == wanted, order[places], -1)
