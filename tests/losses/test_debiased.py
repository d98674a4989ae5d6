"""Debiased, hard and multi-sample contrastive losses: by hand, by formula, and what equals what."""

import math
from functools import partial
from math import exp, log

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import (
    LOSSES,
    debiased_contrastive_loss,
    hard_contrastive_loss,
    multi_sample_contrastive_loss,
    sampled_softmax_loss,
)
from rankwell.losses.cases import cases
from rankwell.losses.laws import gradients

CONTRAST = LOSSES["bpr"]
ROWS = torch.zeros(2), torch.zeros(2, 3)


def same(one, other, case, args=None, **tolerance):
    args = args or case.args
    for ours, expected in zip(gradients(one, case, args), gradients(other, case, args), strict=True):
        assert_close(ours, expected, **tolerance)


def cosines(case):
    """The case with scores between -1 and 1."""
    return {name: x / 1.2 if name in case.scores else x for name, x in case.args.items()}


def formula(pos, neg, weights, beta, rate, t):
    n, mass = len(neg), (neg / t).exp()
    hardness = (beta * neg / t).exp()
    estimate = (hardness / hardness.mean() * mass).sum() - rate * n * (pos / t).exp().mean()
    g = (estimate / (1 - rate)).clamp(min=n * exp(-1 / t))
    return -(weights * ((pos / t).exp() / ((pos / t).exp() + g)).log()).sum()


def test_debiased_contrastive():
    value = debiased_contrastive_loss(tensor([0.4]), tensor([[0.2, 0.6]]), positive_rate=0.2, temperature=0.5)
    g = (exp(0.4) + exp(1.2) - 0.2 * 2 * exp(0.8)) / 0.8
    assert_close(value, tensor(-log(exp(0.8) / (exp(0.8) + g))))


def test_hard_contrastive():
    value = hard_contrastive_loss(tensor([0.4]), tensor([[0.2, 0.6]]), hardness=2.0, positive_rate=0.2, temperature=0.5)
    mean = (exp(0.8) + exp(2.4)) / 2
    g = ((exp(0.8) * exp(0.4) + exp(2.4) * exp(1.2)) / mean - 0.2 * 2 * exp(0.8)) / 0.8
    assert_close(value, tensor(log(1 + g / exp(0.8))))


def test_floor_is_reached_without_a_gradient_of_the_negatives():
    pos, neg = tensor([0.9], requires_grad=True), tensor([[-0.9, -0.8]], requires_grad=True)
    value = debiased_contrastive_loss(pos, neg, positive_rate=0.3)
    assert exp(-1.8) + exp(-1.6) < 0.3 * 2 * exp(1.8)
    value.backward()
    ratio = 2 * exp(-2) / exp(1.8)
    assert_close(value, tensor(log(1 + ratio)))
    assert not neg.grad.any()
    assert_close(pos.grad, tensor([-2 * ratio / (1 + ratio)]))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4])
def test_by_the_formula(rate, by_rows):
    own = {"positive_rate": rate, "temperature": 0.4}
    by_rows(partial(debiased_contrastive_loss, **own), partial(formula, beta=0.0, rate=rate, t=0.4))
    by_rows(partial(hard_contrastive_loss, **own, hardness=0.7), partial(formula, beta=0.7, rate=rate, t=0.4))


def test_hard_without_hardness_is_debiased():
    for case in cases(CONTRAST):
        same(partial(hard_contrastive_loss, hardness=0.0), debiased_contrastive_loss, case)
        same(partial(hard_contrastive_loss, hardness=1e-5), debiased_contrastive_loss, case, rtol=1e-3, atol=1e-3)


def test_debiased_without_positives_among_the_negatives_is_the_sampled_softmax():
    for case in cases(CONTRAST):
        if case.args["pos"].ndim == 1:
            softmax = partial(sampled_softmax_loss, temperature=0.3)
            same(partial(debiased_contrastive_loss, positive_rate=0.0, temperature=0.3), softmax, case, cosines(case))


