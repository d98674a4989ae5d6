"""PSL: by hand, against its formula, and where its activations vanish."""

import math
from math import log

import pytest
import torch
from torch import tensor
from torch.nn import functional
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import decoupled_softmax_loss, psl_loss

ROWS = torch.zeros(2), torch.zeros(2, 3)

ZETA = {"tanh": lambda d: 1 + math.tanh(d), "relu": lambda d: max(1 + d, 0), "atan": lambda d: 1 + math.atan(d)}


@pytest.mark.parametrize("activation", ZETA)
def test_psl(activation):
    zeta = ZETA[activation]
    values = psl_loss(
        tensor([0.5, -0.9]), tensor([[0.9, -0.3], [1.0, 0.2]]), activation=activation, temperature=0.2, reduction="none"
    )
    expected = [log(zeta(0.2) ** 5 + zeta(-0.4) ** 5), log(zeta(0.95) ** 5 + zeta(0.55) ** 5)]
    assert_close(values, tensor(expected))


@pytest.mark.parametrize("activation", ZETA)
def test_psl_by_its_formula(activation, by_rows):
    zeta = {"tanh": torch.tanh, "relu": lambda d: d, "atan": torch.atan}[activation]

    def formula(pos, neg, weights):
        power = (1 + zeta((neg - pos[:, None]) / 2 * 0.7)) ** (1 / 0.3)
        return (weights * power.sum(-1).log()).sum()

    def scaled(pos, neg, **rest):  # the differences reach 1.2 unscaled
        return psl_loss(pos * 0.7, neg * 0.7, activation=activation, temperature=0.3, **rest)

    by_rows(scaled, formula)


@pytest.mark.parametrize("activation", ZETA)
def test_psl_agrees_with_the_decoupled_softmax_near_equal_scores(activation):
    """All activations have slope 1 at 0, as the exponential has."""
    small = 1e-4 * tensor([[0.3, -0.7, 0.2]], dtype=torch.double)
    pos, neg = small[:, 0].requires_grad_(), small[:, 1:].clone().requires_grad_()
    ours = torch.autograd.grad(psl_loss(pos, neg, activation=activation, temperature=0.1), [pos, neg])
    expected = torch.autograd.grad(decoupled_softmax_loss(pos, neg, temperature=0.2), [pos, neg])
    assert_close(ours, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("activation", ZETA)
def test_psl_is_finite_where_the_activation_vanishes(activation, dtype):
    """1 + arctan is negative, and its logarithm NaN, at half differences below -1.557; the relu is 0 at -1."""
    for gap in (-2.0, -3.2, -60.0, -20_000.0):
        pos = tensor([0.0], dtype=dtype, requires_grad=True)
        neg = tensor([[gap, gap]], dtype=dtype, requires_grad=True)
        value = psl_loss(pos, neg, activation=activation)
        value.backward()
        assert value.isfinite() and pos.grad.isfinite().all() and neg.grad.isfinite().all()


def test_psl_of_a_vanished_negative_beside_a_live_one():
    """A sum of a live and a vanished activation: the gradient of the live one alone."""
    for activation in ("relu", "atan"):
        neg = tensor([[0.2, -9.0]], requires_grad=True)
        psl_loss(tensor([0.0]), neg, activation=activation, temperature=0.5).backward()
        alone = tensor([[0.2]], requires_grad=True)
        psl_loss(tensor([0.0]), alone, activation=activation, temperature=0.5).backward()
        assert_close(neg.grad, functional.pad(alone.grad, (0, 1)))


def test_psl_tanh_never_cancels():
    """log(1 + tanh d) is 2d + log 2 far below, where 1 + tanh d is 0 in float32."""
    value = psl_loss(tensor([0.0]), tensor([[-50.0]]), temperature=1.0)
    assert_close(value, tensor(log(2) - 50.0))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: psl_loss(*ROWS, activation="exp"), "activation must be one of tanh, relu, atan: got 'exp'"),
        (lambda: psl_loss(*ROWS, temperature=0.0), "temperature must be above 0"),
    ],
)
def test_arguments(call, says):
    with pytest.raises(InputError, match=says):
        call()
