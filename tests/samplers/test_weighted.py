import pytest
import torch

from rankwell.errors import InputError
from rankwell.samplers import WeightedSampler
from rankwell.types import Ragged

KNOWN = Ragged(torch.tensor([0, 1, 1]), torch.tensor([2]))


def test_weights_are_frequencies():
    draw = WeightedSampler(KNOWN, 4, seed=0, n=50, item_weights=torch.tensor([1, 0, 2, 5]))
    got = draw(torch.tensor([0, 1]), torch.tensor([0, 1]), epoch=0, step=0)
    torch.testing.assert_close(got.log_q.exp(), torch.tensor([1 / 8, 0, 2 / 8, 5 / 8])[got.ids])
    assert got.collisions[0].equal(got.ids == 2) and not got.collisions[1].any()
    assert 1 not in got.ids


def test_a_redraw_shares_out_what_is_left():
    draw = WeightedSampler(KNOWN, 4, seed=0, n=50, shared=False, item_weights=torch.tensor([1, 0, 2, 5]))
    got = draw(torch.tensor([0, 1]), torch.tensor([0, 1]), epoch=0, step=0)
    torch.testing.assert_close(got.log_q[0].exp(), torch.tensor([1 / 6, 0, 0, 5 / 6])[got.ids[0]])
    torch.testing.assert_close(got.log_q[1].exp(), torch.tensor([1 / 8, 0, 2 / 8, 5 / 8])[got.ids[1]])


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="weighted draws by item_weights, one number an item: got none"):
        WeightedSampler(KNOWN, 4, seed=0)
    with pytest.raises(InputError, match=r"one an item, shape \(4,\): got \(3,\)"):
        WeightedSampler(KNOWN, 4, seed=0, item_weights=torch.ones(3))
    with pytest.raises(InputError, match=r"none below 0 and one at least above it: got shape \(4,\), -1 to 1"):
        WeightedSampler(KNOWN, 4, seed=0, item_weights=torch.tensor([1.0, -1, 0, 1]))
