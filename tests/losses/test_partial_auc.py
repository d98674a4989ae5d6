"""LLPAUC: by hand, against all pairs of the corner, and its min–max form against the corner of the whole data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from math import ceil, log
from typing import Any

import pytest
import torch
from torch import Tensor, nn, tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import LLPAUCVariables, MinMaxLLPAUCLoss, llpauc_loss, llpauc_value
from rankwell.training import Play, TrainingSettings, fit

ROWS = torch.zeros(2), torch.zeros(2, 3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def shares(scores, share):
    """Of the highest scores, those that count, and how much of the mean is of each."""
    wanted = max(share * len(scores), 1)
    chosen = scores.sort(descending=True).values[: ceil(wanted)]
    parts = [min(wanted - place, 1.0) / wanted for place in range(len(chosen))]
    return list(zip(chosen.sigmoid(), parts, strict=True))


def all_pairs(pos, neg, weights, alpha, beta):
    pairs = product(shares(pos, alpha), shares(neg, beta))
    return weights.mean() * sum(u * v * (1 - p + q) ** 2 for (p, u), (q, v) in pairs)


def test_llpauc():
    """Of four positives two and a half count, of three negatives one and a half."""
    pos, neg = tensor([[0.2, 0.9, 0.6, 0.4]]).logit(), tensor([[0.1, 0.7, 0.5]]).logit()
    positives, negatives = ((0.9, 0.4), (0.6, 0.4), (0.4, 0.2)), ((0.7, 2 / 3), (0.5, 1 / 3))
    expected = sum(u * v * (1 - p + q) ** 2 for (p, u), (q, v) in product(positives, negatives))
    assert_close(llpauc_loss(pos, neg, alpha=0.625, beta=0.5), tensor(expected))


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 0.4), (0.8, 0.05)])
def test_llpauc_is_the_squared_loss_of_all_pairs_of_the_corner(alpha, beta, by_rows):
    by_rows(partial(llpauc_loss, alpha=alpha, beta=beta), partial(all_pairs, alpha=alpha, beta=beta))


def test_llpauc_bounds_the_share_of_wrong_pairs_of_the_corner():
    for seed in range(20):
        draw = seeded(seed)
        pos, neg = 2 * torch.randn(1, 10, generator=draw), 2 * torch.randn(1, 20, generator=draw)
        best, worst = pos.topk(7).values, neg.topk(4).values
        wrong = (best[:, :, None] <= worst[:, None, :]).float().mean()
        assert llpauc_loss(pos, neg, alpha=0.7, beta=0.2) >= wrong


def test_only_the_corner_has_a_gradient():
    pos, neg = tensor([[2.0, 1.0, -1.0, -2.0]], requires_grad=True), tensor([[1.5, 0.5, 0.0, -3.0]], requires_grad=True)
    llpauc_loss(pos, neg, alpha=0.5, beta=0.25).backward()
    assert (pos.grad[0, :2] < 0).all() and not pos.grad[0, 2:].any()
    assert neg.grad[0, 0] > 0 and not neg.grad[0, 1:].any()


@pytest.mark.parametrize("name", ["alpha", "beta"])
@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_shares_are_above_zero_and_at_most_one(name, share):
    at = MinMaxLLPAUCLoss().variables
    for call in (partial(llpauc_loss, *ROWS), partial(llpauc_value, *ROWS, at), MinMaxLLPAUCLoss):
        with pytest.raises(InputError, match=f"{name} must be above 0 and at most 1: got {share}"):
            call(**{name: share})


@pytest.mark.parametrize("call", [partial(llpauc_value, *ROWS, MinMaxLLPAUCLoss().variables), MinMaxLLPAUCLoss])
def test_sharpness_is_above_zero(call):
    with pytest.raises(InputError, match="sharpness must be above 0: got 0"):
        call(sharpness=0)


# ---------------------------------------------------------------------------------------------------------- min and max


def test_value_by_hand():
    """The formula with numbers: a positive of 3/4, negatives of 1/2 and 1/4, sharpness 5."""
    at = LLPAUCVariables(*(tensor(x) for x in (0.6, 0.3, 0.8, 0.2, 0.1, 1.1, -0.4)))
    soft = lambda x: log(1 + 2.718281828459045 ** (5 * x)) / 5  # noqa: E731
    of_pos = soft(-((0.75 - 0.6) ** 2) + 2 * 0.6 * 0.75 - 1.1)
    of_neg = [soft((q - 0.3) ** 2 + 2 * 0.6 * q - 0.8) for q in (0.5, 0.25)]
    expected = 1 - 1.1 - of_pos / 0.8 + 0.8 + sum(of_neg) / 2 / 0.2 - 0.16 + 0.2 * (0.6 - 0.4) - 0.1 * (0.3 - 1 + 0.4)
    value = llpauc_value(tensor([0.75]).logit(), tensor([[0.5, 0.25]]).logit(), at, alpha=0.8, beta=0.2)
    assert_close(value, tensor(expected))


def best_variables(pos, neg, alpha, beta):
    """Means, thresholds and gamma of a row's corner, of whole items."""
    p, q = (x.sigmoid().topk(round(s * x.shape[-1])).values for x, s in ((pos, alpha), (neg, beta)))
    a, b = p.mean(-1), q.mean(-1)
    gamma, zero = b - a, torch.zeros_like(a)
    s_pos = (-((p - a[:, None]) ** 2) + 2 * (1 + gamma[:, None]) * p)[:, -1]
    s_neg = ((q - b[:, None]) ** 2 + 2 * (1 + gamma[:, None]) * q)[:, -1]
    return LLPAUCVariables(a, b, s_neg, zero, zero, s_pos, gamma)


