"""What models share that score a user by what the user knows."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from rankwell.lists import take_lists
from rankwell.models.registry import check_known
from rankwell.models.spectral import compressed, normalised_interactions
from rankwell.types import Ragged

__all__ = ["HistoryModel", "co_occurrences", "mean_of_items"]

BLOCK_VALUES = 1 << 24
"""Counts held at a time."""


class HistoryModel(nn.Module):
    """Keeps the users' histories in its state, and scores any history: of users that training did not see, too.

    A subclass says ``score_history``, and ``_rebuild`` where something follows from the histories that is not in the state.
    """

    trainable: ClassVar[bool] = False
    history_offsets: Tensor
    history_items: Tensor

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__()
        self.num_users, self.num_items = num_users, num_items
        self.register_buffer("history_offsets", torch.zeros(num_users + 1, dtype=torch.int64))
        self.register_buffer("history_items", torch.zeros(0, dtype=torch.int64))

    def remember(self, known: Ragged) -> None:
        """Keep the histories, after a check."""
        check_known(known, self.num_users, self.num_items)
        self.history_offsets, self.history_items = known.offsets.long().clone(), known.values.long().clone()
        self._rebuild()

    def history(self) -> Ragged:
        """The item codes that each user of training knows."""
        return Ragged(self.history_offsets, self.history_items)

    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for these users, by their histories in training."""
        return self.score_history(take_lists(self.history(), queries), out)

    def score_history(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each list of item codes (no code twice in a list)."""
        raise NotImplementedError

    def _rebuild(self) -> None:
        """Make what follows from the histories."""

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take buffers whose length depends on the data, then make what follows from them."""
        for name in self._of_any_length():
            if (stored := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_zeros(stored.shape))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        # What is incomplete stays as it is: torch will say what lacks or does not fit.
        if not error_msgs and not any(key.startswith(prefix) for key in missing_keys):
            check_known(self.history(), self.num_users, self.num_items)
            self._rebuild()

    def _of_any_length(self) -> tuple[str, ...]:
        """Buffers whose length only the data know."""
        return ("history_items",)


def mean_of_items(items: Float[Tensor, "m d"], history: Ragged) -> Float[Tensor, "q d"]:
    """The mean vector of the items of each list; zeros for an empty one.

    >>> mean_of_items(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), Ragged(torch.tensor([0, 2, 2]), torch.tensor([0, 1])))
    tensor([[0.5000, 1.5000],
            [0.0000, 0.0000]])
    """
    return functional.embedding_bag(history.values, items, history.offsets[:-1], mode="mean")


def co_occurrences(known: Ragged, num_items: int) -> Iterator[tuple[int, Float[Tensor, "items block"]]]:
    """How many users know both of two items: a block of items, from the first code on, against all.

    Time O(interactions · items) in all; memory a block of items × items, and of users × items.
    """
    columns = normalised_interactions(known, num_items).columns
    num_users = columns.shape[1]
    ones = compressed(
        columns.crow_indices(), columns.col_indices(), torch.ones_like(columns.values()), (num_items, num_users)
    )
    users = torch.repeat_interleave(known.offsets.diff(), output_size=len(known.values))
    block = max(1, BLOCK_VALUES // max(num_items, num_users))
    for first in range(0, num_items, block):
        last = min(first + block, num_items)
        inside = (known.values >= first) & (known.values < last)
        dense = torch.zeros(num_users, last - first, device=known.values.device)
        dense[users[inside], known.values[inside] - first] = 1
        yield first, ones @ dense
