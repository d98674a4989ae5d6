"""One example a loss, worked by hand; and torch's own losses where it has them."""

import math
from math import exp, log

import pytest
import torch
from torch import tensor
from torch.nn import functional
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import (
    LOSSES,
    bpr_loss,
    bsl_loss,
    ccl_loss,
    decoupled_softmax_loss,
    hinge_loss,
    info_nce_loss,
    logistic_loss,
    mml_loss,
    mse_loss,
    sampled_softmax_loss,
    sigmoid_loss,
    softmax_loss,
    triplet_loss,
)
from rankwell.losses.cases import cases, scalars
from rankwell.nn import Loss
from rankwell.transforms import correct_log_q


def test_sigmoid():
    scores, labels = tensor([[0.5, -1.0, 2.0]]), tensor([[1.0, 0.0, 0.3]])
    expected = log(1 + exp(-0.5)) + log(1 + exp(-1.0)) + 0.3 * log(1 + exp(-2.0)) + 0.7 * log(1 + exp(2.0))
    assert_close(sigmoid_loss(scores, labels), tensor(expected / 3))
    assert_close(sigmoid_loss(scores, labels), functional.binary_cross_entropy_with_logits(scores, labels))


def test_mse():
    scores, labels = tensor([1.0, 2.0, 3.0]), tensor([1, 0, 1])
    assert_close(mse_loss(scores, labels, weights=tensor([1.0, 0.5, 2.0])), tensor((0.5 * 2**2 + 2 * 2**2) / 3))
    assert_close(mse_loss(scores, labels), functional.mse_loss(scores, labels.float()))


def test_logistic():
    """Grades 2, 1, 0: three pairs; the first two weigh as the best item, the third as the second."""
    scores, labels, weights = tensor([1.0, 3.0, 2.5]), tensor([2, 1, 0]), tensor([2.0, 3.0, 100.0])
    expected = (2 * log(1 + exp(2.0)) + 2 * log(1 + exp(1.5)) + 3 * log(1 + exp(-0.5))) / 3
    assert_close(logistic_loss(scores, labels, weights=weights), tensor(expected))


def test_hinge_of_the_article():
    """Truth 1, 0, 1 and scores .8, .3, .6: the pairs cost 1 - .5 and 1 - .3."""
    scores, labels = tensor([0.8, 0.3, 0.6]), tensor([1, 0, 1])
    assert_close(hinge_loss(scores, labels, margin=1.0), tensor(((1 - 0.5) + (1 - 0.3)) / 2))
    reference = functional.margin_ranking_loss(scores[[0, 2]], scores[[1, 1]], torch.ones(2), margin=1.0)
    assert_close(hinge_loss(scores, labels), reference)


def test_list_without_pairs_costs_nothing_and_counts():
    scores, labels = tensor([[1.0, 2.0], [1.0, 1.5]]), tensor([[1, 1], [1, 0]])
    assert_close(hinge_loss(scores, labels), tensor((0 + 1.5) / 2))


def test_softmax():
    scores, labels = tensor([2.0, 1.0, 3.0]), tensor([1.0, 0.0, 2.0])
    total = exp(2) + exp(1) + exp(3)
    assert_close(softmax_loss(scores, labels), tensor(-log(exp(2) / total) - 2 * log(exp(3) / total)))
    one_hot = torch.eye(3)[:2]
    rows = scores.expand(2, 3)
    assert_close(softmax_loss(rows, one_hot), functional.cross_entropy(rows, tensor([0, 1])))


def test_bpr():
    value = bpr_loss(tensor([1.0]), tensor([[0.0, 3.0]]))
    assert_close(value, tensor((log(1 + exp(-1.0)) + log(1 + exp(2.0))) / 2))


def test_sampled_softmax():
    value = sampled_softmax_loss(tensor([0.4]), tensor([[0.2, 0.6]]), temperature=0.2)
    assert_close(value, tensor(log(1 + exp(-1.0) + exp(1.0))))


def test_decoupled_softmax():
    value = decoupled_softmax_loss(tensor([[0.4, 0.2]]), tensor([[0.2, 0.6]]), temperature=0.2)
    assert_close(value, tensor(2 * log(exp(1.0) + exp(3.0)) - 2.0 - 1.0))


def test_row_without_negatives_keeps_the_terms_that_need_none():
    pos, neg, where = tensor([0.4]), tensor([[torch.nan]]), tensor([[False]])
    assert_close(decoupled_softmax_loss(pos, neg, where=where, temperature=0.2), tensor(-2.0))
    assert_close(bsl_loss(pos, neg, where=where, temperature=0.2), tensor(-2.0))
    assert_close(mml_loss(pos, neg, where=where), tensor(0.6))
    assert_close(ccl_loss(pos, neg[:, :0]), tensor(0.6))
    assert_close(bpr_loss(pos, neg, where=where), tensor(0.0))
    assert_close(sampled_softmax_loss(pos, neg, where=where), tensor(0.0))


def test_bsl():
    pos, neg = tensor([[0.4, 0.2]]), tensor([[0.2, 0.6, 0.0]])
    pull = log((exp(2.0) + exp(1.0)) / 2)
    code = -pull + 1.5 * log((exp(1.0) + exp(3.0) + 1) / 3)
    assert_close(bsl_loss(pos, neg, temperature=0.2, ratio=1.5), tensor(code))
    paper = -0.2 * pull + 0.3 * log((exp(2 / 3) + exp(2.0) + 1) / 3)
    assert_close(bsl_loss(pos, neg, temperature=0.2, ratio=1.5, form="paper"), tensor(paper))


