"""How recommendations spread over the catalogue, and how popular what they show is."""

from typing import TypeAlias

import torch
from jaxtyping import Real
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import reduce
from rankwell.metrics.recommended import ItemLists, check_ids, check_lists, mean_of
from rankwell.metrics.registry import metric
from rankwell.registry import Input
from rankwell.types import Ragged, Reduction, Values

__all__ = ["coverage", "gini", "novelty", "popularity_lift"]

Counts: TypeAlias = Real[Tensor, " num_items"]


@metric(
    kind="catalogue",
    paper="ge2010",
    complexity="users · k + items",
    inputs={"num_items": Input("scalar", "count", required=True)},
)
def coverage(items: ItemLists, *, num_items: int | None = None) -> Values:
    r"""Catalogue coverage: share of all items that are recommended to anybody.

    .. math:: \mathrm{COV} = \frac{\left| \bigcup_u R_u \right|}{|I|}

    with :math:`R_u` the items recommended to user u and I the catalogue. Higher is more of it.
    Time O(users · k + items), memory O(items). See :class:`~rankwell.metrics.RecommendedMetric` for the call.

    Args:
        num_items: items of the catalogue.

    Raises:
        InputError: where ids are not codes below ``num_items``.

    >>> coverage(torch.tensor([[0, 1], [1, 3]]), num_items=4)
    tensor(0.7500)

    Source: :cite:`ge2010`, catalog coverage, for one list a user.
    """
    return (_shown(items, num_items) > 0).float().mean()


@metric(
    kind="catalogue",
    paper="shani2011",
    complexity="users · k + items log items",
    inputs={"num_items": Input("scalar", "count", required=True)},
)
def gini(items: ItemLists, *, num_items: int | None = None) -> Values:
    r"""Gini index of how often items are recommended: 0 where all are equally often, 1 where one takes all. Lower is better.

    .. math:: G = \frac{1}{|I| - 1} \sum_{j=1}^{|I|} (2 j - |I| - 1)\, p_{(j)}

    with :math:`p_{(1)} \le p_{(2)} \le \dots` the shares of the recommendations that fall to each item of the catalogue.
    0 without recommendations. Time O(users · k + items log items), memory O(items).
    See :class:`~rankwell.metrics.RecommendedMetric` for the call.

    Args:
        num_items: items of the catalogue.

    Raises:
        InputError: where ids are not codes below ``num_items``.

    >>> gini(torch.tensor([[0, 1], [0, 1]]), num_items=4)  # shares 0, 0, 1/2, 1/2: (1 + 3) / 2 / 3
    tensor(0.6667)

    Source: :cite:`shani2011`, section on item space coverage. RecBole's ``giniindex``
    divides by the number of items instead of that less one.
    """
    shown = _shown(items, num_items).double().sort().values
    n = shown.numel()
    places = torch.arange(1, n + 1, device=shown.device, dtype=shown.dtype)
    return ((2 * places - n - 1) * shown).sum().div(max(n - 1, 1) * shown.sum().clamp(min=1)).float()


def _shown(items: Tensor, num_items: int | None) -> Tensor:
    """How often each item is recommended."""
    if num_items is None or num_items < 1:
        raise InputError(f"num_items must be the number of items of the catalogue: got {num_items}.")
    return torch.bincount(items[check_ids(items, num_items)], minlength=num_items)


