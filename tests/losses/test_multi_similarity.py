"""Losses that weigh pairs by their similarity, by loops over pairs in plain numbers."""

from functools import partial
from math import exp, log, log1p

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import LOSSES, circle_loss, multi_similarity_loss, same_class
from rankwell.losses.cases import cases
from rankwell.losses.laws import gradients


def of_rows(case):
    """Of each query: cosines of positives and of negatives, and the mean weight of its positives."""
    args = case.args
    cosines = torch.nn.functional.cosine_similarity(args["queries"][:, None], args["items"][None], dim=-1)
    for row in range(case.rows):
        right = args["where"][row] & args["positives"][row]
        wrong = args["where"][row] & ~args["positives"][row]
        yield cosines[row][right].tolist(), cosines[row][wrong].tolist(), float(args["weights"][row][right].mean())


def multi_similarity(right, wrong, weight, epsilon=None):
    if epsilon is not None:
        worst_right, worst_wrong = min(right), max(wrong)
        right = [s for s in right if s - epsilon < worst_wrong]
        wrong = [s for s in wrong if s + epsilon > worst_right]
    pull = log(1 + sum(exp(-3 * (s - 0.4)) for s in right)) / 3
    push = log(1 + sum(exp(20 * (s - 0.4)) for s in wrong)) / 20
    return weight * (pull + push)


def circle(right, wrong, weight):
    m, scale = 0.3, 8
    of_right = sum(exp(-scale * max(1 + m - s, 0) * (s - (1 - m))) for s in right)
    of_wrong = sum(exp(scale * max(s + m, 0) * (s - m)) for s in wrong)
    return weight * log(1 + of_right * of_wrong)


OWN = {"alpha": 3.0, "beta": 20.0, "threshold": 0.4}


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [
        (partial(multi_similarity_loss, **OWN), multi_similarity),
        (partial(multi_similarity_loss, **OWN, epsilon=0.1), partial(multi_similarity, epsilon=0.1)),
        (partial(circle_loss, margin=0.3, scale=8.0), circle),
    ],
    ids=["multi_similarity", "mined", "circle"],
)
def test_by_the_formula(loss, by_hand):
    for case in cases(LOSSES["circle"], dtype=torch.double):
        expected = [by_hand(*row) for row in of_rows(case)]
        assert_close(loss(**case.args, reduction="none"), tensor(expected, dtype=torch.double))


def test_multi_similarity_with_the_published_numbers():
    """Cosines .6 to the positive and .8 to the negative."""
    query, items = tensor([[1.0, 0.0]]), tensor([[0.6, 0.8], [0.8, 0.6]])
    value = multi_similarity_loss(query, items)
    assert_close(value, tensor(log1p(exp(-2 * 0.1)) / 2 + log1p(exp(50 * 0.3)) / 50))


def test_sharp_multi_similarity_is_the_hinge_of_the_worst():
    query, items = tensor([[1.0, 0.0]]), tensor([[0.6, 0.8], [0.0, 1.0], [0.8, 0.6], [-1.0, 0.0]])
    positives = tensor([[True, True, False, False]])
    value = multi_similarity_loss(query, items, positives=positives, alpha=1e4, beta=1e4)
    assert_close(value, tensor((0.5 - 0.0) + (0.8 - 0.5)), rtol=1e-3, atol=1e-3)


def test_mining_leaves_out_easy_pairs():
    """Of cosines 1 and .6 to positives and .7 and 0 to negatives, .6 and .7 are within .2 of the other side's worst."""
    query = tensor([[1.0, 0.0]])
    items = tensor([[1.0, 0.0], [0.6, 0.8], [0.7, 0.51**0.5], [0.0, 1.0]])
    positives = tensor([[True, True, False, False]])
    mined = multi_similarity_loss(query, items, positives=positives, epsilon=0.2)
    assert_close(mined, multi_similarity_loss(query, items[1:3], positives=positives[:, 1:3]))
    assert multi_similarity_loss(query, items[2:], positives=positives[:, 2:], epsilon=0.2) == 0


def test_query_without_positives_is_still_pushed_by_multi_similarity():
    x = tensor([[1.0, 0.0], [0.6, 0.8]])
    positives, where = same_class(tensor([0, 1]))
    values = multi_similarity_loss(x, x, positives=positives, where=where, weights=tensor(3.0), reduction="none")
    assert_close(values, torch.full((2,), 3 * log1p(exp(50 * 0.1)) / 50))
    assert circle_loss(x, x, positives=positives, where=where) == 0


def test_circle_by_hand():
    """Cosine .6 to the positive, 0 to the negative: paces .65 and .25, optima 1.25 and -.25."""
    query, items = tensor([[1.0, 0.0]]), tensor([[0.6, 0.8], [0.0, 1.0]])
    exponent = 16 * (0.25 * (0 - 0.25) - 0.65 * (0.6 - 0.75))
    assert_close(circle_loss(query, items, scale=16.0), tensor(log1p(exp(exponent))))


def test_paces_of_circle_carry_no_gradient():
    """The slope by a cosine is the logistic share times the scale and its pace, as in the paper."""
    positive, negative = tensor(0.6, dtype=torch.double), tensor(0.3, dtype=torch.double)
    angle_p, angle_n = positive.acos().requires_grad_(), negative.acos().requires_grad_()
    items = torch.stack([torch.stack([angle.cos(), angle.sin()]) for angle in (angle_p, angle_n)])
    circle_loss(tensor([[1.0, 0.0]], dtype=torch.double), items, scale=16.0).backward()
    share = 1 / (1 + exp(-16 * (0.55 * (0.3 - 0.25) - 0.65 * (0.6 - 0.75))))
    assert_close(angle_p.grad, -share * 16 * 0.65 * -angle_p.detach().sin())
    assert_close(angle_n.grad, share * 16 * 0.55 * -angle_n.detach().sin())


def test_weights_of_circle_have_a_numerical_gradient():
    for case in cases(LOSSES["circle"], dtype=torch.double):
        values = circle_loss(**case.args, reduction="none")
        weights = case.args["weights"].clone().requires_grad_()
        circle_loss(**case.args | {"weights": weights}, reduction="sum").backward()
        assert_close((weights.grad * weights).sum(), values.sum())


def test_similar_positive_beyond_its_optimum_has_no_pace():
    """A cosine cannot be above 1 + m: at 1 the pace is m, and the gradient is finite."""
    case = next(cases(LOSSES["circle"], items=3))
    args = case.args | {"queries": torch.ones(4, 2), "items": torch.ones(3, 2)}
    assert all(x.isfinite().all() for x in gradients(circle_loss, case, args))


def test_arguments():
    square = torch.eye(2)
    for name in ("alpha", "beta", "epsilon"):
        with pytest.raises(InputError, match=f"{name} must be above 0: got 0"):
            multi_similarity_loss(square, square, **{name: 0.0})
    with pytest.raises(InputError, match="scale must be above 0"):
        circle_loss(square, square, scale=-1.0)
