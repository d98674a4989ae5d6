"""What is the item mean's own: weights that fall with age."""

import pytest
import torch

from rankwell.errors import InputError
from rankwell.models.item_mean import ItemMean
from rankwell.types import Ragged

HISTORY = Ragged(torch.tensor([0, 3, 4]), torch.tensor([2, 0, 1, 1]))


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_states_are_weighted_means(decay):
    model = ItemMean(3, dim=2, decay=decay)
    model.load_state_dict({"items": torch.tensor([[1.0, 0.0], [0.0, 6.0], [4.0, 2.0]])})
    a, b, c = model.items.detach()
    wanted = [c, (c * decay + a) / (decay + 1), (c * decay**2 + a * decay + b) / (decay**2 + decay + 1), b]
    torch.testing.assert_close(model.states(HISTORY), torch.stack(wanted))


def test_without_decay_the_order_is_nothing():
    model = ItemMean(3, dim=2, decay=1.0)
    model.initialise(seed=0)
    torch.testing.assert_close(
        model.score_next(HISTORY)[:1], model.score_next(Ragged(torch.tensor([0, 3]), torch.tensor([1, 2, 0])))
    )


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_decay_is_a_share(decay):
    with pytest.raises(InputError, match=r"decay must be in \[0, 1\]"):
        ItemMean(3, decay=decay)