@metric(
    kind="user",
    paper="vargas2011",
    complexity="users · k",
    inputs={"counts": Input("catalogue", "count", required=True), "num_users": Input("scalar", "count", required=True)},
)
def novelty(
    items: ItemLists,
    *,
    counts: Counts | None = None,
    num_users: int | None = None,
    reduction: Reduction = "mean",
    uncounted: float = 0.0,
) -> Values:
    r"""Mean self-information of the recommended items, in bits: how few users know them.

    .. math:: \mathrm{NOV}(R) = \frac{1}{|R|} \sum_{i \in R} -\log_2 \frac{\max(1, c_i)}{|U|}

    with :math:`c_i` the users who have item i and U all users. Users without recommendations do not count.
    Time O(users · k). See :class:`~rankwell.metrics.RecommendedMetric` for the call.

    Args:
        counts: how many users have each item of the catalogue.
        num_users: users that they were counted among.

    Raises:
        InputError: where ``counts`` or ``num_users`` is missing, a count is below 0 or above ``num_users``, or ids are not
            codes of the catalogue.

    >>> novelty(torch.tensor([[0, 1]]), counts=torch.tensor([8, 1]), num_users=8)  # 0 and 3 bits
    tensor(1.5000)

    Source: :cite:`vargas2011`, popularity complement in its logarithmic form; :cite:`kaminskas2016`, mean self-information.
    Differs from them: an item that nobody has counts as one that one user has, instead of as infinite.
    """
    if num_users is None or num_users < 1:
        raise InputError(f"num_users must be the number of users: got {num_users}.")
    counts, present = _popularity(items, counts)
    if counts.numel() and float(counts.max()) > num_users:
        raise InputError(f"counts must be of the {num_users} users of num_users at most: got {float(counts.max()):g}.")
    bits = -torch.log2(counts.clamp(min=1) / num_users)
    return reduce(mean_of(bits, items, present).float(), present.any(-1), reduction, uncounted)


@metric(
    kind="user",
    paper="abdollahpouri2019",
    complexity="users · k + history",
    inputs={"counts": Input("catalogue", "count", required=True), "history": Input("list", "id", required=True)},
)
def popularity_lift(
    items: ItemLists,
    *,
    counts: Counts | None = None,
    history: Ragged | None = None,
    reduction: Reduction = "mean",
    uncounted: float = 0.0,
) -> Values:
    r"""How much more popular a user's recommendations are than what the user has: 0 is the user's own taste.

    .. math:: \mathrm{PL}(u) = \frac{\operatorname{mean}_{i \in R_u} c_i - \operatorname{mean}_{i \in H_u} c_i}
              {\operatorname{mean}_{i \in H_u} c_i}

    with :math:`c_i` the users who have item i, or their share, and :math:`H_u` the items that user u has. Above 0 popular items
    are amplified, below 0 dampened. Users without recommendations, without items or with items of count 0 only do not count.
    Time O(users · k + history). See :class:`~rankwell.metrics.RecommendedMetric` for the call.

    Args:
        counts: how many users have each item of the catalogue.
        history: item codes that each user has.

    Raises:
        InputError: where ``counts`` or ``history`` is missing, a count is below 0, or ids are not codes of the catalogue.

    >>> history = Ragged(torch.tensor([0, 2]), torch.tensor([1, 2]))
    >>> popularity_lift(torch.tensor([[0, 1]]), counts=torch.tensor([5, 1, 3]), history=history)  # 3 against 2
    tensor(0.5000)

    Source: :cite:`abdollahpouri2019`, group average popularity and its relative change. Differs from it: each user is a group
    of one; there the means of a group are compared.
    """
    counts, present = _popularity(items, counts)
    owned = check_lists(history, "history", items.shape[0], counts.numel())
    lengths = owned.offsets.diff()
    total = torch.segment_reduce(counts[owned.values], "sum", offsets=owned.offsets, initial=0)
    profile = total / lengths.clamp(min=1)
    some = present.any(-1) & (profile > 0)
    lift = mean_of(counts, items, present) / torch.where(some, profile, 1) - 1
    return reduce(lift.float(), some, reduction, uncounted)


def _popularity(items: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor]:
    if counts is None or counts.ndim != 1:
        got = "None" if counts is None else str(tuple(counts.shape))
        raise InputError(f"counts must be one number for each item of the catalogue: got {got}.")
    if counts.numel() and not counts.min() >= 0:
        raise InputError(f"counts must not be below 0: got {float(counts.min()):g}.")
    return counts.double(), check_ids(items, counts.numel())
