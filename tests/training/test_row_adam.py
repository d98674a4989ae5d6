import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.training import RowAdam, row_adam


def table(rows: int = 7, dim: int = 3, seed: int = 0) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)))


def look_up(weights: Tensor, rows: list[int], step: int, sparse: bool) -> None:
    """A gradient that differs by place, step and value."""
    looked = functional.embedding(torch.tensor(rows), weights, sparse=sparse)
    slopes = torch.randn(looked.shape, generator=torch.Generator().manual_seed(100 + step))
    (looked * slopes + 0.1 * looked**2).sum().backward()


def train(optimiser: torch.optim.Optimizer, weights: Tensor, batches: list[list[int]], first: int = 0) -> None:
    for step, rows in enumerate(batches, first):
        optimiser.zero_grad()
        look_up(weights, rows, step, sparse=not isinstance(optimiser, torch.optim.AdamW | torch.optim.Adam))
        optimiser.step()


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("rows", [list(range(7)), [3, 1, 0, 6, 5, 2, 4, 3, 3, 0]])
def test_equals_dense_adam_where_every_row_is_in_every_batch(rows, decay):
    ours, theirs = table(), table()
    train(RowAdam([ours], lr=0.05, betas=(0.8, 0.95), weight_decay=decay), ours, [rows] * 6)
    train(torch.optim.AdamW([theirs], lr=0.05, betas=(0.8, 0.95), weight_decay=decay), theirs, [rows] * 6)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


BATCHES = [[1, 5, 1, 1], [0, 2], [5, 5], [6, 1, 0], [2]]


def test_equals_sparse_adam_with_missing_and_repeated_rows():
    ours, theirs = table(), table()
    train(RowAdam([ours], lr=0.05), ours, BATCHES)
    train(torch.optim.SparseAdam([theirs], lr=0.05), theirs, BATCHES)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dim", [3, 4])
def test_few_repeated_rows_among_many(dim):
    """Worked on again, not left out; with four numbers of four bytes, rows are written by sixteen bytes."""
    ours, theirs = table(60, dim), table(60, dim)
    batches = [[*range(40), 7, 3, 7], [*range(20, 60), 59], [*range(50)]]
    train(RowAdam([ours], lr=0.05), ours, batches)
    train(torch.optim.SparseAdam([theirs], lr=0.05), theirs, batches)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_sums_of_repeated_rows_do_not_depend_on_a_race(set_threads):
    """Which occurrence of a row stood for it was what thread wrote last; three numbers in another order are another sum."""
    set_threads(4)
    draw = torch.Generator().manual_seed(0)
    rows, slopes = torch.randint(5_000, (1, 100_000), generator=draw), torch.randn(100_000, 2, generator=draw)
    results = set()
    for _ in range(20):
        weights = table(5_000, 2)
        weights.grad = torch.sparse_coo_tensor(rows, slopes, weights.shape, check_invariants=False)
        RowAdam([weights], lr=0.1).step()
        results.add(weights.detach().numpy().tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("numbers", [1, 6, 1 << 16])
def test_equals_the_formula_in_a_loop(numbers, monkeypatch):
    monkeypatch.setattr(row_adam, "CHUNK_NUMBERS", numbers)
    weights, slow = table(), table().detach().double()
    optimiser = RowAdam([weights], lr=0.1, betas=(0.7, 0.9), eps=1e-6, weight_decay=0.2)
    first, second = torch.zeros(7, 3).double(), torch.zeros(7, 3).double()
    for step, rows in enumerate(BATCHES):
        slopes = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(100 + step)).double()
        for row in set(rows):
            grad = sum(slopes[place] + 0.2 * slow[row] for place, other in enumerate(rows) if other == row)
            first[row] = 0.7 * first[row] + 0.3 * grad
            second[row] = 0.9 * second[row] + 0.1 * grad**2
            spread = (second[row] / (1 - 0.9 ** (step + 1))).sqrt() + 1e-6
            slow[row] = (1 - 0.1 * 0.2) * slow[row] - 0.1 * first[row] / (1 - 0.7 ** (step + 1)) / spread
    train(optimiser, weights, BATCHES)
    torch.testing.assert_close(weights.double(), slow, rtol=1e-5, atol=1e-6)


def test_other_rows_keep_their_bits_and_moments():
    weights = table()
    optimiser = RowAdam([weights], lr=0.1, weight_decay=0.5)
    train(optimiser, weights, [[0, 1, 2, 3, 4, 5, 6]])
    before, moments = weights.detach().clone(), _moments(optimiser)
    train(optimiser, weights, [[2, 5, 2]], first=1)
    untouched = [0, 1, 3, 4, 6]
    assert weights.detach()[untouched].equal(before[untouched])
    assert not (weights.detach()[[2, 5]] == before[[2, 5]]).any()
    for old, new in zip(moments, _moments(optimiser), strict=True):
        assert old[untouched].equal(new[untouched]) and not old[[2, 5]].equal(new[[2, 5]])


def _moments(optimiser: RowAdam) -> list[Tensor]:
    """Whatever of the state has a row for each of the table's."""
    state = optimiser.state_dict()["state"][0].values()
    return [value.clone() for value in state if isinstance(value, Tensor) and value.shape[:1] == (7,)]


def test_state_goes_on_bit_for_bit():
    whole, stopped = table(), table()
    train(RowAdam([whole], lr=0.1), whole, BATCHES)
    early = RowAdam([stopped], lr=0.1)
    train(early, stopped, BATCHES[:2])
    state = copy.deepcopy(early.state_dict())
    resumed = torch.nn.Parameter(stopped.detach().clone())
    later = RowAdam([resumed], lr=0.1)
    later.load_state_dict(state)
    train(later, resumed, BATCHES[2:], first=2)
    assert resumed.equal(whole)


def test_the_same_bits_again():
    tables = [table(), table()]
    for weights in tables:
        train(RowAdam([weights], lr=0.1), weights, BATCHES)
    assert tables[0].equal(tables[1])


def test_several_tables_and_tables_without_a_gradient():
    first, second, idle = table(seed=1), table(5, 4, seed=2), table(seed=3)
    alone, kept = table(seed=1), idle.detach().clone()
    both = RowAdam([first, second, idle], lr=0.1)
    for step, rows in enumerate(BATCHES):
        both.zero_grad()
        look_up(first, rows, step, sparse=True)
        look_up(second, [4, 0, 4], step, sparse=True)
        both.step()
    train(RowAdam([alone], lr=0.1), alone, BATCHES)
    assert first.equal(alone) and idle.equal(kept) and not second.equal(table(5, 4, seed=2))


def test_the_learning_rate_may_change():
    weights = table()
    optimiser = RowAdam([weights], lr=0.1)
    optimiser.param_groups[0]["lr"] = 0.0
    train(optimiser, weights, BATCHES)
    assert weights.equal(table())


def test_a_dense_gradient_is_an_error():
    weights = table()
    look_up(weights, [0, 1], 0, sparse=False)
    with pytest.raises(InputError, match=r"needs sparse gradients of a table .* look it up with sparse=True"):
        RowAdam([weights]).step()
    assert weights.equal(table())


@pytest.mark.parametrize("bad", [{"lr": -1.0}, {"eps": 0.0}, {"betas": (1.0, 0.9)}, {"weight_decay": -0.1}])
def test_settings_out_of_range(bad):
    with pytest.raises(InputError, match="lr and weight_decay must be at least 0"):
        RowAdam([table()], **bad)
