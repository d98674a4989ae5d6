"""Variational BPR: by hand, by formula, and as attention over prototypes."""

from functools import partial
from math import exp, log

import pytest
import torch
from torch import tensor
from torch.nn import functional
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import LOSSES, bpr_loss, variational_bpr_loss
from rankwell.losses.cases import cases
from rankwell.losses.laws import gradients

ROWS = torch.zeros(2, 2), torch.zeros(2, 3)
FORMS = ["exact", "plug_in"]


@pytest.mark.parametrize("form", FORMS)
def test_variational_bpr(form):
    pos, neg = [1.0, 0.0], [0.5, -1.0]
    alpha = [2 * exp(1 / 4), 1 * exp(0)]
    beta = [1 * exp(-0.5 / 2), 3 * exp(1 / 2)]
    alpha, beta = ([x / sum(xs) for x in xs] for xs in (alpha, beta))
    if form == "exact":
        costs = [[log(1 + exp(t - s)) for t in neg] for s in pos]
        expected = sum(alpha[i] * beta[j] * costs[i][j] for i in range(2) for j in range(2))
    else:
        gap = beta[0] * neg[0] + beta[1] * neg[1] - alpha[0] * pos[0] - alpha[1] * pos[1]
        expected = log(1 + exp(gap))
    value = variational_bpr_loss(
        tensor([pos]), tensor([neg]), form=form, c_pos=4.0, c_neg=2.0,
        pos_prior=tensor([[1.0, 0.5]]), neg_prior=tensor([[0.2, 0.6]]),
    )  # fmt: skip
    assert_close(value, tensor(expected))


@pytest.mark.parametrize("form", FORMS)
def test_variational_bpr_by_its_formula(form, by_rows):
    def formula(pos, neg, weights):
        alpha, beta = (pos.detach() / 0.5).softmax(-1), (-neg.detach() / 0.7).softmax(-1)
        if form == "exact":
            return (weights * alpha * (functional.softplus(neg - pos[:, None]) * beta).sum(-1)).sum()
        return (weights * alpha).sum() * functional.softplus((beta * neg).sum() - (alpha * pos).sum())

    by_rows(partial(variational_bpr_loss, form=form, c_pos=0.5, c_neg=0.7), formula)


@pytest.mark.parametrize("form", FORMS)
def test_with_one_of_each_it_is_bpr(form):
    pos, neg = torch.randn(5), torch.randn(5, 1)
    assert_close(variational_bpr_loss(pos, neg, form=form), bpr_loss(pos, neg))


def test_flat_posteriors_are_bpr():
    for case in cases(LOSSES["bpr"]):
        flat = partial(variational_bpr_loss, c_pos=1e6, c_neg=1e6)
        pairs = (gradients(loss, case, case.args) for loss in (flat, bpr_loss))
        for ours, expected in zip(*pairs, strict=True):
            assert_close(ours, expected)


def test_plug_in_form_is_below_the_exact_one():
    pos, neg = 3 * torch.randn(20, 4), 3 * torch.randn(20, 6)
    exact, plug_in = (variational_bpr_loss(pos, neg, form=form, reduction="none") for form in FORMS)
    assert (plug_in < exact).all()


def test_plug_in_form_on_dot_scores_is_attention_over_prototypes():
    """Positives attended to by their scores, negatives by minus theirs; then BPR of the two prototypes' scores."""
    draw = torch.Generator().manual_seed(0)
    user, items, others = (torch.randn(3, n, 8, generator=draw) for n in (1, 4, 6))
    attend = functional.scaled_dot_product_attention
    liked = attend(user, items, items, scale=1 / 4.0)
    unliked = attend(user, others, others, scale=-1 / 2.0)
    pos, neg = (user @ items.mT)[:, 0], (user @ others.mT)[:, 0]
    ours = variational_bpr_loss(pos, neg, form="plug_in", c_pos=4.0, c_neg=2.0)
    assert_close(ours, bpr_loss((user * liked).sum((-2, -1)), (user @ unliked.mT)[:, 0]))


@pytest.mark.parametrize("form", FORMS)
def test_priors_that_are_masked_change_nothing(form):
    pos, neg = torch.randn(2, 3), torch.randn(2, 4)
    pos_where, where = torch.arange(3) < 2, torch.arange(4) < 3
    shares = torch.rand(2, 3) + 0.1, torch.rand(2, 4) + 0.1
    junk = shares[0].masked_fill(~pos_where, torch.nan), shares[1].masked_fill(~where, -1.0)
    ours, expected = (
        variational_bpr_loss(
            pos, neg, pos_where=pos_where, where=where, form=form, pos_prior=priors[0], neg_prior=priors[1]
        )
        for priors in (junk, shares)
    )
    assert_close(ours, expected)
    factor = variational_bpr_loss(pos, neg, form=form, pos_prior=shares[0] * 5, neg_prior=shares[1] * 7)
    assert_close(factor, variational_bpr_loss(pos, neg, form=form, pos_prior=shares[0], neg_prior=shares[1]))


@pytest.mark.parametrize("form", FORMS)
def test_no_negatives_cost_nothing(form):
    pos = torch.zeros(2, 3, requires_grad=True)
    value = variational_bpr_loss(pos, torch.zeros(2, 0), form=form)
    value.backward()
    assert value == 0 and not pos.grad.any()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: variational_bpr_loss(*ROWS, form="both"), "form must be 'exact' or 'plug_in': got 'both'"),
        (lambda: variational_bpr_loss(*ROWS, c_pos=0.0), "c_pos must be above 0"),
        (lambda: variational_bpr_loss(*ROWS, c_neg=-1.0), "c_neg must be above 0"),
        (
            lambda: variational_bpr_loss(*ROWS, pos_prior=torch.ones(2)),
            r"pos_prior must have the shape of pos, \(2, 2\)",
        ),
        (
            lambda: variational_bpr_loss(*ROWS, neg_prior=torch.ones(3)),
            r"neg_prior must have the shape of neg, \(2, 3\)",
        ),
    ],
)
def test_arguments(call, says):
    with pytest.raises(InputError, match=says):
        call()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_priors_without_anything_above_zero_are_equal(form, value):
    pos, neg = tensor([[0.3, -0.2]], requires_grad=True), tensor([[0.1, 0.7, -0.4]])
    own = {"form": form, "c_pos": 2.0, "c_neg": 3.0}
    priors = {"pos_prior": torch.full_like(pos, value), "neg_prior": torch.full_like(neg, value)}
    assert_close(variational_bpr_loss(pos, neg, **priors, **own), variational_bpr_loss(pos, neg, **own))


@pytest.mark.parametrize("form", FORMS)
def test_infinitely_bad_negative_takes_all(form):
    """It is the surest negative, and no pair with it is lost."""
    pos, neg = tensor([[0.3, -0.2]], requires_grad=True), tensor([[0.1, -torch.inf]], requires_grad=True)
    value = variational_bpr_loss(pos, neg, form=form)
    value.backward()
    assert value == 0 and not pos.grad.any() and not neg.grad.any()
