"""How different recommended items are from each other, from what a user had, and from what was to be expected."""

from typing import Annotated

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import reduce
from rankwell.metrics.recommended import ItemLists, check_ids, check_lists, user_blocks
from rankwell.metrics.registry import metric
from rankwell.registry import Input, Search
from rankwell.types import Ragged, Reduction, Values

__all__ = ["calibration", "diversity", "serendipity"]


@metric(
    kind="user",
    paper="smyth2001",
    complexity="users · k · d",
    inputs={"vectors": Input("catalogue", required=True)},
)
def diversity(
    items: ItemLists,
    *,
    vectors: Float[Tensor, "num_items d"] | None = None,
    reduction: Reduction = "mean",
    uncounted: float = 0.0,
) -> Values:
    r"""Intra-list diversity: the mean distance of two recommended items, by the cosine of their vectors.

    .. math:: \mathrm{ILD}(R) = \frac{1}{|R| (|R| - 1)} \sum_{i \in R} \sum_{j \in R,\ j \ne i} (1 - \cos(v_i, v_j))

    Computed as :math:`1 - (\lVert \sum_i \hat v_i \rVert^2 - \sum_i \lVert \hat v_i \rVert^2) / (|R| (|R| - 1))` with unit
    vectors, so that no pairs are made. A vector of zeros is at distance 1 from all. Users with fewer than two recommendations
    do not count. Time O(users · k · d), in blocks of users. See :class:`~rankwell.metrics.RecommendedMetric` for the call.

    Args:
        vectors: one for each item of the catalogue: embeddings, or indicators of categories. A measure names the column that
            holds them: ``diversity(column=genres)@20``.

    Raises:
        InputError: where ``vectors`` is missing, or ids are not codes of the catalogue.

    >>> vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    >>> diversity(torch.tensor([[0, 1, 2]]), vectors=vectors)  # of three pairs, two at distance 1 and one at 0
    tensor(0.6667)

    Source: :cite:`smyth2001`, average dissimilarity of all pairs, as in :cite:`kaminskas2016`.
    """
    vectors = _table(vectors, "vectors")
    present = check_ids(items, vectors.shape[0])
    unit = torch.nn.functional.normalize(vectors.float(), dim=-1)
    values = unit.new_zeros(items.shape[0])
    cost = torch.full(items.shape[:1], items.shape[1] * unit.shape[1], device=items.device)
    for rows in user_blocks(cost):
        mine = torch.where(present[rows, :, None], unit[items[rows].clamp(min=0)], 0)
        number = present[rows].sum(-1)
        alike = mine.sum(1).square().sum(-1) - mine.square().sum((1, 2))
        values[rows] = 1 - alike / (number * (number - 1)).clamp(min=1)
    return reduce(values, present.sum(-1) > 1, reduction, uncounted)


