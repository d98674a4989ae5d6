"""Hinge, logistic and sigmoid terms of a positive and its negatives: by hand, by formula, and what equals what."""

import math
from functools import partial
from math import exp, log

import pytest
import torch
from torch import tensor
from torch.nn import functional
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import (
    LOSSES,
    bpr_loss,
    contrast,
    contrast_hinge_loss,
    gbce_loss,
    hinge_loss,
    sampled_softmax_loss,
    sigmoid_loss,
    simce_loss,
)
from rankwell.losses.cases import cases
from rankwell.losses.laws import gradients

CONTRAST = LOSSES["bpr"]
ROWS = torch.zeros(2), torch.zeros(2, 3)


def same(one, other, case, args=None):
    args = args or case.args
    for ours, expected in zip(gradients(one, case, args), gradients(other, case, args), strict=True):
        assert_close(ours, expected)


def sigmoid(x):
    return 1 / (1 + exp(-x))


def test_contrast_hinge():
    value = contrast_hinge_loss(tensor([[1.0, 0.0]]), tensor([[0.5, -0.8]]), weights=tensor([[2.0, 1.0]]))
    assert_close(value, tensor((2 * 0.5 + 2 * 0 + 1.5 + 0.2) / 4))


@pytest.mark.parametrize("margin", [0.3, 1.0])
def test_contrast_hinge_is_the_hinge_in_contrast(margin):
    for case in cases(CONTRAST):
        same(partial(contrast_hinge_loss, margin=margin), partial(contrast(hinge_loss), margin=margin), case)


@pytest.mark.parametrize(("loss", "pair"), [(contrast_hinge_loss, 1.0), (bpr_loss, log(2))])
def test_a_negative_of_minus_infinity_costs_nothing(loss, pair):
    """One pair of two, for each of the positives and for a single one."""
    for pos in (torch.zeros(1, 2), torch.zeros(1)):
        pos, neg = pos.requires_grad_(), tensor([[-torch.inf, 0.0]], requires_grad=True)
        loss(pos, neg).backward()
        assert_close(loss(pos, neg).detach(), tensor(pair / 2))
        assert neg.grad[0, 0] == 0 and neg.grad[0, 1] == -pos.grad.sum() > 0


def test_simce():
    values = simce_loss(tensor([3.0, 9.0]), tensor([[0.0, 1.0], [3.0, 2.0]]), reduction="none")
    assert_close(values, tensor([5 - 3 + 1.0, 0.0]))


def test_simce_by_its_formula(by_rows):
    by_rows(
        partial(simce_loss, margin=0.5),
        lambda pos, neg, weights: (weights * (0.5 - pos + neg.max()).clamp(min=0)).mean(),
    )


def test_simce_is_the_hinge_of_the_hardest_negative():
    pos, neg = torch.randn(6), torch.randn(6, 9)
    assert_close(simce_loss(pos, neg, margin=1.0), contrast_hinge_loss(pos, neg.topk(1).values, margin=1.0))


def test_simce_bounds_the_sampled_softmax():
    pos, neg = 3 * torch.randn(50), 3 * torch.randn(50, 7)
    softmax = sampled_softmax_loss(pos, neg, reduction="none")
    simce = simce_loss(pos, neg, margin=0.0, reduction="none")
    assert (softmax >= simce).all() and (softmax <= simce + log(7 + 1)).all()


def test_simce_without_negatives():
    pos = torch.zeros(2, requires_grad=True)
    value = simce_loss(pos, torch.zeros(2, 0))
    value.backward()
    assert value == 0 and not pos.grad.any()


def test_gbce():
    """Two of ten other items drawn: a = .2, and beta = a (t (1 - 1/a) + 1/a) with t = .75."""
    value = gbce_loss(tensor([0.5]), tensor([[1.0, -2.0]]), num_items=11)
    a, t = 2 / 10, 0.75
    beta = a * (t * (1 - 1 / a) + 1 / a)
    expected = -(beta * log(sigmoid(0.5)) + log(1 - sigmoid(1.0)) + log(1 - sigmoid(-2.0))) / 3
    assert_close(value, tensor(expected))


def test_gbce_is_binary_cross_entropy_of_the_converted_positive():
    """The paper trains by BCE on the score log(1 / (sigma^-beta - 1)): the same."""
    pos, neg = torch.randn(5, dtype=torch.double), torch.randn(5, 4, dtype=torch.double)
    beta = (4 / 9) * (0.6 * (1 - 9 / 4) + 9 / 4)
    converted = (1 / (pos.sigmoid() ** -beta - 1)).log()
    expected = contrast(sigmoid_loss)(converted, neg)
    assert_close(gbce_loss(pos, neg, num_items=10, calibration=0.6), expected)


def test_gbce_without_calibration_or_with_all_items_is_binary_cross_entropy():
    _, single = cases(CONTRAST, items=7)
    same(partial(gbce_loss, num_items=100, calibration=0.0), contrast(sigmoid_loss), single)
    whole = dict(single.args, where=torch.ones_like(single.args["where"]))
    same(partial(gbce_loss, num_items=8, calibration=0.9), contrast(sigmoid_loss), single, whole)


def test_gbce_counts_valid_negatives(by_rows):
    def formula(pos, neg, weights):
        beta = 1 - 0.75 * (1 - len(neg) / 49)
        pull = (weights * functional.softplus(-pos)).mean()
        return (beta * pull + weights.mean() * functional.softplus(neg).sum()) / (len(neg) + 1)

    by_rows(partial(gbce_loss, num_items=50), formula)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: gbce_loss(*ROWS), "num_items.* must be at least 2: got none"),
        (lambda: gbce_loss(*ROWS, num_items=1), "num_items.* must be at least 2: got 1"),
        (lambda: gbce_loss(*ROWS, num_items=9, calibration=1.1), "calibration must be from 0 to 1: got 1.1"),
        (lambda: gbce_loss(*ROWS, num_items=9, calibration=math.nan), "calibration must be from 0 to 1"),
    ],
)
def test_arguments(call, says):
    with pytest.raises(InputError, match=says):
        call()
