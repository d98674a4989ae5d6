"""Seeded, vectorised splits into training and held-out interactions that share vocabularies.

Randomness is a hash of (seed, user id, item id): whether a pair is held out does not depend on the order of rows in a file.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rankwell import keyed
from rankwell.data.keys import hash_ids, splitmix64
from rankwell.data.schema import Interactions
from rankwell.errors import ConfigError, DataError
from rankwell.words import many

__all__ = [
    "Split",
    "split_balanced",
    "split_cold_items",
    "split_fold",
    "split_global_time",
    "split_leave_last",
    "split_random",
]

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Two disjoint parts with the same vocabularies; ``notes`` are sentences on what the split could not hold."""

    train: Interactions
    held_out: Interactions
    notes: tuple[str, ...] = ()


def split_random(data: Interactions, fraction: float, *, seed: int, per_user: bool = True) -> Split:
    """Hold out a random fraction of the pairs, of each user or of all.

    A user with n pairs keeps ⌊(1 − fraction) n⌋ for training, at least one, and the rest is held out: rounded up, as in the
    split of Gowalla that LightGCN publishes. With ``per_user=False`` round(fraction · total) pairs are held out, of all but
    one pair of each user. Raises :class:`ConfigError` unless 0 < fraction < 1. Time O(n log n).

    >>> import polars as pl
    >>> data = Interactions(np.zeros(5, dtype=int), np.arange(5), pl.Series(["ann"]), pl.Series(list("abcde")))
    >>> [len(part) for part in (split_random(data, 0.3, seed=0).train, split_random(data, 0.3, seed=0).held_out)]
    [3, 2]
    """
    _check_fraction(fraction)
    draws = _draws(data, seed)
    order = np.lexsort((draws, data.users))  # by user, and by draw within a user
    rank, counts = _ranks(data, order)
    if per_user:
        # The small term absorbs rounding: 0.1 · 30 is 3.0000000000000004 in some orders of evaluation.
        quota = np.minimum(np.ceil(fraction * counts - 1e-9).astype(np.int64), counts - 1)
        return _split(data, rank < quota[data.users])
    spare = rank < counts[data.users] - 1
    wanted = min(round(fraction * len(data)), int(spare.sum()))
    candidates = np.flatnonzero(spare)
    held = np.zeros(len(data), dtype=np.bool_)
    held[candidates[np.argsort(draws[candidates])[:wanted]]] = True
    return _split(data, held)


def split_fold(data: Interactions, number: int, folds: int, *, seed: int) -> Split:
    """Hold out one of the folds of cross-validation, ``number`` from 1: each user's pairs in random parts of equal size.

    Over all numbers the held-out parts are disjoint, and cover every pair but those of users who have one alone: they keep it
    for training. Which fold is the larger one is drawn for each user. Raises :class:`ConfigError` unless 1 <= number <= folds
    and folds >= 2. Time O(n log n).

    >>> import polars as pl
    >>> data = Interactions(np.zeros(5, dtype=int), np.arange(5), pl.Series(["ann"]), pl.Series(list("abcde")))
    >>> [sorted(split_fold(data, number, 2, seed=0).held_out.items.tolist()) for number in (1, 2)]
    [[1, 3], [0, 2, 4]]
    """
    if not (1 <= number <= folds and folds >= 2):
        raise ConfigError(f"number must be from 1 to folds, of at least 2: got {number} of {folds}.")
    rank, counts = _ranks(data, np.lexsort((_draws(data, seed), data.users)))
    first = splitmix64(hash_ids(data.user_ids) ^ np.uint64(keyed.mix(seed, folds))) % np.uint64(folds)
    fold = (rank + first.astype(np.int64)[data.users]) % folds
    return _split(data, (fold == number - 1) & (counts[data.users] > 1))


