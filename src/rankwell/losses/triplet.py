"""Losses of distances between embeddings: a margin between what is right for a query and what is not."""

# mypy: allow-untyped-calls

from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.lists import Dense, check_at_least, check_positive
from rankwell.losses.grid import Grid, check_similarity, logsumexp_where, mean_where, open_grid
from rankwell.losses.pairwise import hinge_loss
from rankwell.losses.registry import Items, Positives, Queries, embedding_loss
from rankwell.losses.styles import in_batch
from rankwell.registry import Search
from rankwell.similarity import amid
from rankwell.types import Mask, Reduction, Similarity, Weights

__all__ = ["contrastive_margin_loss", "lifted_structure_loss", "triplet_loss"]

MINING = ("all", "active", "hard", "semi_hard", "batch_hard")


@embedding_loss(paper="schroff2015", complexity="q m log m")
def triplet_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    margin: Annotated[float, Search(0.05, 5.0, log=True)] = 1.0,
    similarity: Similarity = "squared_euclidean",
    mining: Annotated[Literal["all", "active", "hard", "semi_hard", "batch_hard"], Search()] = "all",
) -> Tensor:
    r"""Hinge of each query's positives against all its other items: closer than they are, by a margin.

    .. math:: \ell_q = \frac{1}{|T_q|} \sum_{(i,j) \in T_q} w_{qi} \left[ m - s_{qi} + s_{qj} \right]_+

    :math:`T_q` are the query's triplets: positive i, negative j, with the gap :math:`\Delta = s_{qi} - s_{qj}`. ``mining``
    says which:

    - ``all``: all of them. It is ``in_batch(hinge_loss, similarity=...)``; over negative squared distances, the plain
      triplet loss :math:`[d_{qi}^2 - d_{qj}^2 + m]_+`.
    - ``active``: those that cost something, :math:`\Delta < m` ("batch all" over its non-zero terms).
    - ``hard``: the negative is at least as near as the positive, :math:`\Delta \le 0`.
    - ``semi_hard``: it is farther, but inside the margin, :math:`0 < \Delta \le m`.
    - ``batch_hard``: one triplet, the least similar positive and the most similar negative.

    No tensor of triplets: negatives are sorted once and sums over a range of gaps are differences of prefix sums. Time
    O(q m (d + log m)), memory O(q m); ``all`` takes the hinge's time.

    A triplet weighs as its positive. A query without triplets has value 0, and counts in the mean.

    Choose it for embeddings with classes where a distance should mean something, as in verification, without a
    temperature; by ``mining="batch_hard"`` at first. Where classes have several examples, losses that weigh pairs were
    ahead: on new images of digits MAP@R 0.8263 so, 0.7979 over all triplets,
    :func:`~rankwell.losses.multi_similarity_loss` 0.8641 (``bench/results/digits.txt``).

    Args:
        margin: in units of the similarity.
        similarity: squared_euclidean, euclidean for plain distances, dot or cosine.
        mining: which triplets.

    Raises:
        InputError: if the similarity or the mining is unknown, or ``margin`` is below 0.

    >>> import torch
    >>> triplet_loss(torch.tensor([[0.0]]), torch.tensor([[1.0], [1.0]]))  # as far as each other
    tensor(1.)
    >>> query, items = torch.tensor([[0.0]]), torch.tensor([[1.0], [2.0], [3.0]])
    >>> triplet_loss(query, items, margin=6.0, mining="active")  # of 1 - 4 + 6 and 1 - 9 + 6
    tensor(3.)

    Source: :cite:`schroff2015`, eq. 3 and, for semi-hard, eq. 4; :cite:`hermans2017` for ``active`` and ``batch_hard``,
    equation numbers unchecked. Differs from them: a mean over a query's triplets first, embeddings not normalised (nor as
    pytorch-metric-learning's, by default), and ``semi_hard`` takes all such negatives, not one.
    """
    if mining not in MINING:
        raise InputError(f"mining must be one of {', '.join(MINING)}: got {mining!r}.")
    check_at_least(margin, "margin")
    if mining == "all":
        loss = in_batch(hinge_loss, similarity=similarity)
        return loss(
            queries, items, positives=positives, where=where, weights=weights, reduction=reduction, margin=margin
        )
    check_similarity(similarity)
    grid = open_grid(queries, items, positives=positives, where=where, weights=weights)
    scores = grid.scores(similarity)
    if mining == "batch_hard":
        return grid.reduce(_hardest(grid, scores, margin), reduction)
    return grid.reduce(_mined(grid, scores, margin, mining), reduction)


