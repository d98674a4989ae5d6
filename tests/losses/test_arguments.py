"""Arguments that no loss can make sense of, and second derivatives that are asked for."""

import math

import pytest
import torch
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import (
    bpr_loss,
    bsl_loss,
    contrast,
    decoupled_softmax_loss,
    in_batch,
    info_nce_loss,
    logistic_loss,
    sampled_softmax_loss,
    softmax_loss,
)
from rankwell.transforms import correct_log_q

ROWS = torch.zeros(2), torch.zeros(2, 3)
EMBEDDINGS = torch.eye(2), torch.eye(2)


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.nan])
@pytest.mark.parametrize(
    "call",
    [
        lambda t: sampled_softmax_loss(*ROWS, temperature=t),
        lambda t: decoupled_softmax_loss(*ROWS, temperature=t),
        lambda t: bsl_loss(*ROWS, temperature=t),
        lambda t: contrast(softmax_loss, temperature=t),
        lambda t: in_batch(softmax_loss, temperature=t),
        lambda t: info_nce_loss(*EMBEDDINGS, temperature=t),
        lambda t: correct_log_q(torch.zeros(3), torch.zeros(3), 3, temperature=t),
    ],
    ids=["sampled_softmax", "decoupled_softmax", "bsl", "contrast", "in_batch", "info_nce", "correct_log_q"],
)
def test_temperature_is_above_zero(call, temperature):
    with pytest.raises(InputError, match=f"temperature must be above 0: got {temperature}"):
        call(temperature)


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.nan])
def test_ratio_of_bsl_is_above_zero(ratio):
    with pytest.raises(InputError, match="ratio must be above 0"):
        bsl_loss(*ROWS, ratio=ratio)


def penalty_slope(loss):
    pos, neg = torch.tensor([0.5]), torch.tensor([[0.2, -0.3, 0.9]], requires_grad=True)
    value = loss(pos, neg)
    (slope,) = torch.autograd.grad(value, neg, create_graph=True)
    (value + slope.square().sum()).backward()
    return neg.grad


def test_gradient_penalty_reaches_the_scores():
    """A kept softmax without a slope of its own gave the loss's gradient alone."""

    def plain(pos, neg):
        return (neg.logsumexp(-1) - pos).mean()

    assert_close(penalty_slope(decoupled_softmax_loss), penalty_slope(plain))


def test_gradient_penalty_of_pairs_is_an_error():
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        penalty_slope(contrast(logistic_loss))
    assert penalty_slope(bpr_loss).isfinite().all()