def test_value_at_the_best_variables_is_the_corner():
    """Exactly with a hinge in place of the softplus; with a softplus of sharpness 5 within log 2 / 5 of each share."""
    pos, neg = (torch.randn(3, 10, generator=seeded(seed), dtype=torch.double) for seed in range(2))
    at = best_variables(pos, neg, 0.6, 0.2)
    corner = llpauc_loss(pos, neg, alpha=0.6, beta=0.2, reduction="none")
    value = partial(llpauc_value, pos, neg, at, alpha=0.6, beta=0.2, reduction="none")
    assert_close(value(sharpness=1e6), corner, rtol=0, atol=1e-4)
    smooth = value(sharpness=5.0)
    assert (smooth <= corner + log(2) / (5 * 0.2)).all()
    assert (smooth >= corner - log(2) / (5 * 0.6)).all()


def test_the_best_variables_are_stationary():
    """Neither player gains by moving a, b or gamma alone (with the hinge, away from its kinks)."""
    pos, neg = (torch.randn(3, 10, generator=seeded(seed), dtype=torch.double) for seed in range(2))
    best = best_variables(pos, neg, 0.6, 0.2)
    # Thresholds between the last item of the corner and the first outside, so that no item is at a kink.
    p, q = pos.sigmoid().topk(7).values, neg.sigmoid().topk(3).values
    of_pos = -((p - best.a[:, None]) ** 2) + 2 * (1 + best.gamma[:, None]) * p
    of_neg = (q - best.b[:, None]) ** 2 + 2 * (1 + best.gamma[:, None]) * q
    best = best._replace(s_pos=of_pos[:, 5:].mean(-1), s_neg=of_neg[:, 1:].mean(-1))
    leaves = best._replace(**{name: getattr(best, name).clone().requires_grad_() for name in ("a", "b", "gamma")})
    value = llpauc_value(pos, neg, leaves, alpha=0.6, beta=0.2, sharpness=1e6, reduction="sum")
    assert_close(value, llpauc_loss(pos, neg, alpha=0.6, beta=0.2, reduction="sum"))
    for slope in torch.autograd.grad(value, (leaves.a, leaves.b, leaves.gamma)):
        assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-9)


def test_value_by_rows(by_rows):
    """Masks, weights and gradients, with a softplus of torch's own."""
    at = LLPAUCVariables(*(tensor(x, dtype=torch.double) for x in (0.6, 0.3, 0.8, 0.2, 0.1, 1.1, -0.4)))

    def formula(pos, neg, weights):
        soft = partial(nn.functional.softplus, beta=5.0)
        p, q = pos.sigmoid(), neg.sigmoid()
        of_pos = soft(-((p - at.a) ** 2) + 2 * (1 + at.gamma) * p - at.s_pos).mean() / 0.8
        of_neg = soft((q - at.b) ** 2 + 2 * (1 + at.gamma) * q - at.s_neg).mean() / 0.2
        multipliers = at.theta_a * (at.a + at.gamma) - at.theta_b * (at.b - 1 - at.gamma)
        return weights.mean() * (1 - at.s_pos - of_pos + at.s_neg + of_neg - at.gamma**2 + multipliers)

    by_rows(partial(llpauc_value, variables=at, alpha=0.8, beta=0.2), formula)


def test_rows_without_negatives_are_zero():
    where = tensor([[False, False], [True, True]])
    neg = tensor([[torch.nan, torch.inf], [0.0, 1.0]], requires_grad=True)
    loss = MinMaxLLPAUCLoss()
    for call in (llpauc_loss, loss):
        values = call(torch.zeros(2), neg, where=where, reduction="none")
        assert values[0] == 0 and values[1] != 0
        (slope,) = torch.autograd.grad(values.sum(), neg)
        assert slope.isfinite().all() and not slope[0].any()


