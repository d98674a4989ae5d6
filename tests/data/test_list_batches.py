"""Batches of whole lists."""

import pytest
import torch

from rankwell.data.batching import ListBatches

SIZES = torch.tensor([3, 1, 4, 2, 5])
OFFSETS = torch.cat([torch.zeros(1, dtype=torch.int64), SIZES.cumsum(0)])
FEATURES = torch.arange(30.0).view(15, 2)
LABELS = torch.arange(15.0)


def batches(size=2, seed=0):
    return ListBatches(FEATURES, LABELS, OFFSETS, size, seed=seed)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_each_list_comes_once_and_whole(size):
    seen = []
    for batch in batches(size).of_epoch(3):
        assert len(batch.offsets) == len(batch.index) + 1 <= size + 1
        for place, which in enumerate(batch.index.tolist()):
            rows = slice(*batch.offsets[place : place + 2].tolist())
            own = slice(*OFFSETS[which : which + 2].tolist())
            assert batch.features[rows].equal(FEATURES[own]) and batch.labels[rows].equal(LABELS[own])
            seen.append(which)
    assert sorted(seen) == list(range(5))


def test_order_is_a_function_of_seed_and_epoch():
    order = [
        [batch.index.tolist() for batch in batches(seed=seed).of_epoch(epoch)]
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert order[0] == order[1] and order[0] != order[2] and order[0] != order[3]


def test_a_resumed_pass_is_the_same_cut():
    whole = [batch.index.tolist() for batch in batches().of_epoch(2)]
    assert [batch.index.tolist() for batch in batches().of_epoch(2, 1)] == whole[1:]
    assert batches().steps(0) == len(whole) == 3