@metric(
    kind="user",
    paper="steck2018",
    complexity="(users · k + history) · categories",
    inputs={"categories": Input("catalogue", "share", required=True), "history": Input("list", "id", required=True)},
)
def calibration(
    items: ItemLists,
    *,
    categories: Real[Tensor, "num_items c"] | None = None,
    history: Ragged | None = None,
    reduction: Reduction = "mean",
    uncounted: float = 0.0,
    alpha: Annotated[float, Search(0.001, 0.1, log=True)] = 0.01,
) -> Values:
    r"""Divergence of the recommended categories from the user's own: 0 is calibrated. Lower is better.

    .. math:: C_{KL}(p, q) = \sum_g p(g) \log \frac{p(g)}{(1 - \alpha)\, q(g) + \alpha\, p(g)}, \qquad
              p(g) = \operatorname{mean}_{i \in H_u} p(g \mid i), \quad q(g) = \operatorname{mean}_{i \in R_u} p(g \mid i)

    in nats, with :math:`H_u` the items that user u has and :math:`R_u` the recommended ones. Items without any category are
    left out. Users without a category among their items, or among their recommendations, do not count.
    Time O((users · k + history) · categories), in blocks of users.
    See :class:`~rankwell.metrics.RecommendedMetric` for the call.

    Args:
        categories: weights of the categories of each item of the catalogue, not below 0; each row is divided by its sum. A
            measure names the column that holds them: ``calibration(column=genres)@20``.
        history: item codes that each user has.
        alpha: share of the user's own distribution mixed into that of the recommendations, between 0 and 1: it bounds the
            divergence where a category is missing.

    Raises:
        InputError: where ``categories`` or ``history`` is missing, a category is below 0, ids are not codes of the catalogue,
            or ``alpha`` is not between 0 and 1.

    >>> history = Ragged(torch.tensor([0, 2]), torch.tensor([0, 1]))
    >>> calibration(torch.tensor([[0, 1]]), categories=torch.eye(2), history=history)
    tensor(0.)

    Source: :cite:`steck2018`, equations 2 to 5 (equation numbers unchecked). Differs from it: all items weigh the same.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha must be between 0 and 1: got {alpha}.")
    categories = _table(categories, "categories").double()
    if categories.numel() and not categories.min() >= 0:
        raise InputError(f"categories must not be below 0: got {float(categories.min()):g}.")
    present = check_ids(items, categories.shape[0])
    owned = check_lists(history, "history", items.shape[0], categories.shape[0])
    shares = categories / categories.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    values = shares.new_zeros(items.shape[0])
    some = torch.zeros_like(values, dtype=torch.bool)
    for rows in user_blocks((owned.offsets.diff() + items.shape[1]) * shares.shape[1]):
        wanted = _distribution(_sums_of_lists(shares, owned, rows))
        shown = _distribution(torch.where(present[rows, :, None], shares[items[rows].clamp(min=0)], 0).sum(1))
        mixed = (1 - alpha) * shown + alpha * wanted
        values[rows] = (torch.xlogy(wanted, wanted) - torch.xlogy(wanted, mixed)).sum(-1)
        some[rows] = (wanted.sum(-1) > 0) & (shown.sum(-1) > 0)
    return reduce(values.float(), some, reduction, uncounted)


def _sums_of_lists(shares: Tensor, lists: Ragged, rows: slice) -> Tensor:
    offsets = lists.offsets[rows.start : rows.stop + 1]
    values = lists.values[int(offsets[0]) : int(offsets[-1])]
    lengths = offsets.diff()
    row = torch.repeat_interleave(torch.arange(lengths.numel(), device=lengths.device), lengths)
    return shares.new_zeros(lengths.numel(), shares.shape[1]).index_add_(0, row, shares[values])


def _distribution(mass: Tensor) -> Tensor:
    """Rows divided by their sums; zeros stay."""
    total = mass.sum(-1, keepdim=True)
    return mass / torch.where(total > 0, total, 1)


@metric(
    kind="user",
    paper="ge2010",
    complexity="users · k · log relevant",
    inputs={"relevant": Input("list", "id", required=True), "expected": Input("catalogue", "id", required=True)},
)
def serendipity(
    items: ItemLists,
    *,
    relevant: Ragged | None = None,
    expected: Int[Tensor, " e"] | Int[Tensor, "users e"] | None = None,
    reduction: Reduction = "mean",
    uncounted: float = 0.0,
) -> Values:
    r"""Share of a user's recommendations that are relevant although a primitive recommender would not show them.

    .. math:: \mathrm{SER}(R_u) = \frac{|(R_u \setminus E_u) \cap Y_u|}{|R_u|}

    with :math:`E_u` what is expected and :math:`Y_u` what is relevant to user u. Users without recommendations do not count.
    Time O(users · k · log(relevant)). See :class:`~rankwell.metrics.RecommendedMetric` for the call.

    Args:
        relevant: item codes that are relevant to each user: the held-out ones.
        expected: item codes that a primitive recommender shows, to all (the most popular) or ``[users, e]``. Below 0 there
            is none, here and in ``relevant``.

    Raises:
        InputError: where ``relevant`` or ``expected`` is missing, of other users or no integers.

    >>> relevant = Ragged(torch.tensor([0, 2]), torch.tensor([0, 1]))
    >>> serendipity(torch.tensor([[0, 1, 2, 3]]), relevant=relevant, expected=torch.tensor([0, 2]))  # item 1 of four
    tensor(0.2500)

    Source: :cite:`ge2010`, the useful part of what a primitive model does not recommend. That it is divided by all
    recommendations (:cite:`kaminskas2016`), not by the unexpected ones, is not confirmed for the former.
    """
    wanted = check_lists(relevant, "relevant", items.shape[0])
    if expected is None or expected.ndim not in (1, 2) or (expected.ndim == 2 and len(expected) != len(items)):
        got = "None" if expected is None else str(tuple(expected.shape))
        raise InputError(f"expected must be item codes [e] or [users, e] with {len(items)} users: got {got}.")
    if expected.is_floating_point() or expected.dtype == torch.bool:
        raise InputError(f"expected must be integer codes: got {expected.dtype}.")
    span = 1 + max(int(codes.max()) if codes.numel() else 0 for codes in (items, wanted.values, expected))
    present = check_ids(items, span)
    users = torch.arange(items.shape[0], device=items.device)

    def pairs(owner: Tensor, codes: Tensor) -> Tensor:
        """One number a pair of user and item; -1 for padding, which would be another user's."""
        return torch.where(codes >= 0, owner * span + codes, -1)

    shown = pairs(users[:, None], items)
    owner = torch.repeat_interleave(users, wanted.offsets.diff(), output_size=wanted.values.numel())
    useful = torch.isin(shown, pairs(owner, wanted.values))
    usual = torch.isin(items, expected) if expected.ndim == 1 else torch.isin(shown, pairs(users[:, None], expected))
    value = (present & useful & ~usual).sum(-1) / present.sum(-1).clamp(min=1)
    return reduce(value.float(), present.any(-1), reduction, uncounted)


def _table(table: Tensor | None, name: str) -> Tensor:
    if table is None or table.ndim != 2:
        got = "None" if table is None else str(tuple(table.shape))
        raise InputError(f"{name} must be [num_items, …], one row for each item of the catalogue: got {got}.")
    return table
