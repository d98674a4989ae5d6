"""Losses of pairs: worked by hand, identities, extremes and arguments."""

import math
from functools import partial
from itertools import pairwise
from math import exp, log

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.kernels import chunked_pairs
from rankwell.losses import (
    LOSSES,
    contrast,
    exponential_loss,
    hinge_loss,
    in_batch,
    logistic_loss,
    margin_mse_loss,
    mse_loss,
    pairwise_mse_loss,
    soft_zero_one_loss,
    squared_hinge_loss,
    triplet_loss,
)
from rankwell.metrics import auc

GRADED = tensor([1.0, 3.0, 2.5]), tensor([2, 1, 0])
"""Gaps of -2, -1.5 and .5; the first two pairs weigh as the best item, the third as the second."""
WEIGHTS = tensor([2.0, 3.0, 100.0])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (hinge_loss, 2 * 3 + 2 * 2.5 + 3 * 0.5),
        (partial(hinge_loss, margin=0.25), 2 * 2.25 + 2 * 1.75),
        (squared_hinge_loss, 2 * 3**2 + 2 * 2.5**2 + 3 * 0.5**2),
        (exponential_loss, 2 * exp(2) + 2 * exp(1.5) + 3 * exp(-0.5)),
        (soft_zero_one_loss, 2 / (1 + exp(-2)) + 2 / (1 + exp(-1.5)) + 3 / (1 + exp(0.5))),
        (partial(soft_zero_one_loss, scale=2.0), 2 / (1 + exp(-4)) + 2 / (1 + exp(-3)) + 3 / (1 + exp(1))),
        (partial(logistic_loss, scale=2.0), 2 * log(1 + exp(4)) + 2 * log(1 + exp(3)) + 3 * log(1 + exp(-1))),
        # The teacher's gaps are 2, 1 and -1.
        (
            partial(margin_mse_loss, teacher=tensor([4.0, 2.0, 3.0])),
            2 * (-2 - 2) ** 2 + 2 * (-1.5 - 1) ** 2 + 3 * (0.5 + 1) ** 2,
        ),
        # The labels' gaps are 1, 2 and 1; a pair weighs the mean of its items.
        (pairwise_mse_loss, 2.5 * (-2 - 1) ** 2 + 51 * (-1.5 - 2) ** 2 + 51.5 * (0.5 - 1) ** 2),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_by_hand(loss, expected):
    assert_close(loss(*GRADED, weights=WEIGHTS), tensor(expected / 3))


def test_snippets_of_the_articles():
    """Truth 1, 0, 1 and scores .8, .3, .6; and squared distances 1 and 1.5^2 with a margin of 1."""
    assert_close(hinge_loss(tensor([0.8, 0.3, 0.6]), tensor([1, 0, 1]), margin=1.0), tensor(0.6))
    anchor, positive, negative = tensor([[0.0, 0.0]]), tensor([1.0, 0.0]), tensor([0.0, 1.5])
    value = triplet_loss(anchor, torch.stack([positive, negative]), margin=1.0)
    assert_close(value, tensor(max(0.0, 1.0 - 1.5**2 + 1.0)))
    value = triplet_loss(anchor, torch.stack([positive, negative]), margin=2.0)
    assert_close(value, tensor(1.0 - 1.5**2 + 2.0))


@pytest.mark.parametrize("loss", [hinge_loss, squared_hinge_loss])
@pytest.mark.parametrize("style", ["contrast", "in_batch"])
def test_styles_of_long_lists_are_the_formula(loss, style):
    """With as many negatives as the sorted form is for."""
    draw = torch.Generator().manual_seed(0)
    if style == "contrast":
        pos, neg = torch.randn(3, generator=draw), torch.randn(3, 400, generator=draw)
        value = contrast(loss)(pos, neg, margin=0.7)
        gap = pos[:, None] - neg
    else:
        queries, items = torch.randn(3, 5, generator=draw), torch.randn(401, 5, generator=draw)
        value = in_batch(loss, similarity="dot")(queries, items, margin=0.7)
        scores = queries @ items.T
        other = ~torch.eye(3, 401, dtype=torch.bool)
        gap = scores.diagonal()[:, None] - scores[other].reshape(3, 400)
    short = (0.7 - gap).relu()
    assert_close(value, (short if loss is hinge_loss else short.square()).mean())


def test_pairwise_mse_is_the_variance_of_the_error():
    scores, labels = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0))
    assert_close(pairwise_mse_loss(scores, labels, reduction="none"), 2 * (scores - labels).var(-1))
    # Centred, it is the mean squared error but for n - 1 instead of n.
    off = scores - labels
    centred = off - off.mean(-1, keepdim=True)
    assert_close(pairwise_mse_loss(scores, labels), mse_loss(centred, torch.zeros(4, 9)) * 2 * 9 / 8)


