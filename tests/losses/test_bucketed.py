"""Cross-entropy against near items only."""

from itertools import pairwise
from math import exp, log

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.losses import linear_softmax_loss, reduced_cross_entropy_loss, scalable_cross_entropy_loss
from rankwell.types import Ragged

ROWS, ITEMS, WIDTH = 13, 29, 4
TARGETS = torch.randint(-1, ITEMS, (ROWS,), generator=torch.Generator().manual_seed(2))
KNOWN = Ragged(
    torch.arange(ROWS + 1) * 3, torch.randint(ITEMS, (3 * ROWS,), generator=torch.Generator().manual_seed(3))
)
SCALABLE = {"buckets": 4, "bucket_rows": 3, "bucket_items": 6}
REDUCED = {"buckets": 5, "rounds": 3}

both = pytest.mark.parametrize("loss", [scalable_cross_entropy_loss, reduced_cross_entropy_loss])


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def table():
    return numbers(ROWS, WIDTH), numbers(ITEMS, WIDTH, seed=1)


@pytest.mark.parametrize("chunk", [None, 1, 4, ITEMS])
@pytest.mark.parametrize(
    ("loss", "own"),
    [
        (scalable_cross_entropy_loss, {"buckets": 1, "bucket_rows": ROWS, "bucket_items": ITEMS}),
        (scalable_cross_entropy_loss, {"buckets": 3, "bucket_rows": 99, "bucket_items": 99, "mix": True}),
        (reduced_cross_entropy_loss, {"extra_chunks": 99}),
        (reduced_cross_entropy_loss, {"extra_chunks": 99, "rounds": 3}),
        (reduced_cross_entropy_loss, {"buckets": 4, "buckets_per_chunk": 4, "extra_chunks": 0, "rounds": 2}),
    ],
)
def test_buckets_that_hold_all_are_the_full_cross_entropy(loss, own, chunk):
    leaves = [x.requires_grad_() for x in table()]
    shared = {"known": KNOWN, "log_q": numbers(ITEMS, seed=4).log_softmax(0), "weights": numbers(ROWS, seed=5).abs()}
    ours = loss(*leaves, TARGETS, **shared, **own, chunk=chunk, temperature=0.7)
    expected = linear_softmax_loss(*leaves, TARGETS, **shared, temperature=0.7)
    assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    for one, other in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(expected, leaves), strict=True):
        assert_close(one, other, rtol=1e-10, atol=1e-10)


def directions(n, generator):
    return torch.randn(n, WIDTH, generator=generator, dtype=torch.double)


def negatives(row, met):
    known = KNOWN.values[KNOWN.offsets[row] : KNOWN.offsets[row + 1]].tolist()
    return [j for j in met if j not in known and j != TARGETS[row]]


def cross_entropy(scores, row, met):
    right = scores[row, TARGETS[row]]
    return torch.cat([right[None], scores[row, negatives(row, met)]]).logsumexp(0) - right


def test_scalable_cross_entropy_is_its_formula():
    hidden, items = table()
    values = scalable_cross_entropy_loss(
        hidden, items, TARGETS, known=KNOWN, generator=torch.Generator().manual_seed(7), reduction="none", **SCALABLE
    )
    scores, expected = hidden @ items.T, torch.zeros(ROWS, dtype=torch.double)
    for direction in directions(4, torch.Generator().manual_seed(7)):
        along = (hidden @ direction).masked_fill(TARGETS < 0, -torch.inf)
        for row in along.topk(3).indices.tolist():
            value = cross_entropy(scores, row, (items @ direction).topk(6).indices.tolist())
            expected[row] = max(expected[row], value)
    assert_close(values, expected)
    counted = (expected != 0).sum()
    assert 0 < counted < (TARGETS >= 0).sum(), "some rows are in no bucket"
    mean = scalable_cross_entropy_loss(
        hidden, items, TARGETS, known=KNOWN, generator=torch.Generator().manual_seed(7), **SCALABLE
    )
    assert_close(mean, expected.sum() / counted)


