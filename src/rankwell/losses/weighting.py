"""Weights for imbalance and for click bias: what a loss is given as ``weights``."""

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from rankwell.errors import InputError

__all__ = ["class_weights", "inverse_propensity_weights"]


def class_weights(
    labels: Real[Tensor, "*batch list"], counts: Real[Tensor, " classes"], *, beta: float = 1.0
) -> Float[Tensor, "*batch list"]:
    r"""Weights of items by how rare their label is, one on average over the counted items.

    .. math:: w_i \propto \frac{1}{E(c_{y_i})}, \qquad E(c) = \frac{1 - \beta^c}{1 - \beta}

    :math:`E(c)` is the effective number of c samples: c itself for ``beta=1`` (balanced classes, as scikit-learn's), 1 for
    ``beta=0`` (no weighting). Time and memory O(items).

    Args:
        labels: grades 0, 1, …, classes − 1; what is below 0 or NaN, as padding is, gets 0.
        counts: how often each grade occurs in the training data, ``labels.bincount()``; a grade that never does gets 0.
        beta: in [0, 1]; the published values are .9 to .9999.

    Raises:
        InputError: if ``beta`` is outside [0, 1].

    >>> class_weights(torch.tensor([0, 0, 0, 1]), torch.tensor([3, 1]))  # 4 / (2 * 3) and 4 / (2 * 1)
    tensor([0.6667, 0.6667, 0.6667, 2.0000])

    Source: :cite:`cui2019`, eq. 2, normalised over items instead of classes.
    """
    if not 0 <= beta <= 1:
        raise InputError(f"beta must be in [0, 1]: got {beta}.")
    counts = counts.double()
    effective = counts if beta == 1 else (1 - beta**counts) / (1 - beta)
    rarity = torch.where(counts > 0, 1 / effective.clamp(min=1e-300), 0)
    rarity = rarity * counts.sum() / (rarity * counts).sum().clamp(min=1e-300)
    there = labels >= 0  # NaN is not
    weights = torch.where(there, rarity[torch.where(there, labels, 0).long()], 0)
    return weights.to(labels.dtype if labels.is_floating_point() else torch.get_default_dtype())


def inverse_propensity_weights(
    positions: Int[Tensor, "*batch list"], *, eta: float = 1.0, clip: float = 100.0
) -> Float[Tensor, "*batch list"]:
    r"""Weights of clicked items by how unlikely it was that they were looked at.

    .. math:: w_i = \min\left(r_i^{\eta},\, c\right)

    with :math:`r_i` the position at which the item was shown: an examination probability of :math:`r^{-\eta}`. A loss whose
    terms belong to clicked items alone (:func:`~rankwell.losses.softmax_loss`, a sum over clicks of anything that does not
    look at other clicks) is then estimated without bias from clicks, but for the clipping, which trades bias for variance.
    Losses with terms of unclicked items (pointwise and pairwise ones) are not: an unclicked item may be relevant.

    Args:
        positions: 1 for the first shown.
        eta: how steeply attention falls; 0 for no bias.
        clip: the largest weight.

    Raises:
        InputError: if ``eta`` is negative or ``clip`` below 1.

    >>> inverse_propensity_weights(torch.tensor([1, 2, 50]), clip=10.0)
    tensor([ 1.,  2., 10.])

    Source: :cite:`joachims2017`, eq. 4 with the power law of its section 6; equation numbers unchecked.
    """
    if eta < 0 or clip < 1:
        raise InputError(f"eta must be at least 0 and clip at least 1: got {eta} and {clip}.")
    return positions.clamp(min=1).to(torch.get_default_dtype()).pow(eta).clamp(max=clip)
