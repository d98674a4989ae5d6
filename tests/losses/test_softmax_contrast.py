"""Relatives of the sampled softmax: by hand, against their formulas, and what equals what."""

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
    decoupled_softmax_loss,
    sampled_softmax_loss,
    scaled_cross_entropy_loss,
    soft_info_nce_loss,
    softmax_at_k_loss,
)
from rankwell.losses.cases import cases
from rankwell.losses.laws import gradients

CONTRAST = LOSSES["bpr"]
ROWS = torch.zeros(2), torch.zeros(2, 3)


def same(one, other, args, case):
    for ours, expected in zip(gradients(one, case, args), gradients(other, case, args), strict=True):
        assert_close(ours, expected)


def test_scaled_cross_entropy():
    value = scaled_cross_entropy_loss(tensor([0.4]), tensor([[0.2, 0.6]]), scale=7.0, temperature=0.2)
    assert_close(value, tensor(log(1 + 7 * (exp(-1.0) + exp(1.0)))))


def test_scaled_cross_entropy_with_copies_is_the_sampled_softmax_of_the_copies():
    pos, neg = tensor([[0.4, 0.1]]), tensor([[0.2, 0.6]])
    copies = sampled_softmax_loss(pos, neg.repeat(1, 3), temperature=0.2)
    assert_close(scaled_cross_entropy_loss(pos, neg, scale=3.0, temperature=0.2), copies)
    for case in cases(CONTRAST):
        same(partial(scaled_cross_entropy_loss, scale=1.0), sampled_softmax_loss, case.args, case)


def test_soft_info_nce():
    """Similarities log(1, 2, 5) have shares 1/8, 2/8, 5/8; at alpha 1, beta 1.2 the last would weigh less than .8."""
    similarities = tensor([[1.0, 2.0, 5.0]]).log()
    value = soft_info_nce_loss(
        tensor([0.5]), tensor([[1.0, 0.0, 2.0]]), similarities=similarities, alpha=1.0, beta=1.2, least=0.8
    )
    first, second = ((1.2 - share) / (1.2 - 1 / 3) for share in (1 / 8, 2 / 8))
    assert (1.2 - 5 / 8) / (1.2 - 1 / 3) < 0.8
    assert_close(value, tensor(log(1 + first * exp(0.5) + second * exp(-0.5) + 0.8 * exp(1.5))))


def test_soft_info_nce_without_alpha_or_with_equal_similarities_is_the_sampled_softmax():
    for case in cases(CONTRAST):
        random = torch.randn(case.args["neg"].shape, generator=torch.Generator().manual_seed(0))
        same(partial(soft_info_nce_loss, similarities=random, alpha=0.0), sampled_softmax_loss, case.args, case)
        same(partial(soft_info_nce_loss, similarities=torch.ones_like(random)), sampled_softmax_loss, case.args, case)


def test_single_negative_of_soft_info_nce_weighs_one():
    """(beta - alpha) / (beta - alpha) is 0/0 where they are equal."""
    pos, neg = tensor([0.2, 0.2], requires_grad=True), tensor([[0.4, torch.nan], [0.1, 0.3]])
    where = tensor([[True, False], [True, True]])
    values = soft_info_nce_loss(pos, neg, similarities=torch.zeros(2, 2), where=where, reduction="none")
    assert_close(values, tensor([log(1 + exp(0.2)), log(1 + exp(-0.1) + exp(0.1))]))
    values.sum().backward()
    assert pos.grad.isfinite().all()


def test_similarities_carry_no_gradient():
    similarities = torch.randn(2, 3, requires_grad=True)
    pos = torch.zeros(2, requires_grad=True)
    soft_info_nce_loss(pos, torch.zeros(2, 3), similarities=similarities).backward()
    assert similarities.grad is None


def test_softmax_at_k_with_a_threshold_of_each_row():
    pos, neg = tensor([[0.6, 0.1], [0.3, 0.2]]), tensor([[0.2, 0.5], [0.4, 0.0]])
    expected = []
    for positives, negatives, cut in zip(pos.tolist(), neg.tolist(), (0.4, -1.0), strict=True):
        mass = sum(exp(s / 0.2) for s in negatives)
        expected.append(sum(log(mass / exp(s / 0.2)) / (1 + exp((cut - s) / 0.5)) for s in positives))
    values = softmax_at_k_loss(
        pos, neg, threshold=tensor([0.4, -1.0]), temperature=0.2, weight_temperature=0.5, reduction="none"
    )
    assert_close(values, tensor(expected))


