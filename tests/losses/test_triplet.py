"""Losses of distances, each mining against a loop over triplets."""

from dataclasses import replace
from functools import partial
from math import exp, log

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import (
    LOSSES,
    contrastive_margin_loss,
    hinge_loss,
    in_batch,
    lifted_structure_loss,
    triplet_loss,
)
from rankwell.losses.cases import cases
from rankwell.losses.laws import LAWS, gradients

MARGIN = 0.7
MINED = {
    "all": lambda _: True,
    "active": lambda gap: gap < MARGIN,
    "hard": lambda gap: gap <= 0,
    "semi_hard": lambda gap: 0 < gap <= MARGIN,
}


def distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True)) ** 0.5


def of_rows(case):
    """Of each query: distance and weight of its positives, distances of its negatives, and of all, with label and weight."""
    args = case.args
    for row, query in enumerate(args["queries"]):
        there = args["where"][row].nonzero().flatten().tolist()
        pairs = [(distance(query, args["items"][i]), bool(args["positives"][row, i])) for i in there]
        weights = [float(args["weights"][row, i]) for i in there]
        right = [(d, w) for (d, y), w in zip(pairs, weights, strict=True) if y]
        yield right, [d for d, y in pairs if not y], list(zip(pairs, weights, strict=True))


def mean(terms):
    return sum(terms) / max(len(terms), 1)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("mining", MINED)
def test_mining_takes_the_triplets_whose_gap_is_in_its_range(mining, power):
    similarity = {1: "euclidean", 2: "squared_euclidean"}[power]
    for case in cases(LOSSES["triplet"], dtype=torch.double):
        values = triplet_loss(**case.args, margin=MARGIN, similarity=similarity, mining=mining, reduction="none")
        for value, (right, wrong, _) in zip(values, of_rows(case), strict=True):
            gaps = [(n**power - p**power, w) for p, w in right for n in wrong]
            terms = [w * max(MARGIN - gap, 0) for gap, w in gaps if MINED[mining](gap)]
            assert_close(value, tensor(mean(terms), dtype=torch.double))


def test_batch_hard_takes_the_farthest_positive_and_the_nearest_negative():
    for case in cases(LOSSES["triplet"], dtype=torch.double):
        values = triplet_loss(**case.args, margin=MARGIN, mining="batch_hard", reduction="none")
        for value, (right, wrong, _) in zip(values, of_rows(case), strict=True):
            far, weight = max(right)
            assert_close(value, tensor(weight * max(MARGIN + far**2 - min(wrong) ** 2, 0), dtype=torch.double))


@pytest.mark.parametrize("mining", [*MINED, "batch_hard"])
def test_gradient_of_each_mining_is_numerical(mining):
    for case in cases(LOSSES["triplet"], dtype=torch.double):
        leaves = [case.args[name].clone().requires_grad_() for name in ("queries", "items", "weights")]

        def value(queries, items, weights, args=case.args):
            given = args | {"queries": queries, "items": items, "weights": weights}
            return triplet_loss(**given, margin=2.0, mining=mining)

        assert torch.autograd.gradcheck(value, leaves, fast_mode=True)


@pytest.mark.parametrize("law", ["masked_values_change_nothing", "vmap_is_a_loop", "compiles_to_the_same"])
@pytest.mark.parametrize("mining", ["active", "semi_hard", "batch_hard"])
def test_mining_keeps_the_laws(mining, law):
    LAWS[law].check(replace(LOSSES["triplet"], function=partial(triplet_loss, mining=mining)))


def test_worked_example():
    """Squared Euclidean distance, margin 1: [1 - 4 + 1] and [1 - 1.44 + 1]."""
    query, items = tensor([[0.0, 0.0]]), tensor([[0.0, 1.0], [2.0, 0.0], [0.0, -1.2]])
    terms = max(1 - 4 + 1, 0), max(1 - 1.44 + 1, 0)
    assert_close(triplet_loss(query, items, margin=1.0), tensor(sum(terms) / 2))
    assert_close(triplet_loss(query, items, margin=1.0, mining="active"), tensor(terms[1]))
    assert_close(triplet_loss(query, items, margin=1.0, mining="hard"), tensor(0.0))
    assert_close(triplet_loss(query, items, margin=1.0, mining="semi_hard"), tensor(terms[1]))
    assert_close(triplet_loss(query, items, margin=1.0, mining="batch_hard"), tensor(terms[1]))


def test_all_triplets_are_the_hinge_of_each_row():
    for case in cases(LOSSES["triplet"]):
        expected = in_batch(hinge_loss, similarity="cosine")(**case.args, margin=0.3, reduction="none")
        assert_close(triplet_loss(**case.args, margin=0.3, similarity="cosine", reduction="none"), expected)


def test_ties_are_hard_and_not_semi_hard():
    query, items = tensor([[0.0]]), tensor([[1.0], [1.0], [-1.0]])
    for mining, expected in {"hard": 0.5, "semi_hard": 0.0, "active": 0.5, "batch_hard": 0.5}.items():
        assert_close(triplet_loss(query, items, margin=0.5, mining=mining), tensor(expected))


