"""Cross-entropy over the whole catalogue, against logits that are all there."""

from math import exp, log

import pytest
import torch
from torch import tensor
from torch.nn import functional
from torch.testing import assert_close

from rankwell.errors import ConfigError, InputError
from rankwell.kernels import catalogue
from rankwell.losses import LOSSES, as_contrast, linear_softmax_loss, sampled_softmax_loss, softmax_loss
from rankwell.transforms import correct_log_q
from rankwell.types import Ragged

NONE = Ragged(tensor([0, 0, 0, 0, 0, 0]), torch.zeros(0, dtype=torch.long))


def ragged(*lists):
    return Ragged(tensor([0, *map(len, lists)]).cumsum(0), tensor([i for one in lists for i in one], dtype=torch.long))


def numbers(*shape, seed=0, dtype=torch.double):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def lists_of(given):
    if isinstance(given, Ragged):
        return [given.values[a:b].tolist() for a, b in zip(given.offsets[:-1], given.offsets[1:], strict=True)]
    return given.reshape(len(given), -1).tolist()


def brute_force(
    hidden, items, targets, *, known=None, weights=None, log_q=None, bias=None, temperature=1.0, label_smoothing=0.0
):
    """The formula, a row at a time."""
    values = []
    for i, (h, of_row) in enumerate(zip(hidden, lists_of(targets), strict=True)):
        right = [t for t in of_row if t >= 0]
        had = set(lists_of(known)[i]) if known else set()
        candidates = [j for j in range(len(items)) if j in right or j not in had]
        z = items @ h / temperature if bias is None else (items @ h + bias) / temperature
        if log_q is not None:
            other = tensor([j not in right for j in range(len(items))])
            z = torch.where(other, z - log(len(items)) - log_q, z)
        of_all = z[candidates]
        terms = [
            of_all.logsumexp(0) - (1 - label_smoothing) * z[t] - label_smoothing * of_all.mean() for t in right
        ]  # fmt: skip
        value = sum(terms, start=0 * h.sum())
        values.append(value if weights is None else weights[i] * value)
    return torch.stack(values)


TARGETS = {
    "one": tensor([3, 0, 22, 5, 7]),
    "absent": tensor([3, -1, 22, -1, 7]),
    "several": tensor([[3, 5, -1], [0, -1, -1], [22, 1, 2], [-1, -1, -1], [7, 8, 9]]),
    "twice": tensor([[3, 3], [0, 0], [22, 4], [5, -1], [7, 7]]),
    "ragged": ragged([3], [], [22, 1, 2, 9], [5, 6], [7]),
}
KNOWN = {
    "none": None,
    "empty": NONE,
    "lists": ragged([1, 2], [], [0, 5, 21], [22], [14]),
    "repeated": ragged([1, 1, 2, 1], [4, 4], [0, 0], [], [14, 14, 14]),
    "targets among them": ragged([3, 4], [0], [22, 9, 1, 0], [5, 7], [7, 8, 9]),
    "all": ragged(*[range(23)] * 5),
}


@pytest.mark.parametrize("chunk", [None, 1, 4, 7, 23])
@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("targets", TARGETS)
def test_all_options_together(targets, known, chunk):
    hidden, items, weights = numbers(5, 4), numbers(23, 4, seed=1), numbers(5, seed=2).abs()
    own = {"bias": numbers(23, seed=3), "temperature": 0.7, "label_smoothing": 0.2}
    own |= {"known": KNOWN[known], "log_q": numbers(23, seed=4).log_softmax(0)}
    leaves = [x.requires_grad_() for x in (hidden, items, weights, own["bias"])]
    ours = linear_softmax_loss(hidden, items, TARGETS[targets], weights=weights, chunk=chunk, reduction="none", **own)
    expected = brute_force(hidden, items, TARGETS[targets], weights=weights, **own)
    assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    slope = numbers(5, seed=5)
    for one, other in zip(
        torch.autograd.grad(ours, leaves, slope), torch.autograd.grad(expected, leaves, slope), strict=True
    ):
        assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("own", [{}, {"temperature": 0.2}, {"label_smoothing": 0.1}, {"bias": numbers(23)}])
