"""Soft ranks of torchsort, which has to be compiled."""

from typing import Any

from comparisons import Comparison, Loss, ordered_lists
from torch import Tensor

from rankwell.losses import fast_soft_rank_loss

SCALED = "squared error of soft ranks, scaled to Spearman's; descending there too"


def ours(regularisation: Any) -> Loss:
    """A value a list."""
    return lambda **data: fast_soft_rank_loss(**data, strength=2.0, regularisation=regularisation, reduction="none")


def spearman(regularisation: str) -> Loss:
    """Their soft ranks of the scores, the best first, against the ranks of the labels."""

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        import torchsort

        ranks = torchsort.soft_rank(-scores, regularization=regularisation, regularization_strength=2.0)
        hard = labels.argsort(-1, descending=True).argsort(-1) + 1
        n = scores.shape[-1]
        return 6 * (ranks - hard).square().sum(-1) / (n * (n * n - 1))

    return loss


COMPARISONS = [
    Comparison(f"fast_soft_rank({kind})", f"soft_rank({kind})", ordered_lists, ours(kind), spearman(kind), SCALED)
    for kind in ("l2", "kl")
]
