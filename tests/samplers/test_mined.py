"""Mined negatives: those of the row's list, beside what another sampler draws, and never what the row knows."""

import pytest
import torch

from rankwell.errors import InputError
from rankwell.samplers import InBatchSampler, UniformSampler
from rankwell.samplers.mined import MinedNegatives
from rankwell.types import Ragged

KNOWN = Ragged(torch.tensor([0, 2, 3, 4]), torch.tensor([0, 5, 1, 2]))
LISTS = Ragged(torch.tensor([0, 3, 3, 5]), torch.tensor([3, 4, 5, 6, 7]))  # 5 is known to row 0's query
ROWS = torch.arange(3)
POSITIVES = torch.tensor([0, 1, 2])


def drawn(sampler, rows=ROWS, epoch=0):
    return sampler(rows, rows, epoch=epoch, step=0, positives=POSITIVES[rows])


def test_a_row_gets_its_own_and_what_is_missing_or_known_does_not_count():
    got = drawn(MinedNegatives(LISTS, KNOWN, 8, seed=0, n=3))
    counted = [set(ids[~hit].tolist()) for ids, hit in zip(got.ids, got.collisions, strict=True)]
    assert counted == [{3, 4}, set(), {6, 7}]


def test_another_batch_split_draws_the_same_and_epochs_differ():
    sampler = MinedNegatives(LISTS, KNOWN, 8, seed=0, n=1)
    whole = drawn(sampler).ids
    assert torch.equal(torch.cat([drawn(sampler, ROWS[:1]).ids, drawn(sampler, ROWS[1:]).ids]), whole)
    seen = {int(drawn(sampler, epoch=epoch).ids[0]) for epoch in range(40)}
    assert seen == {3, 4, 5}


def test_they_join_the_pool_of_the_batch():
    beside = InBatchSampler(KNOWN, 8, seed=0)
    got = drawn(MinedNegatives(LISTS, KNOWN, 8, seed=0, n=3, beside=beside))
    assert got.ids.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    expected = torch.zeros(3, 8, dtype=torch.bool)
    for row, known in enumerate(([0, 5], [1], [2])):
        expected[row, known] = True
    assert torch.equal(got.collisions, expected)
    alone = drawn(beside)
    # log(n q) of the batch's own is what it was, of the mined ones 0: nothing corrects these.
    corrected = got.log_q + torch.tensor(8.0).log()
    torch.testing.assert_close(corrected[:3], alone.log_q + torch.tensor(3.0).log())
    torch.testing.assert_close(corrected[3:], torch.zeros(5))


def test_they_stand_beside_draws_of_a_row():
    beside = UniformSampler(KNOWN, 8, seed=0, n=2, shared=False)
    got = drawn(MinedNegatives(LISTS, KNOWN, 8, seed=0, n=3, beside=beside))
    assert got.ids.shape == (3, 5) and got.collisions.shape == (3, 5) and torch.equal(got.ids[:, :2], drawn(beside).ids)


def test_a_batch_of_one_without_any():
    nothing = Ragged(torch.zeros(4, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    got = drawn(MinedNegatives(nothing, KNOWN, 8, seed=0), ROWS[1:2])
    assert got.ids.tolist() == [[1]] and got.collisions.tolist() == [[True]]


def test_what_is_refused():
    with pytest.raises(InputError, match="n must be at least 1: got 0"):
        MinedNegatives(LISTS, KNOWN, 8, seed=0, n=0)
    with pytest.raises(InputError, match="pass positives"):
        MinedNegatives(LISTS, KNOWN, 8, seed=0)(ROWS, ROWS, epoch=0, step=0)