def _hardest(grid: Grid, scores: Tensor, margin: float) -> Tensor:
    """The hinge of the least similar positive and the most similar negative; ties share it."""
    most, least = torch.finfo(scores.dtype).max, torch.finfo(scores.dtype).min
    right, wrong = grid.right, grid.wrong
    far = torch.where(right, scores, most).amin(-1)
    near = torch.where(wrong, scores, least).amax(-1)
    both = right.any(-1) & wrong.any(-1)
    weights = mean_where(grid.weights.expand(scores.shape), right & (scores == far[..., None]))
    return weights * torch.where(both, margin - torch.where(both, far - near, 0), 0).clamp(min=0)


def _mined(grid: Grid, scores: Tensor, margin: float, mining: str) -> Tensor:
    """Mean of ``m - gap`` over the triplets of each query whose gap is in the mining's range."""
    wrong = grid.wrong
    keys = torch.where(wrong, scores, torch.inf)  # what is no negative goes to the end
    ascending, order = keys.sort(-1)
    # The similarity itself may be large, and sums of it then lose the small gaps.
    centre = mean_where(scores, wrong).detach()[..., None]
    centred = torch.where(ascending < torch.inf, scores.gather(-1, order) - centre, 0)
    sums = torch.cat([torch.zeros_like(centred[..., :1]), centred.cumsum(-1)], -1)
    ascending, own = ascending.detach(), scores.detach()
    all_wrong = wrong.sum(-1, keepdim=True).expand(scores.shape)
    # Negatives from ``first`` to before ``last`` are those whose gap is in the range.
    first = torch.searchsorted(ascending, own if mining == "hard" else own - margin, right=mining == "active")
    last = torch.searchsorted(ascending, own) if mining == "semi_hard" else all_wrong
    number = torch.where(grid.right, last - first, 0)
    total = number * (margin - (scores - centre)) + sums.gather(-1, last) - sums.gather(-1, first)
    return Dense(scores, grid.right).sum(grid.weights * total) / number.sum(-1).clamp(min=1)


@embedding_loss(paper="hadsell2006", complexity="q m")
def contrastive_margin_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    margin: Annotated[float, Search(0.05, 5.0, log=True)] = 1.0,
) -> Tensor:
    r"""Contrastive loss of pairs: pulls positives together, and pushes negatives apart up to a margin.

    .. math:: \ell_q = \operatorname{mean}_j w_{qj}
        \begin{cases} d_{qj}^2 & j \in P_q \\ [m - d_{qj}]_+^2 & \text{else} \end{cases}

    Over Euclidean distances. Against :func:`triplet_loss` it minds absolute distances: positives are pulled until they
    coincide. At distance zero, where no direction is apart, the gradient of a negative is zero. Time O(q m d), memory
    O(q m).

    Weights multiply the terms, of the mean over all the query's items.

    Choose it where one threshold of distance should tell same from other, as in finding duplicates: it sets distances,
    where :func:`triplet_loss` only orders them, and pulls a spread class to a point. On new images of digits it had
    MAP@R 0.8518, triplet with the hardest 0.8263, :func:`~rankwell.losses.supervised_contrastive_loss` 0.8520
    (``bench/results/digits.txt``); over frozen vectors of SciFact NDCG@10 0.7352, triplet 0.7266
    (``docs/leaderboard.md``).

    Args:
        margin: the distance beyond which a negative costs nothing.

    Raises:
        InputError: if ``margin`` is not above 0.

    >>> import torch
    >>> contrastive_margin_loss(torch.tensor([[0.0]]), torch.tensor([[0.5], [0.4]]))  # (.5 ** 2 + .6 ** 2) / 2
    tensor(0.3050)

    Source: :cite:`hadsell2006`, eq. 4. Differs from it: without the factor one half, and a mean over a query's pairs.
    In pytorch-metric-learning the terms are not squared and embeddings are normalised by default; here they are as given.
    """
    check_positive(margin, "margin")
    grid = open_grid(queries, items, positives=positives, where=where, weights=weights)
    distances = _distances(grid)
    apart = torch.where(grid.right, distances, (margin - distances).clamp(min=0))
    return grid.reduce(mean_where(grid.weights * apart.square(), grid.where), reduction)


