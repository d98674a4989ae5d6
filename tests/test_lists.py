import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.lists import (
    Dense,
    Flat,
    blocks,
    check_at_least,
    check_count,
    offsets_from_ids,
    offsets_from_sizes,
    open_lists,
    open_rows,
    reduce,
)

SIZES = tensor([3, 0, 5, 1])


@pytest.fixture
def layouts():
    """The same numbers dense and flat, with a mask; the fourth list has nothing valid."""
    there = torch.arange(5) < SIZES[:, None]
    dense = torch.randn(4, 5, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    where = there & tensor([True, True, False, True, True])
    where[3] = False
    flat = Flat(dense[there], offsets_from_sizes(SIZES), where[there])
    return there, dense, Dense(dense, where), flat


@pytest.mark.parametrize("name", ["sum", "logsumexp", "log_softmax"])
def test_layouts_agree_in_values_and_gradients(layouts, name):
    there, x, dense, flat = layouts
    rows, items = x.clone().requires_grad_(), x[there].requires_grad_()
    ours, expected = getattr(flat, name)(items), getattr(dense, name)(rows)
    if name == "log_softmax":
        valid = dense.where
        ours, expected = ours[valid[there]], expected[valid]
    assert_close(ours, expected)
    up = torch.linspace(1, 2, len(ours), dtype=torch.double)
    ours.backward(up)
    expected.backward(up)
    assert_close(items.grad, rows.grad[there])


@pytest.mark.parametrize("name", ["sum", "logsumexp", "log_softmax"])
def test_flat_operations_have_numerical_gradients(layouts, name):
    there, x, _, flat = layouts
    flat = Flat(x[there], flat.offsets, None)
    at = x[there].requires_grad_()
    assert torch.autograd.gradcheck(getattr(flat, name), at)
    assert torch.autograd.gradgradcheck(getattr(flat, name), at)


def test_cross_entropy_of_segments(layouts):
    """In values, gradients by both arguments, and second derivatives; near and far apart."""
    there, x, dense, flat = layouts
    for scale in (1.0, 30.0):
        shares, scores = x.sin().requires_grad_(), (scale * x).requires_grad_()
        leaves = shares.detach()[there].requires_grad_(), scores.detach()[there].requires_grad_()
        ours, expected = flat.cross_entropy(*leaves), dense.cross_entropy(shares, scores)
        assert_close(ours, expected)
        up = torch.linspace(1, 2, 4, dtype=torch.double)
        expected = torch.autograd.grad(expected, (shares, scores), up)
        for one, other in zip(torch.autograd.grad(ours, leaves, up), expected, strict=True):
            assert_close(one, other[there])
        assert torch.autograd.gradcheck(flat.cross_entropy, leaves)
        assert torch.autograd.gradgradcheck(flat.cross_entropy, leaves)


@pytest.mark.parametrize("apart", [10.0, 40.0, 400.0, 1e6])
def test_cross_entropy_of_lists_whatever_lies_between_their_scores(apart):
    """In float32, as close to float64 as a list by itself; what is taken from the scores first differs with the distance."""
    draw = torch.Generator().manual_seed(0)
    offsets = offsets_from_sizes(tensor([4, 0, 7, 1, 30]))
    scores = torch.rand(42, generator=draw)
    scores[[5, 20]] = tensor([0.0, 1.0])
    scores, shares = (apart * (scores - 0.5)).requires_grad_(), torch.rand(42, generator=draw)
    values = Flat(scores, offsets, None).cross_entropy(shares, scores)
    slopes = torch.autograd.grad(values.sum(), scores)[0]
    for i, some in enumerate(map(slice, offsets[:-1], offsets[1:])):
        x, y = scores[some].detach().double().requires_grad_(), shares[some].double()
        expected = -(y * x.log_softmax(-1)).sum()
        assert_close(values[i].double(), expected, rtol=2e-6, atol=2e-6)
        if x.numel():
            assert_close(slopes[some].double(), torch.autograd.grad(expected, x)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("k", [1, 2, 4, 5, 9])
def test_kth_largest(layouts, k):
    """Minus infinity in a list of fewer."""
    there, x, dense, flat = layouts
    expected = []
    for row, valid in zip(x, dense.where, strict=True):
        values = sorted(row[valid].tolist(), reverse=True)
        expected.append(values[k - 1] if len(values) >= k else -torch.inf)
    assert dense.kth_largest(x, k).tolist() == flat.kth_largest(x[there], k).tolist() == expected
    assert not dense.kth_largest(x.clone().requires_grad_(), k).requires_grad


def test_spread(layouts):
    there, _, dense, flat = layouts
    v = torch.arange(4.0)
    assert torch.equal(flat.spread(v), dense.spread(v).expand(4, 5)[there])


def test_count(layouts):
    _, _, dense, flat = layouts
    assert flat.count().tolist() == dense.count().tolist() == [2, 0, 4, 0]


@pytest.mark.parametrize("where", [None, tensor([[True, False, True, True], [False] * 4])])
def test_scaled_logsumexp_has_numerical_second_derivatives(where):
    x = torch.linspace(-1, 1, 8, dtype=torch.double).sin().reshape(2, 4).requires_grad_()

    def value(x):
        rows = open_rows(torch.zeros(2).double(), x, pos_where=None, where=where, weights=None)
        values = rows.logsumexp_neg(0.3)
        return torch.where(values == -torch.inf, 0, values)

    assert torch.autograd.gradcheck(value, x)
    assert torch.autograd.gradgradcheck(value, x)


def test_offsets():
    assert offsets_from_sizes(SIZES).tolist() == [0, 3, 3, 8, 9]
    assert offsets_from_ids(tensor([4, 4, 1])).tolist() == [0, 2, 3]
    with pytest.raises(InputError, match="must stand together"):
        offsets_from_ids(tensor([1, 2, 1]))


@pytest.mark.parametrize("limit", [1, 10, 64, 1 << 18])
def test_blocks_hold_every_item_once_with_little_padding(limit):
    sizes = torch.randint(0, 30, (200,), generator=torch.Generator().manual_seed(0))
    offsets = offsets_from_sizes(sizes)
    seen = torch.zeros(int(offsets[-1]), dtype=torch.long)
    for block in blocks(offsets, limit):
        assert block.items.numel() <= max(limit, block.items.shape[1])
        assert (block.valid.sum(-1) * 5 >= block.valid.shape[1] * 4).all()
        assert torch.equal(block.valid.sum(-1), sizes[block.lists])
        seen.index_add_(0, block.items[block.valid], torch.ones_like(block.items[block.valid]))
    assert (seen == 1).all()


def test_masked_values_are_replaced_before_any_operation():
    where = tensor([True, False])
    opened = open_lists(tensor([1.0, torch.nan]), tensor([2.0, torch.inf]), where=where, weights=None, offsets=None)
    assert opened.scores.tolist() == [1, 0]
    assert opened.labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": torch.zeros(2, 4)},
            r"labels must have the shape of scores: got labels \(2, 4\) and scores \(2, 3\)",
        ),
        ({"where": torch.ones(3, 1, dtype=torch.bool)}, r"where must broadcast to scores \(2, 3\): got \(3, 1\)"),
        ({"weights": torch.ones(5, 2, 3)}, "weights must broadcast to scores"),
        ({"offsets": tensor([0, 6])}, "scores must be flat"),
    ],
)
def test_shapes_that_do_not_fit(change, message):
    args = {"labels": torch.zeros(2, 3), "where": None, "weights": None, "offsets": None} | change
    with pytest.raises(InputError, match=message):
        open_lists(torch.zeros(2, 3), **args)