def test_margin_mse_with_the_labels_as_teacher_is_pairwise_mse_where_no_labels_tie():
    scores = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6.0).expand(4, 6)
    assert_close(margin_mse_loss(scores, labels, teacher=labels), pairwise_mse_loss(scores, labels))


def test_margin_mse_reaches_the_teacher_and_forgets_what_is_masked():
    scores, labels = tensor([1.0, 0.0, torch.nan]), tensor([1, 0, 0])
    teacher = tensor([0.5, 0.0, torch.nan], requires_grad=True)
    value = margin_mse_loss(scores, labels, teacher=teacher, where=tensor([True, True, False]))
    value.backward()
    assert_close(value, tensor(0.25))
    assert_close(teacher.grad, tensor([-1.0, 1.0, 0.0]))


@pytest.mark.parametrize("name", ["logistic", "exponential", "soft_zero_one"])
@pytest.mark.parametrize("spread", [1.0, 60.0])
@pytest.mark.parametrize("pairs", [7, 1 << 16])
def test_a_list_of_two_labels_alone_is_as_beside_another(name, spread, pairs, monkeypatch):
    """Alone it is met without an order, beside another one with: two ways to one value."""
    monkeypatch.setattr(chunked_pairs, "CHUNK_PAIRS", pairs)
    draw = torch.Generator().manual_seed(0)
    scores = (spread * torch.randn(2, 40, generator=draw, dtype=torch.double)).requires_grad_()
    labels = (torch.rand(2, 40, generator=draw) < 0.2).double()
    weights = torch.rand(2, 40, generator=draw, dtype=torch.double).requires_grad_()
    where = torch.rand(2, 40, generator=draw) < 0.8
    given = {"weights": weights, "where": where, "reduction": "none"}
    beside = LOSSES[name](scores, labels, **given)[0]
    alone = LOSSES[name](scores[:1], labels[:1], **{**given, "weights": weights[:1], "where": where[:1]})[0]
    assert_close(alone, beside)
    for ours, expected in zip(*(torch.autograd.grad(x, (scores, weights)) for x in (alone, beside)), strict=True):
        assert bool(expected.any())
        assert_close(ours, expected)


