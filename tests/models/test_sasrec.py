"""What is SASRec's own: its formula, worked out position by position; positions that matter."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.models.sasrec import SASRec
from rankwell.types import Ragged


def built(**own: int) -> SASRec:
    model = SASRec(9, dim=8, max_length=6, **own).double().eval()
    model.initialise(seed=2)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and scales too
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return model


def by_hand(model: SASRec, items: list[int]) -> Tensor:
    """Section III of the paper, an event after the other, a head after the other."""
    x = torch.stack([math.sqrt(8) * model.items[item] + model.positions[at] for at, item in enumerate(items)])
    width = 8 // model.heads
    for layer in model.layers:
        normed = functional.layer_norm(x, (8,), layer.before.weight, layer.before.bias)
        queries, keys, values = (normed @ layer.parts.weight.T + layer.parts.bias).split(8, 1)
        mixed = []
        for at in range(len(items)):
            heads = []
            for head in range(model.heads):
                of = slice(head * width, (head + 1) * width)
                weights = torch.softmax(keys[: at + 1, of] @ queries[at, of] / math.sqrt(width), 0)
                heads.append(weights @ values[: at + 1, of])
            mixed.append(torch.cat(heads) @ layer.join.weight.T + layer.join.bias)
        x = x + torch.stack(mixed)
        normed = functional.layer_norm(x, (8,), layer.between.weight, layer.between.bias)
        wide = (normed @ layer.widen.weight.T + layer.widen.bias).clamp(min=0)
        x = x + wide @ layer.narrow.weight.T + layer.narrow.bias
    return functional.layer_norm(x, (8,), model.norm.weight, model.norm.bias)


@pytest.mark.parametrize(("heads", "layers"), [(1, 1), (2, 2), (8, 1)])
def test_states_equal_the_formula(heads, layers):
    model = built(heads=heads, layers=layers)
    history = Ragged(torch.tensor([0, 4, 5, 11]), torch.tensor([3, 1, 3, 8, 2, 0, 1, 2, 3, 4, 5]))
    wanted = [by_hand(model, own) for own in ([3, 1, 3, 8], [2], [0, 1, 2, 3, 4, 5])]
    torch.testing.assert_close(model.states(history), torch.cat(wanted))


def test_order_matters_by_positions_alone():
    model = built(heads=1, layers=1)
    one, other = (model.score_next(Ragged(torch.tensor([0, 3]), torch.tensor(own))) for own in ([1, 2, 5], [2, 1, 5]))
    assert not one.allclose(other)
    with torch.no_grad():
        model.positions.zero_()
    one, other = (model.score_next(Ragged(torch.tensor([0, 3]), torch.tensor(own))) for own in ([1, 2, 5], [2, 1, 5]))
    torch.testing.assert_close(one, other)


def test_heads_divide_the_width():
    with pytest.raises(InputError, match="dim must be a multiple of heads: got 8 and 3"):
        SASRec(9, dim=8, heads=3)
    with pytest.raises(InputError, match="layers must be a whole number of at least 1"):
        SASRec(9, layers=0)
