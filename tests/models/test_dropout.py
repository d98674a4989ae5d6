"""Dropout by a generator: the share, the scale, and the key."""

import pytest
import torch

from rankwell.models.dropout import dropped


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_dropped_and_the_rest_scaled(share):
    x = torch.full((201, 333), 3.0)
    out = dropped(x, share, torch.Generator().manual_seed(2))
    assert set(out.unique().tolist()) == {0.0, float(torch.tensor(3.0) * (1 / (1 - share)))}
    zeros, n = int((out == 0).sum()), out.numel()
    assert abs(zeros - share * n) < 5 * (n * share * (1 - share)) ** 0.5


def test_the_generator_decides():
    x = torch.ones(7, 5)
    once, again, other = (dropped(x, 0.5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert once.equal(again) and not once.equal(other)


def test_nothing_to_drop():
    assert dropped(torch.ones(0, 5), 0.5, torch.Generator()).shape == (0, 5)
