"""The pairwise softmax loss: milder activations in the place of the softmax's exponential."""

import math
from functools import partial
from typing import Annotated, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.kernels.gaps import gap_sums
from rankwell.lists import check_positive, open_rows
from rankwell.losses.registry import Neg, Pos, contrast_loss
from rankwell.registry import Search
from rankwell.types import Mask, Reduction, Weights

__all__ = ["psl_loss"]

Activation: TypeAlias = Literal["tanh", "relu", "atan"]


@contrast_loss(paper="yang2024", complexity="m n")
def psl_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    activation: Annotated[Activation, Search()] = "tanh",
    temperature: Annotated[float, Search(0.005, 0.25, log=True)] = 0.05,
) -> Tensor:
    r"""Pairwise softmax loss: the softmax loss with a milder activation than the exponential.

    .. math:: \ell = \sum_i w_i \log \sum_j \zeta\left(\frac{s_j - s_i}{2}\right)^{1/\tau}, \qquad
        \zeta(d) = 1 + \tanh d, \quad [1 + d]_+ \quad \text{or} \quad 1 + \arctan d

    With the exponential as activation it is :func:`~rankwell.losses.decoupled_softmax_loss` at temperature :math:`2\tau`; near
    :math:`d = 0` all activations agree with it to first order, but they grow more slowly with a negative above the positive,
    so a false negative pulls less. For cosine scores: :math:`d` is then in [-1, 1]. Time O(m n); memory O(m + n). No second
    derivatives.

    Weights multiply the terms. A row without negatives has value 0.

    Choose it instead of :func:`~rankwell.losses.decoupled_softmax_loss` for cosines where some of the sampled negatives
    are positives in truth. Not for inner products, whose gaps leave the range of the activation; and it works pair by
    pair where a softmax does not, which matters with several positives. At equal tuning, ml-latest-small: NDCG@20
    0.2970, decoupled softmax 0.2994 (``docs/leaderboard.md``).

    Args:
        activation: :math:`\zeta`: ``tanh``, ``relu`` or ``atan``.
        temperature: of the activated gap, so outside the activation.

    Raises:
        InputError: if ``activation`` is none of the three, or ``temperature`` is not above 0.

    >>> psl_loss(torch.tensor([0.5]), torch.tensor([[0.5, -0.5]]), activation="relu", temperature=0.5)  # log(1 + .5²)
    tensor(0.2231)

    Source: :cite:`yang2024`, eq. 4.1. Differs from it: :math:`\zeta` is at least 1e-6, so that a gap at or below -2, where
    ``relu`` is 0 (and below -3.1, where ``atan`` would be negative), has a finite logarithm and no gradient.
    """
    if activation not in ACTIVATIONS:
        raise InputError(f"activation must be one of {', '.join(ACTIVATIONS)}: got {activation!r}.")
    check_positive(temperature, "temperature")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    phi = partial(_activated, activation=activation, temperature=temperature)
    return rows.reduce(gap_sums(phi, rows, rows.weights), reduction)


def _activated(
    gap: Tensor, _extra: Tensor | None, *, activation: str, temperature: float
) -> tuple[Tensor, Tensor, None]:
    """Log of the sum of the activations' powers, by a logsumexp of their logarithms."""
    log_zeta, slope = ACTIVATIONS[activation](gap)
    top = log_zeta.amax(-1, keepdim=True)
    top = torch.where(top == -torch.inf, 0, top)
    terms = ((log_zeta - top) / temperature).exp()
    total = terms.sum(-1, keepdim=True)
    some = total > 0
    total = torch.where(some, total, 1)
    value = torch.where(some, top / temperature + total.log(), 0).squeeze(-1)
    return value, slope * terms / (temperature * total), None


LEAST = 1e-6
"""What an activation is at least."""


def _tanh(gap: Tensor) -> tuple[Tensor, Tensor]:
    # 1 + tanh(gap / 2) is twice a logistic function, whose logarithm never cancels.
    return math.log(2) - functional.softplus(-gap, threshold=40), torch.sigmoid(-gap)


def _relu(gap: Tensor) -> tuple[Tensor, Tensor]:
    return _logged(gap, 1 + gap / 2, 0.5)


def _atan(gap: Tensor) -> tuple[Tensor, Tensor]:
    half = gap / 2
    return _logged(gap, 1 + half.atan(), 0.5 / (1 + half * half))


def _logged(gap: Tensor, zeta: Tensor, slope: Tensor | float) -> tuple[Tensor, Tensor]:
    """Logarithm of an activation and its slope, with the activation kept above its least value."""
    log_zeta = torch.where(gap == -torch.inf, -torch.inf, zeta.clamp(min=LEAST).log())
    return log_zeta, torch.where(zeta > LEAST, slope / zeta.clamp(min=LEAST), 0)


ACTIVATIONS = {"tanh": _tanh, "relu": _relu, "atan": _atan}
"""From the gap ``s_j - s_i``, twice the paper's difference: the activation's logarithm, and its slope by the gap."""
