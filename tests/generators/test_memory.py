import pytest
import torch
from scenes import DIM, build, scene

from rankwell.errors import InputError
from rankwell.generators import MemoryNegatives
from rankwell.types import Ragged


def step(items: list[int], value: float, queries: list[int] | None = None):
    """A step whose positives' vectors are full of one number."""
    ids = torch.tensor(items)
    rows = torch.tensor(queries or [0] * len(items))
    return scene(len(items), query_ids=rows, positive_ids=ids, positives=torch.full((len(items), DIM), value))


KNOWN = Ragged(torch.tensor([0, 1, 3]), torch.tensor([4, 2, 6]))
"""User 0 knows item 4; user 1 items 2 and 6."""


def memory(**own):
    return MemoryNegatives(KNOWN, 8, DIM, **{"seed": 0, "size": 4, **own})


def contents(made):
    """Item by item: its vector's number and which rows it is a negative of."""
    return [(row[0].item(), valid.tolist()) for row, valid in zip(made.vectors, made.where.T, strict=True)]


def test_earlier_positives_are_negatives_of_who_does_not_know_them():
    make = memory()
    make.update(step([2, 5], 1.0))
    make.update(step([6], 2.0))
    made = make(step([4, 5], 0.0, queries=[0, 1]))
    # By item: the empty place (0), then 2, 5 and 6. User 1 knows 2 and 6, and 5 is its positive.
    assert contents(made) == [(0.0, [False] * 2), (1.0, [True, False]), (1.0, [True, False]), (2.0, [True, False])]
    assert not made.vectors.requires_grad and made.beside


def test_new_ones_drop_the_oldest():
    make = memory(size=2)
    for item, value in ((2, 1.0), (5, 2.0), (7, 3.0)):
        make.update(step([item], value))
    assert contents(make(step([4], 0.0))) == [(2.0, [True]), (3.0, [True])]


def test_log_q_is_the_share_of_training_pairs_with_the_item():
    make = memory(size=3)
    make.update(step([4, 2, 5], 1.0))
    made = make(step([6], 0.0, queries=[1]))
    # Items 2, 4, 5 sorted: a pair of three each; nobody knows item 5, which then counts as one pair.
    assert torch.allclose(made.log_q.exp(), torch.full((3,), 1 / 3))


def test_a_half_full_memory_counts_the_places_taken():
    """n q of four places with three empty is that of one draw."""
    make = memory()
    make.update(step([2], 1.0))
    made = make(step([4], 0.0))
    assert torch.allclose(4 * made.log_q.exp(), torch.full((4,), 1 * 1 / 3))


def test_momentum_is_the_mean_of_an_items_own_vectors():
    make = memory(momentum=0.75)
    make.update(step([2, 5], 1.0))
    make.update(step([2, 7], 3.0))
    values = dict(zip(make.memory.ids.tolist(), make.memory.vectors[:, 0].tolist(), strict=True))
    assert values == {2: 0.75 * 1 + 0.25 * 3, 5: 1.0, 7: 3.0}  # the later of the two of item 2
    make.update(step([2], 0.0))
    assert make.memory.vectors[0, 0].item() == pytest.approx(0.75 * 1.5)


def test_momentum_begins_anew_for_items_that_were_dropped():
    make = memory(size=2, momentum=0.5)
    for items in ([2, 5], [6, 7], [2]):
        make.update(step(items, float(items[0])))
    assert make.memory.vectors[0, 0].item() == 2.0
    make.update(step([7, 7], 0.0))  # twice in a batch: both places get the same
    assert make.memory.vectors[:, 0].tolist() == [0.5 * 6.0] * 2


def test_more_positives_than_places():
    make = memory(size=2)
    make.update(step([2, 5, 6, 7, 3], 1.0))
    assert sorted(make.memory.ids.tolist()) == [3, 7]


def test_arguments():
    with pytest.raises(InputError, match="momentum must be at least 0 and below 1: got 1"):
        build("memory", momentum=1.0)
    with pytest.raises(InputError, match="size must be a whole number of at least 1: got 0"):
        build("memory", size=0)
