"""Rectangles of pairs by polynomials, against a term a pair."""

import pytest
import torch
from torch.testing import assert_close

from rankwell.kernels.rectangles import GROUP, Rectangles


@pytest.mark.parametrize("n", [GROUP, 3 * GROUP, 3 * GROUP + 5])
@pytest.mark.parametrize("reach", [1.0, 32.0])
def test_all_pairs(n, reach):
    """With odds up to e^64 and down to e^-64, each to the last digits of its own size."""
    draw = torch.Generator().manual_seed(n)
    rows, columns = (reach * torch.linspace(-1, 1, n).double()[torch.randperm(n, generator=draw)] for _ in range(2))
    weights = torch.rand(n, generator=draw).double()
    rectangles = Rectangles((-rows).exp(), columns.exp(), weights)
    for first in range(0, n, 2 * GROUP):
        for start in range(0, n, GROUP):
            rectangles.add(slice(first, min(first + 2 * GROUP, n)), slice(start, min(start + GROUP, n)))
    lead = columns - rows[:, None]
    force = lead.sigmoid()
    expected = lead.exp().log1p().sum(-1), force.sum(-1), (weights[:, None] * force).sum(0)
    for ours, theirs in zip(rectangles.sums(), expected, strict=True):
        assert_close(ours, theirs, rtol=1e-13, atol=0)


def test_small_values_keep_their_digits():
    """Every pair is won by 60: the values are those odds."""
    rows, columns = torch.full((GROUP,), 30.0).double(), torch.full((GROUP,), -30.0).double()
    rectangles = Rectangles((-rows).exp(), columns.exp(), torch.ones(GROUP))
    rectangles.add(slice(0, GROUP), slice(0, GROUP))
    for sums in rectangles.sums():
        assert_close(sums, torch.full_like(sums, GROUP) * torch.tensor(-60.0).double().exp(), rtol=1e-13, atol=0)


def test_items_that_are_no_row_or_no_column_meet_nothing():
    above, below = torch.tensor([1.0] * 3 + [0.0] * 7), torch.tensor([0.0] * 3 + [1.0] * 7)
    rectangles = Rectangles(above, below, torch.full((10,), 2.0))
    rectangles.add(slice(0, 10), slice(0, 10))
    values, by_rows, by_columns = rectangles.sums()
    there = above.double()
    assert_close(values, 7 * torch.log(torch.tensor(2.0).double()) * there)
    assert_close(by_rows, 7 / 2 * there)
    assert_close(by_columns, 3.0 * below.double())
