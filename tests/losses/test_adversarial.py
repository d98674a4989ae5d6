"""Losses of two players: by hand, against their formulas, gradients by the adversary, and small games played."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor, nn, tensor
from torch.nn import functional
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import (
    LOSSES,
    adversarial_info_nce_loss,
    gan_discriminator_loss,
    gan_generator_loss,
    gradient_penalty,
    irgan_generator_loss,
    sampled_softmax_loss,
    scaled_cross_entropy_loss,
)
from rankwell.losses.cases import cases
from rankwell.losses.laws import gradients
from rankwell.training import Play, TrainingSettings, fit

CONTRAST = LOSSES["bpr"]
ROWS = torch.zeros(2), torch.zeros(2, 3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --------------------------------------------------------------------------------------------------- adversarial InfoNCE


def test_adversarial_info_nce():
    """Hardness log(1, 2, 5) has shares 1/8, 2/8, 5/8 of three negatives."""
    value = adversarial_info_nce_loss(
        tensor([0.3]),
        tensor([[0.1, 0.5, 0.2]]),
        hardness=tensor([[1.0, 2.0, 5.0]]).log(),
        scale=4.0,
        temperature=0.2,
    )
    mass = 3 / 8 * exp(-1.0) + 6 / 8 * exp(1.0) + 15 / 8 * exp(-0.5)
    assert_close(value, tensor(log(1 + 4 * mass)))


def test_without_hardness_or_with_equal_hardness_it_is_the_sampled_softmax():
    for case in cases(CONTRAST):
        expected = gradients(partial(sampled_softmax_loss, temperature=0.3), case, case.args)
        for hardness in (None, torch.full_like(case.args["neg"], 0.7)):
            loss = partial(adversarial_info_nce_loss, hardness=hardness, temperature=0.3)
            for ours, other in zip(gradients(loss, case, case.args), expected, strict=True):
                assert_close(ours, other)
    scaled = partial(adversarial_info_nce_loss, scale=7.0)
    assert_close(scaled(*ROWS), scaled_cross_entropy_loss(*ROWS, scale=7.0))


def test_hardness_multiplies_the_exponentials_and_does_not_shift_the_scores():
    """Added to the scores as n p itself, it would be 0.5 and 1.5 in the exponent."""
    value = adversarial_info_nce_loss(tensor([0.0]), tensor([[0.0, 0.0]]), hardness=tensor([[0.0, log(3)]]))
    assert_close(value, tensor(log(1 + 0.5 + 1.5)))
    assert abs(value.item() - log(1 + exp(0.5) + exp(1.5))) > 0.5


def test_gradient_by_hardness_is_that_of_finite_differences():
    for case in cases(CONTRAST, dtype=torch.double):
        hardness = torch.randn(case.args["neg"].shape, dtype=torch.double, generator=seeded(), requires_grad=True)

        def values(hardness: Tensor, case: Any = case) -> Tensor:
            return adversarial_info_nce_loss(**case.args, hardness=hardness, temperature=0.5, reduction="none")

        assert torch.autograd.gradcheck(values, hardness)
        assert torch.autograd.gradgradcheck(values, hardness)


def test_hardness_behind_the_mask_is_absent():
    for case in cases(LOSSES["adversarial_info_nce"], inputs=True):
        loss = adversarial_info_nce_loss
        clean = gradients(loss, case, case.args)
        for junk in (torch.nan, torch.inf, -torch.inf):
            hardness = case.args["hardness"].masked_fill(~case.args["where"], junk).requires_grad_()
            for ours, expected in zip(gradients(loss, case, {**case.args, "hardness": hardness}), clean, strict=True):
                assert torch.equal(ours, expected)
            (slope,) = torch.autograd.grad(loss(**{**case.args, "hardness": hardness}), hardness)
            assert slope.isfinite().all()
            assert not slope[~case.args["where"]].any()


def test_hardness_of_sixty_keeps_the_gradient():
    hardness = tensor([[0.0, 60.0, -1e4]], requires_grad=True)
    neg = tensor([[5.0, 1.0, 2.0]], requires_grad=True)
    value = adversarial_info_nce_loss(tensor([0.0]), neg, hardness=hardness)
    assert_close(value, tensor(log(1 + 3 * exp(1.0))))
    value.backward()
    share = 3 * exp(1.0) / (1 + 3 * exp(1.0))
    assert_close(neg.grad, tensor([[0.0, share, 0.0]]))
    assert hardness.grad.isfinite().all()


@pytest.mark.parametrize("hardness", [torch.zeros(2), torch.zeros(3), torch.zeros(2, 3, dtype=torch.int64)])
def test_hardness_is_one_number_a_negative(hardness):
    with pytest.raises(InputError, match=r"hardness must be floating point, one a negative, \(2, 3\)"):
        adversarial_info_nce_loss(*ROWS, hardness=hardness)


@pytest.mark.parametrize("name", ["temperature", "scale"])
def test_parameters_of_adversarial_info_nce_are_above_zero(name):
    for hardness in (None, torch.zeros(2, 3)):
        with pytest.raises(InputError, match=f"{name} must be above 0"):
            adversarial_info_nce_loss(*ROWS, hardness=hardness, **{name: 0.0})


class Table(nn.Module):
    """A number for each user and item."""

    def __init__(self, users, items, seed=0):
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(users, items, generator=seeded(seed)))


@dataclass
class HardNegatives:
    """A model of four users and their own item against all twelve, and an adversary that says which are hard."""

    groups: Mapping[str, nn.Module] = field(
        default_factory=lambda: {"model": Table(4, 12), "adversary": Table(4, 12, seed=1)}
    )
    seen: list[tuple[float, float, float]] = field(default_factory=list)

    def value(self, batch):
        scores, hardness = (self.groups[name].weight[batch.users] for name in ("model", "adversary"))
        pos = scores.gather(1, batch.items[:, None]).squeeze(1)
        where = torch.ones_like(scores, dtype=torch.bool).scatter(1, batch.items[:, None], False)
        return adversarial_info_nce_loss(pos, scores, where=where, hardness=hardness)

    def plays(self, batch: Any, *, epoch: int, step: int) -> Iterator[Play]:  # noqa: ARG002
        before = self.value(batch)
        yield Play(before, "model")
        between = self.value(batch)
        yield Play(between, "adversary", maximise=True)
        self.seen.append((before.item(), between.item(), self.value(batch).item()))


def test_model_lowers_and_adversary_raises_adversarial_info_nce():
    game = HardNegatives()
    pairs = (torch.arange(4), torch.arange(4))
    settings = TrainingSettings(epochs=50, batch_size=4, learning_rate=0.01, schedule="constant")
    fit(game, pairs, settings, seed=0)
    assert len(game.seen) == 50
    for before, between, after in game.seen:
        assert between < before
        assert after > between
    scores, hardness = (group.weight.detach() for group in game.groups.values())  # type: ignore[operator]
    others = ~torch.eye(4, 12, dtype=torch.bool)
    # The adversary made those hard that the model, as it was at first, scored high.
    first = Table(4, 12).weight.detach()
    for user in range(4):
        there = others[user]
        risen = hardness[user][there] - Table(4, 12, seed=1).weight.detach()[user][there]
        assert risen[first[user][there].argmax()] > risen[first[user][there].argmin()]
        assert scores[user, user] == scores[user].max()


# ----------------------------------------------------------------------------------------- generators and discriminators

GAMES = {
    "minimax": (lambda x: log(1 + exp(-x)), lambda x: log(1 + exp(x)), lambda x: log(1 - 1 / (1 + exp(-x)))),
    "non_saturating": (lambda x: log(1 + exp(-x)), lambda x: log(1 + exp(x)), lambda x: -log(1 / (1 + exp(-x)))),
    "hinge": (lambda x: max(0, 1 - x), lambda x: max(0, 1 + x), lambda x: -x),
    "wasserstein": (lambda x: -x, lambda x: x, lambda x: -x),
}


@pytest.mark.parametrize("form", GAMES)
def test_games_by_hand(form):
    """Two real items of weights 2 and 1, three generated ones."""
    of_real, of_generated, of_generator = GAMES[form]
    real, generated = (1.5, -0.5), (0.4, -2.0, 3.0)
    args = tensor([real]), tensor([generated])
    weights = tensor([[2.0, 1.0]])
    expected = (2 * of_real(1.5) + of_real(-0.5)) / 2 + 1.5 * sum(map(of_generated, generated)) / 3
    assert_close(gan_discriminator_loss(*args, weights=weights, form=form), tensor(expected))
    expected = 1.5 * sum(map(of_generator, generated)) / 3
    assert_close(gan_generator_loss(*args, weights=weights, form=form), tensor(expected))


@pytest.mark.parametrize("form", GAMES)
def test_games_by_rows(form, by_rows):
    """Values, masks and gradients by scores against torch's own functions."""
    softplus, relu = functional.softplus, functional.relu
    charge = {"hinge": lambda x: relu(1 + x), "wasserstein": lambda x: x}.get(form, softplus)
    price = {"minimax": functional.logsigmoid, "non_saturating": lambda x: -functional.logsigmoid(-x)}.get(
        form, lambda x: x
    )

    def discriminator(pos, neg, weights):
        return (weights * charge(-pos)).mean() + weights.mean() * charge(neg).mean()

    def generator(pos, neg, weights):
        return weights.mean() * price(-neg).mean() + 0 * pos.sum()

    by_rows(partial(gan_discriminator_loss, form=form), discriminator)
    by_rows(partial(gan_generator_loss, form=form), generator)


