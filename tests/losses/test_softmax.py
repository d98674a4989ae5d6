"""Listwise losses of the softmax."""

from dataclasses import replace
from functools import partial
from math import exp, log

import pytest
import torch
from torch import tensor
from torch.nn import functional
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.lists import offsets_from_sizes
from rankwell.losses import (
    LOSSES,
    kl_loss,
    listnet_loss,
    listwise_softmax_at_k_loss,
    poly1_softmax_loss,
    softmax_loss,
    unique_softmax_loss,
)
from rankwell.losses.laws import LAWS

SCORES, GRADES = tensor([0.4, -1.0, 2.0, 0.1]), tensor([2.0, 0.0, 1.0, 2.0])


def test_listnet():
    """Labels' shares e / (e + 1) and 1 / (e + 1)."""
    share, total = exp(1) / (exp(1) + 1), log(exp(2) + exp(0.5))
    expected = -share * (2 - total) - (1 - share) * (0.5 - total)
    assert_close(listnet_loss(tensor([2.0, 0.5]), tensor([1, 0])), tensor(expected))
    rows = SCORES.expand(2, 4)
    assert_close(
        listnet_loss(rows, GRADES.expand(2, 4)), functional.cross_entropy(rows, GRADES.softmax(-1).expand(2, 4))
    )


def test_listnet_keeps_its_gradient_at_large_gaps():
    """allRank's ``log(softmax + eps)``: 0.0007 where it is 0.73. Labels 1 and 0 have the shares 0.73 and 0.27."""
    share = exp(1) / (exp(1) + 1)
    for gap in (15.0, 40.0, 100.0):
        for offsets in (None, tensor([0, 2])):
            scores = tensor([0.0, gap], requires_grad=True)
            listnet_loss(scores, tensor([1.0, 0.0]), offsets=offsets).backward()
            own = exp(-gap) / (1 + exp(-gap))
            assert_close(scores.grad, tensor([own - share, share - own]))


def test_listnet_is_softmax_over_the_labels_softmax():
    assert_close(listnet_loss(SCORES, GRADES), softmax_loss(SCORES, GRADES.softmax(-1)))


def test_kl():
    """Shares 1/5 and 4/5 against 1/2 and 1/2."""
    labels = tensor([0.0, log(4)])
    assert_close(kl_loss(tensor([3.0, 3.0]), labels), tensor(0.2 * log(0.2 / 0.5) + 0.8 * log(0.8 / 0.5)))
    assert_close(kl_loss(tensor([0.0, 6.0]), labels, temperature=6 / log(4)), tensor(0.0))
    assert_close(kl_loss(tensor([0.0, log(4)]), 3 * labels, label_temperature=3.0), tensor(0.0))
    reference = functional.kl_div(SCORES.log_softmax(-1), GRADES.log_softmax(-1), reduction="sum", log_target=True)
    assert_close(kl_loss(SCORES, GRADES), reference)


def test_kl_is_listnet_less_the_entropy_of_the_labels():
    shares = GRADES.softmax(-1)
    assert_close(kl_loss(SCORES, GRADES), listnet_loss(SCORES, GRADES) + (shares * shares.log()).sum())


def test_poly1_softmax():
    """Chances 1/4 and 3/4."""
    scores = tensor([0.0, log(3)])
    assert_close(poly1_softmax_loss(scores, tensor([1, 0]), epsilon=2.0), tensor(log(4) + 2 * 3 / 4))
    both = log(4) + 3 / 4 + 0.5 * (log(4 / 3) + 1 / 4)
    assert_close(poly1_softmax_loss(scores, tensor([1.0, 0.5])), tensor(both))
    assert_close(poly1_softmax_loss(SCORES, GRADES, epsilon=0.0), softmax_loss(SCORES, GRADES))


def test_unique_softmax():
    """TensorFlow Ranking's example, and grades 2, 0, 1, 2 with gains 3, 0, 1, 3."""
    assert_close(unique_softmax_loss(tensor([0.6, 0.8]), tensor([1, 0])), tensor(log(1 + exp(0.2))))
    worse = exp(-1.0) + exp(2.0)
    one, two = log(exp(0.4) + worse) - 0.4, log(exp(0.1) + worse) - 0.1
    middle = log(worse) - 2.0
    assert_close(unique_softmax_loss(SCORES, GRADES), tensor(3 * one + 3 * two + middle))
    assert_close(unique_softmax_loss(SCORES, GRADES, gain="linear"), tensor(2 * one + 2 * two + middle))


