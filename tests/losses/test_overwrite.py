"""Losses that write over the negatives, against themselves without."""

import pytest
import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.losses import LOSSES, LearnedTemperature, bpr_loss, combine, mml_loss, psl_loss, sampled_softmax_loss
from rankwell.models.contrast_product import contrast_product
from rankwell.types import Overwrite

IN_PLACE = [entry for entry in LOSSES if "overwrite" in entry.inputs]
REQUIRED = {"query_ids": torch.tensor([3, 3, 1, 0, 2])}


def test_there_are_some():
    assert {entry.name for entry in IN_PLACE} >= {"bpr", "sampled_softmax", "decoupled_softmax", "bsl", "ccl", "mml"}


def drawn(n: int, dtype: torch.dtype, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, and a mask that leaves the last row nothing."""
    draw = torch.Generator().manual_seed(n)
    pos, neg = (scale * (2 * torch.rand(shape, generator=draw, dtype=dtype) - 1) for shape in ((5,), (5, n)))
    where = torch.rand(5, n, generator=draw) < 0.8
    where[-1] = False
    return pos, neg, where


def both(entry, pos, neg, where, leave=None, **own):
    """Value and gradients, without and with writing over the scores."""
    own |= {name: x for name, x in REQUIRED.items() if name in entry.inputs}
    for overwrite in (None, leave or Overwrite()):
        a, b = pos.clone().requires_grad_(), neg.clone().requires_grad_()
        given = torch.where(where, b, -torch.inf) if overwrite else b * 1
        told = None if overwrite and overwrite.absent is not None else where
        value = entry(a, given, where=told, overwrite=overwrite, reduction="none", **own)
        value.backward(torch.arange(1.0, 6.0, dtype=pos.dtype))
        yield value.detach(), a.grad, b.grad, given.detach()


@pytest.mark.parametrize("entry", IN_PLACE, ids=lambda entry: entry.name)
@pytest.mark.parametrize("n", [7, 128])
@pytest.mark.parametrize("scale", [1.2, 60.0])
def test_values_and_gradients_are_the_same(entry, n, scale):
    plain, over = both(entry, *drawn(n, torch.float64, scale))
    for got, wanted in zip(over[:3], plain[:3], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
    assert not over[3].equal(plain[3])  # it was indeed written over


@pytest.mark.parametrize("entry", IN_PLACE, ids=lambda entry: entry.name)
def test_places_instead_of_a_mask_and_scores_that_are_not_far(entry):
    pos, neg, where = drawn(128, torch.float64, 1.2)
    plain, over = both(entry, pos, neg, where, leave=Overwrite((~where).view(-1).nonzero().squeeze(1), most=1.2))
    for got, wanted in zip(over[:3], plain[:3], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("entry", IN_PLACE, ids=lambda entry: entry.name)
def test_in_float32(entry):
    plain, over = both(entry, *drawn(192, torch.float32))
    for got, wanted in zip(over[:3], plain[:3], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "entry", [entry for entry in IN_PLACE if "temperature" in entry.parameters], ids=lambda one: one.name
)
def test_with_a_temperature(entry):
    plain, over = both(entry, *drawn(7, torch.float64), temperature=0.07)
    for got, wanted in zip(over[:3], plain[:3], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


def test_no_margins_and_no_negatives():
    pos, neg = torch.tensor([0.5]), torch.ones(1, 3, requires_grad=True)
    assert mml_loss(pos, neg * 1, margins=(), margin_weights=(), overwrite=Overwrite()) == 0.5
    for entry in IN_PLACE:
        own = {name: x[:1] for name, x in REQUIRED.items() if name in entry.inputs}
        empty = torch.zeros(1, 0, requires_grad=True)
        assert entry(pos, empty * 1, overwrite=Overwrite(), **own) == entry(pos, empty, **own)


@pytest.mark.parametrize("above", [0, 1, 2, 16, 64])
def test_hinges_above_which_few_scores_are_and_many(above):
    """Of 64 blocks; where more than a quarter have a score above the margins, all are worked on."""
    pos, neg = torch.full((4,), 0.5), torch.full((4, 128), 0.1)
    neg.view(-1)[torch.arange(above) * 97 % 512] = torch.tensor([0.75, 0.95]).repeat(32)[:above]
    plain, over = neg.clone().requires_grad_(), neg.clone().requires_grad_()
    values = mml_loss(pos, plain, reduction="none"), mml_loss(pos, over * 1, overwrite=Overwrite(), reduction="none")
    torch.testing.assert_close(*values)
    for value in values:
        value.backward(torch.arange(1.0, 5.0))
    torch.testing.assert_close(over.grad, plain.grad)
    assert int((over.grad > 0).sum()) == above


@pytest.mark.parametrize("entry", IN_PLACE, ids=lambda entry: entry.name)
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("scale", [0.02, 0.2, 1.0])
def test_a_product_takes_the_slopes_as_they_are(entry, watched, scale):
    """Gradients of both tables, and of the scores for who looks at it, are those of operators one by one."""
    draw = torch.Generator().manual_seed(2)
    users, items = (scale * torch.randn(rows, 4, generator=draw).double() for rows in (5, 300))
    queries, positives, negatives = torch.arange(5), torch.arange(5), torch.arange(5, 197)
    own, seen, found = {name: x for name, x in REQUIRED.items() if name in entry.inputs}, [], []
    for at_once in (True, False):
        p, q = users.clone().requires_grad_(), items.clone().requires_grad_()
        if at_once:
            pos, neg = contrast_product(p, q, queries, positives, negatives, unit=False, kept=None)
        else:
            pos, neg = (p * q[:5]).sum(-1), p @ q[negatives].T
        if watched:
            neg.register_hook(lambda grad: seen.append(grad.clone()))
        value = entry(pos, neg, overwrite=Overwrite() if at_once else None, **own)
        value.backward()
        found.append((value.detach(), p.grad.to_dense(), q.grad.to_dense()))
    for got, wanted in [*zip(*found, strict=True), *[seen] * watched]:
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("far", [100.0, 1e4, torch.inf])
def test_bpr_of_far_gaps(far):
    """A negative far ahead costs its gap, one far behind nothing; 32 share a logarithm."""
    neg = torch.zeros(2, 64, requires_grad=True)
    ahead = torch.zeros(2, 64).index_fill(1, torch.arange(3), -far)
    ahead[1, 5:9] = min(far, 1e4)
    value = bpr_loss(torch.zeros(2), neg + ahead, overwrite=Overwrite(), reduction="none")
    value.sum().backward()
    log2 = 61 * torch.log(torch.tensor(2.0))
    torch.testing.assert_close(64 * value[0].detach(), log2)
    torch.testing.assert_close(64 * value[1].detach(), log2 * 57 / 61 + 4 * min(far, 1e4))
    assert not neg.grad[:, :3].any() and neg.grad[1, 5:9].eq(1 / 64).all()


@pytest.mark.parametrize("entry", IN_PLACE, ids=lambda entry: entry.name)
def test_a_second_backward_pass_is_an_error(entry):
    """The first one has written over what it would need."""
    own = {name: x for name, x in REQUIRED.items() if name in entry.inputs}
    pos, neg, _ = drawn(7, torch.float32)
    neg.requires_grad_()
    value = entry(pos, neg * 1, overwrite=Overwrite(), **own)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_a_small_temperature():
    """Scores of 1e10 units: the best is still 0 below the exponential, in float32 too."""
    pos, neg, _ = drawn(40, torch.float32)
    plain = sampled_softmax_loss(pos, neg.clone(), temperature=1e-10, reduction="none")
    over = sampled_softmax_loss(pos, neg.clone(), temperature=1e-10, reduction="none", overwrite=Overwrite())
    torch.testing.assert_close(over, plain, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["mml", "ccl"])
def test_a_score_that_is_no_number_is_not_lost(name):
    neg = torch.zeros(8, 128)
    neg[0, 3] = torch.nan
    assert LOSSES[name](torch.ones(8), neg, overwrite=Overwrite()).isnan()


def test_losses_of_several_calls_do_not_write_over():
    pos, neg = torch.tensor([1.0]), torch.tensor([[0.5, 9.0]])
    both = combine({bpr_loss: 1.0, psl_loss: 1.0})
    assert both(pos, neg.clone(), overwrite=Overwrite()) == both(pos, neg)
    learned, where = LearnedTemperature(loss="sampled_softmax", temperature=1.0), torch.tensor([[True, False]])
    hidden = neg.masked_fill(~where, -torch.inf)
    torch.testing.assert_close(learned(pos, hidden, where=where, overwrite=Overwrite()), learned(pos, neg, where=where))


def test_parameters_are_not_written_over():
    with pytest.raises(InputError, match="overwrite: neg is a parameter"):
        bpr_loss(torch.ones(1), torch.ones(1, 2, requires_grad=True), overwrite=Overwrite())
