"""Pointwise losses: by hand, and against torch."""

from functools import partial
from math import exp, log

import pytest
import torch
from torch import tensor
from torch.nn import functional
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import (
    focal_loss,
    mae_loss,
    mse_loss,
    pointwise_hinge_loss,
    poly1_loss,
    sigmoid_loss,
    smooth_l1_loss,
)

SCORES, LABELS = tensor([1.0, -2.0, 0.5]), tensor([1.0, 0.0, 0.3])


def p(score):
    return 1 / (1 + exp(-score))


def test_mae():
    assert_close(mae_loss(SCORES, LABELS, weights=tensor([5.0, 1.0, 2.0])), tensor((2 + 2 * 0.2) / 3))
    assert_close(mae_loss(SCORES, LABELS), functional.l1_loss(SCORES, LABELS))


@pytest.mark.parametrize("beta", [0.1, 1.0, 4.0])
def test_smooth_l1(beta):
    terms = [d * d / (2 * beta) if d < beta else d - beta / 2 for d in (0.0, 2.0, 0.2)]
    assert_close(smooth_l1_loss(SCORES, LABELS, beta=beta), tensor(sum(terms) / 3))
    assert_close(smooth_l1_loss(SCORES, LABELS, beta=beta), functional.smooth_l1_loss(SCORES, LABELS, beta=beta))


def test_smooth_l1_lies_between_absolute_and_squared_differences():
    assert_close(smooth_l1_loss(SCORES, LABELS, beta=1e-6), mae_loss(SCORES, LABELS), rtol=0, atol=1e-6)
    assert_close(100 * smooth_l1_loss(SCORES, LABELS, beta=100.0), mse_loss(SCORES, LABELS) / 2)


def test_pointwise_hinge():
    """Margin 2: 2 - 1, 2 - 2, and three tenths of 2 - .5 beside seven tenths of 2 + .5."""
    value = pointwise_hinge_loss(SCORES, LABELS, margin=2.0)
    assert_close(value, tensor((1 + 0 + 0.3 * 1.5 + 0.7 * 2.5) / 3))
    signs = tensor([1.0, -1.0])
    reference = functional.hinge_embedding_loss(signs * SCORES[:2], -torch.ones(2), margin=1.0)
    assert_close(pointwise_hinge_loss(SCORES[:2], LABELS[:2]), reference)


def test_focal():
    half = 0.7 * 0.75 * p(0.5) ** 3 * -log(p(-0.5)) + 0.3 * 0.25 * p(-0.5) ** 3 * -log(p(0.5))
    expected = 0.25 * p(-1) ** 3 * -log(p(1)) + 0.75 * p(-2) ** 3 * -log(p(2)) + half
    assert_close(focal_loss(SCORES, LABELS, gamma=3.0), tensor(expected / 3))


def test_focal_without_its_power_is_half_the_cross_entropy():
    assert_close(focal_loss(SCORES, LABELS, gamma=0.0, alpha=0.5), sigmoid_loss(SCORES, LABELS) / 2)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_keeps_its_gradient_at_large_scores(gamma):
    """A relevant item far below zero pulls with alpha; one far above hardly, but not with NaN."""
    scores = tensor([-150.0, 150.0], requires_grad=True)
    focal_loss(scores, tensor([1.0, 1.0]), gamma=gamma, reduction="sum").backward()
    assert_close(scores.grad, tensor([-0.25 / 2, 0.0]))


def test_poly1():
    """Epsilon 2: -log p + 2 (1 - p), of the chance of the side that the label is on."""

    def cost(score):
        return -log(p(score)) + 2 * (1 - p(score))

    expected = cost(1) + cost(2) + 0.3 * cost(0.5) + 0.7 * cost(-0.5)
    assert_close(poly1_loss(SCORES, LABELS, epsilon=2.0), tensor(expected / 3))
    assert_close(poly1_loss(SCORES, LABELS, epsilon=0.0), sigmoid_loss(SCORES, LABELS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(smooth_l1_loss, beta=0.0), "beta must be above 0"),
        (partial(focal_loss, gamma=-1.0), "gamma must be at least 0: got -1.0"),
        (partial(focal_loss, alpha=1.5), r"alpha must be in \[0, 1\]: got 1.5"),
    ],
)
def test_parameters_that_make_no_sense(call, message):
    with pytest.raises(InputError, match=message):
        call(SCORES, LABELS)
