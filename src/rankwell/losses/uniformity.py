"""Alignment and uniformity: positives meet, and all embeddings spread over the sphere, without negatives."""

from typing import Annotated, TypeAlias

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import Dense, check_finite
from rankwell.losses.grid import open_grid
from rankwell.losses.registry import Items, Positives, Queries, embedding_loss
from rankwell.registry import Input, Search
from rankwell.similarity import cosine, dot, normalise
from rankwell.types import Mask, Reduction, Weights

__all__ = ["direct_au_loss", "mawu_loss"]

Strength: TypeAlias = Annotated[float, Search(0.1, 10.0, log=True)]


@embedding_loss(paper="wang2022", complexity="q^2 + m^2 + q m")
def direct_au_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    uniformity: Strength = 1.0,
) -> Tensor:
    r"""Alignment of each query with its positives, plus the uniformity of all queries and of all items.

    .. math:: \ell_q &= \operatorname{mean}_{i \in P_q} w_{qi} \lVert q - i \rVert^2
            + \gamma\, w_q\, \tfrac{1}{2} \left( U(Q) + U(I) \right) \\
        U(X) &= \log \operatorname{mean}_{x \ne x'} e^{-2 \lVert x - x' \rVert^2}

    Over unit vectors. No item is a negative of a query: what keeps all from collapsing is that queries repel each other, and
    items do. The mean is over distinct pairs of those that have a pair that counts; two equal ids in the batch are such a pair.
    Each query carries the uniformity once, so that the mean over queries is the paper's loss. With fewer than two queries or
    items the term is 0. A zero vector, which has no direction, stays at the origin: at distance 1 of all units, and 0 of other
    zeros. Time O((q + m)^2 d), memory O((q + m)^2).

    A positive's weight multiplies its alignment; the uniformity weighs as the mean :math:`w_q` of the query's positives, or
    of all its items where it has no positives.

    Choose it for pairs, of users and items or of texts, where neither negatives nor a temperature are wanted and one
    weight can be tuned; memory is quadratic in both sides of the batch. Not for few classes, whose members repel each
    other: on new images of digits MAP@R 0.7722, :func:`~rankwell.losses.supervised_contrastive_loss` 0.8520
    (``bench/results/digits.txt``). Over frozen vectors of SciFact it had NDCG@10 0.7343,
    :func:`~rankwell.losses.info_nce_loss` 0.7307 (``docs/leaderboard.md``).

    Args:
        uniformity: :math:`\gamma`. Published: 0.5 (Beauty), 5 (Gowalla), 1 (Yelp).

    Raises:
        InputError: if ``uniformity`` is not finite.

    >>> import torch
    >>> direct_au_loss(torch.eye(2), torch.eye(2))  # 0, and two vectors at a right angle: -2 * 2
    tensor(-4.)

    Source: :cite:`wang2022`, the loss of DirectAU; confirmed in its code, equation numbers unchecked. Differs from it:
    several positives are averaged.
    """
    check_finite(uniformity, "uniformity")
    grid = open_grid(queries, items, positives=positives, where=where, weights=weights)
    queries, items = normalise(grid.queries), normalise(grid.items)
    align = grid.mean_right(_squared_distances(queries, items))
    spread = (_uniformity(queries, grid.there(-1)) + _uniformity(items, grid.there(-2))) / 2
    return grid.reduce(align + uniformity * grid.query_weights() * spread[..., None], reduction)