def test_ccl():
    value = ccl_loss(tensor([0.5, 1.2]), tensor([[0.95, 0.2], [0.1, 0.2]]), margin=0.9, neg_weight=100.0)
    assert_close(value, tensor((0.5 + 100 * 0.05 / 2 + 0) / 2))


def test_mml_has_the_published_slopes():
    """Gowalla: 700 x (.10, .10 + .15, 1) above .7, .8, .9, and none below; shared by the number of negatives."""
    neg = tensor([[0.65, 0.75, 0.85, 0.95]], requires_grad=True)
    value = mml_loss(tensor([1.0]), neg)
    value.backward()
    assert_close(neg.grad, tensor([[0.0, 70.0, 175.0, 700.0]]) / 4)
    charge = 0.1 * (0.05 + 0.15 + 0.25) + 0.15 * (0.05 + 0.15) + 0.75 * 0.05
    assert_close(value, tensor(700 * charge / 4))


def test_mml_wants_a_weight_a_margin():
    with pytest.raises(InputError, match="as many as margins: got 3 for 2"):
        mml_loss(tensor([1.0]), tensor([[0.5]]), margins=(0.1, 0.2))


def test_info_nce():
    """Cosines 1, 0 and .6, .8; the second query's positive is the first item."""
    queries, items = tensor([[2.0, 0.0], [3.0, 4.0]]), torch.eye(2)
    positives = tensor([[True, False], [True, False]])
    value = info_nce_loss(queries, items, positives=positives, temperature=0.1)
    assert_close(value, tensor((log(1 + exp(-10.0)) + log(1 + exp(2.0))) / 2))


def test_triplet():
    """Squared distances 4 and 9 to the positive and the negative: 4 - 9 + 6."""
    query, items = tensor([[0.0, 0.0]]), tensor([[0.0, 2.0], [3.0, 0.0]])
    assert_close(triplet_loss(query, items, margin=6.0), tensor(1.0))
    assert_close(triplet_loss(query, items), tensor(0.0))
    reference = functional.triplet_margin_loss(query, items[:1], items[1:], margin=1.5, eps=0.0)
    assert_close(triplet_loss(query, items, margin=1.5, similarity="euclidean"), reference)


def test_self_pairs_are_left_out_by_where():
    """Two views of one item each: every other row of the same class is a positive."""
    vectors, classes = tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), tensor([0, 0, 1])
    value = info_nce_loss(
        vectors, vectors, positives=classes[:, None] == classes, where=~torch.eye(3, dtype=torch.bool),
        temperature=1.0, reduction="none",
    )  # fmt: skip
    assert_close(value, tensor([log(1 + exp(-0.6)), log(1 + exp(0.2)), 0.0]))


@pytest.mark.parametrize("entry", [e for e in LOSSES if e.kind != "stateful"], ids=lambda entry: entry.name)
def test_unknown_reduction(entry):
    case = next(cases(entry))
    with pytest.raises(InputError, match="reduction must be 'none', 'mean' or 'sum'"):
        entry(**case.args, **scalars(entry), reduction="avg")


def test_options_and_shapes_that_do_not_fit():
    square = torch.ones(2, 2)
    with pytest.raises(InputError, match="similarity must be one of dot"):
        info_nce_loss(square, square, similarity="cos")
    with pytest.raises(InputError, match="as many items as queries: got 3 and 2"):
        info_nce_loss(square, torch.ones(3, 2), symmetric=True)
    with pytest.raises(InputError, match="3 queries and only 2 items"):
        info_nce_loss(torch.ones(3, 2), square)
    with pytest.raises(InputError, match="form must be 'code' or 'paper'"):
        bsl_loss(torch.ones(2), square, form="book")
    with pytest.raises(InputError, match="query_ids must be one a row"):
        bsl_loss(torch.ones(2), square, query_ids=torch.arange(3))


def test_module_wraps_any_loss():
    module = Loss(mml_loss, margins=(0.5,), margin_weights=(1.0,))
    assert repr(module) == "Loss(mml_loss, margins=(0.5,), margin_weights=(1.0,))"
    pos, neg = tensor([0.2]), tensor([[0.7]])
    assert_close(module(pos, neg), mml_loss(pos, neg, margins=(0.5,), margin_weights=(1.0,)))
    assert_close(module(pos, neg, neg_weight=1.0), tensor(0.8 + 0.2))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_only_the_full_correction_converges(temperature):
    """The expected gradient of the positive, under a skewed sampler, against that of the full softmax."""
    items = 50
    scores = torch.linspace(-1, 2, items)
    q = torch.softmax(torch.linspace(2, -2, items), 0)
    positive = 40
    full = (torch.softmax(scores / temperature, 0)[positive] - 1) / temperature
    draw = torch.Generator().manual_seed(0)

    def mean_gradient(n, correct):
        rows = 40_000 // n
        ids = torch.multinomial(q, rows * n, replacement=True, generator=draw).reshape(rows, n)
        pos = scores[positive].repeat(rows).requires_grad_()
        neg = correct(scores[ids], q.log()[ids], n)
        sampled_softmax_loss(pos, neg, where=ids != positive, temperature=temperature).backward()
        return pos.grad.sum()

    right = [mean_gradient(n, lambda neg, log_q, n: correct_log_q(neg, log_q, n, temperature)) for n in (10, 4000)]
    assert abs(right[1] - full) < 0.01 < abs(right[0] - full)
    without_n = mean_gradient(4000, lambda neg, log_q, _: neg - temperature * log_q)
    assert_close(without_n, tensor(-1 / temperature), rtol=0.01, atol=0.0)
    assert abs(without_n - full) > 0.03


def test_correction_is_exact_when_each_item_is_drawn_once():
    neg = tensor([[0.3, -0.2, 1.0]])
    assert_close(correct_log_q(neg, torch.full((3,), -math.log(3)), 3), neg)
