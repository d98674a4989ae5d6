"""EASE, item neighbours and alternating least squares against their formulas in dense float64."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from rankwell.errors import InputError
from rankwell.models import ALS, EASE, MODELS, ItemKNN, history
from rankwell.types import Ragged

USERS, ITEMS = 31, 17


@pytest.fixture(scope="module")
def known() -> tuple[Ragged, Tensor]:
    """Random interactions; the last user and the last item have none."""
    matrix = torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(2)) < 0.3
    matrix[-1], matrix[:, -1] = False, False
    return Ragged(torch.cat([torch.zeros(1), matrix.sum(1).cumsum(0)]).long(), matrix.nonzero()[:, 1]), matrix.double()


def test_ease_solves_the_ridge_regressions_of_each_item_on_the_others(known):
    lists, matrix = known
    model = EASE(USERS, ITEMS, regularisation=3.0)
    model.initialise(lists, seed=0)
    # A second derivation: each column on its own, by least squares without that item.
    for item in range(ITEMS):
        others = [other for other in range(ITEMS) if other != item]
        rows = matrix[:, others]
        own = torch.linalg.solve(rows.T @ rows + 3.0 * torch.eye(ITEMS - 1), rows.T @ matrix[:, item])
        torch.testing.assert_close(model.weights[others, item].double(), own, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.score_all(torch.arange(USERS)).double(), matrix @ model.weights.double())


@pytest.mark.parametrize("shrinkage", [0.0, 5.0])
@pytest.mark.parametrize("k", [1, 4, 100])
def test_neighbours_are_the_most_alike(known, k, shrinkage, monkeypatch):
    lists, matrix = known
    monkeypatch.setattr(history, "BLOCK_VALUES", 5 * USERS)  # blocks of five items
    model = ItemKNN(USERS, ITEMS, k=k, shrinkage=shrinkage)
    model.initialise(lists, seed=0)
    degrees = matrix.sum(0)
    alike = (matrix.T @ matrix / (torch.outer(degrees, degrees).sqrt() + shrinkage)).nan_to_num().fill_diagonal_(0)
    kept = torch.zeros_like(alike)
    for item in range(ITEMS):
        best = sorted(range(ITEMS), key=lambda other, item=item: (-round(float(alike[other, item]), 9), other))[:k]
        kept[best, item] = alike[best, item]
    torch.testing.assert_close(model.score_all(torch.arange(USERS)).double(), matrix @ kept, atol=1e-6, rtol=1e-5)


def test_new_histories_are_scored(known):
    for model in (EASE(USERS, ITEMS), ItemKNN(USERS, ITEMS)):
        model.initialise(known[0], seed=0)
        trained = model.score_all(torch.tensor([3, 5]))
        offsets = known[0].offsets
        lists = [known[0].values[offsets[user] : offsets[user + 1]] for user in (3, 5)]
        new = Ragged(torch.tensor([0, len(lists[0]), len(lists[0]) + len(lists[1])]), torch.cat(lists))
        assert model.score_history(new).equal(trained)
        assert model.score_history(Ragged(torch.tensor([0, 0]), torch.zeros(0, dtype=torch.int64))).eq(0).all()


def test_als_is_at_rest(known):
    """At the minimum each user's vector solves its own weighted ridge regression (Hu et al., eq. 4)."""
    pytest.importorskip("implicit", reason="als needs the extra als")
    lists, matrix = known
    model = ALS(USERS, ITEMS, dim=3, alpha=4.0, regularisation=2.0, iterations=200)
    model.initialise(lists, seed=0)
    users, items = model.users.double(), model.items.double()
    weights = 1 + 3.0 * matrix
    for user in range(USERS):
        weighted = items.T * weights[user]
        own = torch.linalg.solve(weighted @ items + 2.0 * torch.eye(3), weighted @ matrix[user])
        np.testing.assert_allclose(users[user], own, atol=2e-2)


def test_arguments_are_checked():
    with pytest.raises(InputError, match="at most 30,000 items: got 40,000"):
        EASE(1, 40_000)
    with pytest.raises(InputError, match="regularisation must be above 0: got 0"):
        EASE(1, 1, regularisation=0.0)
    with pytest.raises(InputError, match="k must be"):
        ItemKNN(1, 1, k=0)
    with pytest.raises(InputError, match="shrinkage must be at least 0: got -1"):
        ItemKNN(1, 1, shrinkage=-1.0)
    with pytest.raises(InputError, match="alpha must be above 0"):
        ALS(1, 1, alpha=0.0)


def test_they_are_registered():
    assert {"als", "ease", "item_knn"} <= {entry.name for entry in MODELS}


def test_als_says_nothing_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("implicit.utils._checked_blas_config", False)  # it warns once a process
    model = ALS(2, 3, dim=2)
    with threadpool_limits(2, "blas"):  # of which implicit warns, and warnings are errors here
        model.initialise(Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 2])), seed=0)
    assert model.items.abs().sum() > 0
