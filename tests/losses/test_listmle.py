"""Likelihood of the order of the labels."""

from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import permutations
from math import exp, log

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.kernels import plackett_luce
from rankwell.kernels.plackett_luce import BLOCK_ITEMS
from rankwell.lists import offsets_from_sizes
from rankwell.losses import LOSSES, listmle_loss, p_listmle_loss, softmax_loss, unique_softmax_loss
from rankwell.losses.laws import LAWS


def brute_force(scores, labels, weights, rivals, by_position=False):
    """Item by item, in exact integers for the positions."""
    n = len(scores)
    value = 0.0
    for i in range(n):
        drawn_from = {
            "tied": [k for k in range(n) if labels[k] <= labels[i]],
            "order": [k for k in range(n) if (labels[k], -k) <= (labels[i], -i)],
            "worse": [k for k in range(n) if labels[k] < labels[i] or k == i],
        }[rivals]
        better = sum(y > labels[i] for y in labels)
        equal = sum(y == labels[i] for y in labels)
        positions = range(better + 1, better + equal + 1)
        if rivals == "order":
            positions = [n - len(drawn_from) + 1]
        alpha = sum(Fraction(2 ** (n - p) - 1, 2 ** (n - 1)) for p in positions) / len(positions)
        top = max(scores[k] for k in drawn_from)
        cost = top + log(sum(exp(scores[k] - top) for k in drawn_from)) - scores[i]
        value += weights[i] * (float(alpha) if by_position else 1.0) * cost
    return value


def draw(n, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, dtype=torch.double, generator=generator) * scale
    labels = torch.randint(0, 4, (n,), generator=generator)
    return scores, labels, torch.rand(n, dtype=torch.double, generator=generator)


VARIANTS = [
    (lambda *a, **k: listmle_loss(*a, **k), "tied", False),
    (lambda *a, **k: listmle_loss(*a, **k, ties="order"), "order", False),
    (lambda *a, **k: p_listmle_loss(*a, **k), "tied", True),
    (lambda *a, **k: p_listmle_loss(*a, **k, ties="order"), "order", True),
]
each = pytest.mark.parametrize(
    ("loss", "rivals", "by_position"), VARIANTS, ids=["listmle", "listmle in order", "p_listmle", "p_listmle in order"]
)


def test_by_hand():
    """Chances: e / (e + 2), then 1 / 2."""
    scores, labels = tensor([0.0, 1.0, 0.0]), tensor([1, 2, 0])
    assert_close(listmle_loss(scores, labels), tensor(log((exp(1) + 2) / exp(1)) + log(2)))
    assert_close(p_listmle_loss(scores, labels), tensor(3 / 4 * log((exp(1) + 2) / exp(1)) + 1 / 4 * log(2)))


def test_ties_by_hand():
    """The best is drawn from three; each of the two equals from both."""
    scores, labels = tensor([0.0, 1.0, 0.5]), tensor([0, 1, 0])
    first, pair = log(1 + exp(1) + exp(0.5)) - 1, log(1 + exp(0.5))
    assert_close(listmle_loss(scores, labels), tensor(first + pair + (pair - 0.5)))
    assert_close(listmle_loss(scores, labels, ties="order"), tensor(first + pair))
    # Positions 2 and 3 of 3 weigh (2 - 1) / 4 and 0, and share.
    assert_close(p_listmle_loss(scores, labels), tensor(3 / 4 * first + (pair + pair - 0.5) / 8))


@each
@pytest.mark.parametrize("scale", [1.0, 20.0, 1000.0])
def test_brute_force(loss, rivals, by_position, scale):
    scores, labels, weights = draw(17, scale)
    expected = brute_force(scores.tolist(), labels.tolist(), weights.tolist(), rivals, by_position)
    assert_close(loss(scores, labels, weights=weights), tensor(expected, dtype=torch.double))
    single = loss(scores.float(), labels, weights=weights.float())
    assert_close(single.double(), tensor(expected, dtype=torch.double), rtol=1e-5, atol=1e-5)


@each
def test_the_way_by_logarithms_is_the_same(loss, rivals, by_position, monkeypatch):
    scores, labels, weights = draw(40, 3.0)
    weights[::5] *= -1
    where = torch.arange(40) % 7 > 0

    def slopes():
        leaves = scores.clone().requires_grad_(), weights.clone().requires_grad_()
        value = loss(leaves[0], labels, weights=leaves[1], where=where)
        return value, *torch.autograd.grad(value, leaves)

    direct = slopes()
    monkeypatch.setattr(plackett_luce, "SAFE_GAP", 0.0)
    for ours, expected in zip(slopes(), direct, strict=True):
        assert_close(ours, expected)


def test_without_ties_both_ways_are_one():
    scores, _, weights = draw(9)
    labels = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    for loss in (listmle_loss, p_listmle_loss):
        assert_close(loss(scores, labels, weights=weights), loss(scores, labels, weights=weights, ties="order"))


