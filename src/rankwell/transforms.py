"""Transformations of scores, before a loss."""

import math

from torch import Tensor

from rankwell.lists import check_positive

__all__ = ["correct_log_q"]


def correct_log_q(neg: Tensor, log_q: Tensor, n: int, temperature: float = 1.0) -> Tensor:
    r"""Scores of sampled negatives, corrected for how likely their sampler draws them.

    .. math:: s_j - \tau \log(n\, q_j)

    for a loss that divides scores by :math:`\tau`. Each of n draws stands for :math:`1/(n q_j)` items, so that
    :math:`\sum_j e^{s_j/\tau} / (n q_j)` estimates the sum over the catalogue without bias, whatever n: the gradient of the
    sampled softmax then converges to that of the full one. Without n, :math:`s_j - \tau \log q_j` counts the catalogue n
    times beside the one positive, and the more draws the further off. The positive stays uncorrected, as it is always
    there; draws that hit it must be masked.

    Args:
        neg: ``[*batch, n]``.
        log_q: the log-probability of one draw, broadcastable to ``neg``.
        n: how many draws a row (or the shared pool) has.
        temperature: the loss's.

    Raises:
        InputError: if ``temperature`` is not above 0.

    >>> import torch
    >>> correct_log_q(torch.zeros(4), torch.full((4,), 0.25).log(), n=4)  # all of the catalogue once: nothing to correct
    tensor([0., 0., 0., 0.])

    Source: :cite:`bengio2003`, importance sampling of the sum; equation number unchecked. Measured in ``tests/losses``.
    """
    check_positive(temperature, "temperature")
    return neg - temperature * (math.log(n) + log_q)
