"""Arguments that no loss can make sense of, and second derivatives that are asked for."""

import math

import pytest
import torch
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import (
    LOSSES,
    bpr_loss,
    bsl_loss,
    circle_loss,
    contrast,
    contrast_hinge_loss,
    decoupled_softmax_loss,
    fast_soft_rank_loss,
    hinge_loss,
    in_batch,
    info_nce_loss,
    k_os_warp_loss,
    lambda_rank_loss,
    linear_softmax_loss,
    listwise_softmax_at_k_loss,
    logistic_loss,
    loop_loss,
    neural_ndcg_loss,
    pointwise_hinge_loss,
    poly1_loss,
    poly1_softmax_loss,
    sampled_softmax_loss,
    simce_loss,
    softmax_at_k_loss,
    softmax_loss,
    squared_hinge_loss,
    triplet_loss,
    warp_loss,
)
from rankwell.losses.cases import cases, scalars
from rankwell.losses.head_laws import arguments as head_arguments
from rankwell.losses.state_laws import new
from rankwell.transforms import correct_log_q, gumbel

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


PAIR = torch.zeros(2), torch.tensor([1.0, 0.0])
BELOW_ZERO = {
    "triplet": lambda margin: triplet_loss(*EMBEDDINGS, margin=margin),
    "mined_triplet": lambda margin: triplet_loss(*EMBEDDINGS, margin=margin, mining="hard"),
    "loop": lambda margin: loop_loss(*EMBEDDINGS, margin=margin),
    "circle": lambda margin: circle_loss(*EMBEDDINGS, margin=margin),
    "hinge": lambda margin: hinge_loss(*PAIR, margin=margin),
    "squared_hinge": lambda margin: squared_hinge_loss(*PAIR, margin=margin),
    "pointwise_hinge": lambda margin: pointwise_hinge_loss(*PAIR, margin=margin),
    "contrast_hinge": lambda margin: contrast_hinge_loss(*ROWS, margin=margin),
    "simce": lambda margin: simce_loss(*ROWS, margin=margin),
    "warp": lambda margin: warp_loss(*ROWS, margin=margin, num_items=9),
    "k_os_warp": lambda margin: k_os_warp_loss(*ROWS, margin=margin, num_items=9),
}


@pytest.mark.parametrize("name", BELOW_ZERO)
def test_margin_is_not_below_zero(name):
    for margin in (-0.1, math.nan):
        with pytest.raises(InputError, match=f"margin must be at least 0: got {margin}"):
            BELOW_ZERO[name](margin)
    assert BELOW_ZERO[name](0.0).isfinite()


@pytest.mark.parametrize("loss", [poly1_loss, poly1_softmax_loss])
def test_epsilon_of_poly1_is_at_least_minus_one(loss):
    for epsilon in (-1.5, math.nan):
        with pytest.raises(InputError, match=f"epsilon must be at least -1: got {epsilon}"):
            loss(*PAIR, epsilon=epsilon)
    assert loss(*PAIR, epsilon=-1.0).isfinite()


COUNTS = {
    "softmax_at_k": ("k", lambda k: softmax_at_k_loss(*ROWS, k=k)),
    "listwise_softmax_at_k": ("k", lambda k: listwise_softmax_at_k_loss(*PAIR, k=k)),
    "k_os_warp": ("k", lambda k: k_os_warp_loss(*ROWS, k=k, num_items=9)),
    "lambda_rank": ("k", lambda k: lambda_rank_loss(*PAIR, k=k)),
    "neural_ndcg": ("k", lambda k: neural_ndcg_loss(*PAIR, k=k)),
    "gumbel": ("samples", lambda samples: gumbel(softmax_loss, samples=samples)),
    "linear_softmax": (
        "chunk",
        lambda chunk: linear_softmax_loss(torch.ones(1, 2), torch.ones(3, 2), torch.tensor([0]), chunk=chunk),
    ),
}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, 2.5])
def test_counts_are_whole_numbers(name, value):
    what, call = COUNTS[name]
    with pytest.raises(InputError, match=f"{what} must be a whole number of at least 1.*: got {value}"):
        call(value)


def test_num_items_is_a_whole_number():
    with pytest.raises(InputError, match=r"num_items.*: got 9.5"):
        warp_loss(*ROWS, num_items=9.5)


def test_query_ids_of_bsl_are_integers():
    with pytest.raises(InputError, match=r"query_ids must be integers: got torch\.float32"):
        bsl_loss(*ROWS, query_ids=torch.tensor([0.2, 0.7]))


INFINITE = {("multi_similarity", "epsilon"): "all pairs", ("approx_mrr", "rel"): "none", ("smooth_ap", "rel"): "none"}
"""Numbers that may be infinite, and what then counts."""


def called(entry, own):
    """One call of any kind of loss, built before if it has state."""
    if entry.kind == "stateful":
        return new(entry, own)
    if entry.kind == "head":
        return entry(**{**head_arguments(entry), **own})
    return entry(**next(cases(entry, inputs=True)).args, **scalars(entry), **own)


NUMBERS = [
    (entry, name, (lambda x: x) if not isinstance(each.default, tuple) else lambda x, rest=each.default[1:]: (x, *rest))
    for entry in LOSSES
    for name, each in entry.parameters.items()
    if "float" in str(each.annotation)
]


@pytest.mark.parametrize(
    ("entry", "name", "given"), NUMBERS, ids=[f"{entry.name}-{name}" for entry, name, _ in NUMBERS]
)
def test_numbers_are_finite(entry, name, given):
    for bad in (math.nan, -math.inf, math.inf):
        if bad == math.inf and (entry.name, name) in INFINITE:
            called(entry, {name: given(bad)})
            continue
        with pytest.raises(InputError, match=r"must be"):
            called(entry, {name: given(bad)})


def test_infinity_is_said_to_be_too_much():
    with pytest.raises(InputError, match="temperature must be above 0 and finite: got inf"):
        sampled_softmax_loss(*ROWS, temperature=math.inf)
    with pytest.raises(InputError, match="hardness must be at least 0 and finite: got inf"):
        LOSSES["hard_contrastive"](*ROWS, hardness=math.inf)


@pytest.mark.parametrize("form", ["spearman", "ndcg"])
def test_an_unknown_gain_is_an_error_in_each_form(form):
    with pytest.raises(InputError, match="gain must be 'exponential' or 'linear': got 'foo'"):
        fast_soft_rank_loss(torch.zeros(2), torch.ones(2), gain="foo", form=form)