def split_leave_last(data: Interactions, n: int = 1, *, order: Literal["time", "file"] = "time") -> Split:
    """Hold out the last n interactions of each user by timestamp, ties in file order, or by file order alone.

    A user always keeps one for training, so that a user with m ≤ n gives m − 1. Raises :class:`ConfigError` for n below 1,
    :class:`DataError` for ``order="time"`` without timestamps. Time O(n log n).
    """
    if n < 1:
        raise ConfigError(f"n must be at least 1: got {n}.")
    if order not in ("time", "file"):
        raise ConfigError(f"order must be 'time' or 'file': got {order!r}.")
    time: NDArray[Any] = _timestamps(data) if order == "time" else np.zeros(len(data), dtype=np.int64)
    rank, counts = _ranks(data, np.lexsort((np.arange(len(data)), time, data.users)))
    from_the_end = counts[data.users] - 1 - rank
    short = int(((counts > 0) & (counts <= n)).sum())
    note = (f"{many(short, 'user')} with fewer than {n + 1} interactions: all but the first held out",) if short else ()
    return _split(data, (from_the_end < n) & (rank > 0), note)


def split_global_time(data: Interactions, fraction: float) -> Split:
    """Hold out the latest fraction of all interactions: training ends before the held-out part begins.

    Interactions at the moment of the cut are all held out, which may be more than the fraction. Held-out interactions of
    users without training are dropped, and counted in the notes. Raises :class:`ConfigError` unless 0 < fraction < 1,
    :class:`DataError` without timestamps or where nothing is left for training. Time O(n log n).
    """
    _check_fraction(fraction)
    time = _timestamps(data)
    count = max(round(fraction * len(data)), 1)
    cut = np.sort(time)[len(data) - count]
    held = time >= cut
    if held.all():
        raise DataError(
            f"a split by time must leave earlier interactions for training: {fraction:.0%} of the latest begin at "
            f"{cut}, which is also the first moment. Use a smaller fraction, or --data.split random."
        )
    known = np.bincount(data.users[~held], minlength=data.num_users) > 0
    lost = held & ~known[data.users]
    notes = []
    if extra := int(held.sum()) - count:
        notes.append(f"{extra:,} more interactions than asked for are held out, at the same moment as the cut")
    if lost.any():
        users = len(np.unique(data.users[lost]))
        notes.append(f"{int(lost.sum()):,} held-out interactions of {users:,} users without training were dropped")
    return _split(data, held & ~lost, tuple(notes), train=~held)


def split_balanced(data: Interactions, fraction: float, *, seed: int, most: float = 0.5) -> Split:
    """Hold out pairs so that every item has as many as any other, as far as there are so many.

    Each item gives the same number of pairs, or ``most`` of its own (rounded down) where that is fewer; the number is the one
    that comes nearest to the fraction of all pairs from below, and one pair more of random items makes up the rest. The head
    then counts no more than the tail, in contrast to a random split, whose test pairs are as unequal as the training pairs
    are. Users keep one pair. Raises :class:`ConfigError` unless 0 < fraction < 1 and 0 < most < 1. Time O(n log n).

    >>> import polars as pl
    >>> users = np.concatenate([np.arange(10), np.arange(10)])  # all know item 0, six of them item 1, four item 2
    >>> items = np.repeat([0, 1, 2], [10, 6, 4])
    >>> data = Interactions(users, items, pl.Series(map(str, range(10))), pl.Series(list("abc")))
    >>> split_balanced(data, 0.2, seed=0).held_out.popularity(), split_random(data, 0.2, seed=0).held_out.popularity()
    (array([1, 1, 1]), array([6, 3, 1]))
    """
    _check_fraction(fraction)
    if not 0 < most < 1:
        raise ConfigError(f"most must lie between 0 and 1: got {most}.")
    draws = _draws(data, seed)
    order = np.lexsort((draws, data.items))
    counts = data.popularity()
    rank = np.empty(len(data), dtype=np.int64)  # of the pair within its item
    rank[order] = np.arange(len(data)) - np.repeat(np.cumsum(counts) - counts, counts)
    spare = rank < np.floor(most * counts + 1e-9)[data.items]
    held = np.zeros(len(data), dtype=np.bool_)
    # By rank, so that all items give one pair before any gives a second.
    candidates = np.flatnonzero(spare)
    wanted = min(round(fraction * len(data)), len(candidates))
    held[candidates[np.lexsort((draws[candidates], rank[candidates]))[:wanted]]] = True
    # A user of whom all would be held out keeps the pair with the last draw.
    last = np.lexsort((draws, data.users))[np.cumsum(data.activity())[data.activity() > 0] - 1]
    whole = np.bincount(data.users[~held], minlength=data.num_users) == 0
    held[last[whole[data.users[last]]]] = False
    return _split(data, held)