@pytest.mark.parametrize("gap", [-60.0, 60.0, 1e4, -1e4])
@pytest.mark.parametrize("loss", [debiased_contrastive_loss, hard_contrastive_loss])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_extremes_have_the_gradient_of_float64(loss, gap, dtype):
    """Exponentials of 120 and of 20,000 are infinite in float32; their logarithms are not."""
    slopes = []
    for precision in (dtype, torch.double):
        pos, neg = (
            tensor([gap], dtype=precision, requires_grad=True),
            tensor([[0.0, 0.5]], dtype=precision, requires_grad=True),
        )
        value = loss(pos, neg)
        slopes.append([value, *torch.autograd.grad(value, [pos, neg])])
    for single, double in zip(*slopes, strict=True):
        assert_close(single.double(), double, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loss", [debiased_contrastive_loss, hard_contrastive_loss])
def test_no_negatives_cost_nothing(loss):
    pos = tensor([0.3], requires_grad=True)
    for neg in (torch.zeros(1, 0), torch.full((1, 2), torch.nan)):
        value = loss(pos, neg, where=torch.zeros(1, 1, dtype=torch.bool))
        value.backward()
        assert value == 0 and not pos.grad.any()


def test_multi_sample_contrastive():
    value = multi_sample_contrastive_loss(tensor([[0.4, 0.2]]), tensor([[0.2, 0.6]]), temperature=0.2, alpha=0.4)
    mass = exp(1.0) + exp(3.0)
    assert_close(value, tensor(0.6 * log(exp(2.0) + mass) - 0.4 * 2.0 + 0.6 * log(exp(1.0) + mass) - 0.4 * 1.0))


def test_multi_sample_contrastive_at_one_half_is_half_the_sampled_softmax():
    for case in cases(CONTRAST):
        if case.args["pos"].ndim == 1:

            def half(**args):
                return sampled_softmax_loss(**args, temperature=0.2) / 2

            same(partial(multi_sample_contrastive_loss, alpha=0.5), half, case)


def test_positives_of_multi_sample_contrastive_add_up():
    pos, neg = torch.randn(4, 3), torch.randn(4, 5)
    apart = sum(multi_sample_contrastive_loss(one, neg) for one in pos.unbind(-1))
    assert_close(multi_sample_contrastive_loss(pos, neg), apart)


def test_multi_sample_contrastive_pushes_back_a_positive_that_leads_by_far():
    """Why it is no monotone loss: the slope is (1 - alpha) p - alpha, with p near 1."""
    pos = tensor([9.0], requires_grad=True)
    multi_sample_contrastive_loss(pos, tensor([[0.0]]), alpha=0.45, temperature=1.0).backward()
    p = exp(9.0) / (exp(9.0) + 1)
    assert_close(pos.grad, tensor([0.55 * p - 0.45]))
    assert pos.grad > 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: debiased_contrastive_loss(*ROWS, positive_rate=1.0),
            "positive_rate must be from 0 to below 1: got 1.0",
        ),
        (lambda: debiased_contrastive_loss(*ROWS, positive_rate=math.nan), "positive_rate must be from 0 to below 1"),
        (lambda: debiased_contrastive_loss(*ROWS, temperature=0.0), "temperature must be above 0"),
        (lambda: hard_contrastive_loss(*ROWS, hardness=-1.0), "hardness must be at least 0: got -1.0"),
        (lambda: hard_contrastive_loss(*ROWS, positive_rate=-0.1), "positive_rate must be"),
        (lambda: multi_sample_contrastive_loss(*ROWS, alpha=1.0), "alpha must be between 0 and 1: got 1.0"),
        (lambda: multi_sample_contrastive_loss(*ROWS, temperature=0.0), "temperature must be above 0"),
    ],
)
def test_arguments(call, says):
    with pytest.raises(InputError, match=says):
        call()
