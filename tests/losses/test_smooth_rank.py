"""Metrics of smooth ranks, against their formulas written out."""

from math import exp, log2

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.kernels import comparisons
from rankwell.losses import approx_mrr_loss, approx_ndcg_loss, smooth_ap_loss
from rankwell.metrics import ap, mrr, ndcg

SMOOTH = [(approx_ndcg_loss, ndcg), (approx_mrr_loss, mrr), (smooth_ap_loss, ap)]


def sigmoid(x):
    return 1 / (1 + exp(-x))


def ranks(scores, temperature):
    """All comparisons, and a half for the item itself left out: TensorFlow Ranking's form."""
    return torch.sigmoid((scores[..., None, :] - scores[..., None]) / temperature).sum(-1) + 0.5


def example(n=9, rows=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, n, generator=draw, dtype=torch.double)
    labels = torch.randint(0, 4, (rows, n), generator=draw)
    weights = torch.rand(rows, n, generator=draw, dtype=torch.double) + 0.1
    return scores.requires_grad_(), labels, weights


def test_approx_ndcg():
    """Scores .3, .1, .2 and grades 2, 0, 1 at temperature .1."""
    value = approx_ndcg_loss(tensor([0.3, 0.1, 0.2]), tensor([2, 0, 1]))
    first = 1 + sigmoid(-2.0) + sigmoid(-1.0)
    third = 1 + sigmoid(1.0) + sigmoid(-1.0)
    dcg = 3 / log2(1 + first) + 1 / log2(1 + third)
    assert_close(value, tensor(1 - dcg / (3 + 1 / log2(3))))


def test_approx_mrr():
    value = approx_mrr_loss(tensor([0.3, 0.1, 0.2]), tensor([0, 1, 1]), weights=tensor([5.0, 1.0, 3.0]))
    second, third = 1 + sigmoid(2.0) + sigmoid(1.0), 1 + sigmoid(1.0) + sigmoid(-1.0)
    assert_close(value, tensor(1 - (1 / second + 3 / third) / 4))


def test_smooth_ap():
    value = smooth_ap_loss(tensor([0.3, 0.1, 0.2]), tensor([0, 1, 1]), temperature=0.1)
    second = (1 + sigmoid(1.0)) / (1 + sigmoid(2.0) + sigmoid(1.0))
    third = (1 + sigmoid(-1.0)) / (1 + sigmoid(1.0) + sigmoid(-1.0))
    assert_close(value, tensor(1 - (second + third) / 2))


@pytest.mark.parametrize("chunk", [1 << 16, 20, 1])
def test_values_and_gradients_of_all_comparisons_at_once(chunk, monkeypatch):
    """Whatever the sizes of the chunks."""
    monkeypatch.setattr(comparisons, "CHUNK_PAIRS", chunk)
    monkeypatch.setattr(comparisons, "BLOCK_ITEMS", max(chunk // 8, 1))
    scores, labels, weights = example()
    gains = weights * (2.0**labels - 1)
    place = torch.arange(1, 10, dtype=torch.double)
    best = (gains.sort(descending=True).values / torch.log2(1 + place)).sum(-1)
    expected = 1 - (gains / torch.log2(1 + ranks(scores, 0.3))).sum(-1) / best
    value = approx_ndcg_loss(scores, labels, weights=weights, temperature=0.3, reduction="none")
    assert_close(value, expected)
    slopes = [torch.autograd.grad(x.sum(), scores)[0] for x in (value, expected)]
    assert_close(*slopes)

    relevant = (labels >= 2).double()
    above = (torch.sigmoid((scores[:, None] - scores[..., None]) / 0.3) * relevant[:, None]).sum(-1) + 0.5
    terms = weights * relevant * above / ranks(scores, 0.3)
    expected = 1 - terms.sum(-1) / (weights * relevant).sum(-1)
    value = smooth_ap_loss(scores, labels, weights=weights, temperature=0.3, rel=2, reduction="none")
    assert_close(value, expected)
    slopes = [torch.autograd.grad(x.sum(), scores)[0] for x in (value, expected)]
    assert_close(*slopes)


@pytest.mark.parametrize(("loss", "metric"), SMOOTH, ids=["ndcg", "mrr", "ap"])
def test_cold_ranks_give_the_metric(loss, metric):
    scores, labels, weights = example(rows=20)
    if metric is mrr:  # with several relevant items it is their mean, with one the metric
        labels, weights = (torch.arange(9) == 4).long().expand(20, 9), None
    cold = loss(scores, labels, weights=weights, temperature=1e-5, reduction="none")
    assert_close(cold, 1 - metric(scores.detach(), labels, weights=weights, reduction="none"))


@pytest.mark.parametrize(("loss", "metric"), SMOOTH, ids=["ndcg", "mrr", "ap"])
def test_weights_weigh_gains(loss, metric):
    """One weight for a whole list cancels; a weight of 0 takes an item's gain, and leaves it as a rival."""
    scores, labels, _ = example()
    plain = loss(scores, labels, reduction="none")
    assert_close(loss(scores, labels, weights=tensor([[2.0], [0.5], [7.0]]).double(), reduction="none"), plain)
    if metric is not ap:
        dropped = labels.clone()
        dropped[:, 3] = 0
        weights = (torch.arange(9) != 3).double().expand(3, 9)
        assert_close(loss(scores, labels, weights=weights), loss(scores, dropped))


@pytest.mark.parametrize(("loss", "metric"), SMOOTH, ids=["ndcg", "mrr", "ap"])
def test_list_without_relevant_items_costs_nothing_and_counts(loss, metric):
    scores, labels = tensor([[1.0, 2.0], [1.0, 2.0]]), tensor([[0, 0], [1, 0]])
    one = loss(scores[1], labels[1])
    assert one > 0
    assert_close(loss(scores, labels), one / 2)


def test_far_gaps_keep_their_digits():
    """The slope of a comparison at a gap of 20 temperatures, in float32."""
    scores = tensor([0.0, 20.0], requires_grad=True)
    approx_mrr_loss(scores, tensor([0.0, 1.0]), temperature=1.0).backward()
    slope = exp(-20.0) / (1 + exp(-20.0)) ** 2
    assert_close(scores.grad, tensor([slope, -slope]), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("loss", [loss for loss, _ in SMOOTH])
def test_arguments(loss):
    scores, labels = torch.zeros(2, 3), torch.ones(2, 3)
    with pytest.raises(InputError, match="temperature must be above 0: got 0"):
        loss(scores, labels, temperature=0.0)
    if loss is approx_ndcg_loss:
        with pytest.raises(InputError, match="gain must be 'exponential' or 'linear'"):
            loss(scores, labels, gain="square")
    else:
        with pytest.raises(InputError, match="rel must be above 0"):
            loss(scores, labels, rel=0.0)


def test_second_derivatives_are_an_error():
    scores = tensor([0.1, 0.2], requires_grad=True)
    (slope,) = torch.autograd.grad(approx_ndcg_loss(scores, tensor([1.0, 0.0])), scores, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        slope.square().sum().backward()
