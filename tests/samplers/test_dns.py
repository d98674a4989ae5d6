"""What is dynamic negative sampling's own; the rest is laws."""

import itertools
import math

import pytest
import torch

from rankwell.errors import InputError, UnknownName
from rankwell.models import MatrixFactorisation
from rankwell.samplers import SAMPLERS, DNSSampler
from rankwell.samplers.candidates import unknown_candidates
from rankwell.types import Negatives, Ragged

ITEMS = 30
KNOWN = Ragged(torch.tensor([0, 0, 3, 30]), torch.tensor([0, 5, 19, *range(27)]))
"""Nothing, three items, and all but three."""
MODEL = MatrixFactorisation(3, ITEMS, dim=4, init="normal")
MODEL.initialise(KNOWN, seed=0)
USERS = torch.arange(60) % 3


def ask(draw: DNSSampler, users: torch.Tensor = USERS, **own: object) -> Negatives:
    return draw(users, torch.arange(len(users)), epoch=1, step=2, scorer=MODEL, **own)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 3, 8])
def test_top_k_is_the_best_of_what_is_drawn_by_a_loop(n):
    got = ask(DNSSampler(KNOWN, ITEMS, seed=3, n=n, candidates=8))
    assert got.log_q is None and got.collisions is None
    drawn = unknown_candidates(KNOWN, ITEMS, seed=3, n=8)(USERS, torch.arange(60), epoch=1, step=2).ids
    for user, candidates, ids in zip(USERS.tolist(), drawn.tolist(), got.ids.tolist(), strict=True):
        scores = MODEL.score_all(torch.tensor([user]))[0]
        assert ids == sorted(candidates, key=lambda item: -float(scores[item]))[:n]


def test_of_one_candidate_it_is_a_uniform_draw():
    got = ask(DNSSampler(KNOWN, ITEMS, seed=3, n=1, candidates=1), torch.ones(27_000, dtype=torch.int64))
    counts = got.ids.flatten().bincount(minlength=ITEMS)
    left = torch.ones(ITEMS, dtype=torch.bool)
    left[KNOWN.values[:3]] = False
    assert not counts[~left].any()
    assert float(((counts[left] - 1000) ** 2 / 1000).sum()) < 26 + 5 * math.sqrt(52)


def test_softmax_draws_as_often_as_all_its_cases_say():
    """Two of three candidates, of three items that are left: over all 27 triples and all orders of drawing from them."""
    temperature = 0.3
    weights = (MODEL.score_all(torch.tensor([2]))[0, 27:].double() / temperature).exp().tolist()
    chances = dict.fromkeys(itertools.product(range(3), repeat=2), 0.0)
    for drawn in itertools.product(range(3), repeat=3):
        mine, total = [weights[item] for item in drawn], sum(weights[item] for item in drawn)
        for one, other in itertools.permutations(range(3), 2):  # by place, as two places may hold the same item
            chances[drawn[one], drawn[other]] += mine[one] / total * mine[other] / (total - mine[one]) / 27
    draw = DNSSampler(KNOWN, ITEMS, seed=5, n=2, candidates=3, form="softmax", temperature=temperature)
    rows = 30_000
    cells, counts = (ask(draw, torch.full((rows,), 2)).ids - 27).unique(dim=0, return_counts=True)
    assert sum(chances.values()) == pytest.approx(1)
    expected = torch.tensor([rows * chances[tuple(cell)] for cell in cells.tolist()])
    assert len(cells) == 9 and float(((counts - expected) ** 2 / expected).sum()) < 8 + 5 * math.sqrt(16)


def test_softmax_goes_from_uniform_to_the_top_as_the_temperature_falls():
    users = torch.zeros(2_000, dtype=torch.int64)

    def mean_score(**own: object) -> float:
        ids = ask(DNSSampler(KNOWN, ITEMS, seed=3, n=2, candidates=16, **own), users).ids  # type: ignore[arg-type]
        return float(MODEL.score(users, ids).mean())

    warm, mild, cold = (mean_score(form="softmax", temperature=t) for t in (1e4, 0.3, 1e-4))
    assert abs(warm - float(MODEL.score_all(torch.tensor([0])).mean())) < 0.03 < mild - warm
    assert mild < cold == pytest.approx(mean_score())


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="at most all: got n = 9 and 8 candidates"):
        DNSSampler(KNOWN, ITEMS, seed=0, n=9, candidates=8)
    with pytest.raises(InputError, match="candidates must be a whole number of at least 1: got 0"):
        DNSSampler(KNOWN, ITEMS, seed=0, n=1, candidates=0)
    with pytest.raises(InputError, match="temperature must be above 0: got 0"):
        DNSSampler(KNOWN, ITEMS, seed=0, form="softmax", temperature=0.0)
    with pytest.raises(UnknownName, match="Did you mean 'softmax'"):
        DNSSampler(KNOWN, ITEMS, seed=0, form="softmx")


def test_is_registered():
    entry = SAMPLERS["dns"]
    assert entry.function is DNSSampler and entry.kind == "model"
    assert list(entry.parameters) == ["n", "candidates", "form", "temperature"]
