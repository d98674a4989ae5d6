"""Keyed choices by weight, against probabilities by hand."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.samplers.candidates import candidate_scores, choose, draw_by_weight, gumbel, unknown_candidates
from rankwell.types import Ragged

ROWS = 40_000
WEIGHTS = [1.0, 4.0, 2.0, 3.0]


def rows_of(weights: list[float]) -> Tensor:
    return torch.tensor(weights).log().expand(ROWS, -1)


def check_counts(counts: dict[tuple[int, ...], int], chances: dict[tuple[int, ...], float]) -> None:
    """Chi-square; the bound is passed less than once in 10^5 for so few cells."""
    total, cells = sum(counts.values()), len(chances)
    assert sum(chances.values()) == pytest.approx(1) and set(counts) <= set(chances)
    statistic = sum((counts.get(cell, 0) - total * chance) ** 2 / (total * chance) for cell, chance in chances.items())
    assert statistic < cells + 5 * math.sqrt(2 * cells) + 10


def counted(columns: Tensor) -> dict[tuple[int, ...], int]:
    cells, counts = columns.unique(dim=0, return_counts=True)
    return {tuple(cell): count for cell, count in zip(cells.tolist(), counts.tolist(), strict=True)}


def in_turn(order: tuple[int, ...]) -> float:
    """The probability of drawing these columns one after the other, by their weights among what is left."""
    chance, left = 1.0, sum(WEIGHTS)
    for column in order:
        chance *= WEIGHTS[column] / left
        left -= WEIGHTS[column]
    return chance


def test_choose_draws_one_after_the_other_without_replacement():
    _, columns = choose(rows_of(WEIGHTS), 2, key=5, samples=torch.arange(ROWS))
    check_counts(counted(columns), {order: in_turn(order) for order in itertools.permutations(range(4), 2)})


def test_draw_by_weight_draws_each_from_all():
    columns = draw_by_weight(rows_of(WEIGHTS), 2, key=5, samples=torch.arange(ROWS))
    check_counts(counted(columns), {(i, j): WEIGHTS[i] * WEIGHTS[j] / 100 for i in range(4) for j in range(4)})


def test_what_weighs_nothing_comes_last_or_never():
    weights = rows_of([0.0, 2.0, 0.0, 1e-30])
    assert set(draw_by_weight(weights, 50, key=1, samples=torch.arange(ROWS)).unique().tolist()) == {1}
    _, columns = choose(weights[:100], 3, key=1, samples=torch.arange(100))
    assert columns[:, :2].tolist() == [[1, 3]] * 100 and set(columns[:, 2].tolist()) <= {0, 2}


def test_weights_that_are_far_apart_or_no_numbers_stay_in_range():
    for weights in ([1e4, 0.0, -1e4], [torch.nan, 0.0, 1.0], [-3e38, -3e38, -3e38]):
        drawn = draw_by_weight(torch.tensor([weights]), 9, key=0, samples=torch.tensor([3]))
        assert ((drawn >= 0) & (drawn < 3)).all()
    assert draw_by_weight(torch.tensor([[1e4, 0.0, -1e4]]), 9, key=0, samples=torch.tensor([3])).eq(0).all()


def test_noise_is_standard_gumbel_and_keyed_by_sample_and_column():
    noise = gumbel(3, torch.arange(20_000), 20).double()
    assert noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0.5772157, abs=0.01)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.02)
    assert (noise < 2).double().mean().item() == pytest.approx(math.exp(-math.exp(-2)), abs=0.003)
    assert gumbel(3, torch.tensor([7]), 5).equal(gumbel(3, torch.arange(20), 20)[7:8, :5])
    assert not gumbel(4, torch.tensor([7]), 5).equal(gumbel(3, torch.tensor([7]), 5))


class Learned(torch.nn.Module):
    """Scores with a gradient, in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.items = torch.nn.Parameter(torch.arange(4.0, dtype=torch.bfloat16))

    def score(self, queries: Tensor, items: Tensor) -> Tensor:
        return self.items[items] * torch.ones(len(queries), 1)

    def query_vectors(self, queries: Tensor) -> Tensor:
        return torch.ones(len(queries), 1)

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        return self.items[:, None] if items is None else self.items[items][:, None]


def test_scores_are_asked_without_a_gradient_and_in_full_precision():
    scores = candidate_scores(Learned(), "dns", torch.tensor([0, 1]), torch.tensor([[1, 3], [2, 0]]))
    assert not scores.requires_grad and scores.dtype == torch.float32
    assert scores.tolist() == [[1.0, 3.0], [2.0, 0.0]]
    with pytest.raises(InputError, match=r"dns .*pass scorer"):
        candidate_scores(None, "dns", torch.tensor([0]), torch.tensor([[1]]))


def test_a_row_that_knows_everything_has_no_candidates():
    known = Ragged(torch.tensor([0, 1, 4]), torch.tensor([2, 0, 1, 2]))
    with pytest.raises(InputError, match=r"nothing is left to draw for 1 users who know all 3 items \(first: row 1\)"):
        unknown_candidates(known, 3, seed=0, n=2)