@pytest.mark.parametrize("offsets", [[1, 3], [0, 2], [0, 2, 1, 3]])
def test_offsets_that_do_not_cut_the_scores(offsets):
    with pytest.raises(InputError, match="offsets must start at 0, not fall, and end at the number of scores, 3"):
        open_lists(torch.zeros(3), torch.zeros(3), where=None, weights=None, offsets=tensor(offsets))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_masks_that_are_not_boolean(dtype):
    x, mask = torch.zeros(2, 3), torch.ones(2, 3, dtype=dtype)
    with pytest.raises(InputError, match=f"where must be boolean.*got {dtype}"):
        open_lists(x, x, where=mask, weights=None, offsets=None)
    with pytest.raises(InputError, match=r"^where must be boolean"):
        open_rows(x, x, pos_where=None, where=mask, weights=None)
    with pytest.raises(InputError, match=r"^pos_where must be boolean"):
        open_rows(x, x, pos_where=mask, where=None, weights=None)


def test_scores_that_are_not_floating_point():
    x, whole = torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(InputError, match=r"scores must be floating point: got torch\.int64"):
        open_lists(whole, x, where=None, weights=None, offsets=None)
    for args, name in (((whole, x), "pos"), ((x, whole), "neg")):
        with pytest.raises(InputError, match=f"^{name} must be floating point"):
            open_rows(*args, pos_where=None, where=None, weights=None)