def split_cold_items(data: Interactions, fraction: float, *, seed: int) -> Split:
    """Hold out all interactions of a random fraction of the items: what is held out is new to training.

    Of the n items with an interaction round(fraction · n) are new, at least one. Which ones depends on their ids and the seed
    alone. Users who know nothing but new items have no training interaction: theirs are dropped, and counted in the notes.
    Raises :class:`ConfigError` unless 0 < fraction < 1, :class:`DataError` where training keeps nothing. Time O(n).

    >>> import polars as pl
    >>> ids = pl.Series(["ann", "bo"]), pl.Series(list("abcd"))
    >>> split = split_cold_items(Interactions(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 2, 3]), *ids), 0.5, seed=0)
    >>> split.train.popularity() * split.held_out.popularity()  # an item has interactions in one part alone
    array([0, 0, 0, 0])
    """
    _check_fraction(fraction)
    there = np.flatnonzero(data.popularity())
    draws = splitmix64(hash_ids(data.item_ids.gather(there)) ^ np.uint64(keyed.mix(seed)))
    new = np.zeros(data.num_items, dtype=np.bool_)
    new[there[np.argsort(draws, kind="stable")[: max(round(fraction * len(there)), 1)]]] = True
    held = new[data.items]
    lost = held & (np.bincount(data.users[~held], minlength=data.num_users) == 0)[data.users]
    if held.all() or (lost == held).all():
        raise DataError(
            f"a split by items must leave users that know both kinds: holding out {int(new.sum()):,} of {len(there):,} items"
            " leaves none. Use data with more interactions a user, or a smaller fraction."
        )
    notes: tuple[str, ...] = ()
    if lost.any():
        users = len(np.unique(data.users[lost]))
        notes = (f"{many(users, 'user')} with nothing but new items: {many(int(lost.sum()), 'interaction')} dropped",)
    return _split(data, held & ~lost, notes, train=~held)


def _draws(data: Interactions, seed: int) -> NDArray[np.uint64]:
    """One 64-bit number a pair, from the ids and not the codes: codes depend on the order of rows."""
    users = splitmix64(hash_ids(data.user_ids) ^ np.uint64(keyed.mix(seed)))
    # The user's hash passes a step before the item's enters, or the pair (a, b) would draw what (b, a) draws.
    return splitmix64(users[data.users] ^ splitmix64(hash_ids(data.item_ids))[data.items])


def _ranks(data: Interactions, order: Rows) -> tuple[Rows, Rows]:
    """Each row's place within its user, from 0, for rows ordered by user; and the interactions of each user."""
    counts = data.activity()
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(data), dtype=np.int64)
    rank[order] = np.arange(len(data)) - np.repeat(starts, counts)
    return rank, counts


def _split(
    data: Interactions, held: NDArray[np.bool_], notes: tuple[str, ...] = (), train: NDArray[np.bool_] | None = None
) -> Split:
    if not held.any():
        raise DataError(
            f"a split must hold out something: none of the {len(data):,} interactions can be, for each user keeps one for "
            "training. Use data with more interactions a user, or a larger fraction."
        )
    kept, out = data.take(~held if train is None else train), data.take(held)
    cold = int(((kept.popularity() == 0) & (out.popularity() > 0)).sum())
    if cold:
        notes = (*notes, f"{many(cold, 'item')} held out without a training interaction")
    return Split(kept, out, notes)


def _timestamps(data: Interactions) -> NDArray[Any]:
    if data.timestamps is None:
        raise DataError(
            "a split by time must have timestamps: the data has none. Name their column (--data.timestamp COLUMN), or "
            "split at random (--data.split random)."
        )
    return data.timestamps


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ConfigError(f"fraction must lie between 0 and 1: got {fraction}.")
