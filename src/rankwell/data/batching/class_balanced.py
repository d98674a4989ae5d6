"""Some classes, and as many rows of each."""

import math
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from rankwell import keyed
from rankwell.data.batching.passes import BATCHES, PairBatches, in_blocks
from rankwell.errors import ConfigError, InputError, UnknownName
from rankwell.registry import Input
from rankwell.types import Ragged

__all__ = ["ClassBalancedBatches"]

CLASSES, DECK = 33, 34
"""Keep the choice of classes, and the order of rows within them, apart from what else is keyed by seed and epoch."""


@BATCHES.register(
    "interactions", name="class_balanced", paper="hermans2017", inputs={"item_groups": Input("catalogue", "id")}
)
class ClassBalancedBatches(PairBatches):
    r"""P classes and K rows of each in every batch: each row has others of its class beside it, as batch-hard triplets need.

    K is ``per_class``, and P the batch size divided by it. A row's class is its item, the group of its item where
    ``item_groups`` are given, or its user. Classes come in random order, each once before any comes again, less those that
    are left over when an order is cut into whole batches. The rows of a class are a shuffled deck, K at a time; at its end
    it begins anew. So no row stands in a batch twice where its class has K rows, and in a smaller class rows repeat as evenly
    as they can.

    A pass has as many batches as a shuffled one. It does not hold every row: rows of large classes are seen less often than
    rows of small ones, which is what balance means. Time O(n log n) a pass, memory 32 bytes a row.

    Args:
        item_groups: ``[num_items]``, the code of each item's group.
        per_class: K, of which the batch size is a multiple.
        classes: whether the class of a row is its ``item`` (its group, where there are groups) or its ``user``.
        small: of classes with fewer than K rows: ``repeat`` rows, or ``leave_out`` the class.

    Raises:
        ConfigError: if the batch size is no multiple of ``per_class``, or there are fewer than P classes.
        InputError: if groups are given for classes of users, or are not one whole number an item.

    >>> pairs = torch.arange(6), torch.tensor([0, 0, 0, 1, 1, 2])
    >>> for batch in ClassBalancedBatches(pairs, 4, seed=0, per_class=2, small="leave_out").of_epoch(0):
    ...     print(batch.items.sort().values.tolist())
    [0, 0, 1, 1]
    [0, 0, 1, 1]

    Source: :cite:`hermans2017`, the batches of batch-hard triplets, section 2. Differs from it: how rows are dealt out over a
    pass, which the paper leaves open.
    """

    def __init__(
        self,
        pairs: tuple[Int[Tensor, " n"], Int[Tensor, " n"]],
        batch_size: int,
        *,
        seed: int,
        per_class: int = 4,
        classes: Literal["item", "user"] = "item",
        small: Literal["repeat", "leave_out"] = "repeat",
        item_groups: Int[Tensor, " m"] | None = None,
    ) -> None:
        super().__init__(pairs, batch_size, seed=seed)
        for what, value, ways in (("classes", classes, ("item", "user")), ("small", small, ("repeat", "leave_out"))):
            if value not in ways:
                raise UnknownName(f"value of {what}", value, ways)
        if per_class < 1 or batch_size % per_class:
            raise ConfigError(f"batch_size must be a multiple of per_class: got {batch_size} and {per_class}.")
        self.per_class = per_class
        self._classes, self._sizes = self._of_rows(classes, item_groups)
        self._chosen = (self._sizes >= (per_class if small == "leave_out" else 1)).nonzero().squeeze(1)
        self.at_once = batch_size // per_class
        if len(self._chosen) < self.at_once:
            raise ConfigError(
                f"a batch of {batch_size} rows with {per_class} of a class needs {self.at_once} classes: got"
                f" {len(self._chosen)}. Lower the batch size, or raise per_class."
            )

    def rows(self, epoch: int) -> Ragged:
        """Classes of all batches, and the next K of each one's deck."""
        classes = self._picked(epoch)
        order = classes.argsort(stable=True)
        times = torch.bincount(classes, minlength=len(self._sizes))
        before = torch.empty_like(classes)  # how often the class has come already
        before[order] = torch.arange(len(classes), device=classes.device) - (times.cumsum(0) - times)[classes[order]]
        shuffled = self._words(epoch, DECK, torch.arange(len(self), device=classes.device)).argsort()
        deck = shuffled[self._classes[shuffled].argsort(stable=True)]
        places = before[:, None] * self.per_class + torch.arange(self.per_class, device=classes.device)
        starts = (self._sizes.cumsum(0) - self._sizes)[classes, None]
        return in_blocks(deck[starts + places % self._sizes[classes, None]].flatten(), self.batch_size)

    def _picked(self, epoch: int) -> Tensor:
        """The classes of each batch, one batch behind the other."""
        batches = len(self._chosen) // self.at_once  # of one order of the classes
        rounds = torch.arange(math.ceil(self.least / batches), device=self._chosen.device)
        orders = self._words(epoch, CLASSES, self._chosen, rounds[:, None]).argsort(1)
        return self._chosen[orders[:, : batches * self.at_once].flatten()[: self.least * self.at_once]]

    def _words(self, epoch: int, purpose: int, samples: Tensor, places: Tensor | None = None) -> Tensor:
        places = torch.zeros_like(samples) if places is None else places
        return keyed.words(keyed.mix(self.seed, epoch, purpose), samples, places)

    def _of_rows(self, classes: str, item_groups: Tensor | None) -> tuple[Tensor, Tensor]:
        """Each row's class, numbered from 0, and how many rows each has."""
        column = self.users if classes == "user" else self.items
        if item_groups is not None:
            if classes == "user" or item_groups.ndim != 1 or item_groups.is_floating_point():
                raise InputError(
                    "item_groups must be one whole number an item, for classes of items: got"
                    f" {item_groups.dtype} {tuple(item_groups.shape)}, classes {classes!r}."
                )
            if len(self) and int(self.items.max()) >= len(item_groups):
                raise InputError(
                    f"item_groups must be one an item: got {len(item_groups)} for item {self.items.max()}."
                )
            column = item_groups.to(column.device)[column]
        _, numbers, sizes = torch.unique(column, return_inverse=True, return_counts=True)
        return numbers, sizes
