"""Laws of models, over their registry."""

import math

import pytest
import torch

from rankwell.lists import take_lists
from rankwell.losses import bpr_loss
from rankwell.models import MODELS
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.types import HistoryScorer, Ragged

USERS, ITEMS = 12, 16
TASTELESS = {
    "popularity": "scores are the same for every user",
    "feature_knn": "without features all items score 0",
}


def chequerboard() -> tuple[Ragged, torch.Tensor]:
    """Even users know the even items, odd users the odd ones, but for one held out; gives both."""
    lists, held_out = [], []
    for user in range(USERS):
        liked = list(range(user % 2, ITEMS, 2))
        held_out.append(liked.pop(user // 2 % len(liked)))
        lists.append(liked)
    offsets = torch.tensor([0, *[len(liked) for liked in lists]]).cumsum(0)
    return Ragged(offsets, torch.tensor([item for liked in lists for item in liked])), torch.tensor(held_out)


def trained(name: str) -> torch.nn.Module:
    known, _ = chequerboard()
    entry = MODELS[name]
    model = entry.function(USERS, ITEMS, **({"rank": 2} if "rank" in entry.parameters else {}))
    model.initialise(known, seed=0)
    if model.trainable:
        sampler = UniformSampler(known, ITEMS, seed=0, n=4, shared=False)
        users = torch.repeat_interleave(torch.arange(USERS), known.offsets.diff())
        settings = TrainingSettings(epochs=30, batch_size=16, learning_rate=0.05)
        fit(ContrastObjective(model, bpr_loss, sampler, seed=0), (users, known.values), settings, seed=0)
    return model.eval()


@pytest.fixture(params=[entry.name for entry in MODELS if entry.kind == "interactions"])
def name(request):
    return request.param


def test_the_held_out_item_comes_first(name):
    if name in TASTELESS:
        pytest.skip(TASTELESS[name])
    known, held_out = chequerboard()
    scores = trained(name).score_all(torch.arange(USERS)).detach().clone()
    for user in range(USERS):
        scores[user, take_lists(known, torch.tensor([user])).values] = -math.inf
    assert scores.argmax(1).equal(held_out)


def test_new_users_are_told_by_their_history(name):
    """Two items of one colour, of a user that training did not see: the others of that colour come first."""
    model = trained(name)
    if not isinstance(model, HistoryScorer):
        pytest.skip("it scores users of training alone")
    if name in TASTELESS:
        pytest.skip(TASTELESS[name])
    history = Ragged(torch.tensor([0, 2, 4]), torch.tensor([0, 6, 3, 9]))
    out = torch.empty(2, ITEMS)
    scores = model.score_history(history, out)
    assert scores.data_ptr() == out.data_ptr() and model.num_items == ITEMS
    out[torch.arange(2)[:, None], history.values.view(2, 2)] = -math.inf
    best = out.topk(4).indices % 2
    assert best.equal(torch.tensor([[0], [1]]).expand(2, 4))


def test_same_seed_same_bits(name):
    users = torch.arange(USERS)
    assert trained(name).score_all(users).equal(trained(name).score_all(users))


def test_a_loaded_state_scores_the_same(name):
    model = trained(name)
    entry = MODELS[name]
    fresh = entry.function(USERS, ITEMS, **({"rank": 2} if "rank" in entry.parameters else {}))
    fresh.load_state_dict(model.state_dict())
    users = torch.arange(USERS)
    assert fresh.eval().score_all(users).equal(model.score_all(users))
    out = torch.empty(USERS, ITEMS)
    assert fresh.score_all(users, out=out).data_ptr() == out.data_ptr()
    assert out.equal(model.score_all(users))
