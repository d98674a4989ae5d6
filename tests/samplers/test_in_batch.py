import math
from pathlib import Path

import pytest
import torch

from rankwell.errors import InputError, UnknownName
from rankwell.losses import sampled_softmax_loss
from rankwell.models import MatrixFactorisation
from rankwell.samplers import InBatchSampler, MixedSampler
from rankwell.samplers.frequencies import PositiveFrequencies
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.types import Negatives, Ragged

KNOWN = Ragged(torch.tensor([0, 2, 3, 5]), torch.tensor([1, 4, 4, 0, 4]))
"""Shares: item 0 and 1 a fifth, item 4 three fifths, items 2 and 3 nothing."""
USERS, POSITIVES = torch.tensor([0, 2, 1]), torch.tensor([4, 0, 4])


def ask(sampler, positives: torch.Tensor | None = POSITIVES, users: torch.Tensor = USERS) -> Negatives:
    return sampler(users, torch.arange(len(users)), epoch=0, step=0, positives=positives)


def test_the_pool_is_the_batchs_positives():
    got = ask(InBatchSampler(KNOWN, 5, seed=0))
    assert got.ids.tolist() == [0, 4, 4]
    torch.testing.assert_close(got.log_q.exp(), torch.tensor([0.2, 0.6, 0.6]))
    assert got.collisions.tolist() == [[False, True, True], [True, True, True], [False, True, True]]


def test_keep_marks_the_own_positive_alone():
    got = ask(InBatchSampler(KNOWN, 5, seed=0, collisions="keep"))
    assert got.collisions.tolist() == [[False, True, True], [True, False, False], [False, True, True]]


def test_masked_repeats_count_an_item_once_a_batch():
    positives, users = torch.tensor([1, 1, 0, 2]), torch.tensor([1, 1, 1, 1])
    got = ask(InBatchSampler(KNOWN, 5, seed=0, repeats="mask", collisions="keep"), positives, users)
    assert got.ids.tolist() == [0, 1, 1, 2]
    assert got.collisions.tolist() == [
        [False, True, True, False],
        [False, True, True, False],
        [True, False, True, False],
        [False, False, True, True],
    ]
    there = torch.tensor([0.2, 0.2, 0.2, 0.2])  # item 2, which nobody knows, counts once
    torch.testing.assert_close(4 * got.log_q.exp(), 1 - (1 - there) ** 4)


def test_several_positives_a_row():
    got = ask(InBatchSampler(KNOWN, 5, seed=0, collisions="keep"), torch.tensor([[1, 4], [0, 4]]), torch.tensor([0, 2]))
    assert got.ids.tolist() == [0, 1, 4, 4]
    assert got.collisions.tolist() == [[False, True, True, True], [True, False, True, True]]


def test_a_mixture_states_the_mixtures_probability():
    got = ask(MixedSampler(KNOWN, 5, seed=0, n=60))
    assert got.ids.shape == (63,) and set(got.ids.tolist()) == set(range(5))
    share = torch.tensor([0.2, 0.2, 0.0, 0.0, 0.6])
    torch.testing.assert_close(got.log_q.exp(), ((3 * share + 60 / 5) / 63)[got.ids])
    for row, own in enumerate(({1, 4}, {0, 4}, {4})):
        assert got.collisions[row].tolist() == [item in own for item in got.ids.tolist()]


@pytest.mark.parametrize("kind", [InBatchSampler, MixedSampler])
def test_positives_are_needed(kind):
    with pytest.raises(InputError, match="draws from the batch's positives: pass positives"):
        ask(kind(KNOWN, 5, seed=0), None)


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="a pool shared by the batch cannot redraw"):
        InBatchSampler(KNOWN, 5, seed=0, collisions="redraw")
    with pytest.raises(UnknownName, match="Did you mean 'streaming'"):
        InBatchSampler(KNOWN, 5, seed=0, frequencies="stream")
    with pytest.raises(UnknownName, match="Known: keep, mask"):
        InBatchSampler(KNOWN, 5, seed=0, repeats="x")
    with pytest.raises(InputError, match="rate must be above 0 and at most 1: got 0"):
        MixedSampler(KNOWN, 5, seed=0, rate=0.0)


def test_streaming_by_hand():
    """Rate 1/2, batches [0, 0, 1] and [1]: item 0 came twice within 3 rows, item 1 once in 3 and once in 1."""
    estimate = PositiveFrequencies(KNOWN, 5, "streaming", 0.5)
    torch.testing.assert_close(estimate(torch.arange(5)).exp(), torch.full((5,), 1 / 5))
    estimate.update(torch.tensor([0, 0, 1]))
    estimate.update(torch.tensor([1]))
    expected = [(1 + 2) / 2 / ((5 + 3) / 2), 1 / (((5 + 3) / 2 + 1) / 2), 0.2, 0.2, 0.2]
    torch.testing.assert_close(estimate(torch.arange(5)).exp(), torch.tensor(expected))


@pytest.mark.parametrize("batch", [8, 16, 200])
def test_streaming_comes_to_the_true_frequencies(batch):
    share = torch.tensor([0.5, 0.25, 0.15, 0.08, 0.02])
    estimate, generator = PositiveFrequencies(KNOWN, 5, "streaming", 0.02), torch.Generator().manual_seed(0)
    seen = []
    for step in range(3000):
        estimate.update(torch.multinomial(share, batch, replacement=True, generator=generator))
        if step >= 1500:
            seen.append(estimate(torch.arange(5)).exp())
    torch.testing.assert_close(torch.stack(seen).mean(0), share, rtol=0.12, atol=0)


def test_streaming_follows_a_drift():
    estimate = PositiveFrequencies(KNOWN, 5, "streaming", 0.2)
    for _ in range(100):
        estimate.update(torch.tensor([0, 0, 0, 1]))
    assert estimate(torch.tensor([0])).exp().item() == pytest.approx(0.75, rel=1e-3)
    for _ in range(100):
        estimate.update(torch.tensor([0, 1, 1, 1]))
    assert estimate(torch.tensor([0])).exp().item() == pytest.approx(0.25, rel=1e-3)


def test_state_is_what_streams_and_nothing_else():
    assert not InBatchSampler(KNOWN, 5, seed=0).state_dict()
    one, two = (MixedSampler(KNOWN, 5, seed=0, n=4, frequencies="streaming") for _ in range(2))
    ask(one)
    two.load_state_dict(one.state_dict())
    assert ask(one).log_q.equal(ask(two).log_q)
    assert math.isfinite(float(ask(one).log_q.sum()))


def test_an_interrupted_training_goes_on_with_what_was_seen(tmp_path):
    """Bit for bit, with streaming frequencies: the estimate is in the checkpoint."""
    users = torch.repeat_interleave(KNOWN.offsets.diff())

    def train(folder: Path, stop_after: int | None = None) -> torch.Tensor:
        model = MatrixFactorisation(3, 5, dim=4, init="normal")
        model.initialise(KNOWN, seed=0)
        sampler = MixedSampler(KNOWN, 5, seed=0, n=8, frequencies="streaming")
        objective = ContrastObjective(model, sampled_softmax_loss, sampler, seed=0, correct=True)
        settings = TrainingSettings(epochs=4, batch_size=2)
        fit(objective, (users, KNOWN.values), settings, seed=0, folder=folder, stop_after=stop_after)
        return torch.cat([model.items.detach().flatten(), sampler.frequencies.gap])

    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    train(tmp_path / "parts", stop_after=2)
    assert train(tmp_path / "parts").equal(train(tmp_path / "whole"))
