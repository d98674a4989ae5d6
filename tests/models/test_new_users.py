"""Users that training did not see, by their histories: what each model makes of them."""

import pytest
import torch

from rankwell.models import ALS, MODELS, MatrixFactorisation, Popularity
from rankwell.similarity import normalise
from rankwell.types import HistoryScorer, Ragged

KNOWN = Ragged(torch.tensor([0, 2, 4, 5]), torch.tensor([0, 1, 0, 2, 3]))
NEW = Ragged(torch.tensor([0, 2, 2, 5]), torch.tensor([1, 3, 0, 1, 2]))


def test_als_solves_its_own_problem():
    model = ALS(3, 4, dim=2, alpha=5.0, regularisation=0.3)
    model.items.copy_(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)))
    users = []
    for items in ([1, 3], [], [0, 1, 2]):
        known = torch.zeros(4)
        known[items] = 1
        confidence = torch.diag(1 + (5.0 - 1) * known)
        left = model.items.T @ confidence @ model.items + 0.3 * torch.eye(2)
        users.append(torch.linalg.solve(left, model.items.T @ confidence @ known))
    torch.testing.assert_close(model.score_history(NEW), torch.stack(users) @ model.items.T)
    assert model.score_history(Ragged(torch.tensor([0]), KNOWN.values[:0])).shape == (0, 4)


def test_als_without_regularisation_has_a_finite_answer():
    model = ALS(3, 4, dim=3, regularisation=0.0)
    model.items.copy_(torch.tensor([[1.0, 0.0, 0.0]] * 4))  # two dimensions are free
    assert model.score_history(NEW).isfinite().all()


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_factorisation_takes_the_mean(similarity):
    model = MatrixFactorisation(3, 4, dim=2, similarity=similarity)
    model.initialise(KNOWN, seed=0)
    items = model.items.detach()
    items = normalise(items) if similarity == "cosine" else items
    first = (items[1] + items[3]) / 2
    expected = items @ (normalise(first) if similarity == "cosine" else first)
    out = torch.empty(3, 4)
    assert model.score_history(NEW, out).data_ptr() == out.data_ptr()
    torch.testing.assert_close(out[0], expected)
    assert out[1].tolist() == [0.0] * 4  # who knows nothing


def test_popularity_is_the_same_for_new_users():
    model = Popularity(3, 4)
    model.initialise(KNOWN, seed=0)
    assert model.score_history(NEW).tolist() == [[2.0, 1.0, 1.0, 1.0]] * 3


def test_who_can():
    of_interactions = [entry for entry in MODELS if entry.kind == "interactions"]
    assert {entry.name for entry in of_interactions if not hasattr(entry.function, "score_history")} == {"neumf"}
    assert isinstance(ALS(2, 2), HistoryScorer)
