"""TOP1 and BPR-max: by hand, by formula, and what equals what."""

from functools import partial
from math import exp, log

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import LOSSES, bpr_loss, bpr_max_loss, top1_loss
from rankwell.losses.cases import cases
from rankwell.losses.laws import gradients

ROWS = torch.zeros(2), torch.zeros(2, 3)


def sigmoid(x):
    return 1 / (1 + exp(-x))


def test_top1():
    value = top1_loss(tensor([0.5]), tensor([[1.0, -2.0]]))
    assert_close(value, tensor((sigmoid(0.5) + sigmoid(1.0) + sigmoid(-2.5) + sigmoid(4.0)) / 2))


@pytest.mark.parametrize("average", ["mean", "softmax"])
def test_top1_by_its_formula(average, by_rows):
    def formula(pos, neg, weights):
        shares = neg.softmax(-1) if average == "softmax" else torch.ones_like(neg) / len(neg)
        above = (neg - pos[:, None]).sigmoid() + (neg**2).sigmoid()
        return (weights * (shares * above).sum(-1)).mean()

    by_rows(partial(top1_loss, average=average), formula)


def test_averages_of_top1_agree_on_equal_negatives():
    pos, neg = torch.randn(4), torch.randn(4, 1).expand(4, 6)
    assert_close(top1_loss(pos, neg, average="softmax"), top1_loss(pos, neg))


def test_bpr_max():
    value = bpr_max_loss(tensor([0.5]), tensor([[1.0, -2.0]]), neg_penalty=0.3)
    p = exp(1.0) / (exp(1.0) + exp(-2.0))
    expected = -log(p * sigmoid(-0.5) + (1 - p) * sigmoid(2.5)) + 0.3 * (p * 1.0 + (1 - p) * 4.0)
    assert_close(value, tensor(expected))


def test_bpr_max_by_its_formula(by_rows):
    def formula(pos, neg, weights):
        shares = neg.softmax(-1)
        wins = (shares * (pos[:, None] - neg).sigmoid()).sum(-1)
        return (weights * (-wins.log() + 0.7 * (shares * neg**2).sum())).mean()

    by_rows(partial(bpr_max_loss, neg_penalty=0.7), formula)


@pytest.mark.parametrize("average", ["mean", "softmax"])
def test_top1_of_a_negative_of_minus_infinity(average):
    """It is not above the positive, and its score is far from 0: of two, half of the second term or a share of 0."""
    neg = tensor([[-torch.inf, 0.0]], requires_grad=True)
    value = top1_loss(tensor([0.0]), neg, average=average)
    value.backward()
    assert_close(value.detach(), tensor((1 / 2 + 1 / 2 + 1) / 2 if average == "mean" else 1.0))
    assert neg.grad.isfinite().all() and neg.grad[0, 0] == 0


def test_bpr_max_of_one_negative_is_bpr():
    for case in cases(LOSSES["bpr"]):
        args = dict(case.args, where=torch.arange(case.args["neg"].shape[-1])[None] < 1)
        pairs = (gradients(loss, case, args) for loss in (partial(bpr_max_loss, neg_penalty=0.0), bpr_loss))
        for ours, expected in zip(*pairs, strict=True):
            assert_close(ours, expected)


@pytest.mark.parametrize("gap", [-1000.0, -60.0, 60.0, 1000.0])
def test_bpr_max_keeps_its_gradient_at_large_gaps(gap):
    """A product of a share and a sigmoid underflows; its logarithm does not. Lost pairs have slope -1, won ones 0."""
    pos = tensor([gap], requires_grad=True)
    bpr_max_loss(pos, tensor([[0.0, -3.0]])).backward()
    assert_close(pos.grad, tensor([-1.0 if gap < 0 else 0.0]))


def test_penalty_of_a_leading_negative_does_not_cancel():
    """At 10,000 a square is known to 8 in float32; the slope 2 s to 1e-3."""
    neg = tensor([[10_000.0, 9_990.0, 0.0]], requires_grad=True)
    bpr_max_loss(tensor([20_000.0]), neg).backward()
    exact = neg.detach().double().requires_grad_()
    bpr_max_loss(tensor([20_000.0], dtype=torch.double), exact).backward()
    assert_close(neg.grad.double(), exact.grad, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: top1_loss(*ROWS, average="max"), "average must be 'mean' or 'softmax': got 'max'"),
        (lambda: bpr_max_loss(*ROWS, neg_penalty=-1.0), "neg_penalty must be at least 0"),
    ],
)
def test_arguments(call, says):
    with pytest.raises(InputError, match=says):
        call()
