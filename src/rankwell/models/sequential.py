"""What models of sequences share: histories in, a state for each event out, and a score of every item that may follow."""

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.lists import check_count, offsets_from_sizes
from rankwell.models.dropout import dropped
from rankwell.types import Ragged

__all__ = ["Groups", "SequenceModel", "last_events", "places_of"]

START = 2
"""Keeps the random numbers of the start apart from those drawn for other purposes with the same seed."""

WASTE = 1.5
"""How many times as long as the shortest the longest history of a padded group may be."""


class SequenceModel(nn.Module):
    """A table of items, states of histories, and scores of the next item by inner products with the same table.

    A subclass says :meth:`follow`: from the embedded events of ragged histories to a state for each, which depends on the
    events up to it and on no later one, nor on other histories. So all else is here once: one body serves training (every
    state is asked for what comes next), padded batches and recommendation (the last state is), and no padding is ever
    computed with, but inside groups of histories of about the same length.

    Events beyond the last ``max_length`` are not looked at by :meth:`score_next`; :meth:`states` refuses them.
    """

    trainable: ClassVar[bool] = True

    def __init__(self, num_items: int, dim: int, max_length: int, dropout: float, init_std: float) -> None:
        super().__init__()
        for name, value in (("num_items", num_items), ("dim", dim), ("max_length", max_length)):
            check_count(value, name)
        if not 0 <= dropout < 1 or not init_std >= 0:
            raise InputError(
                f"dropout must be in [0, 1) and init_std at least 0: got dropout {dropout}, init_std {init_std}."
            )
        self.num_items, self.dim, self.max_length = num_items, dim, max_length
        self.dropout, self.init_std = dropout, init_std
        self.items = nn.Parameter(torch.zeros(num_items, dim))

    @torch.no_grad()
    def initialise(self, known: Ragged | None = None, *, seed: int) -> None:  # noqa: ARG002 - the models' contract
        """Set the weights to their start: tables normal, other matrices by Glorot's rule, biases 0. Data are not needed."""
        generator = keyed.generator(seed, START)
        for name, value in self.named_parameters():
            if value.ndim == 1:
                # A norm's scale is the one vector that starts at 1.
                value.fill_(float(name.endswith("weight")))
            elif name in ("items", "positions"):
                value.normal_(0, self.init_std, generator=generator)
            else:
                nn.init.xavier_uniform_(value, generator=generator)

    def follow(self, x: Tensor, history: Ragged, generator: torch.Generator | None) -> Float[Tensor, "n dim"]:
        """States of events, one at least, from their vectors ``x``; the generator drives dropout."""
        raise NotImplementedError

    def states(self, history: Ragged, *, generator: torch.Generator | None = None) -> Float[Tensor, "n dim"]:
        """The state behind each event of the histories, oldest event first.

        The generator drives dropout, which is off without one or outside training. Raises :class:`InputError` for a history
        of more than ``max_length`` events.
        """
        lengths = history.offsets.diff()
        if len(lengths) and int(lengths.max()) > self.max_length:
            raise InputError(
                f"histories must have at most max_length = {self.max_length} events: got {int(lengths.max())}. Cut them into"
                " windows, or raise model.max_length."
            )
        x = functional.embedding(history.values, self.items)
        return self.follow(x, history, generator) if len(x) else x

    def forward(
        self, items: Int[Tensor, "b length"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b length dim"]:
        """States of padded histories: -1 where there is no event, at either end; zero there."""
        where = items >= 0
        states = self.states(Ragged(offsets_from_sizes(where.sum(1)), items[where]), generator=generator)
        return states.new_zeros(*items.shape, self.dim).index_put((where,), states)

    def item_vectors(self, items: Int[Tensor, "*m"] | None = None) -> Float[Tensor, "*m dim"]:
        """What states are held against, in the graph: vectors of these items, or of the whole catalogue for None."""
        return self.items if items is None else functional.embedding(items, self.items)

    @torch.no_grad()
    def query_vectors(self, history: Ragged) -> Float[Tensor, "q dim"]:
        """The state behind the last event of each history; zero for an empty one. No gradient."""
        cut = last_events(history, self.max_length)
        states = self.states(cut)
        there = cut.offsets.diff() > 0
        vectors = states.new_zeros(len(there), self.dim)
        vectors[there] = states[cut.offsets[1:][there] - 1]
        return vectors

    @torch.no_grad()
    def score_next(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item to come next, written to ``out`` if given.

        An empty history has no preference: all its scores are 0.
        """
        return torch.mm(self.query_vectors(history), self.item_vectors().T, out=out)

    def _dropped(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training or not self.dropout or generator is None:
            return x
        return dropped(x, self.dropout, generator)


def last_events(history: Ragged, n: int) -> Ragged:
    """The last ``n`` events of each history.

    >>> last_events(Ragged(torch.tensor([0, 3, 4]), torch.tensor([5, 6, 7, 8])), 2).values
    tensor([6, 7, 8])
    """
    lengths = history.offsets.diff()
    if not len(lengths) or int(lengths.max()) <= n:
        return history
    ends = torch.repeat_interleave(history.offsets[1:], lengths)
    kept = torch.arange(len(history.values), device=ends.device) >= ends - n
    return Ragged(offsets_from_sizes(lengths.clamp(max=n)), history.values[kept])


def places_of(offsets: Int[Tensor, " lists_plus_1"]) -> Int[Tensor, " n"]:
    """How many events of its history stand before each."""
    starts = torch.repeat_interleave(offsets[:-1], offsets.diff())
    return torch.arange(len(starts), device=offsets.device) - starts


class Groups:
    """Histories in groups of about the same length, each padded behind the last event: few groups, with little padding.

    The longest of a group is at most 1.5 times the shortest. An event outside any padding is where ``back`` says, in all groups
    one behind the other, and ``rows`` says which event stands where; any does in the padding.

    >>> groups = Groups(torch.tensor([0, 2, 3, 6]))
    >>> groups.shapes, groups.rows, groups.back
    ([(1, 1), (2, 3)], tensor([2, 0, 1, 0, 3, 4, 5]), tensor([1, 2, 0, 4, 5, 6]))
    """

    def __init__(self, offsets: Int[Tensor, " lists_plus_1"]) -> None:
        lengths, order = offsets.diff().sort(stable=True)
        ends = lengths.tolist()
        self.shapes: list[tuple[int, int]] = []
        rows, where = [], []
        first = next((at for at, length in enumerate(ends) if length), len(ends))
        while first < len(ends):
            last = first
            while last < len(ends) and ends[last] <= WASTE * ends[first]:
                last += 1
            places = torch.arange(ends[last - 1], device=offsets.device)
            there = places < lengths[first:last, None]
            starts = offsets[:-1][order[first:last], None]
            rows.append(torch.where(there, starts + places, 0).flatten())
            where.append(there.flatten())
            self.shapes.append((last - first, ends[last - 1]))
            first = last
        self.rows, self.where = torch.cat(rows), torch.cat(where)
        kept = self.where.nonzero().squeeze(1)
        self.back = torch.empty_like(kept).index_copy_(0, self.rows[kept], kept)

    def through(self, x: Float[Tensor, "n d"], body: Callable[[Tensor], Tensor]) -> Float[Tensor, "n e"]:
        """What ``body`` makes of padded groups ``[lists, longest, d]``, as a row an event again.

        Padding stands behind, so that a causal body never lets it reach an event.
        """
        # One look-up for all groups there, and one back: each has a gradient as large as x.
        padded = torch.split(functional.embedding(self.rows, x), [lists * longest for lists, longest in self.shapes])
        made = [body(part.view(*shape, -1)).flatten(0, 1) for part, shape in zip(padded, self.shapes, strict=True)]
        return torch.cat(made).index_select(0, self.back)
