"""Losses that weigh each pair by how far its similarity is from where it should be."""

import math
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.lists import check_at_least, check_finite, check_positive
from rankwell.losses.grid import Grid, check_similarity, logsumexp_where, open_grid
from rankwell.losses.registry import Items, Positives, Queries, embedding_loss
from rankwell.registry import Search
from rankwell.types import Mask, Reduction, Similarity, Weights

__all__ = ["circle_loss", "multi_similarity_loss"]


@embedding_loss(paper="wang2019", complexity="q m")
def multi_similarity_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    alpha: Annotated[float, Search(0.5, 20.0, log=True)] = 2.0,
    beta: Annotated[float, Search(5.0, 100.0, log=True)] = 50.0,
    threshold: Annotated[float, Search(0.0, 1.0)] = 0.5,
    epsilon: Annotated[float, Search(0.01, 1.0, log=True)] = math.inf,
    similarity: Similarity = "cosine",
) -> Tensor:
    r"""Multi-similarity loss: positives below a threshold are pulled, negatives above it pushed, the worst of them most.

    .. math:: \ell_q = \frac{w_q}{\alpha} \log\Big(1 + \sum_{i \in P_q} e^{-\alpha (s_{qi} - \lambda)}\Big)
        + \frac{w_q}{\beta} \log\Big(1 + \sum_{j \in N_q} e^{\beta (s_{qj} - \lambda)}\Big)

    As :math:`\alpha, \beta \to \infty` it is the hinge of the worst positive and of the worst negative. ``epsilon`` leaves
    out pairs that are easy beside the other side: a negative stays if :math:`s_{qj} + \epsilon > \min_i s_{qi}`, a positive
    if :math:`s_{qi} - \epsilon < \max_j s_{qj}`; without a side to compare with, none stays. :func:`circle_loss` couples
    both sides in one logarithm. Time O(q m d), memory O(q m).

    A query's value weighs as the mean of its positives; as that of all its items where it has no positives.

    Choose it for classes with several examples each in a batch: it was the best loss on new images of digits without a
    generator beside it, MAP@R 0.8641, :func:`~rankwell.losses.supervised_contrastive_loss` 0.8520. With two examples a
    class take :func:`~rankwell.losses.info_nce_loss`; keep all pairs at first, since mining with an ``epsilon`` of .1
    fell to 0.8005 there (``bench/results/digits.txt``).

    Args:
        alpha: how sharply positives are weighed.
        beta: how sharply negatives are weighed.
        threshold: :math:`\lambda`, in units of the similarity.
        epsilon: a gap of similarities; the paper mines with 0.1, infinity keeps all pairs.
        similarity: dot, cosine, euclidean or squared_euclidean.

    Raises:
        InputError: if ``alpha``, ``beta`` or ``epsilon`` is not above 0, ``threshold`` is not finite, or the similarity is
            unknown.

    >>> import torch
    >>> query, items = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.5, 0.75**0.5]])
    >>> multi_similarity_loss(query, items, threshold=0.6)  # log(2) / 2 + log(1 + e^-5) / 50
    tensor(0.3467)

    Source: :cite:`wang2019`, eq. 15 and, for the mining, eq. 10 and 11; equation numbers unchecked.
    """
    check_similarity(similarity)
    for name, value in (("alpha", alpha), ("beta", beta)):
        check_positive(value, name)
    check_finite(threshold, "threshold")
    if epsilon != math.inf:
        check_positive(epsilon, "epsilon")
    grid = open_grid(queries, items, positives=positives, where=where, weights=weights)
    scores = grid.scores(similarity)
    right, wrong = (grid.right, grid.wrong) if epsilon == math.inf else _mined(grid, scores, epsilon)
    pull = functional.softplus(logsumexp_where(-alpha * (scores - threshold), right), threshold=40) / alpha
    push = functional.softplus(logsumexp_where(beta * (scores - threshold), wrong), threshold=40) / beta
    return grid.reduce(grid.query_weights() * (pull + push), reduction)


def _mined(grid: Grid, scores: Tensor, epsilon: float) -> tuple[Mask, Mask]:
    """Positives and negatives that are within reach of the other side's worst."""
    right, wrong, scores = grid.right, grid.wrong, scores.detach()
    worst_right = torch.where(right, scores, torch.inf).amin(-1, keepdim=True)
    worst_wrong = torch.where(wrong, scores, -torch.inf).amax(-1, keepdim=True)
    return right & (scores - epsilon < worst_wrong), wrong & (scores + epsilon > worst_right)


@embedding_loss(paper="sun2020", complexity="q m")
def circle_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    margin: Annotated[float, Search(0.05, 0.5)] = 0.25,
    scale: Annotated[float, Search(16.0, 512.0, log=True)] = 256.0,
) -> Tensor:
    r"""Circle loss: each similarity is pulled at its own pace, by how far it is from its optimum.

    .. math:: \ell_q &= w_q \log\Big(1 + \sum_{j \in N_q} e^{\gamma a_j (s_{qj} - m)}
            \sum_{i \in P_q} e^{-\gamma a_i (s_{qi} - 1 + m)}\Big) \\
        a_j &= [s_{qj} + m]_+, \qquad a_i = [1 + m - s_{qi}]_+

    Over cosines. The paces a carry no gradient: the slope by a similarity is its softmax share times :math:`\gamma a`. With
    all a at 1 it would be a softmax with margin. Positives aim at :math:`1 - m`, negatives at m. Time O(q m d), memory
    O(q m). No second derivatives that go through the paces.

    A query's value weighs as the mean of its positives. One without positives or without negatives has value 0.

    Choose it as :func:`multi_similarity_loss`, for classes with several examples each, where cosines should reach
    targets that ``margin`` sets; lower the scale where training is unstable. Level with it where we looked: on new
    images of digits MAP@R 0.8624 and 0.8641 (``bench/results/digits.txt``), over frozen vectors of SciFact NDCG@10
    0.7408 and 0.7465 (``docs/leaderboard.md``).

    Args:
        margin: m; how strict both sides are, a cosine.
        scale: :math:`\gamma`. The defaults are the paper's for face recognition; for retrieval it has 0.4 and 80, which
            are the defaults of pytorch-metric-learning.

    Raises:
        InputError: if ``scale`` is not above 0 or ``margin`` is below 0.

    >>> import torch
    >>> query, items = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> circle_loss(query, items, scale=4.0)  # 4 * (1.25 * 0.75 + 1.25 * 0.75) and log(1 + e^-7.5)
    tensor(7.5006)

    Source: :cite:`sun2020`, eq. 6 and 8, equation numbers unchecked. Differs from it: nothing but weights.
    """
    check_positive(scale, "scale")
    check_at_least(margin, "margin")
    grid = open_grid(queries, items, positives=positives, where=where, weights=weights)
    cosines = grid.scores("cosine")
    of_right = scale * (cosines.detach() - 1 - margin).clamp(max=0) * (cosines - 1 + margin)
    of_wrong = scale * (cosines.detach() + margin).clamp(min=0) * (cosines - margin)
    both = logsumexp_where(of_right, grid.right) + logsumexp_where(of_wrong, grid.wrong)
    return grid.reduce(grid.query_weights() * functional.softplus(both, threshold=40), reduction)