def test_options_alone(own):
    hidden, items = numbers(5, 4), numbers(23, 4, seed=1)
    ours = linear_softmax_loss(hidden, items, TARGETS["one"], reduction="none", **own)
    assert_close(ours, brute_force(hidden, items, TARGETS["one"], **own), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("rows", "items", "width"), [(1, 1, 1), (3, 513, 5), (2049, 700, 3), (130, 1024, 64)])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_is_torchs_cross_entropy(rows, items, width, label_smoothing):
    """More than one block of rows and of items, odd sizes, and rows that are left out."""
    hidden, table = numbers(rows, width, dtype=torch.float), numbers(items, width, seed=1, dtype=torch.float)
    targets = torch.randint(-1, items, (rows,), generator=torch.Generator().manual_seed(2))
    targets[0] = 0
    leaves = hidden.requires_grad_(), table.requires_grad_()
    ours = linear_softmax_loss(hidden, table, targets, label_smoothing=label_smoothing)
    exact = [x.detach().double().requires_grad_() for x in leaves]
    expected = functional.cross_entropy(
        exact[0] @ exact[1].T, targets, ignore_index=-1, label_smoothing=label_smoothing
    )
    assert_close(ours.double(), expected, rtol=1e-6, atol=1e-6)
    for one, other in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(expected, exact), strict=True):
        assert_close(one.double(), other, rtol=1e-5, atol=1e-6 * float(other.abs().max().clamp(min=0.1)))


def test_by_hand():
    """Scores 2, 1, 3; the third item is known; the first is worth half as much."""
    items, hidden = tensor([[2.0], [1.0], [3.0]]), tensor([[1.0]])
    value = linear_softmax_loss(hidden, items, tensor([0]), known=ragged([2]), weights=tensor([0.5]))
    assert_close(value, tensor(0.5 * log(1 + exp(-1.0))))
    smooth = linear_softmax_loss(hidden, items, tensor([0]), label_smoothing=0.3)
    lse = log(exp(2.0) + exp(1.0) + exp(3.0))
    assert_close(smooth, tensor(lse - 0.7 * 2 - 0.3 * 2))
    # Two draws of items of probability 1/4: each negative counts 1 / (3 / 4).
    drawn = linear_softmax_loss(hidden, items, tensor([0]), log_q=tensor([0.5, 0.25, 0.25]).log())
    assert_close(drawn, tensor(log(1 + (exp(-1.0) + exp(1.0)) / 0.75)))


def test_is_the_softmax_loss_of_the_scores():
    hidden, items, targets = numbers(5, 4), numbers(23, 4, seed=1), TARGETS["ragged"]
    labels = torch.zeros(5, 23, dtype=torch.double)
    for row, ids in enumerate(lists_of(targets)):
        labels[row, ids] = 1
    where = torch.ones(5, 23, dtype=torch.bool)
    where[2, [0, 3]] = False
    expected = softmax_loss(hidden @ items.T, labels, where=where, reduction="none")
    ours = linear_softmax_loss(hidden, items, targets, known=ragged([], [], [0, 3], [], []), reduction="none")
    assert_close(ours, expected)


def test_table_of_the_batch_with_log_q_is_the_corrected_sampled_softmax():
    """The in-batch softmax: every row's target is a negative of the others, accidental hits are known."""
    hidden, items, log_q = numbers(4, 3), numbers(4, 3, seed=1), numbers(4, seed=2).log_softmax(0)
    scores = hidden @ items.T
    known = ragged([2], [], [], [1])
    hits = torch.zeros(4, 4, dtype=torch.bool)
    hits[0, 2] = hits[3, 1] = True
    ours = linear_softmax_loss(hidden, items, torch.arange(4), log_q=log_q, known=known, temperature=0.5)
    corrected = correct_log_q(scores, log_q, 4, temperature=0.5)
    where = ~hits & ~torch.eye(4, dtype=torch.bool)
    assert_close(ours, sampled_softmax_loss(scores.diagonal(), corrected, where=where, temperature=0.5))


@pytest.mark.parametrize("far", [50.0, 300.0, 5000.0])
def test_first_chunk_far_below_the_others(far):
    """The guess at what to subtract is then no good; so it is when a row knows all of the first chunk."""
    bias = torch.zeros(20)
    bias[10:] = far
    hidden, items, targets = torch.zeros(2, 3), torch.zeros(20, 3), tensor([0, 15])
    known = ragged(range(5), range(4))
    leaf = bias.clone().requires_grad_()
    values = linear_softmax_loss(hidden, items, targets, bias=leaf, known=known, chunk=4, reduction="none")
    expected = brute_force(hidden.double(), items.double(), targets, bias=bias.double(), known=known)
    assert_close(values.double(), expected, rtol=1e-6, atol=0)
    (slope,) = torch.autograd.grad(values.sum(), leaf)
    tenth = torch.where(torch.arange(20) < 10, 0.0, 0.1)
    by_hand = 2 * tenth - functional.one_hot(targets, 20).sum(0)
    assert_close(slope, by_hand, rtol=1e-5, atol=1e-6)


def test_an_overflow_is_mended(monkeypatch):
    calls = []
    maxima = catalogue._maxima
    monkeypatch.setattr(catalogue, "_maxima", lambda sheet, items: calls.append(items) or maxima(sheet, items))
    items = torch.zeros(9, 1)
    items[8] = 100
    assert_close(linear_softmax_loss(torch.ones(1, 1), items, tensor([0]), chunk=3), tensor(100.0))
    assert calls == [3, 9]