def test_which_gradient_vanishes():
    """Of the generator's forms only the non-saturating and the linear ones move an item that is found out at -60."""
    for score, expected in ((-60.0, (0.0, -1.0)), (60.0, (-1.0, 0.0))):
        for form, slope in zip(("minimax", "non_saturating"), expected, strict=True):
            neg = tensor([[score]], requires_grad=True)
            gan_generator_loss(tensor([0.0]), neg, form=form).backward()
            assert_close(neg.grad, tensor([[slope]]), rtol=0, atol=1e-20)
    neg = tensor([[-60.0]], requires_grad=True)
    gan_discriminator_loss(tensor([-60.0]), -neg, form="minimax").backward()
    assert_close(neg.grad, tensor([[-1.0]]))


def test_minimax_and_wasserstein_are_zero_sum():
    """But for the term of the real items, which the generator leaves out."""
    pos, neg = torch.randn(4, 2, generator=seeded()), torch.randn(4, 3, generator=seeded(1))
    for form, of_real in (("minimax", functional.softplus(-pos)), ("wasserstein", -pos)):
        both = gan_discriminator_loss(pos, neg, form=form) + gan_generator_loss(pos, neg, form=form)
        assert_close(both, of_real.mean())


@pytest.mark.parametrize("loss", [gan_discriminator_loss, gan_generator_loss])
def test_form_is_one_of_four(loss):
    with pytest.raises(InputError, match="form must be one of 'minimax', 'non_saturating', 'hinge', 'wasserstein'"):
        loss(*ROWS, form="logistic")