def test_breslow_bounds_every_order_of_the_equals():
    scores, labels = tensor([0.3, -1.0, 0.8, 0.1]), tensor([1, 0, 1, 1])
    likelihoods = []
    for order in permutations(range(4)):
        order = list(order)
        likelihoods.append(listmle_loss(scores[order], labels[order], ties="order"))
    assert max(likelihoods) < listmle_loss(scores, labels)


@pytest.mark.parametrize("loss", [listmle_loss, p_listmle_loss])
def test_right_order_by_far_costs_nothing(loss):
    """allRank: 16.97, and a gradient of 1, for scores 0 and -40 in the right order."""
    for gap in (40.0, 1e4):
        scores = tensor([0.0, -gap], requires_grad=True)
        value = loss(scores, tensor([1, 0]))
        value.backward()
        assert_close(value.detach(), tensor(0.0))
        assert_close(scores.grad, torch.zeros(2))


def test_wrong_order_by_far_keeps_its_gradient():
    for gap in (40.0, 1e4):
        scores = tensor([-gap, 0.0], requires_grad=True)
        value = listmle_loss(scores, tensor([1, 0]))
        value.backward()
        assert_close(value.detach(), tensor(gap))
        assert_close(scores.grad, tensor([-1.0, 1.0]))


def test_padding_stays_out_of_the_normaliser():
    """sentence-transformers, a fixed bug: 0.26 became 2.16."""
    scores, labels = tensor([[3.0, 1.0, 0.0, 0.0]]), tensor([[2.0, 1.0, 0.0, 0.0]])
    expected = log(1 + exp(-2.0) + exp(-3.0)) + log(1 + exp(-1.0))
    where = tensor([[True, True, True, False]])
    assert_close(listmle_loss(scores, labels, where=where), tensor(expected))
    assert_close(listmle_loss(scores[:, :3], labels[:, :3]), tensor(expected))


def test_positions_of_a_long_list_do_not_overflow():
    """Unscaled, 2^(n - i) overflows in float32 from 129 items."""
    n = 3_000
    scores, labels = torch.zeros(n), torch.arange(n, 0, -1)
    alpha = [float(Fraction(2 ** (n - i) - 1, 2 ** (n - 1))) for i in range(1, n + 1)]
    expected = sum(a * log(n - i) for i, a in enumerate(alpha))
    assert_close(p_listmle_loss(scores, labels), tensor(expected))


def test_lists_beyond_a_block_and_of_all_lengths():
    sizes = tensor([3, 0, BLOCK_ITEMS + 5, 1, 700, 2, 699])
    total = int(sizes.sum())
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(total, generator=generator), torch.randint(0, 3, (total,), generator=generator)
    values = listmle_loss(scores, labels, offsets=offsets_from_sizes(sizes), reduction="none")
    for row, (x, y) in enumerate(zip(scores.split(sizes.tolist()), labels.split(sizes.tolist()), strict=True)):
        assert_close(values[row], listmle_loss(x, y))


def test_one_relevant_item():
    """Its own term is the softmax; unique softmax has no other."""
    scores, labels = tensor([0.2, -0.3, 0.7]), tensor([0, 1, 0])
    others = 2 * log(exp(0.2) + exp(0.7)) - 0.9
    assert_close(listmle_loss(scores, labels), softmax_loss(scores, labels) + others)
    assert_close(unique_softmax_loss(scores, labels), softmax_loss(scores, labels))


@pytest.mark.parametrize("law", [law for law in LAWS.values() if "list" in law.kinds])
def test_ties_in_order_keep_the_laws_but_one(law):
    entry = replace(LOSSES["p_listmle"], function=partial(p_listmle_loss, ties="order"))
    if law.name == "item_order_is_irrelevant":
        with pytest.raises(AssertionError):
            law.check(entry)
    else:
        law.check(entry)


def test_second_derivatives_are_an_error():
    scores = tensor([0.0, 1.0], requires_grad=True)
    (slope,) = torch.autograd.grad(listmle_loss(scores, tensor([1, 0])), scores, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        slope.square().sum().backward()


@pytest.mark.parametrize("loss", [listmle_loss, p_listmle_loss])
def test_ties_that_are_unknown(loss):
    with pytest.raises(InputError, match="ties must be 'breslow' or 'order': got 'efron'"):
        loss(torch.zeros(2), torch.zeros(2), ties="efron")


@each
def test_long_list_loses_no_digits(loss, rivals, by_position):
    """Sums over 200,000 items: in float32 slopes would be off by some 1e-5, the value by more."""
    scores, labels, weights = draw(200_000, scale=3.0)
    both = []
    for dtype in (torch.float32, torch.double):
        x = scores.float().to(dtype).requires_grad_()
        value = loss(x, labels, weights=weights.float(), reduction="sum")
        both.append((value.detach().double(), torch.autograd.grad(value, x)[0].double()))
    (value, slope), (exact, expected) = both
    assert_close(value, exact, rtol=1e-7, atol=0.0)
    assert_close(slope, expected, rtol=2e-7, atol=1e-7)