def test_scalar_scores():
    with pytest.raises(InputError, match="a list axis"):
        open_lists(tensor(1.0), tensor(1.0), where=None, weights=None, offsets=None)


@pytest.mark.parametrize(("pos", "neg"), [((2,), (3, 4)), ((2, 1, 1), (2, 4)), ((), ())])
def test_rows_that_do_not_fit(pos, neg):
    with pytest.raises(InputError, match="pos must be"):
        open_rows(torch.zeros(pos), torch.zeros(neg), pos_where=None, where=None, weights=None)


def test_mean_is_over_valid_lists_and_zero_over_none():
    values, valid = tensor([1.0, torch.nan, 5.0]), tensor([True, False, True])
    assert reduce(values, valid, "mean") == 3
    assert reduce(values, valid, "sum") == 6
    assert reduce(values, valid, "none").tolist() == [1, 0, 5]
    assert reduce(values, torch.zeros(3, dtype=torch.bool), "mean") == 0
    assert reduce(torch.zeros(0), None, "mean") == 0


@pytest.mark.parametrize(
    ("offsets", "given"),
    [
        ([0, 3], "a list"),
        (tensor([0, 3], dtype=torch.uint8), "torch.uint8"),
        (tensor([0, 3], dtype=torch.int16), "torch.int16"),
        (tensor([0.0, 3.0]), "torch.float32"),
    ],
)
def test_offsets_are_a_tensor_of_int64_or_int32(offsets, given):
    scores = torch.zeros(3)
    with pytest.raises(InputError, match=f"offsets must be a tensor of int64 or int32: got {given}"):
        open_lists(scores, scores, where=None, weights=None, offsets=offsets)


def test_offsets_of_int32_will_do():
    lists = open_lists(torch.ones(3), torch.ones(3), where=None, weights=None, offsets=tensor([0, 1, 3]).int())
    assert lists.lists.sum(lists.scores).tolist() == [1, 2]


@pytest.mark.parametrize("value", [0, -1, 2.5, 2.0, True, "2", None])
def test_counts_are_whole_numbers_from_one(value):
    with pytest.raises(InputError, match="k must be a whole number of at least 1: got"):
        check_count(value, "k")
    check_count(1, "k")
    check_count(None, "k", optional=True)
    check_count(0, "k", least=0)


@pytest.mark.parametrize("value", [-0.1, math.nan])
def test_bounds_refuse_nan(value):
    with pytest.raises(InputError, match=f"margin must be at least 0: got {value}"):
        check_at_least(value, "margin")
    check_at_least(0, "margin")
    check_at_least(-1, "epsilon", -1)
