"""Softmax and logistic losses of embeddings, and what all losses of embeddings share."""

from functools import partial
from math import exp, log, log1p

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import (
    LOSSES,
    in_batch,
    info_nce_loss,
    multi_similarity_loss,
    n_pair_loss,
    same_class,
    sigmoid_loss,
    sigmoid_pairwise_loss,
    softmax_loss,
    supervised_contrastive_loss,
)
from rankwell.losses.cases import cases
from rankwell.losses.laws import gradients, peak_bytes

EMBEDDING = [entry for entry in LOSSES if entry.kind == "embedding"]
each = pytest.mark.parametrize("entry", EMBEDDING, ids=lambda entry: entry.name)


def softplus(x):
    return max(x, 0.0) + log1p(exp(-abs(x)))


def rows(case, similarity):
    """Of each query: similarities, labels, weights of its pairs that count, as plain numbers."""
    args = case.args
    for row, query in enumerate(args["queries"]):
        there = args["where"][row]
        scores = [similarity(query.tolist(), item.tolist()) for item in args["items"][there]]
        yield scores, args["positives"][row][there].tolist(), args["weights"][row][there].tolist()


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a, b):
    return dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5


def mean(terms):
    return sum(terms) / max(len(terms), 1)


def supervised_contrastive(scores, labels, weights):
    total = sum(exp(s / 0.3) for s in scores)
    return mean([-w * log(exp(s / 0.3) / total) for s, y, w in zip(scores, labels, weights, strict=True) if y])


def n_pair(scores, labels, weights):
    return mean([
        w * log(1 + sum(exp(other - s) for other, wrong in zip(scores, labels, strict=True) if not wrong))
        for s, y, w in zip(scores, labels, weights, strict=True) if y
    ])  # fmt: skip


def sigmoid_pairwise(scores, labels, weights):
    signs = [1 if y else -1 for y in labels]
    return sum(w * softplus(-z * (s / 0.2 - 3)) for s, z, w in zip(scores, signs, weights, strict=True))


@pytest.mark.parametrize(
    ("loss", "similarity", "by_hand"),
    [
        (partial(supervised_contrastive_loss, temperature=0.3), cosine, supervised_contrastive),
        (n_pair_loss, dot, n_pair),
        (partial(sigmoid_pairwise_loss, temperature=0.2, bias=-3.0), cosine, sigmoid_pairwise),
    ],
    ids=["supervised_contrastive", "n_pair", "sigmoid_pairwise"],
)
def test_by_the_formula(loss, similarity, by_hand):
    for case in cases(LOSSES["info_nce"], dtype=torch.double):
        expected = [by_hand(*row) for row in rows(case, similarity)]
        assert_close(loss(**case.args, reduction="none"), tensor(expected, dtype=torch.double))


def test_supervised_contrastive():
    """Cosines 1, .6 and -.8, of which the first two are right."""
    query, items = tensor([[2.0, 0.0]]), tensor([[1.0, 0.0], [3.0, 4.0], [-4.0, 3.0]])
    value = supervised_contrastive_loss(query, items, positives=tensor([[True, True, False]]), temperature=0.5)
    total = exp(2) + exp(1.2) + exp(-1.6)
    assert_close(value, tensor(log(total) - (2 + 1.2) / 2))


def test_n_pair():
    """Inner products 1, 3 and 2, the first of them right."""
    value = n_pair_loss(tensor([[1.0, 1.0]]), tensor([[1.0, 0.0], [1.0, 2.0], [2.0, 0.0]]))
    assert_close(value, tensor(log(1 + exp(2) + exp(1))))


def test_sigmoid_pairwise_at_the_start_of_the_paper():
    """Cosines 1 and 0: t = 10, b = -10."""
    value = sigmoid_pairwise_loss(torch.eye(2), torch.eye(2))
    assert_close(value, tensor(log(2) + log1p(exp(-10))))


# ------------------------------------------------------------------------------------------------------------ identities


def test_one_positive_makes_supervised_contrastive_info_nce():
    queries, items = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    assert_close(
        supervised_contrastive_loss(queries, items, temperature=0.2, reduction="none"),
        info_nce_loss(queries, items, temperature=0.2, reduction="none"),
    )


def test_one_positive_makes_n_pair_info_nce_of_inner_products():
    queries, items = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    expected = in_batch(softmax_loss, similarity="dot")(queries, items, reduction="none")
    assert_close(n_pair_loss(queries, items, reduction="none"), expected)


def test_one_negative_makes_n_pair_logistic():
    query, items = torch.randn(1, 3), torch.randn(2, 3)
    gap = (items[1] - items[0]) @ query[0]
    assert_close(n_pair_loss(query, items), torch.nn.functional.softplus(gap))


def test_mean_over_items_makes_sigmoid_pairwise_the_sigmoid_loss():
    queries, items = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    expected = in_batch(sigmoid_loss, temperature=0.1)(queries, items, reduction="none")
    assert_close(sigmoid_pairwise_loss(queries, items, bias=0.0, reduction="none") / 5, expected)


def test_sum_over_positives_is_their_number_times_the_mean():
    for case in cases(LOSSES["info_nce"]):
        number = (case.args["positives"] & case.args["where"]).sum(-1)
        summed = info_nce_loss(**case.args, temperature=0.1, reduction="none")
        assert_close(supervised_contrastive_loss(**case.args, reduction="none") * number, summed)


