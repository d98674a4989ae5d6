"""What is the cache's own; the rest is laws."""

from pathlib import Path

import pytest
import torch

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.losses import bpr_loss
from rankwell.models import MatrixFactorisation
from rankwell.samplers import CachedSampler, cached
from rankwell.samplers.candidates import gumbel, unknown_candidates
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.types import Negatives, Ragged

ITEMS = 30
KNOWN = Ragged(torch.tensor([0, 0, 3, 30, 31]), torch.tensor([0, 5, 19, *range(27), 4]))
"""Nothing, three items, all but three, and one."""
MODEL = MatrixFactorisation(4, ITEMS, dim=4, init="normal")
MODEL.initialise(KNOWN, seed=0)


def ask(draw: CachedSampler, users: list[int], samples: list[int] | None = None, epoch: int = 0) -> Negatives:
    keys = torch.tensor(samples or range(len(users)))
    return draw(torch.tensor(users), keys, epoch=epoch, step=0, scorer=MODEL)


def test_a_refresh_by_hand():
    """The cache and the fresh items, each once, by score over temperature plus noise; those of rank 1 to size stay."""
    draw = CachedSampler(KNOWN, ITEMS, seed=3, n=2, size=6, candidates=4, temperature=0.2)
    before = draw.cache.clone()
    got = ask(draw, [3, 1, 3], [8, 4, 7], epoch=2)
    noise_key = keyed.mix(3, 2, cached.REFRESH)
    for user, first in ((1, 4), (3, 7)):  # the lowest sample is the key
        key = torch.tensor([first])
        fresh = unknown_candidates(KNOWN, ITEMS, seed=3, n=4)(torch.tensor([user]), key, epoch=2, step=0).ids[0]
        found, noise = sorted([*before[user].tolist(), *fresh.tolist()]), gumbel(noise_key, key, 10)[0]
        scores = MODEL.score_all(torch.tensor([user]))[0]
        ranked = {item: float(scores[item]) / 0.2 + float(noise[found.index(item)]) for item in found}
        kept = sorted(ranked, key=lambda item: -ranked[item])[:6]
        assert set(kept) <= set(draw.cache[user].tolist())
        assert len(kept) == 6 or len(set(found)) < 6
    assert draw.cache[[0, 2]].equal(before[[0, 2]])
    for user, ids in zip([3, 1, 3], got.ids.tolist(), strict=True):
        assert len(set(ids)) == 2 and set(ids) <= set(draw.cache[user].tolist())


def test_what_a_cache_starts_with_is_unknown_to_its_user(monkeypatch):
    whole = CachedSampler(KNOWN, ITEMS, seed=3, size=12).cache
    assert whole.shape == (4, 12) and whole.dtype == torch.int32
    assert not set(whole[1].tolist()) & {0, 5, 19} and set(whole[2].tolist()) <= {27, 28, 29}
    monkeypatch.setattr(cached, "BLOCK", 3)
    assert CachedSampler(KNOWN, ITEMS, seed=3, size=12).cache.equal(whole)
    assert not CachedSampler(KNOWN, ITEMS, seed=4, size=12).cache.equal(whole)


def test_a_user_is_refreshed_once_a_batch():
    once, twice = (CachedSampler(KNOWN, ITEMS, seed=3, size=10) for _ in range(2))
    ask(once, [1], [5])
    ask(twice, [1, 0, 1, 1], [9, 2, 5, 7])
    assert once.cache[1].equal(twice.cache[1])


def test_a_cache_holds_an_item_once_and_gets_harder():
    users = [0, 1, 3]
    draw = CachedSampler(KNOWN, ITEMS, seed=3, n=4, size=8, candidates=8, temperature=0.05)
    start = float(MODEL.score(torch.tensor(users), draw.cache[users].long()).mean())
    for epoch in range(30):
        ask(draw, users, epoch=epoch)
    for user, own in zip(users, (set(), {0, 5, 19}, {4}), strict=True):
        kept = draw.cache[user].tolist()
        assert len(set(kept)) == 8 and not own & set(kept)
        scores = MODEL.score_all(torch.tensor([user]))[0]
        scores[list(own)] = -torch.inf
        best, mean = float(scores.topk(8).values.mean()), float(scores[kept].mean())
        assert max(start + 0.2, best - 0.15) < mean <= best + 1e-6


def test_softmax_picks_harder_ones_from_the_same_cache():
    def mean_score(pick: str) -> float:
        draw = CachedSampler(KNOWN, ITEMS, seed=3, n=2, size=20, pick=pick, temperature=0.1)  # type: ignore[arg-type]
        users = [0] * 500
        return float(MODEL.score(torch.tensor(users), ask(draw, users).ids).mean())

    assert mean_score("softmax") > mean_score("uniform") + 0.1


def test_few_unknown_items_are_repeated_in_the_cache_and_drawn_once_while_they_last():
    draw = CachedSampler(KNOWN, ITEMS, seed=3, n=4, size=6)
    for epoch in range(3):
        ids = ask(draw, [2] * 50, epoch=epoch).ids.tolist()
        assert all(set(row) == {27, 28, 29} for row in ids)


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="at most all: got n = 9 and a size of 8"):
        CachedSampler(KNOWN, ITEMS, seed=0, n=9, size=8)
    with pytest.raises(InputError, match="candidates must be a whole number of at least 1: got 0"):
        CachedSampler(KNOWN, ITEMS, seed=0, candidates=0)
    with pytest.raises(InputError, match="temperature must be above 0"):
        CachedSampler(KNOWN, ITEMS, seed=0, temperature=-1.0)
    with pytest.raises(UnknownName, match="Did you mean 'uniform'"):
        CachedSampler(KNOWN, ITEMS, seed=0, pick="unifrom")  # type: ignore[arg-type]


def test_an_interrupted_training_goes_on_with_the_cache(tmp_path):
    """Bit for bit: the cache is in the checkpoint."""
    users = torch.repeat_interleave(KNOWN.offsets.diff())

    def train(folder: Path, stop_after: int | None = None) -> torch.Tensor:
        model = MatrixFactorisation(4, ITEMS, dim=4, init="normal")
        model.initialise(KNOWN, seed=0)
        sampler = CachedSampler(KNOWN, ITEMS, seed=0, n=2, size=4, candidates=4)
        objective = ContrastObjective(model, bpr_loss, sampler, seed=0)
        settings = TrainingSettings(epochs=4, batch_size=8)
        fit(objective, (users, KNOWN.values), settings, seed=0, folder=folder, stop_after=stop_after)
        return torch.cat([model.items.detach().flatten(), sampler.cache.flatten().float()])

    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    train(tmp_path / "parts", stop_after=2)
    assert train(tmp_path / "parts").equal(train(tmp_path / "whole"))
