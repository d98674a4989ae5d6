"""Defects known of other libraries (the design's section 7), which ours must not have."""

import math

import pytest
import torch
from torch.testing import assert_close

from rankwell.losses import LOSSES, bpr_loss, contrast, logistic_loss, softmax_loss


def slope(loss, pos, neg):
    pos = torch.tensor([pos], requires_grad=True)
    loss(pos, torch.tensor([[neg]])).backward()
    return pos.grad


@pytest.mark.parametrize("gap", [-25.0, -60.0, -1000.0])
@pytest.mark.parametrize("loss", [bpr_loss, contrast(logistic_loss)])
def test_bpr_keeps_its_gradient_at_large_gaps(loss, gap):
    """RecBole's ``-log(1e-10 + sigmoid)``: -0.12 at -25 and 0 at -60."""
    assert_close(slope(loss, gap, 0.0), torch.tensor([-1.0]))


def test_bpr_keeps_the_small_gradient_of_a_won_pair():
    assert_close(slope(bpr_loss, 30.0, 0.0), torch.tensor([-math.exp(-30.0)]), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_bpr_is_finite_in_half_precision(dtype):
    """RecBole: infinite at -20 in half precision."""
    value = bpr_loss(torch.tensor([-20.0], dtype=dtype), torch.tensor([[0.0]], dtype=dtype))
    assert_close(value, torch.tensor(20.0) + math.log1p(math.exp(-20)))


def test_mean_counts_lists_whose_loss_is_zero():
    """RecTools divides by the number of non-zero losses."""
    scores, labels = torch.tensor([[1.0, 1.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert_close(softmax_loss(scores, labels), torch.tensor(math.log(2) / 2))


@pytest.mark.parametrize("entry", [entry for entry in LOSSES if entry.kind == "list"], ids=lambda entry: entry.name)
def test_batch_of_padding_gives_zero_not_nan(entry):
    """RecTools: NaN."""
    scores = torch.full((2, 3), torch.nan, requires_grad=True)
    needed = {
        name: torch.zeros(2, 3, dtype=torch.int64 if given.holds == "id" else torch.float32)
        for name, given in entry.inputs.items()
        if given.required
    }
    value = entry(scores, torch.zeros(2, 3), where=torch.zeros(2, 3, dtype=torch.bool), **needed)
    value.backward()
    assert value == 0
    assert torch.equal(scores.grad, torch.zeros(2, 3))


def test_softmax_keeps_its_gradient_at_large_gaps():
    """allRank's ListNet, ``log(softmax + eps)``: 0.0007 where the gradient is p - y."""
    for gap in (15.0, 40.0, 100.0):
        scores = torch.tensor([0.0, gap], requires_grad=True)
        softmax_loss(scores, torch.tensor([0.73, 0.27])).backward()
        assert_close(
            scores.grad, torch.tensor([-0.73, 0.73]) + math.exp(-gap) / (1 + math.exp(-gap)) * torch.tensor([1.0, -1.0])
        )


def test_softmax_is_exact_far_from_zero():
    for offsets in (None, torch.tensor([0, 2])):
        scores = torch.tensor([20_000.0, 20_001.0], requires_grad=True)
        value = softmax_loss(scores, torch.tensor([1.0, 0.0]), offsets=offsets)
        value.backward()
        assert_close(value, torch.tensor(math.log1p(math.e)))
        assert_close(scores.grad[1], torch.sigmoid(torch.tensor(1.0)))