def test_update_puts_the_variables_into_their_ranges():
    loss = MinMaxLLPAUCLoss()
    for number, ranges in ((9.0, (1, 1, 5, 9, 9, 4, 1)), (-9.0, (0, 0, 0, 0, 0, -1, -1))):
        with torch.no_grad():
            for parameter in loss.parameters():
                parameter.fill_(number)
        loss.update(torch.zeros(2))
        assert [x.item() for x in loss.variables] == list(ranges)


def test_state_is_in_state_dict_and_calls_change_nothing():
    loss, other = MinMaxLLPAUCLoss(alpha=0.5), MinMaxLLPAUCLoss(alpha=0.5)
    with torch.no_grad():
        loss.high["gamma"].fill_(-0.5)
    before = {name: x.clone() for name, x in loss.state_dict().items()}
    assert loss(*ROWS) != other(*ROWS)
    other.load_state_dict(loss.state_dict())
    assert_close(loss(*ROWS), other(*ROWS))
    for name, x in loss.state_dict().items():
        assert torch.equal(x, before[name])


def play_out(loss, pos, neg, steps, rate):
    """Both players' steps down and up in the variables alone; scores stand still."""
    low, high = (
        torch.optim.SGD(loss.low.parameters(), rate),
        torch.optim.SGD(loss.high.parameters(), rate, maximize=True),
    )
    for _ in range(steps):
        for player in (low, high):
            player.zero_grad()
            loss(pos, neg).backward()
            player.step()
        loss.update()


def test_variables_come_to_the_corner_of_the_whole_data():
    """One positive a row, so that the row alone says nothing of the best positives: the thresholds find them."""
    pos, neg = torch.randn(40, generator=seeded()) + 1, torch.randn(40, 20, generator=seeded(1))
    corner = llpauc_loss(pos[None], neg.reshape(1, -1), alpha=0.5, beta=0.25)
    alone = llpauc_loss(pos, neg, alpha=0.5, beta=0.25)
    assert abs(alone - corner) > 0.1
    loss = MinMaxLLPAUCLoss(alpha=0.5, beta=0.25, sharpness=200.0)
    play_out(loss, pos, neg, 600, 0.03)
    best_pos, best_neg = pos.sigmoid().topk(20).values.mean(), neg.reshape(-1).sigmoid().topk(200).values.mean()
    assert_close(loss(pos, neg), corner, rtol=0, atol=0.02)
    assert_close(loss.variables.a, best_pos, rtol=0, atol=0.02)
    assert_close(loss.variables.b, best_neg, rtol=0, atol=0.02)
    assert_close(loss.variables.gamma, best_neg - best_pos, rtol=0, atol=0.02)


class Scores(nn.Module):
    def __init__(self, users, items):
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(users, items, generator=seeded()))


@dataclass
class TwoPlays:
    """Model and ``low`` go down, ``high`` goes up."""

    loss: MinMaxLLPAUCLoss = field(default_factory=lambda: MinMaxLLPAUCLoss(alpha=0.7, beta=0.2))
    model: Scores = field(default_factory=lambda: Scores(6, 12))
    groups: Mapping[str, nn.Module] = field(init=False)
    seen: list[tuple[float, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.groups = {"model": nn.ModuleList([self.model, self.loss.low]), "adversary": self.loss.high}

    def value(self, batch: Any) -> Tensor:
        scores = self.model.weight[batch.users]
        where = torch.ones_like(scores, dtype=torch.bool).scatter(1, batch.items[:, None], False)
        return self.loss(scores.gather(1, batch.items[:, None]).squeeze(1), scores, where=where)

    def plays(self, batch: Any, *, epoch: int, step: int) -> Iterator[Play]:  # noqa: ARG002
        self.loss.update()
        before = self.value(batch)
        yield Play(before, "model")
        between = self.value(batch)
        yield Play(between, "adversary", maximise=True)
        self.seen.append((before.item(), between.item(), self.value(batch).item()))


def test_two_plays_rank_each_users_item_first():
    game = TwoPlays()
    pairs = (torch.arange(6), torch.arange(6))
    fit(game, pairs, TrainingSettings(epochs=300, batch_size=6, learning_rate=0.02, schedule="linear"), seed=0)
    scores = game.model.weight.detach()
    assert torch.equal(scores.argmax(1), torch.arange(6))
    fell = sum(between < before for before, between, _ in game.seen)
    rose = sum(after > between for _, between, after in game.seen)
    assert fell > 0.9 * len(game.seen) and rose > 0.9 * len(game.seen)


def test_llpauc_trains_without_variables():
    model = Scores(6, 12)
    optimiser = torch.optim.Adam(model.parameters(), 0.05)
    own = torch.eye(6, 12, dtype=torch.bool)
    for _ in range(100):
        optimiser.zero_grad()
        llpauc_loss(model.weight.diagonal(), model.weight, where=~own).backward()
        optimiser.step()
    assert torch.equal(model.weight.argmax(1), torch.arange(6))
