"""Laws of models and samplers, over their registries."""

import math

import pytest
import torch

from rankwell.lists import take_lists
from rankwell.losses import bpr_loss
from rankwell.models import MODELS
from rankwell.samplers import SAMPLERS, UniformSampler
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.types import Ragged

USERS, ITEMS = 12, 16
TASTELESS = {"popularity": "scores are the same for every user"}


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


@pytest.fixture(params=[entry.name for entry in MODELS])
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


@pytest.mark.parametrize("sampler", [entry.name for entry in SAMPLERS])
def test_frequencies_match_log_q(sampler):
    known, _ = chequerboard()
    draw = SAMPLERS[sampler].function(known, ITEMS, seed=0)
    rows = torch.zeros(64, dtype=torch.int64)
    drawn = [draw(rows, torch.arange(64) + 64 * step, epoch=0, step=step) for step in range(40)]
    ids = torch.cat([negatives.ids.flatten() for negatives in drawn])
    q = drawn[0].log_q.flatten().exp()
    counts = torch.bincount(ids, minlength=ITEMS).double()
    expected = torch.full((ITEMS,), float(q[0]) * len(ids), dtype=torch.float64)
    assert q.numel() == 1 or q.allclose(q[0])
    chi_square = ((counts - expected) ** 2 / expected).sum()
    degrees = ITEMS - 1
    assert chi_square < degrees + 4 * math.sqrt(2 * degrees)


@pytest.mark.parametrize("sampler", [entry.name for entry in SAMPLERS])
def test_known_positives_are_marked_or_absent(sampler):
    known, _ = chequerboard()
    draw = SAMPLERS[sampler].function(known, ITEMS, seed=0)
    users = torch.arange(USERS)
    ids, _, collisions = draw(users, users, epoch=0, step=0)
    for user in range(USERS):
        liked = set(take_lists(known, torch.tensor([user])).values.tolist())
        row = (ids if ids.ndim == 1 else ids[user]).tolist()
        marked = [False] * len(row) if collisions is None else collisions[user].tolist()
        assert marked == [item in liked for item in row]
