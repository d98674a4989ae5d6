"""Setwise losses."""

from functools import partial
from math import exp

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import excessiveness_loss, soft_dice_loss, tversky_loss

LOSSES = [soft_dice_loss, tversky_loss, excessiveness_loss]
each = pytest.mark.parametrize("loss", LOSSES)
SCORES, LABELS = tensor([0.7, -1.0, 2.0, 0.0]), tensor([1.0, 0.0, 0.0, 1.0])


def p(score):
    return 1 / (1 + exp(-score))


def test_soft_dice():
    hits, claimed = p(0.7) + p(0.0), p(0.7) + p(-1.0) + p(2.0) + p(0.0)
    assert_close(soft_dice_loss(SCORES, LABELS), tensor(1 - 2 * hits / (claimed + 2)))


def test_soft_dice_is_the_consistency_enhanced_loss_of_minet():
    """With soft labels and weights too."""
    for labels, weights in ((LABELS, torch.ones(4)), (tensor([0.2, 0.9, 0.0, 0.5]), tensor([1.0, 2.0, 0.5, 3.0]))):
        probability, w = SCORES.sigmoid(), weights
        false_alarms = (w * (probability - probability * labels)).sum()
        misses = (w * (labels - probability * labels)).sum()
        minet = (false_alarms + misses) / ((w * probability).sum() + (w * labels).sum())
        assert_close(soft_dice_loss(SCORES, labels, weights=weights), minet)


def test_tversky():
    hits, false, missed = p(0.7) + p(0.0), p(-1.0) + p(2.0), p(-0.7) + p(0.0)
    assert_close(tversky_loss(SCORES, LABELS), tensor(1 - hits / (hits + 0.3 * false + 0.7 * missed)))
    jaccard = hits / (hits + false + missed)
    assert_close(tversky_loss(SCORES, LABELS, alpha=1.0, beta=1.0), tensor(1 - jaccard))
    assert_close(tversky_loss(SCORES, LABELS, alpha=0.5, beta=0.5), soft_dice_loss(SCORES, LABELS))


def test_excessiveness():
    false, claimed = p(-1.0) + p(2.0), p(0.7) + p(-1.0) + p(2.0) + p(0.0)
    assert_close(excessiveness_loss(SCORES, LABELS), tensor(false / claimed))


@each
def test_weights_count_items(loss):
    """An item of weight two is two items, and the scale cancels."""
    twice = torch.cat([SCORES, SCORES[:2]]), torch.cat([LABELS, LABELS[:2]])
    weights = tensor([2.0, 2.0, 1.0, 1.0])
    assert_close(loss(SCORES, LABELS, weights=weights), loss(*twice))
    assert_close(loss(SCORES, LABELS, weights=7 * weights), loss(*twice))
    left_out = tensor([1.0, 0.0, 1.0, 1.0])
    assert_close(loss(SCORES, LABELS, weights=left_out), loss(SCORES[[0, 2, 3]], LABELS[[0, 2, 3]]))


@each
def test_list_without_relevant_items_costs_one_and_has_no_gradient(loss):
    for scale in (1.0, -200.0):
        scores = (scale * SCORES.abs()).requires_grad_()
        value = loss(scores, torch.zeros(4))
        value.backward()
        assert_close(value.detach(), tensor(1.0))
        assert_close(scores.grad, torch.zeros(4))


@each
def test_weights_of_zero_are_finite(loss):
    scores = SCORES.clone().requires_grad_()
    loss(scores, LABELS, weights=torch.zeros(4)).backward()
    assert torch.equal(scores.grad, torch.zeros(4))


def test_excessiveness_of_scores_far_below_zero():
    """There the sigmoid is an exponential: shares e and 1, though both are zero in float32."""
    scores = tensor([-200.0, -201.0], requires_grad=True)
    value = excessiveness_loss(scores, tensor([1, 0]))
    value.backward()
    share = 1 / (1 + exp(1))
    assert_close(value.detach(), tensor(share))
    assert_close(scores.grad, tensor([-share * (1 - share), share * (1 - share)]))


def test_excessiveness_is_centred_on_what_has_weight():
    scores, weights = tensor([0.0, -200.0, -201.0]), tensor([0.0, 1.0, 1.0])
    assert_close(excessiveness_loss(scores, tensor([0, 1, 0]), weights=weights), tensor(1 / (1 + exp(1))))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(tversky_loss, alpha=-0.1), "alpha must be at least 0: got -0.1"),
        (partial(tversky_loss, beta=0.0), "beta must be above 0"),
    ],
)
def test_parameters_that_make_no_sense(call, message):
    with pytest.raises(InputError, match=message):
        call(SCORES, LABELS)
