import math
from functools import partial

import pytest
import torch

from rankwell.errors import ConfigError, InputError, UnknownName
from rankwell.losses import (
    bpr_loss,
    ccl_loss,
    combine,
    contrast,
    cosine_schedule,
    hinge_loss,
    linear_schedule,
    mse_loss,
    softmax_loss,
)

SCORES = torch.tensor([[2.0, 1.0, -1.0], [0.5, 0.0, 3.0]])
LABELS = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def test_fixed_weights_are_a_weighted_sum_in_every_reduction():
    loss = combine({"softmax": 1.0, partial(hinge_loss, margin=2.0): 0.5})
    for reduction in ("none", "mean", "sum"):
        expected = softmax_loss(SCORES, LABELS, reduction=reduction) + 0.5 * hinge_loss(
            SCORES, LABELS, margin=2.0, reduction=reduction
        )
        torch.testing.assert_close(loss(SCORES, LABELS, reduction=reduction), expected)
    assert list(loss.parameters()) == []


def test_the_call_is_that_of_the_kind():
    pos, neg = torch.tensor([0.3, 0.9]), torch.tensor([[0.1, 0.95], [0.2, 0.4]])
    where = torch.tensor([[True, False], [True, True]])
    loss = combine({"bpr": 2.0, "ccl": 1.0})
    expected = 2 * bpr_loss(pos, neg, where=where) + ccl_loss(pos, neg, where=where)
    torch.testing.assert_close(loss(pos, neg, where=where), expected)


def test_a_schedule_follows_the_steps_and_the_state_dict_keeps_them():
    loss = combine({"softmax": 1.0, "mse": linear_schedule(0.0, 1.0, steps=4)})
    a, b = softmax_loss(SCORES, LABELS), mse_loss(SCORES, LABELS)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0, 1.0):
        torch.testing.assert_close(loss(SCORES, LABELS), a + share * b)
        torch.testing.assert_close(loss(SCORES, LABELS), a + share * b)  # a call by itself counts nothing
        loss.update()
    again = combine({"softmax": 1.0, "mse": linear_schedule(0.0, 1.0, steps=400)})
    again.load_state_dict(loss.state_dict())
    torch.testing.assert_close(again(SCORES, LABELS), a + 6 / 400 * b)


def test_cosine_schedule():
    schedule = cosine_schedule(2.0, 0.0, steps=6)
    for step in range(8):
        expected = 2 - 2 * (1 - math.cos(math.pi * min(step / 6, 1))) / 2
        assert schedule(torch.tensor(step)).item() == pytest.approx(expected, abs=1e-6)


def test_learned_weights_come_to_rest_where_each_part_weighs_its_inverse():
    """By a the derivative of (e^-a l + a) / 2 is 0 at a = log l: each part then weighs 1 / (2 l)."""
    loss = combine({"softmax": "learned", "hinge": "learned", "mse": 0.1})
    assert loss.log_variances.shape == (2,) and "log_variances" in loss.state_dict()
    optimiser = torch.optim.LBFGS(loss.parameters(), max_iter=50)

    def closure():
        optimiser.zero_grad()
        value = loss(SCORES, LABELS)
        value.backward()
        return value

    optimiser.step(closure)
    expected = torch.stack([softmax_loss(SCORES, LABELS), hinge_loss(SCORES, LABELS)]).log()
    torch.testing.assert_close(loss.log_variances.detach(), expected, atol=1e-3, rtol=0)


def test_an_input_goes_to_the_parts_that_take_it():
    groups = torch.tensor([[0, 0, 1], [1, 2, 1]])
    loss = combine({"hierarchical": 1.0, "softmax": 1.0})
    expected = softmax_loss(SCORES, LABELS)
    torch.testing.assert_close(
        loss(SCORES, LABELS, groups=groups) - expected,
        combine({"hierarchical": 1.0})(SCORES, LABELS, groups=groups),
    )
    with pytest.raises(InputError, match="no part of the combination takes margin"):
        loss(SCORES, LABELS, groups=groups, margin=2.0)


def test_a_style_is_a_part_too():
    pos, neg = torch.tensor([0.3]), torch.tensor([[0.1, 0.95]])
    loss = combine({contrast(softmax_loss): 1.0, "bpr": 1.0})
    torch.testing.assert_close(loss(pos, neg), contrast(softmax_loss)(pos, neg) + bpr_loss(pos, neg))


@pytest.mark.parametrize(
    ("parts", "error", "said"),
    [
        ({}, InputError, "at least one loss"),
        (
            {"softmax": 1.0, "bpr": 1.0},
            ConfigError,
            r"different kinds do not combine: softmax \(list\), bpr \(contrast\)",
        ),
        ({softmax_loss: 1.0, partial(bpr_loss): 1.0}, ConfigError, r"softmax \(list\), bpr \(contrast\)"),
        ({"softmax": math.nan}, InputError, "weights must be finite: got nan"),
        ({"softmax": "lerned"}, InputError, "'learned': got 'lerned'"),
        ({"sofmax": 1.0}, UnknownName, "Did you mean 'softmax'"),
    ],
)
def test_bad_parts(parts, error, said):
    with pytest.raises(error, match=said):
        combine(parts)


def test_a_schedule_needs_steps():
    with pytest.raises(InputError, match="at least one step: got 0"):
        linear_schedule(0.0, 1.0, steps=0)