def test_gradient_penalty():
    """Of the square of the length the slope is 2x: the penalty is (2 |x| - 1)² at the point drawn."""
    real, fake = torch.randn(6, 3, generator=seeded()), torch.randn(6, 3, generator=seeded(1))
    share = torch.rand(6, 1, generator=seeded(2))
    between = share * real + (1 - share) * fake
    values = gradient_penalty(lambda x: x.square().sum(-1), real, fake, generator=seeded(2))
    assert_close(values, (2 * between.norm(dim=-1) - 1).square())
    with torch.no_grad():
        assert_close(gradient_penalty(lambda x: x.square().sum(-1), real, fake, generator=seeded(2)), values)


def test_gradient_penalty_trains_the_discriminator_alone():
    """By w, where D(x) = w · x: 2 (|w| - 1) w / |w|."""
    weight = tensor([3.0, 4.0], requires_grad=True)
    real, fake = torch.zeros(2, 5, 2, requires_grad=True), torch.ones(2, 5, 2, requires_grad=True)
    values = gradient_penalty(lambda x: x @ weight, real, fake)
    assert values.shape == (2, 5)
    values.mean().backward()
    assert_close(weight.grad, 2 * (5 - 1) * weight.detach() / 5)
    assert real.grad is None and fake.grad is None


def test_gradient_penalty_where_the_slope_is_zero():
    weight = torch.zeros(2, requires_grad=True)
    gradient_penalty(lambda x: x @ weight, torch.zeros(1, 2), torch.ones(1, 2)).sum().backward()
    assert weight.grad.isfinite().all()


