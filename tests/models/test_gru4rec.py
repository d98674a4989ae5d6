"""What is GRU4Rec's own: its formula, step by step."""

import pytest
import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.models.gru4rec import GRU4Rec
from rankwell.types import Ragged


def by_hand(model: GRU4Rec, items: list[int], layers: int) -> Tensor:
    inputs = [model.items[item] for item in items]
    for layer in range(layers):
        own = [getattr(model.units, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        state, states = torch.zeros(6).double(), []
        for x in inputs:
            of_x, of_h = own[0] @ x + own[2], own[1] @ state + own[3]
            reset, update = torch.sigmoid(of_x[:6] + of_h[:6]), torch.sigmoid(of_x[6:12] + of_h[6:12])
            state = (1 - update) * torch.tanh(of_x[12:] + reset * of_h[12:]) + update * state
            states.append(state)
        inputs = states
    return torch.stack([model.out.weight @ state + model.out.bias for state in inputs])


@pytest.mark.parametrize("layers", [1, 2])
def test_states_equal_the_formula(layers):
    model = GRU4Rec(9, dim=4, width=6, layers=layers).double().eval()
    model.initialise(seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    history = Ragged(torch.tensor([0, 2, 2, 3, 8]), torch.tensor([3, 1, 8, 2, 0, 1, 2, 3]))
    wanted = [by_hand(model, own, layers) for own in ([3, 1], [8], [2, 0, 1, 2, 3])]
    torch.testing.assert_close(model.states(history), torch.cat(wanted))


def test_arguments_that_cannot_be():
    with pytest.raises(InputError, match="width must be a whole number of at least 1: got 0"):
        GRU4Rec(9, width=0)
    with pytest.raises(InputError, match="layers must be"):
        GRU4Rec(9, layers=0)
