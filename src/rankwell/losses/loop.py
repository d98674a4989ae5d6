"""Triplet loss against the optimal hard negatives between the embeddings of a class."""

# mypy: allow-untyped-calls, allow-untyped-decorators

from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.kernels.arcs import Ends, nearest_points, shortest, squared_distances, tolerance
from rankwell.kernels.operators import batch_operator, no_second_derivative
from rankwell.lists import check_at_least
from rankwell.losses.grid import Grid, open_grid
from rankwell.losses.registry import Items, Positives, Queries, embedding_loss
from rankwell.registry import Input, Search
from rankwell.similarity import dot, normalise
from rankwell.types import Mask, Reduction, Weights

__all__ = ["loop_loss"]

CHUNK_CURVES = 1 << 14
"""Pairs of curves compared at once, some hundred bytes each."""


@embedding_loss(
    paper="vasudeva2021", complexity="positives x class pairs", inputs={"item_classes": Input("item", "id")}
)
def loop_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    item_classes: Tensor | None = None,
    margin: Annotated[float, Search(0.05, 5.0, log=True)] = 0.2,
    form: Literal["spherical", "linear"] = "spherical",
) -> Tensor:
    r"""LoOp: a triplet loss whose negative is the nearest that two classes come to each other between their embeddings.

    .. math:: \ell_q &= \operatorname{mean}_{i \in P_q} w_{qi} \left[ m + d^2(q, i) - D_{qi} \right]_+ \\
        D_{qi} &= \min_{j,k} \; \min_{x \in [q, i],\ y \in [j, k]} d^2(x, y)

    :math:`[q, i]` is the curve from the query to its positive, :math:`[j, k]` one between two negatives of the same class, or a
    single negative. Spherical: curves are great arcs between unit vectors, so that zero vectors, which are on no arc, must be
    left out by ``where``; linear: straight, embeddings as they are. With every curve cut down to its ends it would be triplet
    mining of the hardest negative for both ends. The nearest points are found in closed form, see :mod:`rankwell.kernels.arcs`;
    by the envelope theorem their place on the curves is a constant in the gradient. No second derivatives.

    Time O((q + m) m d) and O(positives x class pairs); memory O(q m + m^2), whatever the size of the classes: the pairs of
    curves are searched in chunks, and only the nearest is differentiated.

    Weights multiply the terms. A query without positives or without negatives has value 0.

    Choose it for classes with several examples each, where a batch has too few hard negatives for
    :func:`~rankwell.losses.triplet_loss`: it looks between the embeddings, at two to six times a step of the others
    (``bench/LOG.md``, metric learning on digits). Where batches are large take
    :func:`~rankwell.losses.multi_similarity_loss`. On new images of digits it had MAP@R 0.8404, triplet with the
    hardest 0.8263, multi_similarity 0.8641 (``bench/results/digits.txt``).

    Args:
        item_classes: ``[*batch, m]``, ids of classes; None where each item is a class of its own. With the rows of
            :func:`~rankwell.losses.same_class`, the labels.
        margin: in units of squared distance.
        form: arcs on the unit sphere, or segments.

    Raises:
        InputError: if ``item_classes`` is not one integer an item, ``margin`` is below 0, or ``form`` is neither.

    >>> import torch
    >>> query = torch.tensor([[0.0, 0.0]])
    >>> items = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [3.0, 1.0]])  # the segment of both negatives is 1 above the query's
    >>> loop_loss(query, items, item_classes=torch.tensor([0, 1, 1]), form="linear", margin=0.5)  # [.5 + 1 - 1]
    tensor(0.5000)

    Source: :cite:`vasudeva2021`, with its triplet loss; written from the conditions of Karush, Kuhn and Tucker, equation
    numbers unchecked. Differs from its code: squared distances, so that the slope stays finite where classes touch; the
    nearest of all classes, not of one that is paired beforehand; arcs below a thousandth of a radian, and between opposite
    points, are their ends.
    """
    if form not in ("spherical", "linear"):
        raise InputError(f"form must be 'spherical' or 'linear': got {form!r}.")
    check_at_least(margin, "margin")
    grid = open_grid(queries, items, positives=positives, where=where, weights=weights)
    classes = _classes(item_classes, grid)
    queries, items = (_FirstDerivative.apply(x) for x in (grid.queries, grid.items))
    if form == "spherical":
        queries, items = normalise(queries), normalise(items)
    across, among, squares = dot(queries, items), dot(items, items), queries.square().sum(-1)
    wrong = grid.wrong
    first, second, points = loop_search(
        across.detach(), among.detach(), squares.detach(), grid.right, wrong, classes, form == "linear"
    )
    ends = _ends(across, among, squares, first, second, linear=form == "linear")
    x1, x2, y1, y2 = points.unbind(-1)
    hard = squared_distances(ends, (x1, x2), (y1, y2))
    near = 2 - 2 * across if ends.squares is None else ends.squares[0] + ends.squares[1] - 2 * across
    terms = torch.where(wrong.any(-1, keepdim=True), (margin + near - hard).clamp(min=0), 0)
    return grid.reduce(grid.mean_right(terms), reduction)