def test_arguments_of_gradient_penalty():
    with pytest.raises(InputError, match=r"real and fake must have one shape: got \(2, 3\) and \(1, 3\)"):
        gradient_penalty(lambda x: x.sum(-1), torch.zeros(2, 3), torch.zeros(1, 3))
    with pytest.raises(InputError, match=r"one score a vector, \(2,\): got \(2, 3\)"):
        gradient_penalty(lambda x: x, torch.zeros(2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("form", ["non_saturating", "wasserstein"])
def test_generator_comes_to_the_real_items(form):
    """Real items are normal around (2, -1); the generator moves its own normal from 0 there."""
    torch.manual_seed(0)
    centre, shift = tensor([2.0, -1.0]), torch.zeros(2, requires_grad=True)
    judge = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1), nn.Flatten(0))
    # Without momentum the two players circle less.
    of_judge = torch.optim.Adam(judge.parameters(), lr=0.05, betas=(0.0, 0.9))
    of_generator = torch.optim.Adam([shift], lr=0.01, betas=(0.0, 0.9))
    draw, late = seeded(), []
    for step in range(400):
        real, fake = centre + torch.randn(64, 2, generator=draw), shift + torch.randn(64, 2, generator=draw)
        pos, neg = judge(real)[None], judge(fake.detach())[None]
        penalty = gradient_penalty(judge, real, fake, generator=draw).mean()
        of_judge.zero_grad()
        (gan_discriminator_loss(pos, neg, form=form) + penalty).backward()
        of_judge.step()
        of_generator.zero_grad()
        gan_generator_loss(pos.detach(), judge(fake)[None], form=form).backward()
        of_generator.step()
        late += [shift.detach().clone()] if step >= 300 else []
    assert (torch.stack(late).mean(0) - centre).norm() < 0.5


# ------------------------------------------------------------------------------------------------------------------ IRGAN


def test_irgan_generator():
    """p = (1/6, 2/6, 3/6)."""
    scores, rewards = tensor([1.0, 2.0, 3.0]).log(), tensor([6.0, -3.0, 2.0])
    value = irgan_generator_loss(scores, torch.zeros(3), rewards=rewards, weights=tensor([1.0, 2.0, 1.0]))
    assert_close(value, tensor(-(6 / 6 + 2 * -3 * 2 / 6 + 2 * 3 / 6)))
    sharp = irgan_generator_loss(scores / 4, torch.zeros(3), rewards=rewards, temperature=0.25)
    assert_close(sharp, tensor(-(6 / 6 - 3 * 2 / 6 + 2 * 3 / 6)))


def test_irgan_gradient_is_the_expectation_of_reinforce():
    """Each item's reward times the gradient of its log-probability, averaged by the probabilities."""
    scores = torch.randn(5, dtype=torch.double, generator=seeded(), requires_grad=True)
    rewards = torch.randn(5, dtype=torch.double, generator=seeded(1))
    log_p = scores.log_softmax(0)
    slopes = [torch.autograd.grad(log_p[j], scores, retain_graph=True)[0] for j in range(5)]
    expected = -sum(log_p[j].exp().detach() * rewards[j] * slopes[j] for j in range(5))
    (slope,) = torch.autograd.grad(irgan_generator_loss(scores, torch.zeros(5), rewards=rewards), scores)
    assert_close(slope, expected)


def test_constant_reward_changes_no_gradient_of_irgan():
    """The mean reward is the baseline already."""
    scores = torch.randn(3, 5, generator=seeded(), requires_grad=True)
    rewards = torch.randn(3, 5, generator=seeded(1))
    slopes = [
        torch.autograd.grad(irgan_generator_loss(scores, torch.zeros(3, 5), rewards=rewards + more), scores)[0]
        for more in (0.0, 7.0)
    ]
    assert_close(*slopes)


def test_irgan_on_draws_of_its_own():
    """Drawn by the generator's own probabilities, draws share alike: minus their mean reward, which is the baseline."""
    scores = torch.randn(50, dtype=torch.double, generator=seeded(), requires_grad=True)
    draws = torch.multinomial(scores.detach().exp(), 8, replacement=True, generator=seeded(1))
    rewards = torch.randn(50, dtype=torch.double, generator=seeded(2))[draws]
    log_p = scores.log_softmax(0)
    value = irgan_generator_loss(scores[draws], torch.zeros(8), rewards=rewards, log_q=log_p[draws])
    assert_close(value, -rewards.mean())
    (slope,) = torch.autograd.grad(value, scores, retain_graph=True)
    reinforce = -((rewards - rewards.mean()) * log_p[draws]).mean()
    assert_close(slope, torch.autograd.grad(reinforce, scores)[0])


