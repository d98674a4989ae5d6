"""Items of the same group as the positive, or of another."""

from typing import Annotated, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.registry import Input, Search
from rankwell.samplers.catalogue import AGAIN, ROWS
from rankwell.samplers.collisions import Collisions, KnownItems, UnknownItems, check_collisions
from rankwell.samplers.registry import sampler
from rankwell.types import Negatives, Ragged, Scorer

__all__ = ["ByGroupSampler"]


@sampler(name="by_group", inputs={"item_groups": Input("catalogue", "id", required=True)})
class ByGroupSampler:
    r"""Negatives of the positive's group (harder), or of the other groups: category, brand, language.

    .. math:: q_j = \frac{[g_j = g_i]}{|\{k : g_k = g_i\}|} \quad\text{or}\quad
        \frac{[g_j \ne g_i]}{|\{k : g_k \ne g_i\}|}

    uniform, with replacement; where collisions are redrawn, the items that the row knows are left out of both counts. A row
    that has nothing to draw there (the positive is alone in its group, or the row knows the whole group) draws from the
    catalogue instead, as ``log_q`` says, or is an error. Groups are read as they stand: give items without a group
    one code of their own.

    ``item_groups`` is an input of the data, not a parameter. Items are numbered group by group once; O(1) a draw, O(log
    interactions) where the first draw was known; memory O(interactions + items).

    Args:
        item_groups: ``[num_items]``, the code of each item's group.
        n: negatives of a row.
        shared: false: a pool cannot follow the positives of all rows.
        collisions: where a draw is a known positive of the row: ``redraw`` (``auto``), ``mask`` or ``keep``.
        group: ``same`` as the positive's, or ``other``.
        empty: for a row that has nothing to draw there: ``catalogue`` draws from it, ``error`` raises.

    Raises:
        InputError: if there are no groups, no positives are passed, ``shared`` is true, a row knows everything and collisions
            are redrawn, or a row has nothing to draw and ``empty="error"``.

    >>> import torch
    >>> known = Ragged(torch.tensor([0, 1]), torch.tensor([0]))
    >>> draw = ByGroupSampler(known, 4, n=3, seed=0, item_groups=torch.tensor([7, 5, 5, 7]))
    >>> draw(torch.tensor([0]), torch.tensor([0]), epoch=0, step=0, positives=torch.tensor([0])).ids
    tensor([[3, 3, 3]])
    """

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        *,
        seed: int,
        n: Annotated[int, Search(10, 1000, log=True)] = 100,
        shared: bool = False,
        collisions: Collisions = "auto",
        group: Literal["same", "other"] = "same",
        empty: Literal["catalogue", "error"] = "catalogue",
        item_groups: Int[Tensor, " m"] | None = None,
    ) -> None:
        if shared:
            raise InputError("by_group draws for each row, by its positive: set shared to false.")
        for what, value, ways in (("group", group, ("same", "other")), ("empty", empty, ("catalogue", "error"))):
            if value not in ways:
                raise UnknownName(f"value of {what}", value, ways)
        self.collisions = check_collisions(num_items, n, shared, collisions)
        if item_groups is None or item_groups.shape != (num_items,) or item_groups.is_floating_point():
            given = "none" if item_groups is None else f"{item_groups.dtype} {tuple(item_groups.shape)}"
            raise InputError(f"by_group needs item_groups, one integer an item, shape ({num_items},): got {given}.")
        self.num_items, self.seed, self.n, self.group, self.empty = num_items, seed, n, group, empty
        device = known.values.device
        _, codes, counts = torch.unique(item_groups.to(device), return_inverse=True, return_counts=True)
        # Items are numbered group by group ("places"), so that a group is a range, also among what a row does not know.
        self._items = codes.argsort(stable=True)
        places = self._items.argsort()
        self._last = counts.cumsum(0)[codes]
        self._first = self._last - counts[codes]
        starts = KnownItems(known, num_items).rows * num_items
        moved = (starts + places[known.values]).sort().values - starts
        self._known = KnownItems(Ragged(known.offsets, moved), num_items)
        if self.collisions == "redraw":
            self._unknown = UnknownItems(self._known, torch.ones_like(self._items))
            self._unknown.refuse_full(f"all {num_items:,} items")

    def __call__(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],
        *,
        epoch: int,
        step: int,  # noqa: ARG002
        positives: Int[Tensor, "b *m"] | None = None,
        scorer: Scorer | None = None,  # noqa: ARG002
    ) -> Negatives:
        """Negatives for the rows of a batch, by one positive each."""
        if positives is None or positives.shape != queries.shape:
            given = "none" if positives is None else tuple(positives.shape)
            raise InputError(
                f"by_group draws by the group of each row's positive, {tuple(queries.shape)}: got {given}."
            )
        first, last = self._first[positives], self._last[positives]
        start, count = self._range(first, last, torch.full_like(first, self.num_items))
        allowed = count
        if self.collisions == "redraw":
            left = self._unknown.left[queries]
            start_left, allowed = self._range(
                first - self._known.below(queries, first), last - self._known.below(queries, last), left
            )
        none = allowed == 0
        if self.empty == "error":
            self._refuse(none)
        start, count = start.masked_fill(none, 0), count.masked_fill(none, self.num_items)
        ranks = keyed.draws(keyed.mix(self.seed, epoch, ROWS), samples, self.n, count)
        places = _around(start[:, None] + ranks, self.num_items)
        if self.collisions == "keep":
            return self._negatives(places, count, None)
        found = self._known.contains(queries, places)
        if self.collisions == "redraw":
            allowed, start_left = torch.where(none, left, allowed), start_left.masked_fill(none, 0)
            rows, columns = found.nonzero(as_tuple=True)
            again = keyed.words(keyed.mix(self.seed, epoch, AGAIN), samples[rows], columns)
            ranks = _around(start_left[rows] + keyed.high(again, allowed[rows]), left[rows])
            places[rows, columns] = self._unknown.find(queries[rows], ranks)
            return self._negatives(places, allowed, None)
        return self._negatives(places, count, found)

    def _refuse(self, none: Tensor) -> None:
        if bool(none.any()):
            raise InputError(
                f"nothing is left to draw in {self.group} groups for {int(none.sum()):,} rows (first: row"
                f" {int(none.nonzero()[0])}). Set empty to catalogue, or leave them out."
            )

    def _negatives(self, places: Tensor, count: Tensor, found: Tensor | None) -> Negatives:
        return Negatives(self._items[places], -count.double().log().float()[:, None], found)

    def _range(self, first: Tensor, last: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """Start and length of what can be drawn; past the end it goes on at 0."""
        return (first, last - first) if self.group == "same" else (last, total - (last - first))


def _around(numbers: Tensor, total: Tensor | int) -> Tensor:
    return torch.where(numbers >= total, numbers - total, numbers)
