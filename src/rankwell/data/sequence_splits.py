"""Splits of sequences: what training sees, and questions about what came next."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from rankwell.data.sequences import Codes, Sequences
from rankwell.errors import ConfigError, DataError
from rankwell.types import Ragged
from rankwell.words import many

__all__ = ["NextItems", "SequenceSplit", "split_last", "split_time"]


@dataclass(frozen=True, eq=False)
class NextItems:
    """Questions: an event, and what its user had done until then.

    ``places`` are the numbers of the asked events in ``data``. The history of an event is all that stands before it, what is
    held out for another question included: at the time it was known.
    """

    data: Sequences
    places: Codes

    def __len__(self) -> int:
        return len(self.places)

    @property
    def users(self) -> Int[Tensor, " q"]:
        """The user of each question."""
        return torch.from_numpy(self.data.users[self.places])

    @property
    def targets(self) -> Int[Tensor, " q"]:
        """The item that came."""
        return torch.from_numpy(self.data.items[self.places])

    def histories(self, last: int | None = None) -> Ragged:
        """The items before each event, oldest first; no more than the ``last`` ones. Memory O(sum of their lengths)."""
        starts = self.data.offsets[self.data.users[self.places]]
        if last is not None:
            starts = np.maximum(starts, self.places - last)
        lengths = self.places - starts
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), lengths.cumsum()])
        rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Ragged(torch.from_numpy(offsets), torch.from_numpy(self.data.items[rows]))


@dataclass(frozen=True, eq=False)
class SequenceSplit:
    """What training sees, and what is asked for choosing and for judging; ``notes`` count what a policy decided."""

    train: Sequences
    """Everything that the test does not ask for, nor follows it."""
    fit: Sequences
    """``train`` without what validation asks for."""
    valid: NextItems
    test: NextItems
    notes: tuple[str, ...] = ()


def split_last(data: Sequences) -> SequenceSplit:
    """Leave one out: the last event of each user is the test, the one before the validation, the rest is training.

    A user with fewer than three events cannot spare two: all of them are training. Of a user with one, nothing can be learned
    either, as nothing follows. The notes count both.

    Raises :class:`DataError` where nobody has three.

    >>> import polars as pl
    >>> data = Sequences(np.array([0, 4, 5]), np.array([2, 0, 2, 0, 1]), pl.Series(["ann", "bo"]), pl.Series(list("abc")))
    >>> split = split_last(data)
    >>> split.fit.items, split.valid.targets, split.test.targets, split.test.histories().values
    (array([2, 0, 1]), tensor([2]), tensor([0]), tensor([2, 0, 2]))
    >>> split.notes
    ('1 user with fewer than 3 events only trained on', '1 user with a single event, which teaches nothing')
    """
    lengths = data.lengths()
    enough = lengths >= 3
    if not enough.any():
        raise DataError(
            f"leaving one out must leave one to train on: none of {data.num_users:,} users has 3 events or more. Use data with"
            " longer sequences."
        )
    last = data.offsets[1:][enough] - 1
    before_test = np.ones(len(data), dtype=np.bool_)
    before_test[last] = False
    before_valid = before_test.copy()
    before_valid[last - 1] = False
    notes = []
    if short := int(((lengths > 0) & ~enough).sum()):
        notes.append(f"{many(short, 'user')} with fewer than 3 events only trained on")
    if single := int((lengths == 1).sum()):
        notes.append(f"{many(single, 'user')} with a single event, which teaches nothing")
    return _split(data, before_test, before_valid, last - 1, last, notes)


def split_time(
    data: Sequences, valid_fraction: float = 0.1, test_fraction: float = 0.1, *, every: bool = False
) -> SequenceSplit:
    """Cut all sequences at the same two moments: training ends before validation begins, validation before the test.

    The cuts are where the latest shares of all events begin; events at the moment of a cut belong behind it. Each user's first
    event behind a cut is asked for; with ``every``, all events there, each with all that came before it. Events without any
    history are no questions, and counted in the notes, as are items that training never saw. No item of the test
    period trains, so that nothing of the future reaches anybody: what :func:`split_last` cannot say.

    Raises :class:`ConfigError` unless the fractions are above 0 and together below 1, :class:`DataError` without timestamps or
    where a period has nothing to train on or to ask.
    """
    if not (valid_fraction > 0 and test_fraction > 0 and valid_fraction + test_fraction < 1):
        raise ConfigError(
            f"valid_fraction and test_fraction must be above 0 and together below 1: got {valid_fraction} and {test_fraction}."
        )
    if data.timestamps is None:
        raise DataError(
            "a split by time must have timestamps: the data has none. Name their column (--data.timestamp COLUMN), or leave"
            " the last out (--data.split leave_last)."
        )
    times = np.sort(data.timestamps)
    test_from, valid_from = (
        times[len(data) - max(round(share * len(data)), 1)] for share in (test_fraction, valid_fraction + test_fraction)
    )
    behind_valid, behind_test = data.timestamps >= valid_from, data.timestamps >= test_from
    if behind_valid.all() or valid_from == test_from:
        raise DataError(
            f"a split by time must leave events before, between and behind its cuts: they fall on {valid_from} and"
            f" {test_from}, and the data begin at {times[0]}. Use other fractions, or leave the last out."
        )
    notes: list[str] = []
    valid = _asked(data, behind_valid & ~behind_test, every, "validation", notes)
    test = _asked(data, behind_test, every, "test", notes)
    return _split(data, ~behind_test, ~behind_valid, valid, test, notes)


def _asked(data: Sequences, inside: NDArray[np.bool_], every: bool, name: str, notes: list[str]) -> Codes:
    """The events of a period that are asked for: all, or each user's first there; none without a history."""
    first = data.offsets[data.users] == np.arange(len(data))
    wanted = inside.copy()
    if not every:
        wanted[1:] &= ~inside[:-1] | first[1:]
    if lost := int((wanted & first).sum()):
        notes.append(f"{many(lost, f'{name} event')} without a history not asked for")
    asked = np.flatnonzero(wanted & ~first)
    if not len(asked):
        raise DataError(f"the {name} period must have an event with a history: it has none. Use other fractions.")
    return asked


def _split(
    data: Sequences,
    before_test: NDArray[np.bool_],
    before_valid: NDArray[np.bool_],
    valid: Codes,
    test: Codes,
    notes: list[str],
) -> SequenceSplit:
    train, fit = data.keep(before_test), data.keep(before_valid)
    for name, seen, places in (("validation", fit, valid), ("test", train, test)):
        cold = seen.popularity() == 0
        if unseen := int(cold[data.items[places]].sum()):
            notes.append(f"{many(unseen, f'{name} event')} of items that training never saw")
    return SequenceSplit(train, fit, NextItems(data, valid), NextItems(data, test), tuple(notes))
