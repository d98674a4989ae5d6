import pytest
import torch

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.samplers.alias import TOTAL, AliasTable, whole_weights


def masses(table: AliasTable) -> list[int]:
    """What each item holds over all columns."""
    held = table.threshold.clone()
    return held.scatter_add(0, table.alias, table.total - table.threshold).tolist()


@pytest.mark.parametrize(
    "weights",
    [
        [1], [5, 5, 5], [0, 0, 7], [7, 0, 0], [1, 2, 3, 4], [4, 3, 2, 1], [1, 1, 1, 97], [97, 1, 1, 1], [2, 2, 0, 4],
        [1, 4, 8, 12, 16, 20, 24] * 2 + [0, 4, 8, 12, 16, 20],  # heavy items that are used up exactly
    ],
)  # fmt: skip
def test_columns_hold_what_the_weights_say(weights):
    table = AliasTable(torch.tensor(weights))
    assert masses(table) == [weight * len(weights) for weight in weights]
    assert ((table.threshold >= 0) & (table.threshold <= table.total)).all()


@pytest.mark.parametrize("seed", range(60))
def test_columns_of_random_weights_are_exact(seed):
    generator = torch.Generator().manual_seed(seed)
    size = int(torch.randint(1, 40, (), generator=generator))
    weights = torch.randint(0, 6 if seed % 2 else 10**6, (size,), generator=generator)
    weights[size // 2] += 1
    assert masses(AliasTable(weights)) == (weights * size).tolist()


def test_a_large_catalogue():
    weights = whole_weights(torch.arange(1, 50_001).double() ** -1.2)
    assert masses(AliasTable(weights)) == (weights * 50_000).tolist()


def test_whole_weights_keep_proportions_and_what_is_rare():
    weights = torch.tensor([1e-30, 0.0, 1.0, 2.0], dtype=torch.float64)
    whole = whole_weights(weights)
    assert whole[:2].tolist() == [1, 0]
    assert int(whole.sum()) <= TOTAL and int(whole[3]) / int(whole[2]) == pytest.approx(2, rel=1e-8)
    assert whole_weights(torch.full((3,), 1e308, dtype=torch.float64)).unique().numel() == 1


@pytest.mark.parametrize("weights", [[-1.0, 2.0], [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0], []])
def test_what_is_no_weight(weights):
    with pytest.raises(InputError, match="weights of items must be"):
        whole_weights(torch.tensor(weights))


def test_halves_of_the_bits_are_independent():
    """Column and comparison come of one word: their joint frequencies over a grid of 8 x 8."""
    bits = keyed.words(11, torch.arange(400)[:, None], torch.arange(160))
    cells = (keyed.high(bits, 8) * 8 + keyed.low(bits, 8)).flatten().bincount(minlength=64).double()
    assert float(((cells - 1000) ** 2 / 1000).sum()) < 63 + 4.5 * (2 * 63) ** 0.5
