"""Interactions from a known preference distribution: the best possible ranking is part of the data."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rankwell.atomic import write_text
from rankwell.data.schema import Interactions
from rankwell.errors import ConfigError

__all__ = ["Synthetic", "synthesise"]


@dataclass(frozen=True, eq=False)
class Synthetic:
    """Training and test interactions with shared vocabularies, and the distribution that they were drawn from.

    ``ideal`` is float32 ``[num_users, num_items]``: the log-probability that the user's next draw is the item. Once the
    training items are left out, no ranking has a better expectation than the one by it.
    """

    train: Interactions
    test: Interactions
    ideal: NDArray[np.float32]

    def write(self, folder: str | Path) -> None:
        """Write ``train.txt`` and ``test.txt`` as adjacency text, each whole or not at all; the folder is made.

        Items that nobody drew are in the vocabulary here and in no file.
        """
        for name, part in (("train.txt", self.train), ("test.txt", self.test)):
            write_text(Path(folder) / name, _adjacency(part))


def synthesise(
    num_users: int = 600,
    num_items: int = 400,
    interactions_per_user: int = 20,
    clusters: int = 8,
    popularity_exponent: float = 0.7,
    affinity: float = 2.6,
    noise: float = 0.5,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Synthetic:
    r"""Draw interactions of users with tastes in a catalogue with a long tail.

    Item i has popularity rank r_i and a cluster, user u a cluster, and

    .. math:: \log p(i \mid u) = -\alpha \log r_i + a\, [c_u = c_i] + \varepsilon_{ui} + \text{const}_u

    with α the ``popularity_exponent`` of the Zipf law, a the ``affinity`` in nats and ε normal with deviation ``noise``, a
    taste of the user's own that no other user shares. Each user draws ``interactions_per_user`` items without replacement
    (Gumbel top-k); a random ``test_fraction`` of them, rounded, is the test set. A pair whose item would then have no
    training interaction stays in training. With the defaults, ranking by popularity reaches 40 % of the ideal's NDCG@10,
    and a factorisation, which learns clusters but not ε, lies between.

    Raises :class:`ConfigError` for sizes that cannot be drawn. Time and memory O(num_users · num_items).

    >>> data = synthesise(num_users=4, num_items=12, interactions_per_user=5, clusters=2)
    >>> len(data.train) + len(data.test), data.ideal.shape
    (20, (4, 12))
    """
    _check(num_users, num_items, interactions_per_user, clusters, test_fraction)
    rng = np.random.default_rng(seed)
    popularity = -popularity_exponent * np.log(rng.permutation(num_items) + 1.0)
    # Clusters of equal size, by permutation: an empty one would leave its users without a taste.
    same = _clusters(rng, num_users, clusters)[:, None] == _clusters(rng, num_items, clusters)[None, :]
    logits = popularity + affinity * same + noise * rng.standard_normal((num_users, num_items))
    ideal = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    draws = np.argsort(-(ideal + rng.gumbel(size=ideal.shape)), axis=1)[:, :interactions_per_user]
    # Gumbel top-k orders draws by when they came; a shuffle within the user makes the split random.
    draws = rng.permuted(draws, axis=1)
    in_test = np.zeros(draws.shape, dtype=np.bool_)
    in_test[:, : round(test_fraction * interactions_per_user)] = True
    trained = np.bincount(draws[~in_test], minlength=num_items) > 0
    in_test &= trained[draws]
    users = np.broadcast_to(np.arange(num_users)[:, None], draws.shape)
    user_ids, item_ids = _ids("u", num_users), _ids("i", num_items)
    train = Interactions(users[~in_test].astype(np.int64), draws[~in_test].astype(np.int64), user_ids, item_ids)
    test = Interactions(users[in_test].astype(np.int64), draws[in_test].astype(np.int64), user_ids, item_ids)
    return Synthetic(train, test, ideal.astype(np.float32))


def _clusters(rng: np.random.Generator, count: int, clusters: int) -> NDArray[np.int64]:
    return rng.permutation(np.arange(count, dtype=np.int64) % clusters)


def _ids(letter: str, count: int) -> pl.Series:
    width = len(str(count - 1))
    return pl.Series([f"{letter}{number:0{width}d}" for number in range(count)])


def _check(num_users: int, num_items: int, interactions_per_user: int, clusters: int, test_fraction: float) -> None:
    if min(num_users, num_items, clusters) < 1:
        raise ConfigError(f"users, items and clusters must be at least 1: got {num_users}, {num_items} and {clusters}.")
    if not 1 <= interactions_per_user <= num_items:
        raise ConfigError(
            f"interactions_per_user must be 1 … num_items, for items are drawn once: "
            f"got {interactions_per_user} of {num_items}."
        )
    if not 0 <= test_fraction < 1 or round(test_fraction * interactions_per_user) >= interactions_per_user:
        raise ConfigError(f"test_fraction must leave each user a training interaction: got {test_fraction}.")


def _adjacency(part: Interactions) -> str:
    """``user item item …``, a user a line, in the order of codes."""
    table = pl.DataFrame({"code": part.users, "item": part.item_ids.gather(part.items)})
    lines = table.group_by("code", maintain_order=True).agg(pl.col("item")).sort("code")
    text = part.user_ids.gather(lines["code"]) + " " + lines["item"].list.join(" ") + "\n"
    return "".join(text.to_list())
