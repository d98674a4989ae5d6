import pytest
import torch

from rankwell.samplers import collisions
from rankwell.samplers.collisions import KnownItems, UnknownItems
from rankwell.types import Ragged


def random_known(items: int, seed: int) -> tuple[list[list[int]], Ragged]:
    """Rows that know nothing, a little, nearly everything."""
    generator = torch.Generator().manual_seed(seed)
    lists = [
        (torch.rand(items, generator=generator) < share).nonzero().squeeze(1).tolist()
        for share in (0.0, 0.02, 0.3, 0.95, 0.0, 1.0, 0.5)
    ]
    sizes = torch.tensor([0, *map(len, lists)])
    return lists, Ragged(sizes.cumsum(0), torch.tensor([item for own in lists for item in own]))


@pytest.mark.parametrize("slots", [1 << 26, 1])
def test_contains_is_what_a_set_says(slots, monkeypatch):
    """Also with a filter of one slot for each pair, where nearly every look needs the search behind it."""
    monkeypatch.setattr(collisions, "MOST_SLOTS", slots)
    lists, known = random_known(101, seed=0)
    rows = torch.tensor([6, 0, 5, 3, 1, 2, 4, 3])
    items = torch.arange(101).expand(len(rows), -1)
    found = KnownItems(known, 101).contains(rows, items)
    assert found.tolist() == [[item in lists[row] for item in range(101)] for row in rows.tolist()]


def test_below_counts_known_items():
    lists, known = random_known(101, seed=1)
    rows, items = torch.arange(7).repeat_interleave(102), torch.arange(102).repeat(7)
    got = KnownItems(known, 101).below(rows, items).view(7, 102)
    assert got.tolist() == [[sum(one < item for one in lists[row]) for item in range(102)] for row in range(7)]


def test_pools_with_repeated_items_and_rows():
    """As often as an item was drawn, in every row that knows it, and again after another pool."""
    lists, known = random_known(101, seed=2)
    known_items = KnownItems(known, 101)
    rows = torch.tensor([6, 0, 5, 3, 1, 2, 4, 3])
    pools = torch.randint(101, (4, 60), generator=torch.Generator().manual_seed(0)).sort(1).values
    parts = Ragged(torch.tensor([0, 8, 8, 11, 19]), torch.cat([rows, rows[2:5], rows]))
    found = known_items.places_in_pools(pools, parts)
    for pool, own, places in zip(pools, parts.values.split(parts.offsets.diff().tolist()), found, strict=True):
        expected = [[item in lists[row] for item in pool.tolist()] for row in own.tolist()]
        assert collisions.marked(len(own), pool, places).tolist() == expected
        assert known_items.in_pool(pool, len(own), *known_items.of(own)).tolist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_numbers_of_what_is_left(seed):
    """Every number that a row has left, against the list of unknown items, each as often as it weighs."""
    lists, known = random_known(23, seed)
    weights = torch.randint(0, 4, (23,), generator=torch.Generator().manual_seed(seed))
    unknown = UnknownItems(KnownItems(known, 23), weights)
    for row, own in enumerate(lists):
        left = [item for item in range(23) if item not in own for _ in range(int(weights[item]))]
        assert int(unknown.left[row]) == len(left)
        assert unknown.find(torch.full((len(left),), row), torch.arange(len(left))).tolist() == left