def test_softmax_at_k_takes_the_kth_score_of_the_row():
    """Of .6, .1 | .5, .2, (masked 9) the third is .2."""
    pos, neg, where = tensor([[0.6, 0.1]]), tensor([[0.2, 9.0, 0.5]]), tensor([[True, False, True]])
    given = softmax_at_k_loss(pos, neg, where=where, threshold=tensor([0.2]))
    assert_close(softmax_at_k_loss(pos, neg, where=where, k=3), given)
    with_pad = softmax_at_k_loss(
        tensor([[0.6, 7.0, 0.1]]), neg, pos_where=tensor([[True, False, True]]), where=where, k=3
    )
    assert_close(with_pad, given)


def test_softmax_at_k_of_short_rows_is_the_decoupled_softmax():
    for case in cases(CONTRAST):
        same(softmax_at_k_loss, partial(decoupled_softmax_loss, temperature=0.1), case.args, case)
        same(
            partial(softmax_at_k_loss, k=9),
            partial(decoupled_softmax_loss, temperature=0.1),
            case.take(tensor([0])) | {"where": torch.arange(case.args["neg"].shape[-1])[None] < 5},
            case,
        )


def test_threshold_is_a_constant_and_the_weight_is_not():
    pos, neg = tensor([0.3], dtype=torch.double, requires_grad=True), tensor([[0.1, 0.4, 0.2]], dtype=torch.double)
    cut = tensor([0.2], dtype=torch.double, requires_grad=True)
    (slope,) = torch.autograd.grad(softmax_at_k_loss(pos, neg, k=3), pos)
    assert torch.autograd.gradcheck(lambda s: softmax_at_k_loss(s, neg, threshold=cut.detach()), pos)
    given = softmax_at_k_loss(pos, neg, threshold=cut)
    assert_close(torch.autograd.grad(given, [pos, cut], allow_unused=True), (slope, None))


def test_softmax_at_k_gives_up_a_positive_far_below_the_threshold():
    """Why it is no monotone loss: here a positive that falls from 1 below the threshold to 9 below costs less."""
    near, far = softmax_at_k_loss(
        tensor([-1.0, -9.0]), tensor([[0.0], [0.0]]), threshold=torch.zeros(2), temperature=1.0, reduction="none"
    )
    assert_close(near, tensor(1 / (1 + exp(1.0))))
    assert far < near


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: scaled_cross_entropy_loss(*ROWS, scale=0.0), "scale must be above 0"),
        (lambda: scaled_cross_entropy_loss(*ROWS, temperature=-1.0), "temperature must be above 0"),
        (lambda: soft_info_nce_loss(*ROWS), r"similarities must be one a negative, \(2, 3\): got none"),
        (lambda: soft_info_nce_loss(*ROWS, similarities=torch.ones(2)), r"similarities .*: got \(2,\)"),
        (lambda: soft_info_nce_loss(*ROWS, similarities=ROWS[1], alpha=2.0), "alpha must be from 0 to beta"),
        (lambda: soft_info_nce_loss(*ROWS, similarities=ROWS[1], least=0.0), "least must be above 0"),
        (lambda: soft_info_nce_loss(*ROWS, similarities=ROWS[1], sharpness=math.nan), "sharpness must be above 0"),
        (lambda: softmax_at_k_loss(*ROWS, k=0), "k must be a whole number of at least 1: got 0"),
        (
            lambda: softmax_at_k_loss(*ROWS, threshold=torch.zeros(3)),
            r"threshold must be one a row, \(2,\): got \(3,\)",
        ),
        (lambda: softmax_at_k_loss(*ROWS, weight_temperature=0.0), "weight_temperature must be above 0"),
    ],
)
def test_arguments(call, says):
    with pytest.raises(InputError, match=says):
        call()