def test_unique_softmax_of_far_scores():
    for gap in (40.0, 1e4):
        scores = tensor([0.0, gap, 0.0], requires_grad=True)
        value = unique_softmax_loss(scores, tensor([1, 0, 1]))
        value.backward()
        assert_close(value.detach(), tensor(2 * gap))
        assert_close(scores.grad, tensor([-1.0, 2.0, -1.0]))


def test_softmax_at_k():
    """The second of (2, 1, 0) is the threshold."""
    scores, labels = tensor([2.0, 0.0, 1.0]), tensor([0, 1, 1])
    total = log(exp(4) + 1 + exp(2))
    last, second = 1 / (1 + exp(0.5)), 0.5
    value = listwise_softmax_at_k_loss(scores, labels, k=2, temperature=0.5, weight_temperature=2.0)
    assert_close(value, tensor(last * total + second * (total - 2)))


def test_softmax_at_k_of_a_short_list_is_the_softmax():
    where = tensor([True, True, False, True])
    value = listwise_softmax_at_k_loss(SCORES, GRADES, k=4, where=where)
    assert_close(value, softmax_loss(SCORES, GRADES, where=where))
    assert value != listwise_softmax_at_k_loss(SCORES, GRADES, k=3, where=where)


def test_threshold_of_softmax_at_k_is_a_constant():
    def slope(loss):
        scores = SCORES.clone().requires_grad_()
        return torch.autograd.grad(loss(scores), scores)[0]

    def formula(scores):
        inside = torch.sigmoid(scores - SCORES.topk(2).values[-1])
        return -(GRADES * inside * scores.log_softmax(-1)).sum()

    for offsets in (None, tensor([0, 4])):
        loss = partial(listwise_softmax_at_k_loss, labels=GRADES, k=2, offsets=offsets)
        assert_close(slope(loss), slope(formula))


def test_softmax_at_k_ragged():
    sizes = tensor([3, 1, 0, 5])
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(9, generator=generator), torch.rand(9, generator=generator)
    values = listwise_softmax_at_k_loss(scores, labels, k=2, offsets=offsets_from_sizes(sizes), reduction="none")
    for row, (x, y) in enumerate(zip(scores.split(sizes.tolist()), labels.split(sizes.tolist()), strict=True)):
        assert_close(values[row], listwise_softmax_at_k_loss(x, y, k=2))


_CONSTANT = ("gradient_is_numerical", "second_derivative_is_numerical_or_an_error", "step_downhill_lowers_it")


@pytest.mark.parametrize("law", [law for law in LAWS.values() if "list" in law.kinds and law.name not in _CONSTANT])
def test_softmax_at_k_keeps_the_laws_where_lists_are_longer_than_k(law):
    """The lists of the laws are shorter than the default; the threshold is no part of the gradient."""
    loss = partial(listwise_softmax_at_k_loss, k=2, weight_temperature=0.5)
    law.check(replace(LOSSES["listwise_softmax_at_k"], function=loss))


@pytest.mark.parametrize("gap", [1.0, 50.0])
def test_ragged_cross_entropy_far_from_zero_and_apart(gap):
    """Near each other all lists share a centre, apart they have their own."""
    scores, labels = tensor([9_000.0, 9_000.0 - gap, 9_000.0 + gap, 9_000.0]), tensor([1.0, 0.0, 0.0, 2.0])
    values = softmax_loss(scores, labels, offsets=tensor([0, 2, 4]), reduction="none")
    assert_close(values, tensor([log(1 + exp(-gap)), 2 * (gap + log(1 + exp(-gap)))]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(unique_softmax_loss, gain="square"), "gain must be 'exponential' or 'linear': got 'square'"),
        (partial(listwise_softmax_at_k_loss, k=0), "k must be a whole number of at least 1: got 0"),
        (partial(listwise_softmax_at_k_loss, temperature=0.0), "^temperature must be above 0"),
        (partial(listwise_softmax_at_k_loss, weight_temperature=-1.0), "weight_temperature must be above 0"),
        (partial(kl_loss, temperature=0.0), "^temperature must be above 0"),
        (partial(kl_loss, label_temperature=0.0), "label_temperature must be above 0"),
    ],
)
def test_parameters_that_make_no_sense(call, message):
    with pytest.raises(InputError, match=message):
        call(SCORES, GRADES)