def test_only_what_is_asked_for_gets_a_gradient():
    hidden, items = numbers(5, 4).requires_grad_(), numbers(23, 4, seed=1)
    linear_softmax_loss(hidden, items, TARGETS["one"]).backward()
    (both,) = torch.autograd.grad(linear_softmax_loss(hidden, items.clone().requires_grad_(), TARGETS["one"]), hidden)
    assert items.grad is None
    assert torch.equal(hidden.grad, both)


def test_mixed_precision_of_hidden_states_and_table():
    hidden, items = numbers(5, 4), numbers(23, 4, seed=1, dtype=torch.float).bfloat16().requires_grad_()
    value = linear_softmax_loss(hidden, items, TARGETS["one"])
    assert value.dtype == torch.double
    value.backward()
    assert items.grad.dtype == torch.bfloat16
    assert_close(value, functional.cross_entropy(hidden @ items.double().T, TARGETS["one"]).detach(), check_dtype=False)


def test_known_items_alone_leave_nothing_to_lose():
    values = linear_softmax_loss(numbers(5, 4), numbers(23, 4), TARGETS["one"], known=KNOWN["all"], reduction="none")
    assert_close(values, torch.zeros(5, dtype=torch.double))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hidden": torch.zeros(5, 4, dtype=torch.long)}, "hidden must be floating point: got torch.int64"),
        ({"hidden": torch.zeros(5, 3)}, r"item_weight \[m, d\].*got hidden \(5, 3\) and item_weight \(23, 4\)"),
        ({"item_weight": torch.zeros(0, 4)}, "one item at least"),
        ({"targets": torch.zeros(4, dtype=torch.long)}, r"got targets \(4,\) for the rows \(5,\)"),
        ({"targets": torch.zeros(5)}, "targets must be integers: got torch.float32"),
        ({"targets": tensor([0, 1, 2, 3, 23])}, "targets must be rows of item_weight, 0 to 22, or -1 for none: got 23"),
        ({"targets": tensor([0, 1, 2, 3, -100])}, "or -1 for none: got -100"),
        ({"targets": Ragged(tensor([0, 1]), tensor([1]))}, r"targets must be offsets \[rows \+ 1\]"),
        ({"targets": Ragged(tensor([0, 1, 1, 1, 1, 2]), tensor([1]))}, "offsets of targets must start at 0"),
        (
            {"known": Ragged(tensor([0, 1, 1, 1, 1, 1]), tensor([-1]))},
            "known must be rows of item_weight, 0 to 22: got -1",
        ),
        ({"known": Ragged(tensor([1, 1, 1, 1, 1, 1]), tensor([0]))}, "offsets of known must start at 0"),
        ({"known": Ragged(tensor([0, 1]), tensor([0]))}, r"got \(2,\) and \(1,\) for 5 rows"),
        ({"weights": torch.ones(4)}, r"weights must broadcast to the rows \(5,\): got \(4,\)"),
        ({"log_q": torch.zeros(5)}, r"log_q must be one an item, \[23\]: got \(5,\)"),
        ({"bias": torch.zeros(5)}, r"bias must be one an item, \[23\]: got \(5,\)"),
        ({"chunk": 0}, "chunk must be a whole number of at least 1, or None: got 0"),
        ({"temperature": 0.0}, "temperature must be above 0: got 0.0"),
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1: got 1.0"),
        ({"reduction": "avg"}, "reduction must be 'none', 'mean' or 'sum'"),
    ],
)
def test_bad_input(change, sentence):
    args = {"hidden": torch.zeros(5, 4), "item_weight": torch.zeros(23, 4), "targets": TARGETS["one"], **change}
    with pytest.raises(InputError, match=sentence):
        linear_softmax_loss(**args)


def test_heads_are_no_rows():
    with pytest.raises(ConfigError, match="'linear_softmax' is of kind 'head'"):
        as_contrast(LOSSES["linear_softmax"])


def test_lists_may_be_plain_pairs():
    hidden, items = numbers(5, 4), numbers(23, 4)
    targets, known = ragged([1], [2, 3], [], [0], [22]), ragged([4], [], [1], [2, 5], [0])
    expected = linear_softmax_loss(hidden, items, targets, known=known, reduction="none")
    assert torch.equal(
        linear_softmax_loss(hidden, items, tuple(targets), known=tuple(known), reduction="none"), expected
    )


def test_lists_are_pairs_of_tensors():
    with pytest.raises(InputError, match=r"known must be the pair \(offsets, ids\) of tensors: got list, list"):
        linear_softmax_loss(numbers(5, 4), numbers(23, 4), torch.arange(5), known=([0] * 6, []))
