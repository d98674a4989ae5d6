"""What is the preference sampler's own; the rest is laws."""

import itertools
import math

import pytest
import torch

from rankwell.errors import InputError
from rankwell.losses import sampled_softmax_loss
from rankwell.models import MatrixFactorisation
from rankwell.samplers import GenNiSampler, genni
from rankwell.transforms import correct_log_q
from rankwell.types import Negatives, Ragged

ITEMS = 30
KNOWN = Ragged(torch.tensor([0, 0, 3, 30]), torch.tensor([0, 5, 19, *range(27)]))
"""Nothing, three items, and all but three."""
MODEL = MatrixFactorisation(3, ITEMS, dim=4, init="normal")
MODEL.initialise(KNOWN, seed=0)
USERS = torch.arange(60) % 3


def ask(draw: GenNiSampler, users: torch.Tensor = USERS) -> Negatives:
    return draw(users, torch.arange(len(users)), epoch=1, step=2, scorer=MODEL)


def test_log_q_is_the_softmax_over_what_the_user_does_not_know():
    got = ask(GenNiSampler(KNOWN, ITEMS, seed=3, n=7, candidates=0, temperature=0.5))
    assert got.ids.shape == got.log_q.shape == (60, 7)
    for user, ids, log_q in zip(USERS.tolist(), got.ids.tolist(), got.log_q.tolist(), strict=True):
        left = set(range(ITEMS)) - set(KNOWN.values[KNOWN.offsets[user] : KNOWN.offsets[user + 1]].tolist())
        scores = MODEL.score_all(torch.tensor([user]))[0].tolist()
        total = sum(math.exp(scores[item] / 0.5) for item in left)
        assert log_q == pytest.approx([scores[item] / 0.5 - math.log(total) for item in ids], abs=1e-5)


def test_blocks_change_nothing(monkeypatch):
    whole = ask(GenNiSampler(KNOWN, ITEMS, seed=3, candidates=0))
    monkeypatch.setattr(genni, "BLOCK", 4 * ITEMS)
    parts = ask(GenNiSampler(KNOWN, ITEMS, seed=3, candidates=0))
    assert parts.ids.equal(whole.ids)
    torch.testing.assert_close(parts.log_q, whole.log_q)


def test_from_candidates_it_draws_as_often_as_all_their_cases_say():
    """From two candidates of three items that are left: over all nine pairs."""
    temperature = 0.3
    weights = (MODEL.score_all(torch.tensor([2]))[0, 27:].double() / temperature).exp().tolist()
    chances = [0.0] * 3
    for pair in itertools.product(range(3), repeat=2):
        for item in pair:
            chances[item] += weights[item] / sum(weights[other] for other in pair) / 9
    rows = 30_000
    got = ask(GenNiSampler(KNOWN, ITEMS, seed=5, n=1, candidates=2, temperature=temperature), torch.full((rows,), 2))
    assert got.log_q is None and sum(chances) == pytest.approx(1)
    counts, expected = (got.ids.flatten() - 27).bincount(minlength=3), rows * torch.tensor(chances)
    assert float(((counts - expected) ** 2 / expected).sum()) < 2 + 5 * math.sqrt(4) + 5


@pytest.mark.parametrize("n", [1, 4])
def test_corrected_it_is_the_full_softmax_at_any_number_of_negatives(n):
    """The value is that of the whole catalogue in every draw, and the gradient on average."""
    scores, positive, rows = MODEL.score_all(torch.tensor([1]))[0], 5, 20_000
    got = ask(
        GenNiSampler(KNOWN, ITEMS, seed=1, n=n, candidates=0, temperature=1.0), torch.ones(rows, dtype=torch.int64)
    )
    leaf = scores.clone().requires_grad_()
    neg = correct_log_q(leaf[got.ids], got.log_q, n)
    values = sampled_softmax_loss(leaf[positive].expand(rows), neg, temperature=1.0, reduction="none")
    left = scores.clone()
    left[torch.tensor([0, 19])] = -torch.inf  # the two other known ones
    torch.testing.assert_close(values, -left.log_softmax(0)[positive].expand(rows))
    values.mean().backward()
    full = left.softmax(0) - torch.nn.functional.one_hot(torch.tensor(positive), ITEMS)
    torch.testing.assert_close(leaf.grad, full, atol=0.01, rtol=0)


def test_harder_than_uniform_and_harder_when_colder():
    users = torch.zeros(2_000, dtype=torch.int64)

    def mean_score(**own: object) -> float:
        return float(MODEL.score(users, ask(GenNiSampler(KNOWN, ITEMS, seed=3, **own), users).ids).mean())  # type: ignore[arg-type]

    for candidates in (0, 16):
        warm, mild, cold = (mean_score(candidates=candidates, temperature=t) for t in (1e4, 0.3, 0.03))
        assert abs(warm - float(MODEL.score_all(torch.tensor([0])).mean())) < 0.03 < mild - warm
        assert mild < cold


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="candidates must be a whole number of at least 0: got -1"):
        GenNiSampler(KNOWN, ITEMS, seed=0, candidates=-1)
    with pytest.raises(InputError, match="n must be a whole number of at least 1: got 0"):
        GenNiSampler(KNOWN, ITEMS, seed=0, n=0)
    with pytest.raises(InputError, match="temperature must be above 0: got nan"):
        GenNiSampler(KNOWN, ITEMS, seed=0, temperature=math.nan)
