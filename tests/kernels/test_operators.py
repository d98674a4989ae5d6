"""Operators of small functions: batches, derivatives, precision."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rankwell.kernels.operators import batch_operator, list_sums, whole_operator
from rankwell.lists import offsets_from_sizes, open_lists
from rankwell.losses import approx_ndcg_loss, neural_ndcg_loss


def _tested_squares(
    scores: Tensor, labels: Tensor, weights: Tensor | None, where: Tensor | None, offsets: Tensor, power: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted sums of powers, and the lengths."""
    lengths = offsets.diff()
    by_weights = scores**power
    weight = torch.ones_like(scores) if weights is None else weights
    segment = torch.arange(len(lengths)).repeat_interleave(lengths)
    sums = scores.new_zeros(len(lengths)).index_add_(0, segment, weight * by_weights)
    by_scores = weight * power * scores ** (power - 1)
    return sums, lengths.to(scores.dtype), by_scores, by_weights if weights is not None else scores.new_zeros(0)


def _tested_products(x: Tensor, y: Tensor, factors: list[float]) -> Tensor:
    return x @ y * sum(factors)


def _tested_halves(x: Tensor, by: list[bool]) -> tuple[Tensor, Tensor]:
    return x / 2, x.sum()[None] / 2


squares = list_sums(_tested_squares, "squares", constants=1)
products = batch_operator(_tested_products, lambda x, y, _: x.new_empty(*x.shape[:-1], y.shape[-1]))
halves = whole_operator(_tested_halves, lambda x, _: (torch.empty_like(x), x.new_empty(1)))


def sums_of(scores, offsets=None, weights=None):
    opened = open_lists(scores, scores, where=None, weights=None, offsets=offsets)
    return squares(opened.lists, scores, scores.detach(), weights, None, 3)


@pytest.mark.parametrize("sizes", [[3, 0, 2], [0], []])
def test_sums_of_lists(sizes):
    offsets = offsets_from_sizes(torch.tensor(sizes, dtype=torch.long))
    scores, weights = (torch.randn(sum(sizes), dtype=torch.double, requires_grad=True) for _ in range(2))
    sums, lengths = sums_of(scores, offsets, weights)
    parts = (weights * scores**3).split(sizes) if sizes else ()
    expected = torch.stack([part.sum() for part in parts]) if sizes else scores.new_zeros(0)
    assert_close(sums, expected)
    assert lengths.tolist() == sizes
    assert not lengths.requires_grad
    factor = torch.arange(1.0, 1 + len(sizes), dtype=torch.double)
    for ours, other in zip(
        torch.autograd.grad((sums * factor).sum(), (scores, weights)),
        torch.autograd.grad((expected * factor).sum() + 0 * (scores + weights).sum(), (scores, weights)),
        strict=True,
    ):
        assert_close(ours, other)


def test_sums_of_rows_with_a_weight_for_all():
    scores = torch.randn(2, 3, 4, dtype=torch.double, requires_grad=True)
    weight = torch.tensor(2.0, dtype=torch.double, requires_grad=True)
    sums, _ = sums_of(scores, weights=weight)
    by_scores, by_weight = torch.autograd.grad(sums.sum(), (scores, weight))
    assert_close(by_scores, 6 * scores**2)
    assert_close(by_weight, (scores**3).sum())


def test_second_derivative_of_sums_is_an_error():
    scores = torch.randn(2, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(sums_of(scores)[0].sum(), scores, create_graph=True)
    with pytest.raises(NotImplementedError, match="squares have no second derivatives"):
        slope.sum().backward()


def test_batches_are_loops():
    """Along any dimension, with arguments that the batch shares, and twice."""
    x, y = torch.randn(2, 4, 5, 3), torch.randn(2, 3, 6)
    twice = torch.func.vmap(torch.func.vmap(lambda a, b: products(a, b, [1.0, 2.0]), (0, None), 1))(x, y)
    assert_close(twice, torch.stack([torch.stack(list(3 * a @ b), 1) for a, b in zip(x, y, strict=True)]))
    half, total = torch.func.vmap(lambda a: halves(a, [True]), 1)(x[0, 0])
    assert_close(half, x[0, 0].T / 2)
    assert_close(total, x[0, 0].sum(0)[:, None] / 2)
    slopes = torch.func.vmap(torch.func.grad(lambda a: sums_of(a)[0]))(x[0, 0])
    assert_close(slopes, 3 * x[0, 0] ** 2)


def test_autocast_leaves_the_precision_alone():
    """Approximate ranks added a product in bfloat16 to a sum in float32, which is an error."""
    x = torch.randn(4, 3)
    scores, labels = torch.randn(3, 20, requires_grad=True), torch.arange(20).remainder(3).expand(3, 20)
    for run in (
        lambda: products(x, x.T, [1.0]),
        lambda: torch.autograd.grad(approx_ndcg_loss(scores, labels), scores)[0],
        lambda: torch.autograd.grad(neural_ndcg_loss(scores, labels), scores)[0],
    ):
        expected = run()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(run(), expected)