@embedding_loss(paper="song2016", complexity="q m")
def lifted_structure_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    margin: Annotated[float, Search(0.05, 5.0, log=True)] = 1.0,
) -> Tensor:
    r"""Lifted structure loss: each positive pair against the negatives of both its ends, softly the nearest.

    .. math:: \ell_q &= \frac{1}{2 |P_q|} \sum_{i \in P_q} w_{qi} \left[ J_{qi} \right]_+^2 \\
        J_{qi} &= d_{qi} + \log \Big( \sum_{j:\, (q,j) \in N} e^{m - d_{qj}} + \sum_{p:\, (p,i) \in N} e^{m - d_{pi}} \Big)

    N are the pairs of a query and one of its negatives: the positive's are in other queries' rows, so that the value of a
    query depends on the rest of the batch. Over Euclidean distances. Time O(q m d), memory O(q m).

    Weights multiply the terms. A query without positives has value 0, and so has a pair without negatives at either end.

    Choose it only to compare with :func:`~rankwell.losses.supervised_contrastive_loss` and
    :func:`~rankwell.losses.multi_similarity_loss`, for classes with several examples each: its margin must suit the
    lengths of the embeddings, and it was not ahead, on new images of digits MAP@R 0.8493, these 0.8520 and 0.8641
    (``bench/results/digits.txt``). Not for pairs of texts: over frozen vectors of SciFact NDCG@10 0.6127,
    :func:`~rankwell.losses.info_nce_loss` 0.7307 (``docs/leaderboard.md``).

    Args:
        margin: a distance.

    Raises:
        InputError: if ``margin`` is not above 0.

    >>> import torch
    >>> query, items = torch.tensor([[0.0]]), torch.tensor([[1.0], [2.0]])
    >>> lifted_structure_loss(query, items, margin=3.0)  # (1 + 3 - 2) ** 2 / 2
    tensor(2.)

    Source: :cite:`song2016`, eq. 4. Differs from it: a mean over a query's positives first. pytorch-metric-learning normalises
    embeddings by default; here they are as given.
    """
    check_positive(margin, "margin")
    grid = open_grid(queries, items, positives=positives, where=where, weights=weights)
    distances, wrong = _distances(grid), grid.wrong
    of_query = logsumexp_where(-distances, wrong)[..., :, None]
    of_item = logsumexp_where(-distances.mT, wrong.mT)[..., None, :]
    # Not logaddexp, whose second derivative is NaN where one side has no negatives.
    both = torch.maximum(of_query, of_item) + functional.softplus(-(of_query - of_item).abs())
    return grid.reduce(grid.mean_right((margin + both + distances).clamp(min=0).square()) / 2, reduction)


def _distances(grid: Grid) -> Tensor:
    """Euclidean distances."""
    centre = amid(grid.items)
    distances: Tensor = _Distances.apply(grid.queries - centre, grid.items - centre)
    return distances


class _Distances(torch.autograd.Function):
    """Distances in five passes over the pairs, and two products with ``slope / distance`` on the way back.

    The products are taken in float64: the slope of the root would blow up what float32 leaves of a difference of squares, for
    neighbours beside items far away.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(queries: Tensor, items: Tensor) -> Tensor:
        q, i = _in_double(queries), _in_double(items)
        squares = q.square().sum(-1)[..., :, None] + i.square().sum(-1)[..., None, :]
        return squares.sub_(2 * (q @ i.mT)).relu_().sqrt_().to(queries.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        queries, items, distances = ctx.saved_tensors
        apart = distances > 0  # where they are not, no direction is apart
        slopes = _in_double(grad * apart / torch.where(apart, distances, 1))
        q, i = _in_double(queries), _in_double(items)
        by_queries = slopes.sum(-1, keepdim=True) * q - slopes @ i
        by_items = slopes.sum(-2)[..., None] * i - slopes.mT @ q
        return by_queries.to(queries.dtype), by_items.to(items.dtype)


def _in_double(x: Tensor) -> Tensor:
    return x if x.device.type == "mps" else x.double()  # which has no float64