def test_soft_zero_one_counts_pairs_when_sharp():
    draw = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(300, generator=draw), torch.rand(300, generator=draw) < 0.3
    assert_close(1 - soft_zero_one_loss(scores, labels, scale=1e6), auc(scores, labels), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("gap", [-60.0, -64.0, 0.0, 25.0, 60.0])
def test_exponential_at_large_gaps(gap):
    for others in (0, 400):  # beside items that tie, short and long
        scores = torch.cat([tensor([gap, 0.0]), torch.zeros(others)]).requires_grad_()
        where = torch.arange(others + 2) < 2
        value = exponential_loss(scores, (torch.arange(others + 2) == 0).float(), where=where)
        value.backward()
        assert_close(value, tensor(exp(-gap)), rtol=1e-5, atol=0.0)
        assert_close(scores.grad[:2], tensor([-exp(-gap), exp(-gap)]), rtol=1e-5, atol=0.0)


def test_exponential_goes_on_as_its_tangent():
    scores = tensor([-1e4, 0.0], requires_grad=True)
    value = exponential_loss(scores, tensor([1.0, 0.0]))
    value.backward()
    assert_close(value, tensor(exp(64) * (1 + 1e4 - 64)))
    assert_close(scores.grad, tensor([-exp(64), exp(64)]))


@pytest.mark.parametrize("gap", [-60.0, -20.0, 20.0, 60.0])
def test_soft_zero_one_keeps_its_small_slopes(gap):
    """``v (1 - v)`` is 0 in float32 from a gap of -17 on."""
    scores = tensor([gap, 0.0], requires_grad=True)
    soft_zero_one_loss(scores, tensor([1.0, 0.0])).backward()
    assert_close(scores.grad[1], tensor(exp(-abs(gap)) / (1 + exp(-abs(gap))) ** 2), rtol=1e-5, atol=0.0)


def test_logistic_keeps_the_small_slope_of_a_won_pair():
    for others in (0, 200.0):  # in and beyond the range of the exponentials of rows and columns
        scores = tensor([30.0, 0.0, -others], requires_grad=True)
        logistic_loss(scores, tensor([1.0, 0.0, 0.0]), where=tensor([True, True, others > 0])).backward()
        assert_close(scores.grad[1] * (2 if others else 1), tensor(exp(-30.0)), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("name", ["hinge", "squared_hinge", "margin_mse", "pairwise_mse"])
@pytest.mark.parametrize("labels", ["binary", "grades", "distinct"])
def test_shifted_scores_of_a_long_list(name, labels):
    """A shift of a thousand costs half of float32's digits, and must not cost those of the sums."""
    draw = torch.Generator().manual_seed(0)
    n = 3_000
    scores = (torch.randn(n, generator=draw) * 4096).round() / 4096  # whole multiples of what float32 has at a thousand
    y = {
        "binary": lambda: (torch.rand(n, generator=draw) < 0.01).float(),
        "grades": lambda: torch.randint(0, 5, (n,), generator=draw).float(),
        "distinct": lambda: torch.randperm(n, generator=draw).float(),
    }[labels]()
    more = {"teacher": torch.randn(n, generator=draw)} if name == "margin_mse" else {}
    y = y / 100 if name == "pairwise_mse" else y
    gradients = []
    for x, dtype in ((scores, torch.double), (scores + 1000, torch.float)):
        x = x.to(dtype).requires_grad_()
        value = LOSSES[name](x, y.to(dtype), **{key: more[key].to(dtype) for key in more})
        value.backward()
        gradients.append((value.detach().double(), x.grad.double()))
    tolerance = 1e-6 if name.endswith("hinge") else 1e-4  # there, scores less teacher are rounded
    for exact, shifted in zip(*gradients, strict=True):
        assert_close(shifted, exact, rtol=tolerance, atol=tolerance * float(exact.abs().max()))


def test_hinge_of_lists_of_ten_thousand_is_independent_of_its_neighbours():
    draw = torch.Generator().manual_seed(0)
    offsets = tensor([0, 3, 3, 10_003, 10_004, 10_300])
    scores, labels = torch.randn(10_300, generator=draw), torch.randint(0, 3, (10_300,), generator=draw)
    values = hinge_loss(scores, labels, offsets=offsets, reduction="none")
    for i, (start, end) in enumerate(pairwise(offsets)):
        assert_close(values[i], hinge_loss(scores[start:end], labels[start:end]))


@pytest.mark.parametrize("loss", [logistic_loss, soft_zero_one_loss])
@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_scale_is_above_zero(loss, scale):
    with pytest.raises(InputError, match="scale must be above 0"):
        loss(*GRADED, scale=scale)


def test_teacher_is_wanted():
    with pytest.raises(InputError, match=r"margin_mse needs teacher=.*got none"):
        margin_mse_loss(*GRADED)
    with pytest.raises(InputError, match=r"got torch\.int64"):
        margin_mse_loss(*GRADED, teacher=tensor([1, 2, 3]))
    with pytest.raises(InputError, match=r"shape of scores: got teacher \(2,\) and scores \(3,\)"):
        margin_mse_loss(*GRADED, teacher=tensor([1.0, 2.0]))


def test_second_derivatives_are_an_error():
    for name in ("hinge", "squared_hinge", "pairwise_mse", "exponential"):
        scores = GRADED[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(LOSSES[name](scores, GRADED[1]), scores, create_graph=True)
        with pytest.raises(NotImplementedError, match="no second derivatives"):
            slope.square().sum().backward()


PAIR_LOSSES = [
    hinge_loss, squared_hinge_loss, logistic_loss, exponential_loss, soft_zero_one_loss, pairwise_mse_loss,
    lambda scores, labels, **given: margin_mse_loss(scores, labels, teacher=torch.zeros_like(scores), **given),
]  # fmt: skip


@pytest.mark.parametrize("loss", PAIR_LOSSES)
@pytest.mark.parametrize("n", [20, 300])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("of", ["scores", "labels"])
def test_what_is_not_finite_spoils_its_own_list_at_any_length(loss, n, bad, of):
    draw = torch.Generator().manual_seed(n)
    scores, labels = torch.randn(3, n, generator=draw), torch.randint(0, 3, (3, n), generator=draw).float()
    clean = scores.clone().requires_grad_()
    expected = loss(clean, labels, reduction="none")
    (slope,) = torch.autograd.grad(expected.sum(), clean)
    {"scores": scores, "labels": labels}[of][1, 2] = bad
    scores.requires_grad_()
    values = loss(scores, labels, reduction="none")
    (slopes,) = torch.autograd.grad(values.sum(), scores)
    assert values[1].isnan() and slopes[1].isnan().all()
    assert_close(values[::2], expected[::2])
    assert_close(slopes[::2], slope[::2])
