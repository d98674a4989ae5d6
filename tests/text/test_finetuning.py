"""A few steps of fine-tuning on a handful of pairs."""

import copy
import math

import pytest
import torch

from rankwell.errors import ConfigError, InputError, RunError
from rankwell.text.encoder import load_encoder
from rankwell.text.finetuning import FinetuneSettings, _Codes, finetune

# Who likes what goes against what the words say, so that there is something to learn.
PAIRS = [
    ("likes the sea", "a book on mountains"),
    ("likes mountains", "a film on deserts"),
    ("likes deserts", "a song of the sea"),
    ("likes cats", "a leash for dogs"),
    ("likes dogs", "a cage for birds"),
    ("likes birds", "a bed for cats"),
]


def cosines(encoder):
    users, items = (encoder.encode([pair[side] for pair in PAIRS]) for side in (0, 1))
    return users @ items.T


@pytest.fixture
def encoder(minilm):
    return copy.deepcopy(minilm)


def test_positives_move_closer_than_negatives(tmp_path, encoder):
    before, told = cosines(encoder), []
    settings = FinetuneSettings(epochs=8, batch_size=6, learning_rate=1e-4, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        losses = finetune(encoder, PAIRS, settings, out=tmp_path / "model", progress=lambda *said: told.append(said))
        state = torch.random.get_rng_state()
        torch.manual_seed(5)
        assert state.equal(torch.random.get_rng_state())  # torch's own generator is left alone
    assert len(losses) == 8 and losses[-1] < losses[0] / 4
    assert [said[:2] for said in told] == [(step, 8) for step in range(1, 9)] and told[-1][2] == losses[-1]
    after = cosines(encoder)
    gaps = [(x.diagonal()[:, None] - x)[~torch.eye(6, dtype=torch.bool)] for x in (before, after)]
    assert (gaps[0] > 0).double().mean() < 0.8 and (gaps[1] > 0).all()
    assert not encoder.model.training
    again = load_encoder(str(tmp_path / "model"), device="cpu")
    torch.testing.assert_close(cosines(again), after, atol=1e-5, rtol=0)
    with pytest.raises(RunError, match="exists"):
        finetune(encoder, PAIRS, out=tmp_path / "model")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_the_same_seed_gives_the_same_losses(minilm):
    settings = FinetuneSettings(batch_size=4, seed=3)
    first, second = (finetune(copy.deepcopy(minilm), PAIRS, settings) for _ in range(2))
    assert first == second and len(first) == 2


def test_the_loss_is_the_formula_in_the_batch(minilm, encoder):
    for module in encoder.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    scores = cosines(minilm)
    settings = FinetuneSettings(batch_size=6, temperature=0.5)
    expected = sum(
        math.log1p(math.exp(-(scores[row, row] - scores[row, column]).item() / 0.5)) / 5
        for row in range(6)
        for column in range(6)
        if row != column
    )
    assert finetune(encoder, PAIRS, settings)[0] == pytest.approx(expected / 6, rel=1e-4)


def test_no_pair_of_the_data_is_a_negative():
    pairs = [("a", "x"), ("a", "y"), ("b", "y"), ("c", "z"), ("c", "x")]
    where = _Codes(pairs).where(torch.tensor([0, 2, 3]))
    assert where.tolist() == [[True, False, True], [True, True, True], [False, True, True]]


def test_arguments(minilm):
    with pytest.raises(InputError, match="at least two pairs"):
        finetune(minilm, PAIRS[:1])
    with pytest.raises(ConfigError, match="batch_size 1"):
        FinetuneSettings(batch_size=1)
    with pytest.raises(ConfigError, match="temperature 0"):
        FinetuneSettings(temperature=0)