@pytest.mark.parametrize("mining", ["active", "hard", "semi_hard"])
def test_mining_far_from_zero_keeps_small_gaps(mining):
    """Similarities near -1e6, in steps of 1/16: sums of 400 of them have steps of 32 in float32."""
    draw = torch.Generator().manual_seed(0)
    query, items = torch.ones(1, 1), -1e6 + torch.randint(0, 32, (400, 1), generator=draw) / 16
    own = {"positives": (torch.arange(400) < 20)[None], "margin": 0.5, "mining": mining, "similarity": "dot"}
    exact = triplet_loss(query.double(), items.double(), **own)
    assert_close(triplet_loss(query, items, **own).double(), exact, rtol=1e-5, atol=0.0)


def test_unknown_mining():
    with pytest.raises(InputError, match="mining must be one of all, active, hard, semi_hard, batch_hard: got 'easy'"):
        triplet_loss(torch.eye(2), torch.eye(2), mining="easy")


def test_contrastive_margin():
    """Distances 5 and 2 to the positive and the negatives, 3 apart from the margin."""
    query, items = tensor([[0.0, 0.0]]), tensor([[3.0, 4.0], [0.0, 2.0], [9.0, 0.0]])
    assert_close(contrastive_margin_loss(query, items, margin=5.0), tensor((5**2 + (5 - 2) ** 2 + 0) / 3))
    for case in cases(LOSSES["contrastive_margin"], dtype=torch.double):
        values = contrastive_margin_loss(**case.args, margin=1.5, reduction="none")
        for value, (_, _, pairs) in zip(values, of_rows(case), strict=True):
            terms = [w * (d if y else max(1.5 - d, 0)) ** 2 for (d, y), w in pairs]
            assert_close(value, tensor(mean(terms), dtype=torch.double))


def test_lifted_structure():
    """One pair at distance 1; a negative of the query at 2, and one of the item, in the other row, at 3."""
    queries, items = tensor([[0.0], [4.0]]), tensor([[1.0], [-2.0]])
    expected = 1 + log(exp(1.5 - 2) + exp(1.5 - 3))
    value = lifted_structure_loss(queries, items, margin=1.5, reduction="none")[0]
    assert_close(value, tensor(expected**2 / 2))


def test_lifted_structure_by_loops():
    for case in cases(LOSSES["lifted_structure"], dtype=torch.double):
        args = case.args
        rows, columns = args["where"].shape
        there, right = args["where"].tolist(), args["positives"].tolist()
        d = [[distance(q, i) for i in args["items"]] for q in args["queries"]]
        values = lifted_structure_loss(**args, margin=1.5, reduction="none")
        for q in range(rows):
            terms = []
            for i in range(columns):
                if there[q][i] and right[q][i]:
                    total = sum(exp(1.5 - d[q][j]) for j in range(columns) if there[q][j] and not right[q][j])
                    total += sum(exp(1.5 - d[p][i]) for p in range(rows) if there[p][i] and not right[p][i])
                    terms.append(float(args["weights"][q, i]) * max(d[q][i] + log(total), 0) ** 2)
            assert_close(values[q], tensor(mean(terms) / 2, dtype=torch.double))


def test_masked_is_absent_from_other_rows_of_lifted_structure():
    """A query without a pair that counts is no negative of anybody: the rest has the value that it has without."""
    for case in cases(LOSSES["lifted_structure"]):
        where = case.args["where"].clone()
        where[0] = False
        rest = case.take(torch.arange(1, case.rows))
        values = lifted_structure_loss(**case.args | {"where": where}, reduction="none")
        assert_close(values, torch.cat([torch.zeros(1), lifted_structure_loss(**rest, reduction="none")]))


@pytest.mark.parametrize("loss", [contrastive_margin_loss, lifted_structure_loss])
def test_near_neighbours_far_from_zero_keep_their_distance(loss):
    """Distance 1 at length 10,000: a float32 product would be off by 1e-7 of 1e8."""
    case = next(cases(LOSSES["contrastive_margin"]))
    args = case.args | {"queries": case.args["queries"] + 1e4, "items": case.args["items"] + 1e4}
    exact = args | {name: args[name].double() for name in ("queries", "items")}
    for single, double in zip(gradients(loss, case, args), gradients(loss, case, exact), strict=True):
        assert_close(single.double(), double, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [contrastive_margin_loss, lifted_structure_loss])
def test_margin_is_above_zero(loss):
    with pytest.raises(InputError, match="margin must be above 0: got 0"):
        loss(torch.eye(2), torch.eye(2), margin=0.0)


@pytest.mark.parametrize("mining", ["all", "active"])
def test_cluster_far_from_the_origin_has_the_gradient_of_float64(mining):
    """Spread .05 around 3: a product about the origin is off by as much as the gaps that decide which triplets count."""
    draw = torch.Generator().manual_seed(1)
    queries = 3 + 0.05 * torch.randn(256, 64, generator=draw)
    items = 3 + 0.05 * torch.randn(256, 64, generator=draw)
    slopes = []
    for dtype in (torch.float, torch.double):
        leaf = queries.to(dtype).clone().requires_grad_()
        triplet_loss(leaf, items.to(dtype), margin=0.05, mining=mining).backward()
        slopes.append(leaf.grad.double())
    assert (slopes[0] - slopes[1]).norm() < 1e-4 * slopes[1].norm()