def cut(ids, chunks):
    bounds = [len(ids) * c // chunks for c in range(chunks + 1)]
    return [ids[a:b] for a, b in pairwise(bounds)]


@pytest.mark.parametrize("extra", [0, 1])
def test_reduced_cross_entropy_is_its_formula(extra):
    """The union of what is met in the rounds, each item once."""
    hidden, items = table()
    values = reduced_cross_entropy_loss(
        hidden, items, TARGETS, known=KNOWN, generator=torch.Generator().manual_seed(7), reduction="none",
        extra_chunks=extra, **REDUCED,
    )  # fmt: skip
    valid = [row for row in range(ROWS) if TARGETS[row] >= 0]
    met = {row: set() for row in valid}
    for of_round in directions(15, torch.Generator().manual_seed(7)).split(5):
        hash_rows, hash_items = (hidden @ of_round.T).argmax(1), (items @ of_round.T).argmax(1)
        rows = cut(sorted(valid, key=lambda row: hash_rows[row]), 5)
        columns = cut(sorted(range(ITEMS), key=lambda j: hash_items[j]), 5)
        for c in range(5):
            near = {j for some in columns[max(0, c - extra) : c + extra + 1] for j in some}
            for row in rows[c]:
                met[row] |= near
    scores = hidden @ items.T
    for row in range(ROWS):
        expected = cross_entropy(scores, row, met[row]) if row in met else tensor(0.0, dtype=torch.double)
        assert_close(values[row], expected)


@pytest.mark.parametrize(
    ("loss", "own"),
    [
        (scalable_cross_entropy_loss, {"buckets": 20, "bucket_rows": 1, "bucket_items": 1}),
        (reduced_cross_entropy_loss, {"buckets": 2, "extra_chunks": 0}),
    ],
)
def test_by_hand(loss, own):
    """Directions point up or down: rows 1 and -1 meet the items 2 and -2 on their own side. The target, 1, scores 1 and -1."""
    hidden, items = tensor([[1.0], [-1.0]]), tensor([[2.0], [-2.0], [1.0]])
    values = loss(hidden, items, tensor([2, 2]), reduction="none", **own)
    assert_close(values, tensor([log(1 + exp(2 - 1)), log(1 + exp(2 + 1))]))


@both
def test_without_a_generator_every_call_has_the_same_directions(loss):
    own = SCALABLE if loss is scalable_cross_entropy_loss else REDUCED
    first, again = (loss(*table(), TARGETS, reduction="none", **own) for _ in range(2))
    assert torch.equal(first, again)
    generator = keyed.generator(1)
    drawn = [loss(*table(), TARGETS, reduction="none", generator=generator, **own) for _ in range(2)]
    assert not torch.equal(*drawn)


@both
def test_is_a_lower_bound_of_the_full_cross_entropy(loss):
    own = SCALABLE if loss is scalable_cross_entropy_loss else REDUCED
    values = loss(*table(), TARGETS, reduction="none", **own)
    assert (values <= linear_softmax_loss(*table(), TARGETS, reduction="none") + 1e-12).all()


def test_row_of_value_zero_in_a_bucket_counts():
    """The code that the loss comes from takes a value of 0 for a row in no bucket."""
    hidden, items = tensor([[1.0], [1.0]]), tensor([[0.0], [1.0]])
    known = Ragged(tensor([0, 0, 1]), tensor([0]))
    mean = scalable_cross_entropy_loss(hidden, items, tensor([1, 1]), known=known)
    assert_close(mean, tensor(log(1 + exp(-1.0)) / 2))


@both
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"targets": TARGETS[:, None]}, r"targets must be one a row, \(13,\): got \(13, 1\)"),
        (
            {"targets": Ragged(torch.arange(ROWS + 1), TARGETS)},
            "got ragged lists. Several a row are for linear_softmax",
        ),
        ({"targets": TARGETS + 5}, "targets must be rows of item_weight"),
        ({"known": Ragged(KNOWN.offsets, KNOWN.values + 9)}, "known must be rows of item_weight"),
        ({"buckets": 0}, "buckets must be a whole number of at least 1, or None: got 0"),
        ({"chunk": 0}, "chunk must be a whole number of at least 1"),
        ({"temperature": -1.0}, "temperature must be above 0"),
    ],
)
def test_bad_input(loss, change, sentence):
    hidden, items = table()
    with pytest.raises(InputError, match=sentence):
        loss(**{"hidden": hidden, "item_weight": items, "targets": TARGETS, **change})


def test_bad_sizes():
    with pytest.raises(InputError, match="bucket_rows must be a whole number of at least 1, or None: got 0"):
        scalable_cross_entropy_loss(*table(), TARGETS, bucket_rows=0)
    with pytest.raises(InputError, match="extra_chunks must be a whole number of at least 0: got -1"):
        reduced_cross_entropy_loss(*table(), TARGETS, extra_chunks=-1)
