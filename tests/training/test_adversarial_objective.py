"""Generator and critic: who moves when, on which values, and that playing on does no harm on data whose ideal is known."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rankwell.data import synthesise
from rankwell.errors import ConfigError, InputError, UnknownName
from rankwell.evaluation import evaluate
from rankwell.losses import LOSSES, as_contrast, gan_discriminator_loss, sampled_softmax_loss
from rankwell.metrics import Measure
from rankwell.models import MatrixFactorisation
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.training.adversarial_objective import AdversarialObjective, Critic
from rankwell.types import Negatives, Ragged

USERS, ITEMS, TEMPERATURE = 10, 8, 0.5
PAIRS = (
    torch.arange(USERS).repeat_interleave(3),
    torch.tensor([(2 * u + j) % ITEMS for u in range(USERS) for j in (0, 1, 3)]),
)
KNOWN = Ragged(torch.arange(0, 31, 3), PAIRS[1].view(USERS, 3).sort().values.flatten())
IRGAN = as_contrast(LOSSES["irgan_generator"])


class Row:
    users, items, index, weights = *(column[4:11] for column in PAIRS), torch.arange(4, 11), None


def model(dropout: float = 0.0) -> MatrixFactorisation:
    made = MatrixFactorisation(USERS, ITEMS, dim=3, dropout=dropout, init="normal")
    made.initialise(KNOWN, seed=0)
    return made


def game(sampler: Any = None, of: Any = None, dropout: float = 0.0, **own: Any) -> AdversarialObjective:
    of = of or model(dropout)
    return AdversarialObjective(
        of,
        partial(IRGAN.function, temperature=TEMPERATURE),
        sampler or UniformSampler(KNOWN, ITEMS, seed=0, n=4),
        seed=0,
        inputs=IRGAN.inputs,
        rival=Critic(of, KNOWN, seed=0, temperature=TEMPERATURE, **own),
    )


def settings(**own: Any) -> TrainingSettings:
    return TrainingSettings(**{"epochs": 4, "batch_size": 7, "learning_rate": 0.05, "patience": 0, **own})


def weights(of: Any) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in of.state_dict().values()]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(a.equal(b) for a, b in zip(left, right, strict=True))


def test_the_generator_s_value_is_minus_the_reward_that_its_policy_expects():
    made = game(UniformSampler(KNOWN, ITEMS, seed=0, n=4, shared=False, collisions="mask"), warm_epochs=0)
    first = next(made.plays(Row, epoch=0, step=0))
    drawn = made.sampler(Row.users, Row.index, epoch=0, step=0, positives=Row.items, scorer=made.model)
    values = []
    for row, (user, item) in enumerate(zip(Row.users, Row.items, strict=True)):
        kept = [j for j in range(4) if not drawn.collisions[row, j]]
        items = torch.tensor([item, *drawn.ids[row, kept]])
        scores, critic = (each.score(user[None], items)[0] / TEMPERATURE for each in (made.model, made.groups["rival"]))
        mass = scores.exp()
        mass[1:] /= 4 / ITEMS  # n q of a uniform draw
        values.append(-(mass / mass.sum() * (2 * critic.sigmoid() - 1)).sum())
    assert first.value.item() == pytest.approx(torch.stack(values).mean().item(), rel=1e-5)


@pytest.mark.parametrize("reward", ["log", "score"])
def test_other_rewards(reward):
    values = [next(game(warm_epochs=0, reward=name).plays(Row, epoch=0, step=0)).value for name in (reward, "bounded")]
    assert values[0] != values[1]
    if reward == "log":
        assert values[0] < 0  # rewards above 0


def test_the_critic_s_value_is_the_discriminator_s_loss_of_what_was_drawn(monkeypatch):
    made = game(warm_epochs=0, form="hinge", draws=5)
    shown = {}
    drawn = Critic._drawn

    def noting(self, *given):
        shown["ids"], there = drawn(self, *given)
        return shown["ids"], there

    monkeypatch.setattr(Critic, "_drawn", noting)
    _, second = made.plays(Row, epoch=0, step=0)
    critic = made.groups["rival"]
    pos, neg = (critic.score(Row.users, ids) / TEMPERATURE for ids in (Row.items[:, None], shown["ids"]))
    assert shown["ids"].shape == (7, 5)
    assert second.value.item() == pytest.approx(gan_discriminator_loss(pos[:, 0], neg, form="hinge").item(), rel=1e-5)
    assert (second.group, second.every) == ("rival", 1)


def test_the_critic_is_shown_what_the_policy_draws_and_nothing_known():
    pool = torch.tensor([0, 1, 2, 5])
    log_q = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    collisions = torch.zeros(7, 4, dtype=torch.bool)
    collisions[:, 1] = True
    made = game(lambda *_, **__: Negatives(pool, log_q, collisions), warm_epochs=0, draws=4000)
    next(made.plays(Row, epoch=0, step=0))
    critic = made.rival
    ids, there = critic._drawn(made.model, critic._seen, torch.Generator().manual_seed(0))
    assert there.all() and not (ids == 1).any()
    expected = (made.model.score(Row.users, pool) / TEMPERATURE - log_q).masked_fill(collisions, -torch.inf).softmax(1)
    counts = torch.stack([(ids == item).sum(1) for item in pool], 1)
    chi = ((counts - 4000 * expected) ** 2 / (4000 * expected).clamp(min=1e-9))[:, [0, 2, 3]].sum(1)
    assert (chi < 16).all()  # two degrees of freedom: p = .0003


def test_a_row_without_negatives_plays_by_its_positive():
    everything = Negatives(torch.tensor([0, 1]), None, torch.ones(7, 2, dtype=torch.bool))
    made = game(lambda *_, **__: everything, warm_epochs=0)
    values = [play.value for play in made.plays(Row, epoch=0, step=0)]
    critic = made.groups["rival"].score(Row.users, Row.items[:, None])[:, 0] / TEMPERATURE
    assert values[0].item() == pytest.approx(-(2 * critic.sigmoid() - 1).mean().item(), rel=1e-5)
    assert values[1].item() == pytest.approx(torch.nn.functional.softplus(-critic).mean().item(), rel=1e-5)


def test_the_start_is_the_supervised_generator_bit_for_bit():
    alone = ContrastObjective(
        model(0.2),
        partial(sampled_softmax_loss, temperature=TEMPERATURE),
        UniformSampler(KNOWN, ITEMS, seed=0, n=4),
        seed=0,
        correct=True,
        temperature=TEMPERATURE,
    )
    fit(alone, PAIRS, settings(), seed=0, stop_after=2)
    played = game(dropout=0.2, warm_epochs=2)
    fit(played, PAIRS, settings(), seed=0, stop_after=2)
    torch.testing.assert_close(weights(played.model), weights(alone.model), atol=1e-5, rtol=1e-4)
    fit(played, PAIRS, settings(), seed=0, stop_after=3)
    assert not same(weights(played.model), weights(alone.model))


@pytest.mark.parametrize("every", [1, 3])
def test_players_move_in_turn_each_by_its_own_optimiser(every):
    made = game(warm_epochs=1, every=every)
    seen: list[tuple[list[Tensor], list[Tensor]]] = []

    class Noting:
        groups = made.groups

        def plays(self, batch: Any, **where: Any) -> Any:
            for play in made.plays(batch, **where):
                seen.append((weights(self.groups["model"]), weights(self.groups["rival"])))
                yield play

    fit(Noting(), PAIRS, settings(epochs=2), seed=0)
    seen.append((weights(made.groups["model"]), weights(made.groups["rival"])))
    for step in range(10):
        before, between, after = seen[2 * step : 2 * step + 3]
        assert not same(before[0], between[0]) and same(before[1], between[1])  # the generator's play
        assert same(between[0], after[0])  # the critic's
        assert same(between[1], after[1]) != (step % 5 % every == 0)


def test_training_goes_on_bit_for_bit(tmp_path: Path):
    """Interrupted in the middle of the game: both players and both optimisers."""
    whole, begun, resumed = (game(dropout=0.2, warm_epochs=1, every=2) for _ in range(3))
    fit(whole, PAIRS, settings(), seed=0)
    fit(begun, PAIRS, settings(), seed=0, stop_after=2, folder=tmp_path)
    fit(resumed, PAIRS, settings(), seed=0, folder=tmp_path)
    for name in ("model", "rival"):
        assert same(weights(whole.groups[name]), weights(resumed.groups[name]))
        assert not same(weights(whole.groups[name]), weights(begun.groups[name]))


def test_the_run_s_model_may_play_the_critic():
    of = model()
    made = game(of=of, result="discriminator")
    assert made.groups["model"] is of is made.rival.model and made.groups["rival"] is made.model is not of
    assert [play.group for play in made.plays(Row, epoch=0, step=0)] == ["rival", "model"]


def played(warm_epochs: int, epochs: int, **own: Any) -> list[float]:
    """NDCG@20 on test pairs, at the start and after each epoch; the ideal ranking has .73."""
    users, items = 200, 60
    data = synthesise(users, items, interactions_per_user=12, clusters=4, affinity=3.5, noise=0.2, seed=3)
    known, held_out = data.train.known(), data.test.known()
    of = MatrixFactorisation(users, items, dim=4)
    of.initialise(known, seed=0)
    made = AdversarialObjective(
        of,
        partial(IRGAN.function, temperature=0.2),
        UniformSampler(known, items, seed=0, n=30, shared=False),
        seed=0,
        inputs=IRGAN.inputs,
        rival=Critic(of, known, seed=0, temperature=0.2, warm_epochs=warm_epochs, **own),
    )

    def judged() -> dict[str, float]:
        return evaluate(of, [Measure.parse("ndcg@20")], known=known, held_out=held_out).means()

    start = judged()["ndcg@20"]
    run = fit(
        made,
        data.train.tensors(),
        TrainingSettings(epochs=epochs, batch_size=256, learning_rate=0.01, patience=0),
        seed=0,
        validate=judged,
        monitor="ndcg@20",
    )
    return [start, *(record.validation["ndcg@20"] for record in run.epochs)]


@pytest.mark.parametrize(("reward", "form"), [("bounded", "minimax"), ("log", "minimax"), ("score", "wasserstein")])
def test_the_generator_does_not_fall_below_its_start(reward, form):
    """Neither below where training began nor, by more than a hundredth, below where the supervised epochs left it."""
    curve = played(3, 12, reward=reward, form=form)
    assert min(curve[4:]) > max(curve[0], curve[3] - 0.01)


def test_the_critic_may_be_what_is_trained():
    curve = played(1, 4, result="discriminator")
    assert max(curve[1:]) > curve[0] and min(curve) > 0.5


@pytest.mark.parametrize(
    ("own", "kind", "said"),
    [
        ({"reward": "bouned"}, UnknownName, "unknown value of reward 'bouned'"),
        ({"form": "non_saturating"}, UnknownName, "unknown value of form"),
        ({"result": "both"}, UnknownName, "unknown value of result"),
        ({"draws": 0}, InputError, "draws must be a whole number of at least 1"),
        ({"every": 0}, InputError, "every must be a whole number of at least 1"),
        ({"warm_epochs": -1}, InputError, "warm_epochs must be"),
    ],
)
def test_settings_out_of_range(own, kind, said):
    with pytest.raises(kind, match=said):
        game(**own)


def test_a_game_needs_a_rival():
    with pytest.raises(ConfigError, match="a game needs a rival"):
        AdversarialObjective(model(), IRGAN.function, UniformSampler(KNOWN, ITEMS, seed=0, n=4), seed=0)
