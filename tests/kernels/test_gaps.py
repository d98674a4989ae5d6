"""Sums over the gaps of a row: chunks, memory, second derivatives."""

import pytest
import torch
from torch.testing import assert_close

from rankwell.losses import bpr_max_loss, psl_loss, top1_loss, variational_bpr_loss
from rankwell.losses.laws import peak_bytes

LOSSES = [psl_loss, bpr_max_loss, top1_loss, variational_bpr_loss]


def slopes(loss, *scores):
    leaves = [x.clone().requires_grad_() for x in scores]
    value = loss(*leaves, reduction="sum")
    return [value.detach(), *torch.autograd.grad(value, leaves)]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("chunk", [1, 7, 2 * 7, 3 * 7, 4 * 7])
def test_chunks_are_the_whole(loss, chunk, monkeypatch):
    """Of rows where one row's gaps do not fit, then of positives."""
    pos, neg = torch.randn(3, 5), torch.randn(3, 7)
    whole = slopes(loss, pos, neg)
    monkeypatch.setattr("rankwell.kernels.gaps.CHUNK_GAPS", chunk)
    for ours, expected in zip(slopes(loss, pos, neg), whole, strict=True):
        assert_close(ours, expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_memory_does_not_grow_with_the_pairs(loss):
    """100 positives by 20,000 negatives: the gaps alone are 100 times the negatives."""
    pos, neg = torch.randn(2, 100, requires_grad=True), torch.randn(2, 20_000, requires_grad=True)
    assert peak_bytes(lambda: loss(pos, neg).backward()) < 20 * neg.nbytes


@pytest.mark.parametrize("loss", LOSSES)
def test_second_derivatives_are_an_error(loss):
    pos, neg = torch.randn(2, requires_grad=True), torch.randn(2, 3)
    (slope,) = torch.autograd.grad(loss(pos, neg), pos, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        slope.sum().backward()


@pytest.mark.parametrize("loss", LOSSES)
def test_no_rows_and_no_negatives(loss):
    for shape in ((0, 3), (2, 0)):
        value, by_pos, by_neg = slopes(loss, torch.randn(shape[0], 2), torch.randn(shape))
        assert value == 0 and not by_pos.any() and not by_neg.any()