def test_log_q_of_irgan_converges_to_the_whole_list():
    scores, rewards = torch.randn(20, generator=seeded()), torch.linspace(-1, 1, 20)
    whole = irgan_generator_loss(scores, torch.zeros(20), rewards=rewards)
    proposal = torch.linspace(0.5, 2.0, 20).log_softmax(0)
    draws = torch.multinomial(proposal.exp(), 200_000, replacement=True, generator=seeded(2))
    drawn = partial(irgan_generator_loss, scores[draws], torch.zeros(len(draws)), rewards=rewards[draws])
    assert abs(drawn(log_q=proposal[draws]) - whole) < 0.02
    assert abs(drawn() - whole) > 0.1


def test_rewards_and_log_q_are_constants_and_absent_where_masked():
    where = tensor([True, False, True])
    scores = tensor([0.1, torch.nan, 0.3], requires_grad=True)
    rewards, log_q = (tensor([1.0, torch.inf, 2.0], requires_grad=True) for _ in range(2))
    value = irgan_generator_loss(scores, torch.zeros(3), where=where, rewards=rewards, log_q=log_q)
    short = irgan_generator_loss(scores[where], torch.zeros(2), rewards=rewards[where], log_q=log_q[where])
    assert_close(value, short)
    value.backward()
    assert rewards.grad is None and log_q.grad is None
    assert scores.grad.isfinite().all()


def test_arguments_of_irgan():
    with pytest.raises(InputError, match="irgan_generator needs rewards=, one a candidate: got none"):
        irgan_generator_loss(torch.zeros(3), torch.zeros(3))
    with pytest.raises(InputError, match=r"rewards must be floating point, of the shape of scores, \(3,\): got \(2,\)"):
        irgan_generator_loss(torch.zeros(3), torch.zeros(3), rewards=torch.zeros(2))
    with pytest.raises(InputError, match="log_q must be floating point"):
        irgan_generator_loss(torch.zeros(3), torch.zeros(3), rewards=torch.zeros(3), log_q=torch.zeros(3).long())
    with pytest.raises(InputError, match="temperature must be above 0"):
        irgan_generator_loss(torch.zeros(3), torch.zeros(3), rewards=torch.zeros(3), temperature=math.nan)


@dataclass
class IRGAN:
    """A generator and a discriminator of four users and twelve items, of which users have three each."""

    seed: int = 0
    groups: Mapping[str, nn.Module] = field(
        default_factory=lambda: {"discriminator": Table(4, 12), "generator": Table(4, 12, seed=1)}
    )

    def plays(self, batch: Any, *, epoch: int, step: int) -> Iterator[Play]:
        judge, author = (self.groups[name].weight for name in ("discriminator", "generator"))
        chances = author[batch.users].detach().softmax(-1)
        draws = torch.multinomial(chances, 8, replacement=True, generator=seeded(1000 * epoch + step))
        found = judge[batch.users]
        pos, neg = found.gather(1, batch.items[:, None]).squeeze(1), found.gather(1, draws)
        yield Play(gan_discriminator_loss(pos, neg, form="minimax"), "discriminator")
        users = batch.users.unique()
        rewards = functional.softplus(judge[users])
        yield Play(irgan_generator_loss(author[users], torch.zeros(len(users), 12), rewards=rewards), "generator")


def test_generator_of_irgan_learns_to_draw_what_users_have():
    game = IRGAN()
    users = torch.arange(4).repeat_interleave(3)
    items = (3 * users + torch.arange(3).repeat(4)) % 12
    relevant = torch.zeros(4, 12).index_put_((users, items), tensor(1.0))
    mass = lambda: (game.groups["generator"].weight.detach().softmax(-1) * relevant).sum(-1)  # noqa: E731
    assert (mass() < 0.35).all()
    settings = TrainingSettings(epochs=150, batch_size=12, learning_rate=0.05, schedule="constant")
    fit(game, (users, items), settings, seed=0)
    assert (mass() > 0.8).all()
