"""Alignment and uniformity, in plain numbers."""

from math import acos, cos, exp, log, pi, sin

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import LOSSES, direct_au_loss, mawu_loss
from rankwell.losses.cases import cases
from rankwell.losses.laws import gradients

BOTH = pytest.mark.parametrize("loss", [direct_au_loss, mawu_loss])


def units(vectors):
    return [[x / sum(y * y for y in vector) ** 0.5 for x in vector] for vector in vectors.tolist()]


def square(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def uniformity(vectors):
    terms = [exp(-2 * square(a, b)) for i, a in enumerate(vectors) for b in vectors[:i]]
    return log(sum(terms) / len(terms)) if terms else 0.0


def by_hand(case, align, of_queries, of_items):
    """Alignment by pair, and the weights of both uniformities, over the queries and items that have a pair that counts."""
    args = case.args
    there, right = args["where"], args["where"] & args["positives"]
    queries, items = units(args["queries"]), units(args["items"])
    shared = of_queries * uniformity([q for q, any_pair in zip(queries, there.any(1), strict=True) if any_pair])
    shared += of_items * uniformity([i for i, any_pair in zip(items, there.any(0), strict=True) if any_pair])
    values = []
    for q in range(case.rows):
        own = right[q].nonzero().flatten().tolist()
        weights = [float(args["weights"][q, i]) for i in own]
        terms = [w * align(q, i, square(queries[q], items[i])) for i, w in zip(own, weights, strict=True)]
        values.append(sum(terms) / len(own) + sum(weights) / len(own) * shared)
    return tensor(values, dtype=torch.double)


def test_direct_au():
    for case in cases(LOSSES["direct_au"], dtype=torch.double):
        expected = by_hand(case, lambda *at: at[-1], 0.35, 0.35)
        assert_close(direct_au_loss(**case.args, uniformity=0.7, reduction="none"), expected)


def test_mawu():
    """The angle of query and item grows by 1 - sigmoid(a + b), to π at most."""
    draw = torch.Generator().manual_seed(0)
    for case in cases(LOSSES["mawu"], dtype=torch.double):
        a, b = (torch.rand(n, generator=draw, dtype=torch.double) for n in (case.rows, len(case.args["items"])))

        def align(q, i, squared, a=a, b=b):
            angle = acos(1 - squared / 2) + 1 - 1 / (1 + exp(-float(a[q] + b[i])))
            return -cos(min(angle, pi))

        expected = by_hand(case, align, 0.4, 0.9)
        own = {"query_uniformity": 0.4, "item_uniformity": 0.9, "query_margins": a, "item_margins": b}
        assert_close(mawu_loss(**case.args, **own, reduction="none"), expected)


def test_no_margins_are_zeros():
    for case in cases(LOSSES["mawu"]):
        zeros = {
            "query_margins": torch.zeros(case.rows),
            "item_margins": torch.zeros(len(case.args["items"])),
        }
        assert_close(mawu_loss(**case.args), mawu_loss(**case.args, **zeros))


def test_large_margins_make_mawu_direct_au():
    """Then no angle is added: 1 - cos is half of the squared distance."""
    for case in cases(LOSSES["mawu"], dtype=torch.double):
        large = {"query_margins": torch.full((case.rows,), 50.0, dtype=torch.double)}
        ours = mawu_loss(**case.args, **large, query_uniformity=0.5, item_uniformity=0.5, reduction="none")
        half = direct_au_loss(**case.args, uniformity=2.0, reduction="none") / 2
        weights, right = case.args["weights"], case.args["where"] & case.args["positives"]
        constant = torch.where(right, weights, 0).sum(-1) / right.sum(-1)
        assert_close(ours, half - constant)


def test_margins_have_a_numerical_gradient():
    for case in cases(LOSSES["mawu"], dtype=torch.double):
        margins = [torch.full((n,), 0.3, dtype=torch.double) for n in (case.rows, len(case.args["items"]))]

        def value(a, b, args=case.args):
            return mawu_loss(**args, query_margins=a, item_margins=b)

        assert torch.autograd.gradcheck(value, [x.requires_grad_() for x in margins], fast_mode=True)


def test_angle_stops_at_a_half_turn():
    """At an angle of π - .1 and a half more, the cosine is that of π, and the slope is gone."""
    angle = tensor(pi - 0.1, requires_grad=True)
    item = torch.stack([angle.cos(), angle.sin()])[None]
    value = mawu_loss(tensor([[1.0, 0.0]]), item)
    value.backward()
    assert_close(value, tensor(1.0))
    assert angle.grad == 0


def test_slope_of_aligned_pairs_is_finite_and_right():
    """At an angle t the slope of -cos(t + 1/2) by t is sin(t + 1/2), also where t is small."""
    for t in (1e-1, 1e-3, 1e-5):
        angle = tensor(t, requires_grad=True)
        mawu_loss(tensor([[1.0, 0.0]]), torch.stack([angle.cos(), angle.sin()])[None]).backward()
        assert_close(angle.grad, tensor(sin(t + 0.5)), rtol=1e-3, atol=0.0)


# ----------------------------------------------------------------------------------------------- the term that is shared


@BOTH
def test_each_query_carries_the_shared_term_once(loss):
    queries, items = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    values = loss(queries, items, reduction="none")
    apart = torch.cat([loss(q[None], i[None], reduction="none") for q, i in zip(queries, items, strict=True)])
    shared = values - apart
    assert_close(shared, shared[:1].expand(5))
    expected = (uniformity(units(queries)) + uniformity(units(items))) / 2
    assert_close(shared[0], tensor(expected))


@BOTH
def test_masked_queries_and_items_are_absent_from_the_shared_term(loss):
    """One value: with some queries and items without a pair that counts, or without them at all."""
    for case in cases(LOSSES["direct_au"]):
        where = case.args["where"].clone()
        where[1] = False
        where[:, 3] = False
        args = case.args | {"where": where}
        rows, columns = where.any(1), where.any(0)
        kept = {
            name: x[rows] if name == "queries" else x[columns] if name == "items" else x[rows][:, columns]
            for name, x in args.items()
        }
        assert_close(loss(**args, reduction="none")[rows], loss(**kept, reduction="none"))
        assert_close(loss(**args), loss(**kept))
        args["queries"] = torch.where(rows[:, None], args["queries"], torch.nan)
        assert_close(loss(**args), loss(**kept))


@BOTH
def test_fewer_than_two_have_no_uniformity(loss):
    query, item = tensor([[1.0, 0.0]]), tensor([[1.0, 0.0], [torch.nan, 0.0]])
    where = tensor([[True, False]])
    alignment = {direct_au_loss: 0.0, mawu_loss: -cos(0.5)}[loss]
    assert_close(loss(query, item, where=where), tensor(alignment))


@BOTH
def test_collapsed_and_distant_batches_are_finite(loss):
    case = next(cases(LOSSES["direct_au"]))
    for scale in (0.0, 1e-12, 1e12):
        args = case.args | {name: case.args[name] * scale for name in ("queries", "items")}
        assert all(x.isfinite().all() for x in gradients(loss, case, args))


def test_margins_that_do_not_fit():
    square = torch.eye(2)
    with pytest.raises(InputError, match=r"query_margins must be floating point \(2,\): got \(3,\)"):
        mawu_loss(square, square, query_margins=torch.zeros(3))
    with pytest.raises(InputError, match=r"item_margins must be floating point \(2,\): got \(2,\) of torch.int64"):
        mawu_loss(square, square, item_margins=torch.zeros(2, dtype=torch.long))


def test_zero_vectors_stand_at_the_origin():
    """Padding: 2 - 2 cos said that a zero vector is at a squared distance of 2 from everything, other zeros included."""
    queries, items = tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), tensor([[0.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    align = (1 + 1 + 0) / 3
    spread = log((2 * exp(-2) + 1) / 3)  # of three pairs two are at distance 1, and one of zeros at 0
    assert_close(direct_au_loss(queries, items), tensor(align + spread))


@pytest.mark.parametrize("dtype", [torch.double, torch.half])
def test_margins_of_another_type(dtype):
    queries, items, margins = torch.eye(2), torch.eye(2), tensor([0.5, 0.25])
    value = mawu_loss(queries, items, query_margins=margins.to(dtype), item_margins=margins.to(dtype))
    assert torch.equal(value, mawu_loss(queries, items, query_margins=margins, item_margins=margins))