@embedding_loss(
    paper="park2023",
    complexity="q^2 + m^2 + q m",
    inputs={"query_margins": Input("list"), "item_margins": Input("item")},
)
def mawu_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    query_margins: Tensor | None = None,
    item_margins: Tensor | None = None,
    query_uniformity: Strength = 0.5,
    item_uniformity: Strength = 0.5,
) -> Tensor:
    r"""Margin-aware alignment and weighted uniformity: DirectAU with learned angles for who is popular.

    .. math:: \ell_q = -\operatorname{mean}_{i \in P_q} w_{qi}
            \cos\left(\min(\theta_{qi} + 1 - \sigma(a_q + b_i),\ \pi)\right)
        + w_q \left( \gamma_1 U(Q) + \gamma_2 U(I) \right)

    :math:`\theta` is the angle between query and item, U as in :func:`direct_au_loss`. The larger the margins a and b, the
    smaller the angle that is asked for beyond alignment. At :math:`\theta = 0`, where the slope has no direction, it is
    taken as 0. Time and memory as there.

    Weights as in :func:`direct_au_loss`.

    Choose it instead of :func:`direct_au_loss` for users and items of very uneven popularity, with a learned margin for
    each, which is parameters of your own and two weights to tune. Without margins there is no reason to: over frozen
    vectors of SciFact NDCG@10 0.7330, direct_au 0.7343 (``docs/leaderboard.md``); on new images of digits MAP@R 0.6140
    and 0.7722 (``bench/results/digits.txt``).

    Args:
        query_margins: ``[*batch, q]``, radians, learned; whoever owns them keeps them in [0, 1]. None is 0.
        item_margins: ``[*batch, m]``, likewise.
        query_uniformity: :math:`\gamma_1`. Published with matrix factorisation: 1 (Beauty), 2.6 (Gowalla), 0.8 (Yelp).
        item_uniformity: :math:`\gamma_2`. Published: 0.1, 1.4, 0.6.

    Raises:
        InputError: if the margins are not one a query and one an item, or a uniformity is not finite.

    >>> import torch
    >>> mawu_loss(torch.eye(2), torch.eye(2))  # -cos(1 - 1/2), and -4 as in direct_au_loss
    tensor(-4.8776)

    Source: :cite:`park2023`; read in its code, equation numbers unchecked. Differs from the code: the mean of the uniformity
    is over distinct pairs, not over a square whose upper triangle is zeros, and margins are not clipped here.
    """
    check_finite(query_uniformity, "query_uniformity")
    check_finite(item_uniformity, "item_uniformity")
    grid = open_grid(queries, items, positives=positives, where=where, weights=weights)
    of_query = _margins(query_margins, "query_margins", grid.queries, grid.there(-1))
    of_item = _margins(item_margins, "item_margins", grid.items, grid.there(-2))
    angles = 1 - torch.sigmoid(of_query[..., :, None] + of_item[..., None, :])
    align = -grid.mean_right(_cosine_of_sum(grid.queries, grid.items, angles))
    of_queries = _uniformity(normalise(grid.queries), grid.there(-1))
    of_items = _uniformity(normalise(grid.items), grid.there(-2))
    spread = query_uniformity * of_queries + item_uniformity * of_items
    return grid.reduce(align + grid.query_weights() * spread[..., None], reduction)


def _margins(margins: Tensor | None, name: str, vectors: Tensor, there: Mask) -> Tensor:
    """One margin a vector, 0 for those that are not there."""
    shape = vectors.shape[:-1]
    if margins is None:
        return vectors.new_zeros(()).expand(shape)
    if margins.shape != shape or not margins.is_floating_point():
        raise InputError(
            f"{name} must be floating point {tuple(shape)}: got {tuple(margins.shape)} of {margins.dtype}."
        )
    return torch.where(there, margins.to(vectors.dtype), 0)


def _cosine_of_sum(queries: Tensor, items: Tensor, angles: Tensor) -> Tensor:
    """Cosine of ``min(θ + angle, π)``, without the arccosine, whose slope is infinite at θ = 0."""
    if queries.device.type != "mps":  # which has no float64; the sine of a small θ is a difference of numbers near 1
        queries, items = queries.double(), items.double()
    cosines = cosine(queries, items)
    squares = 1 - cosines.square()
    # Below this, rounding decides, and the slope of the root would blow it up.
    some = squares > 16 * torch.finfo(squares.dtype).eps
    sines = torch.where(some, squares, 1).sqrt() * some
    of_sum = torch.where(cosines > -angles.cos(), cosines * angles.cos() - sines * angles.sin(), -1)
    return of_sum.to(angles.dtype)


def _squared_distances(queries: Tensor, items: Tensor) -> Tensor:
    """Of vectors of length one, or zero: not 2 - 2 cos, which has two zeros far apart."""
    squares = queries.square().sum(-1)[..., :, None] + items.square().sum(-1)[..., None, :]
    return squares - 2 * dot(queries, items)


def _uniformity(units: Tensor, there: Mask) -> Tensor:
    """Log of the mean of ``e^(-2 d^2)`` over distinct pairs of the unit vectors that are there; 0 if there are not two."""
    n = units.shape[-2]
    pairs = there[..., :, None] & there[..., None, :] & ~torch.eye(n, dtype=torch.bool, device=units.device)
    # Each pair stands there twice, which the mean does not mind.
    exponents, pairs = -2 * _squared_distances(units, units).flatten(-2), pairs.flatten(-2)
    number = pairs.sum(-1)
    mean = Dense(exponents, pairs).logsumexp(exponents) - number.clamp(min=1).to(exponents.dtype).log()
    return torch.where(number > 0, mean, 0)