def _classes(item_classes: Tensor | None, grid: Grid) -> Tensor:
    shape = grid.items.shape[:-1]
    if item_classes is None:
        return torch.arange(shape[-1], device=grid.items.device).expand(shape)
    if item_classes.shape != shape or item_classes.is_floating_point():
        raise InputError(
            f"item_classes must be integers, one an item {tuple(shape)}:"
            f" got {tuple(item_classes.shape)} of {item_classes.dtype}."
        )
    return item_classes


def _ends(across: Tensor, among: Tensor, squares: Tensor, first: Tensor, second: Tensor, *, linear: bool) -> Ends:
    """Inner products of every query, item, and the two negatives chosen for them, all ``[*b, q, m]``."""
    m = among.shape[-1]
    of_pair = among.flatten(-2).gather(-1, (first * m + second).flatten(-2)).reshape(across.shape)
    # ``among`` is symmetric: the column of an item is its row.
    items_first, items_second = among.gather(-2, first), among.gather(-2, second)
    lengths = None
    if linear:
        own = among.diagonal(dim1=-2, dim2=-1)[..., None, :].expand(across.shape)
        lengths = (squares[..., None].expand(across.shape), own, own.gather(-1, first), own.gather(-1, second))
    return Ends(
        across, of_pair, across.gather(-1, first), across.gather(-1, second), items_first, items_second, lengths
    )


def _loop_search(
    across: Tensor, among: Tensor, squares: Tensor, right: Tensor, wrong: Tensor, classes: Tensor, linear: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """For each query and positive the two negatives (maybe the same) whose curve comes nearest to theirs, ``[*b, q, m]``, and
    the weights ``[*b, q, m, 4]`` of the four ends in the nearest points."""
    first, second = torch.zeros_like(right, dtype=torch.long), torch.zeros_like(right, dtype=torch.long)
    points = across.new_tensor([1.0, 0.0, 1.0, 0.0]).expand(*right.shape, 4).clone()
    shape = right.shape[:-2]
    batches = (
        x.reshape(shape.numel(), *x.shape[len(shape) :])
        for x in (across, among, squares, right, wrong, classes, first, second, points)
    )
    for one in zip(*batches, strict=True):
        _search(*one, linear=linear)
    return first, second, points


def _search(
    across: Tensor, among: Tensor, squares: Tensor, right: Tensor, wrong: Tensor, classes: Tensor,
    first: Tensor, second: Tensor, points: Tensor, *, linear: bool,
) -> None:  # fmt: skip
    """One batch; writes to ``first``, ``second`` and ``points``."""
    alone = torch.arange(right.shape[-1], device=right.device)
    j, k = (classes[:, None] == classes).triu(1).nonzero(as_tuple=True)
    j, k = torch.cat([alone, j]), torch.cat([alone, k])
    width = max(1, min(len(j), CHUNK_CURVES))
    lengths = among.diagonal()

    def ends(query: Tensor, item: Tensor, j: Tensor, k: Tensor) -> Ends:
        products = (
            across[query, item],
            among[j, k],
            across[query, j],
            across[query, k],
            among[item, j],
            among[item, k],
        )
        return Ends(*products, (squares[query], lengths[item], lengths[j], lengths[k]) if linear else None)

    for pairs in right.nonzero().split(CHUNK_CURVES // width):
        query, item = pairs[:, :1], pairs[:, 1:]
        nearest = across.new_full(query.shape, torch.inf)
        chosen = torch.zeros_like(query)
        for start in range(0, len(j), width):
            some = slice(start, start + width)
            curves = ends(query, item, j[some], k[some])
            costs = shortest(curves)
            costs = torch.where(wrong[query, j[some]] & wrong[query, k[some]], costs, torch.inf)
            best = costs.amin(-1, keepdim=True)
            here = start + (costs <= best + tolerance(curves)).int().argmax(-1, keepdim=True)
            chosen = torch.where(best < nearest, here, chosen)
            nearest = torch.minimum(best, nearest)
        first[query, item], second[query, item] = j[chosen], k[chosen]
        points[query, item] = nearest_points(ends(query, item, j[chosen], k[chosen]))


def _chosen(across: Tensor, _among: Tensor, _squares: Tensor, right: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What the search gives, empty."""
    chosen = torch.empty_like(right, dtype=torch.long)
    return chosen, torch.empty_like(chosen), across.new_empty(*right.shape, 4)


loop_search = batch_operator(_loop_search, _chosen)
constant = no_second_derivative(torch.clone, "losses of nearest points", instead="triplet with mining, info_nce")


class _FirstDerivative(torch.autograd.Function):
    """The same tensor. Its gradient has no derivative: that would need those of the nearest points' places."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ARG004
        return constant(grad)  # type: ignore[no-any-return]