# ---------------------------------------------------------------------------------------------------------------- memory


def peak(loss, batch):
    """Bytes at the peak of a forward and backward pass over a batch with labels, four of a class."""
    positives, where = same_class(torch.arange(batch) // 4)
    x = torch.randn(batch, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return peak_bytes(lambda: loss(x, x, positives=positives, where=where).backward())


@pytest.mark.parametrize("loss", [info_nce_loss, multi_similarity_loss, supervised_contrastive_loss])
def test_peak_is_below_twenty_numbers_a_pair_and_grows_by_four_as_the_batch_doubles(loss):
    """pytorch-metric-learning's NT-Xent takes sixteen times as much at twice the batch."""
    once, twice = peak(loss, 128), peak(loss, 256)
    assert twice < 20 * 4 * 256**2
    assert twice < 4.5 * once


@each
def test_no_loss_holds_triplets(entry):
    assert peak(entry.function, 128) < 4.5 * peak(entry.function, 64) + 2**20


# -------------------------------------------------------------------------------------------------------------- extremes


@each
@pytest.mark.parametrize(
    "embeddings",
    [torch.zeros(4, 3), torch.ones(4, 3), torch.full((4, 3), 1e-20), torch.eye(4, 3), 1e4 * torch.eye(4, 3)],
    ids=["zero", "identical", "tiny", "one of them zero", "large"],
)
def test_equal_and_zero_embeddings_have_finite_gradients(entry, embeddings):
    case = next(cases(entry, items=4))
    args = case.args | {"queries": embeddings, "items": embeddings, "where": torch.ones(4, 4, dtype=torch.bool)}
    for x in gradients(entry, case, args):
        assert x.isfinite().all(), x


@each
@pytest.mark.parametrize("sizes", [(2, 0), (0, 3), (0, 0)], ids=str)
def test_no_queries_or_no_items(entry, sizes):
    queries, items = (torch.ones(n, 3, requires_grad=True) for n in sizes)
    value = entry(queries, items, positives=torch.ones(sizes, dtype=torch.bool))
    value.backward()
    assert value == 0


@each
def test_identical_pair_has_finite_gradient_where_both_are_one_tensor(entry):
    x = tensor([[1.0, 2.0], [1.0, 2.0], [3.0, -1.0]], requires_grad=True)
    positives, where = same_class(tensor([0, 0, 1]))
    entry(x, x, positives=positives, where=where).backward()
    assert x.grad.isfinite().all()


# ------------------------------------------------------------------------------------------------------------- arguments


@each
def test_integers_are_refused(entry):
    with pytest.raises(InputError, match=r"queries must be floating point: got torch.int64"):
        entry(torch.ones(2, 2, dtype=torch.long), torch.ones(2, 2))
    with pytest.raises(InputError, match=r"items must be floating point: got torch.int64"):
        entry(torch.ones(2, 2), torch.ones(2, 2, dtype=torch.long))


@each
def test_shapes_that_do_not_fit(entry):
    square = torch.ones(2, 2)
    with pytest.raises(InputError, match=r"with the same \*batch and d: got \(2, 2\) and \(2, 3\)"):
        entry(square, torch.ones(2, 3))
    with pytest.raises(InputError, match=r"where must broadcast to the pairs \(2, 2\): got \(3, 2\)"):
        entry(square, square, where=torch.ones(3, 2, dtype=torch.bool))
    with pytest.raises(InputError, match="where must be boolean"):
        entry(square, square, where=torch.ones(2, 2))
    with pytest.raises(InputError, match="3 queries and only 2 items"):
        entry(torch.ones(3, 2), square)


@pytest.mark.parametrize(
    "loss", [n_pair_loss, sigmoid_pairwise_loss, supervised_contrastive_loss, multi_similarity_loss]
)
def test_unknown_similarity(loss):
    with pytest.raises(InputError, match="similarity must be one of dot"):
        loss(torch.eye(2), torch.eye(2), similarity="cos")


@pytest.mark.parametrize("loss", [sigmoid_pairwise_loss, supervised_contrastive_loss])
def test_temperature_is_above_zero(loss):
    with pytest.raises(InputError, match="temperature must be above 0"):
        loss(torch.eye(2), torch.eye(2), temperature=0.0)


def test_info_nce_over_distances_far_from_the_origin_has_the_gradient_of_float64():
    queries, items = (3 + 0.05 * torch.randn(2, 64, 16, generator=torch.Generator().manual_seed(1))).unbind()
    slopes = []
    for dtype in (torch.float, torch.double):
        leaf = queries.to(dtype).clone().requires_grad_()
        info_nce_loss(leaf, items.to(dtype), similarity="squared_euclidean").backward()
        slopes.append(leaf.grad.double())
    assert (slopes[0] - slopes[1]).norm() < 1e-5 * slopes[1].norm()


@pytest.mark.parametrize("entry", EMBEDDING, ids=lambda entry: entry.name)
def test_positives_are_a_mask_of_all_pairs(entry):
    """Grades would be taken for 1 by some losses and for gains by others."""
    for positives in (torch.eye(2), torch.ones(2, 3, dtype=torch.bool)):
        with pytest.raises(InputError, match=r"positives must be boolean \[\*batch, queries, items\] \(2, 2\)"):
            entry(torch.ones(2, 3), torch.ones(2, 3), positives=positives)
