"""WARP and k-OS WARP: by hand, and against a plain loop."""

from functools import partial
from math import log

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import LOSSES, k_os_warp_loss, warp_loss
from rankwell.losses.cases import cases
from rankwell.losses.laws import gradients

ROWS = torch.zeros(2), torch.zeros(2, 3)


def harmonic(rank):
    return sum(1 / r for r in range(1, rank + 1))


def loop(pos, neg, num_items, margin, weight):
    """What the paper's algorithm does for one positive."""
    for trials, score in enumerate(neg, 1):
        if score > pos - margin:
            return weight((num_items - 1) // trials) * (margin - pos + score)
    return 0 * pos


def test_warp():
    """The second of ten violates by .4; the masked first counts as no trial in the second row."""
    neg, where = tensor([[-1.0, 0.4, 9.0]]), tensor([[True, True, True], [False, True, True]])
    values = warp_loss(tensor([1.0, 1.0]), neg.expand(2, 3), where=where, num_items=11, reduction="none")
    assert_close(values, tensor([harmonic(5) * 0.4, harmonic(10) * 0.4]))


def test_weight_of_lightfm():
    neg = tensor([[-1.0, 0.4]])
    assert_close(warp_loss(tensor([1.0]), neg, num_items=11, rank_weight="lightfm"), tensor(log(5) * 0.4))
    assert_close(warp_loss(tensor([1.0]), neg, num_items=10**6, rank_weight="lightfm"), tensor(10 * 0.4))
    assert_close(warp_loss(tensor([1.0]), neg, num_items=3, rank_weight="lightfm"), tensor(0.0))


@pytest.mark.parametrize("num_items", [6, 100])
def test_warp_is_the_paper_s_loop(num_items, by_rows):
    def formula(pos, neg, weights):
        return torch.stack(
            [w * loop(s, neg, num_items, 0.5, harmonic) for s, w in zip(pos, weights, strict=True)]
        ).mean()

    by_rows(partial(warp_loss, num_items=num_items, margin=0.5), formula)


def test_k_os_warp_is_warp_of_the_kth_best(by_rows):
    for k in (1, 2, 5):

        def formula(pos, neg, weights, k=k):
            best = pos.argsort(descending=True)[:k][-1]
            return weights[best] * loop(pos[best], neg, 40, 0.5, harmonic)

        by_rows(partial(k_os_warp_loss, num_items=40, margin=0.5, k=k), formula)


def test_k_os_warp_with_one_positive_is_warp():
    _, case = cases(LOSSES["bpr"], items=7)
    pairs = (gradients(partial(loss, num_items=50), case, case.args) for loss in (k_os_warp_loss, warp_loss))
    for ours, expected in zip(*pairs, strict=True):
        assert_close(ours, expected)


def test_k_os_warp_without_a_mask_is_with_a_full_one():
    pos, neg = torch.randn(4, 6), torch.randn(4, 9)
    full = torch.ones(4, 6, dtype=torch.bool)
    assert_close(k_os_warp_loss(pos, neg, num_items=50), k_os_warp_loss(pos, neg, pos_where=full, num_items=50))


def test_harmonic_weights_of_many_items():
    value = warp_loss(tensor([0.0]), tensor([[0.0]]), num_items=100_001)
    assert_close(value, tensor(harmonic(100_000)), rtol=1e-6, atol=0.0)


def test_more_trials_than_items_weigh_nothing():
    assert_close(warp_loss(tensor([1.0]), tensor([[-1.0, -1.0, 1.0]]), num_items=3), tensor(0.0))


def test_no_negatives_and_no_violator_cost_nothing():
    pos = torch.zeros(2, requires_grad=True)
    for neg in (torch.zeros(2, 0), torch.full((2, 3), -9.0)):
        value = warp_loss(pos, neg, num_items=9)
        value.backward()
        assert value == 0 and not pos.grad.any()


def test_positive_that_falls_a_little_may_meet_an_earlier_smaller_violation():
    """Why it is no monotone loss: first the third of nine violates by 1, then the first by .01."""
    before, after = warp_loss(
        tensor([1.0, 0.9]), tensor([[-0.09, -9.0, 1.0]]).expand(2, 3), num_items=10, reduction="none"
    )
    assert_close(before, tensor(harmonic(3) * 1.0))
    assert_close(after, tensor(harmonic(9) * 0.01))


def test_chunks_of_positives_are_the_whole(monkeypatch):
    pos, neg = torch.randn(3, 5), torch.randn(3, 7)
    whole = warp_loss(pos, neg, num_items=50)
    monkeypatch.setattr("rankwell.losses.warp.CHUNK_PAIRS", 2 * 3 * 7)
    assert_close(warp_loss(pos, neg, num_items=50), whole)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: warp_loss(*ROWS), "num_items.* must be at least 2: got none"),
        (lambda: k_os_warp_loss(*ROWS), "num_items.* must be at least 2: got none"),
        (
            lambda: warp_loss(*ROWS, num_items=9, rank_weight="log"),
            "rank_weight must be 'harmonic' or 'lightfm': got 'log'",
        ),
        (lambda: k_os_warp_loss(*ROWS, num_items=9, k=0), "k must be a whole number of at least 1: got 0"),
    ],
)
def test_arguments(call, says):
    with pytest.raises(InputError, match=says):
        call()


def test_rank_beyond_all_items_costs_nothing():
    """More trials than items: the estimated rank is 0, and digamma(1) plus Euler's constant is -7e-8."""
    value = warp_loss(tensor([0.0]), tensor([[-5.0, -5.0, 100.0]]), num_items=3)
    assert value == 0
