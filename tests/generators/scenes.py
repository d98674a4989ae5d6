"""What generators are shown in tests."""

from typing import Any

import torch
from torch import Tensor

from rankwell.generators import GENERATORS, Embedded, Updated
from rankwell.generators.described import Described
from rankwell.types import Ragged

USERS, ITEMS, DIM = 9, 30, 4
KNOWN = Ragged(torch.arange(USERS + 1), torch.arange(USERS))
"""User u knows item u."""


def _described() -> Described:
    """Two descriptions each of five texts' vectors; every sixth row of the data has none."""
    drawn = torch.Generator().manual_seed(5)
    vectors, items = torch.randn(5, 2, 6, generator=drawn), torch.randn(ITEMS, 6, generator=drawn)
    return Described(vectors, torch.arange(200) % 6 - 1, items)


FEW: dict[str, dict[str, Any]] = {
    "hard_mixing": {"hardest": 3, "pairs": 4, "with_query": 3},
    "esans": {"easy": 4, "hard": 4, "clusters": 3, "subclusters": 2},
    "loop_negatives": {"k": 2},
    "memory": {"size": 7},
    "semantic": {"described": _described(), "hidden": 5},
    "synthetic_mix": {"described": _described(), "k": 1},
}
"""Own parameters and inputs that suit small scenes."""


def build(name: str, **own: Any) -> Any:
    """A generator with few of everything, that has seen a step where it takes something in."""
    made = GENERATORS[name].function(KNOWN, ITEMS, DIM, **{"seed": 3, **FEW.get(name, {}), **own})
    if isinstance(made, Updated):
        made.update(scene(step=0, scorer=CATALOGUE))
    return made


def scene(b: int = 6, n: int = 8, *, pool: bool = False, unit: bool = False, seed: int = 0, **own: Any) -> Embedded:
    """Rows 0 … b - 1 of as many users, whose positive is the item of their number; item codes of negatives from 10 on."""
    drawn = torch.Generator().manual_seed(seed)

    def vectors(*shape: int) -> Tensor:
        made = torch.randn(*shape, DIM, generator=drawn)
        return (made / made.norm(dim=-1, keepdim=True) if unit else made).requires_grad_()

    rows = torch.arange(b)
    shape = (n,) if pool else (b, n)
    ids = torch.randint(10, ITEMS, shape, generator=drawn)
    looked = vectors(b), vectors(b), vectors(*shape)
    return Embedded(*looked, None, rows, rows, ids, rows + 100, epoch=2, step=5, unit=unit)._replace(**own)


def rows(seen: Embedded, some: slice) -> Embedded:
    """A part of the batch."""
    pool = seen.negative_ids.ndim == 1
    return seen._replace(
        queries=seen.queries[some],
        positives=seen.positives[some],
        negatives=seen.negatives if pool else seen.negatives[some],
        where=None if seen.where is None else seen.where[some],
        query_ids=seen.query_ids[some],
        positive_ids=seen.positive_ids[some],
        negative_ids=seen.negative_ids if pool else seen.negative_ids[some],
        samples=seen.samples[some],
    )


class Catalogue:
    """A scorer with item vectors alone."""

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors

    def score(self, queries: Tensor, items: Tensor) -> Tensor:
        raise NotImplementedError

    def query_vectors(self, queries: Tensor) -> Tensor:
        raise NotImplementedError

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        return self.vectors if items is None else self.vectors[items]


CATALOGUE = Catalogue(torch.randn(ITEMS, DIM, generator=torch.Generator().manual_seed(9)))
