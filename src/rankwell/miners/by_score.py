"""Miners that look at a negative's own score."""

from typing import Annotated

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.miners.miner import MINERS, Miner, Seen, Step
from rankwell.registry import Search
from rankwell.types import Mask

__all__ = ["distance_weighted", "margin_band"]


@MINERS.register("negatives", paper="ozsoy2024", complexity="n")
def margin_band(low: Annotated[float, Search(0.0, 0.9)] = 0.7, high: Annotated[float, Search(0.5, 1.0)] = 0.9) -> Miner:
    r"""Keeps the negatives whose score lies between two margins.

    .. math:: \{ j : l < s_j \le h \}

    The reading of the multi-margin loss as a miner: between two neighbouring margins all negatives are pushed alike, by
    :math:`\lambda^- \sum_{k:\, m_k < s} v_k / n`, so that :func:`~rankwell.losses.mml_loss` is a sum over such bands, and a
    band alone tells what its negatives are worth. The upper margin leaves out what is likely a false negative. Time O(n) a
    row.

    Args:
        low: scores up to this are too easy.
        high: scores above this are suspect.

    Raises:
        InputError: if ``low`` is not below ``high``.

    >>> margin_band(0.5, 0.75)(torch.tensor([1.0]), torch.tensor([[0.5, 0.6, 0.75, 0.8]]))
    tensor([[False,  True,  True, False]])

    Source: the margins of :cite:`ozsoy2024`, which does not mine; the reading is ours.
    """
    if not low < high:
        raise InputError(f"low must be below high: got low {low}, high {high}.")

    def keep(seen: Seen) -> Mask:
        return (seen.neg > low) & (seen.neg <= high)

    return Miner((Step(f"margin_band({low}, {high})", keep),))


@MINERS.register("negatives", paper="wu2017", complexity="n")
def distance_weighted(
    k: Annotated[int, Search(1, 100, log=True)] = 10,
    dim: int = 64,
    cutoff: Annotated[float, Search(0.1, 1.0)] = 0.5,
    far: Annotated[float, Search(1.0, 2.0)] = 1.4,
) -> Miner:
    r"""Draws k negatives of each row so that all distances are met alike, where uniform draws meet only far ones.

    .. math:: P(j) \propto \min\left(\lambda, \frac{1}{q(d_j)}\right), \qquad
        q(d) \propto d^{D-2} \left[1 - \tfrac{1}{4} d^2\right]^{(D-3)/2}, \qquad d_j = \sqrt{2 - 2 s_j}

    q is the density of distances between uniform points on the unit sphere of D dimensions. :math:`\lambda` is
    :math:`1 / q` at ``cutoff``: nearer negatives are drawn no more often, since their gradients are noise. Negatives farther
    than ``far`` are not drawn, fewer than k where fewer are near; where none is, the hardest remains. The draws are without
    replacement, the k largest of log P plus Gumbel noise. For cosine scores. Time O(n) a row.

    Args:
        k: how many are drawn.
        dim: D, the size of the embeddings.
        cutoff: the distance below which the weight stops to grow.
        far: the distance from which on nothing is drawn; 1.4 is about that of unrelated vectors.

    Raises:
        InputError: if ``k`` is below 1, ``dim`` below 2, not 0 < ``cutoff`` < ``far`` <= 2, or no generator is given.

    >>> draw = distance_weighted(k=1, dim=64)
    >>> pos, neg = torch.tensor([1.0]), torch.tensor([[0.0, 0.5, -0.5]])  # at 1.41, 1 and 1.73
    >>> draw(pos, neg, generator=torch.Generator().manual_seed(0))
    tensor([[False,  True, False]])

    Source: :cite:`wu2017`, section 4; equation numbers unchecked, ``cutoff`` and ``far`` are of its code. Differs from it: k
    draws a row instead of one for each positive.
    """
    if k < 1 or dim < 2 or not 0 < cutoff < far <= 2:
        raise InputError(
            f"k must be at least 1, dim at least 2, and 0 < cutoff < far <= 2: got k {k}, dim {dim}, cutoff {cutoff},"
            f" far {far}."
        )

    def keep(seen: Seen) -> Mask:
        if seen.generator is None:
            raise InputError("distance_weighted draws: give a torch.Generator by generator=.")
        square = seen.neg.mul(-2).add_(2)
        near = seen.where & (square < far**2)
        keys = _log_weights(square, dim, cutoff).sub_(_log_exponential(seen.neg, seen.generator))
        best = keys.masked_fill_(~near, -torch.inf).topk(min(k, keys.shape[-1]), -1, sorted=False).indices
        return torch.zeros_like(near).scatter(-1, best, True) & near

    return Miner((Step(f"distance_weighted({k}, dim={dim}, cutoff={cutoff}, far={far})", keep),))


def _log_weights(square: Tensor, dim: int, cutoff: float) -> Tensor:
    """Logs of the inverse density at squared distances, which are taken no nearer than the cutoff. Writes to ``square``."""
    square.clamp_(cutoff**2, 4 - 1e-6)  # opposite vectors, at 2, have no density
    weights = square.log().mul_(-(dim - 2) / 2)
    return weights.sub_(square.div_(-4).log1p_(), alpha=(dim - 3) / 2)


def _log_exponential(like: Tensor, generator: torch.Generator) -> Tensor:
    """Logs of exponential random numbers: minus Gumbel noise. Three times as fast as torch's own exponential."""
    uniform = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    return uniform.neg_().log1p_().neg_().log_()
