"""Interactions that follow from features: what is new can be ranked by them, and by nothing else."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from rankwell.atomic import write_text
from rankwell.data.schema import Interactions
from rankwell.errors import ConfigError

__all__ = ["Featured", "synthesise_features"]


@dataclass(frozen=True, eq=False)
class Featured:
    """Interactions, and what decides them: a table of items, with ids ``item``, and one of users, with ids ``user``."""

    interactions: Interactions
    items: pl.DataFrame
    users: pl.DataFrame

    def write(self, folder: str | Path) -> None:
        """Write ``pairs.csv``, ``items.csv`` and ``users.csv``, each whole or not at all; the folder is made."""
        made = self.interactions
        pairs = pl.DataFrame({"user": made.user_ids.gather(made.users), "item": made.item_ids.gather(made.items)})
        for name, table in (("pairs", pairs), ("items", self.items), ("users", self.users)):
            write_text(Path(folder) / f"{name}.csv", table.write_csv())


def synthesise_features(
    num_users: int = 300,
    num_items: int = 200,
    interactions_per_user: int = 15,
    genres: int = 6,
    affinity: float = 3.0,
    seed: int = 0,
) -> Featured:
    r"""Draw interactions of users who like one genre with items of two genres each.

    .. math:: \log p(i \mid u) = a\, [g_u \in G_i] + \text{const}_u

    with :math:`g_u` the user's genre, :math:`G_i` the item's two, a the ``affinity`` in nats. Each user draws
    ``interactions_per_user`` items without replacement (Gumbel top-k). No item is more popular than another of its genres, and
    ids tell nothing. The table of items has ``genres``, as ``g1|g4``, and a ``year``, which decides nothing; that of
    users has ``club``, which is the genre. A third of the items, 2 / ``genres``, suits a user.

    Raises :class:`ConfigError` for sizes that cannot be drawn. Time and memory O(num_users · num_items).

    >>> made = synthesise_features(num_users=3, num_items=10, interactions_per_user=4)
    >>> made.interactions, made.items.columns, made.users.columns
    (Interactions(12 interactions of 3 users with 10 items), ['item', 'genres', 'year'], ['user', 'club'])
    """
    if min(num_users, interactions_per_user) < 1 or genres < 2 or interactions_per_user > num_items:
        raise ConfigError(
            "generated data needs users, two genres or more, and as many items as a user takes: got"
            f" {num_users} users, {genres} genres, {num_items} items and {interactions_per_user} a user."
        )
    rng = np.random.default_rng(seed)
    own = rng.permuted(np.tile(np.arange(genres), (num_items, 1)), axis=1)[:, :2]
    club = rng.permutation(num_users) % genres
    likes = (own[None] == club[:, None, None]).any(2)
    drawn = np.argsort(-(affinity * likes + rng.gumbel(size=likes.shape)), axis=1)[:, :interactions_per_user]
    user_ids = pl.Series("user", [f"u{number:03d}" for number in range(num_users)])
    item_ids = pl.Series("item", [f"i{number:03d}" for number in range(num_items)])
    users = np.repeat(np.arange(num_users), interactions_per_user)
    items = pl.DataFrame(
        {
            "item": item_ids,
            "genres": [f"g{first}|g{second}" for first, second in own],
            "year": rng.integers(1990, 2020, num_items),
        }
    )
    of_users = pl.DataFrame({"user": user_ids, "club": [f"g{genre}" for genre in club]})
    return Featured(Interactions(users, drawn.ravel().astype(np.int64), user_ids, item_ids), items, of_users)
