"""NDCG from few items a step: the place of each relevant item is a running average over the steps in which it was met."""

# mypy: allow-untyped-calls

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.kernels.comparisons import compared_ranks
from rankwell.lists import Opened, check_count, check_positive, in_full_precision, open_lists
from rankwell.losses.of_ranks import discounts, gains, ideal_dcg
from rankwell.losses.registry import stateful_loss
from rankwell.losses.running import Gamma, RunningMean, checked_ids, mean_by_id, without_absent
from rankwell.losses.soft_ranks import Fraction, one_less
from rankwell.registry import Input, Search
from rankwell.types import Kind, Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = ["KSONGLoss", "RunningDiscount", "SONGLoss"]

Margin = Annotated[float, Search(0.1, 10.0, log=True)]


class RunningDiscount(nn.Module):
    r"""The logarithmic discount of a relevant item, at the running average of its place.

    .. math:: d_i = \frac{1}{\log_2(1 + N u_i)}, \qquad u_i \leftarrow (1 - \gamma)\, u_i + \gamma\, g_i,
        \qquad g_i = \frac{1}{n} \sum_j [m - s_i + s_j]_+^2

    In value that of :math:`u_i`, in gradient the slope there times that of :math:`g_i`.
    """

    def __init__(self, num_ids: int, *, gamma: float, margin: float) -> None:
        super().__init__()
        check_positive(margin, "margin")
        self.margin = margin
        self.places = RunningMean(num_ids, gamma=gamma)

    def forward(self, opened: Opened, rows: Mask, ids: Tensor, num_items: int | None) -> Tensor:
        """Discounts of the rows that are asked for."""
        mean = self._mean(opened, rows)
        running = self.places.blend(ids, mean.detach().log(), rows).exp()
        number: Tensor | int = opened.lists.spread(opened.lists.count()) if num_items is None else num_items
        place = number * running
        discount = discounts(place)
        slope = -(discount.square()) / ((1 + place) * math.log(2))
        return discount + slope * number * (mean - mean.detach())

    def update(self, opened: Opened, rows: Mask, ids: Tensor) -> None:
        """Enter the places of the rows."""
        self.places.update(ids, self._mean(opened, rows).log(), rows)

    def _mean(self, opened: Opened, rows: Mask) -> Tensor:
        """Mean squared hinge against all items of the list, itself included; 1 for other rows."""
        sums, _ = compared_ranks(opened, rows, "squared_hinge", self.margin)
        count = opened.lists.spread(opened.lists.count().clamp(min=1).to(sums.dtype))
        return torch.where(rows, self.margin**2 * sums / count, 1)

    def extra_repr(self) -> str:
        """The configuration."""
        return f"margin={self.margin}"


@stateful_loss(
    name="song", paper="qiu2022", complexity="n^2", inputs={"num_ids": Input("scalar", "count", required=True)}
)
class SONGLoss(nn.Module):
    r"""SONG: one less the NDCG of smooth places, from a few items of each list a step.

    .. math::
        \ell = 1 - \frac{1}{Z} \sum_i \frac{w_i (2^{y_i} - 1)}{\log_2(1 + N u_i)}, \qquad
        u_i \leftarrow (1 - \gamma)\, u_i + \gamma\, \frac{1}{n} \sum_j [m - s_i + s_j]_+^2

    Of a sample of n items, N times the mean estimates a relevant item's place among all N, but a concave function of
    an estimate is biased; the average :math:`u_i` over the steps in which the pair was met takes that away. With whole lists
    and :math:`\gamma = 1` it is :func:`~rankwell.losses.approx_ndcg_loss` with a squared hinge for a step. Time
    O(relevant items x n), memory O(n) a list, and one number a pair of query and relevant item. No second derivatives.

    It is called as a list loss, with ``ids`` of the shape of ``scores``: the number of each relevant pair (what stands at
    others is not read). For samples, ``num_items`` is N, ``num_relevant [*batch]`` how many relevant items the query has in
    all, and ``ideal [*batch]`` its ideal DCG Z; without them the list is taken for whole. ``forward`` writes nothing;
    ``update(ids, scores, labels, …)``, once a step behind it, does.

    Weights weigh the gains, above and below. A list without gains is 0, and counts.

    Choose it for lists too long to be scored whole, where the NDCG over all places counts and pairs are met again and
    again: it keeps a number for each relevant pair, and needs ids and an ``update`` a step. Whole lists go to
    :func:`~rankwell.losses.approx_ndcg_loss` or :func:`~rankwell.losses.softmax_loss`, likes with sampled negatives to
    :func:`~rankwell.losses.sampled_softmax_loss`; for the top k see :class:`KSONGLoss`.

    Args:
        num_ids: pairs are numbered 0 to one less.
        gamma: share of the new value; 1 forgets at once.
        margin: m, in units of the scores.

    Raises:
        InputError: if ``num_ids`` is below 1, ``gamma`` not in (0, 1], ``margin`` not above 0, or ids do not fit.

    >>> loss = SONGLoss(10)
    >>> loss(torch.zeros(3), torch.tensor([1.0, 0.0, 0.0]), ids=torch.tensor([4, 0, 0]))  # place 3: 1 - 1 / log2(4)
    tensor(0.5000)

    Source: :cite:`qiu2022`, algorithm 1, and its official code, whose class has ``gamma`` 0.9 and whose tutorial 0.1;
    equation numbers unchecked. Differs from the code: one less the NDCG of the running places in value, where it has a
    product whose gradient is the same; pairs of one id in a step enter by their mean; and the state is in ``state_dict``.
    """

    call: ClassVar[Kind] = "list"
    """The kind of loss that it is called as."""
    inputs: ClassVar[Mapping[str, Input]] = {"ids": Input("item", "id", required=True)}
    """What calls take besides."""

    def __init__(self, num_ids: int, *, gamma: Gamma = 0.1, margin: Margin = 1.0) -> None:
        super().__init__()
        self.discount = RunningDiscount(num_ids, gamma=gamma, margin=margin)

    def forward(
        self,
        scores: Scores,
        labels: Labels,
        *,
        ids: Int[Tensor, "*batch list"],
        where: Mask | None = None,
        weights: Weights | None = None,
        offsets: Offsets | None = None,
        reduction: Reduction = "mean",
        num_items: int | None = None,
        num_relevant: Tensor | None = None,
        ideal: Tensor | None = None,
    ) -> Tensor:
        """One value a list, reduced."""
        opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
        gained = gains(opened, "exponential")
        terms = gained * self.discount(opened, opened.labels > 0, ids, num_items)
        return one_less(opened, _fraction(opened, gained, terms, num_relevant, ideal), reduction)

    @torch.no_grad()
    def update(
        self,
        ids: Int[Tensor, "*batch list"],
        scores: Scores,
        labels: Labels,
        *,
        where: Mask | None = None,
        offsets: Offsets | None = None,
    ) -> None:
        """Enter the places of this step's relevant items."""
        opened = open_lists(scores, labels, where=where, weights=None, offsets=offsets)
        self.discount.update(opened, gains(opened, "exponential") > 0, ids)


class _Above(NamedTuple):
    """How each item of a list stands to its threshold."""

    soft: Tensor
    """Logistic share above it, at the temperature of the thresholds' own problem."""
    density: Tensor
    """Its slope by the score."""


@stateful_loss(
    name="k_song",
    paper="qiu2022",
    complexity="n^2",
    inputs={name: Input("scalar", "count", required=True) for name in ("num_ids", "num_queries")},
)
class KSONGLoss(nn.Module):
    r"""K-SONG: as :class:`SONGLoss` for the top k, by a threshold for each query that is learned along.

    .. math::
        \ell = 1 - \frac{1}{Z} \sum_i \psi_i \frac{w_i (2^{y_i} - 1)}{\log_2(1 + N u_i)}, \qquad
        \psi_i = \sigma(\alpha (s_i - \lambda_q)), \qquad
        \lambda_q \leftarrow \lambda_q - \eta \Big( \tfrac{k}{N} + \tau_2 \lambda_q
            - \tfrac1n \sum_j \sigma\big(\tfrac{s_j - \lambda_q}{\tau_1}\big) \Big)

    The threshold settles where k of the N items are above it, so that :math:`\psi_i` says whether an item is in the top k
    without sorting the catalogue. ``form`` is its gradient: ``"practical"`` takes it for a constant; in ``"theoretical"``
    the score moves it, and the threshold with the scores, by the implicit derivative whose denominator is averaged over
    steps. Z is the ideal DCG of the top k. Time, memory and call as :class:`SONGLoss`, with ``query_ids [*batch]`` besides, and
    one number a query, or two. No second derivatives.

    Weights weigh the gains, above and below. A list without gains is 0, and counts.

    Choose it only where :class:`SONGLoss` is in use and the first k places count: a threshold for each query comes on
    top, with a step size and a temperature to set. For recommendations with a cut take
    :func:`~rankwell.losses.softmax_at_k_loss`, of the same aim and without state, which was far ahead of SONG in its
    paper, :cite:`yang2025`.

    Args:
        num_ids: pairs are numbered 0 to one less.
        num_queries: queries too.
        k: the cut-off.
        gamma: share of the new value in places.
        margin: m, in units of the scores.
        sharpness: :math:`\alpha`.
        step_size: :math:`\eta`, of the thresholds, which start at 0.
        temperature: :math:`\tau_1`, of the thresholds' problem, in units of the scores.
        pull: :math:`\tau_2`, of the thresholds towards 0.
        form: ``"practical"`` or ``"theoretical"``.
        curvature_gamma: share of the new value in the theoretical form's denominator.

    Raises:
        InputError: if ``num_ids``, ``num_queries`` or ``k`` is below 1, a gamma not in (0, 1], another number not above 0, the
            form unknown, or ids do not fit.

    >>> loss = KSONGLoss(10, 2, k=1)
    >>> scores, labels, ids = torch.zeros(3), torch.tensor([1.0, 0.0, 0.0]), torch.tensor([4, 0, 0])
    >>> loss(scores, labels, ids=ids, query_ids=torch.tensor(1))  # at the threshold: 1 - 1/2 / log2(4)
    tensor(0.7500)
    >>> loss.update(ids, scores, labels, query_ids=torch.tensor(1))
    >>> loss.thresholds  # 0 - 0.01 (1/3 - 1/2)
    tensor([0.0000, 0.0017])

    Source: :cite:`qiu2022`, algorithm 2, and its official code; equation numbers unchecked. Differs from the code as
    :class:`SONGLoss`; and in the theoretical form, where the code leaves the factor :math:`\alpha` out of the slope of
    :math:`\psi`.
    """

    call: ClassVar[Kind] = "list"
    """The kind of loss that it is called as."""
    inputs: ClassVar[Mapping[str, Input]] = {
        "ids": Input("item", "id", required=True),
        "query_ids": Input("list", "id", required=True),
    }
    """What calls take besides."""
    thresholds: Tensor

    def __init__(
        self,
        num_ids: int,
        num_queries: int,
        *,
        k: Annotated[int, Search(1, 1000, log=True)] = 10,
        gamma: Gamma = 0.1,
        margin: Margin = 1.0,
        sharpness: Annotated[float, Search(0.1, 100.0, log=True)] = 2.0,
        step_size: Annotated[float, Search(1e-3, 1.0, log=True)] = 0.01,
        temperature: Annotated[float, Search(1e-3, 1.0, log=True)] = 0.01,
        pull: float = 1e-4,
        form: Literal["practical", "theoretical"] = "practical",
        curvature_gamma: float = 0.9,
    ) -> None:
        super().__init__()
        check_count(k, "k")
        check_count(num_queries, "num_queries")
        if form not in ("practical", "theoretical"):
            raise InputError(f"form must be 'practical' or 'theoretical': got {form!r}.")
        named = {"sharpness": sharpness, "step_size": step_size, "temperature": temperature, "pull": pull}
        for name, value in named.items():
            check_positive(value, name)
        curvature = RunningMean(num_queries, gamma=curvature_gamma)
        self.k, self.sharpness, self.step_size = k, sharpness, step_size
        self.temperature, self.pull, self.form = temperature, pull, form
        self.discount = RunningDiscount(num_ids, gamma=gamma, margin=margin)
        self.curvature = curvature if form == "theoretical" else None
        self.register_buffer("thresholds", torch.zeros(num_queries))

    def forward(
        self,
        scores: Scores,
        labels: Labels,
        *,
        ids: Int[Tensor, "*batch list"],
        query_ids: Int[Tensor, "..."],
        where: Mask | None = None,
        weights: Weights | None = None,
        offsets: Offsets | None = None,
        reduction: Reduction = "mean",
        num_items: int | None = None,
        num_relevant: Tensor | None = None,
        ideal: Tensor | None = None,
    ) -> Tensor:
        """One value a list, reduced."""
        opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
        query_ids = self._checked(opened, query_ids)
        gained = gains(opened, "exponential")
        terms = gained * self._inside(opened, query_ids) * self.discount(opened, opened.labels > 0, ids, num_items)
        return one_less(opened, _fraction(opened, gained, terms, num_relevant, ideal, self.k), reduction)

    @torch.no_grad()
    def update(
        self,
        ids: Int[Tensor, "*batch list"],
        scores: Scores,
        labels: Labels,
        *,
        query_ids: Int[Tensor, "..."],
        where: Mask | None = None,
        offsets: Offsets | None = None,
        num_items: int | None = None,
    ) -> None:
        """Enter the places of this step's relevant items, and take a step with the thresholds of its queries."""
        opened = open_lists(scores, labels, where=where, weights=None, offsets=offsets)
        self.discount.update(opened, gains(opened, "exponential") > 0, ids)
        count = opened.lists.count()
        query_ids = self._checked(opened, query_ids)
        above = self._above(opened, query_ids)
        if self.curvature is not None:
            self.curvature.update(query_ids, self._log_curvature(opened, above), count > 0)
        number: Tensor | int = count.clamp(min=1).to(opened.scores.dtype) if num_items is None else num_items
        slope = self.k / number + self.pull * self._threshold(opened, query_ids) - opened.mean(above.soft)
        there = (count > 0) & slope.isfinite()
        rows, slope, there = without_absent(query_ids.reshape(-1), slope.reshape(-1), there.reshape(-1))
        step, found = mean_by_id(rows, slope, there)
        old = self.thresholds[rows]
        self.thresholds[rows] = torch.where(found, old - self.step_size * step.to(old.dtype), old)

    def _inside(self, opened: Opened, query_ids: Tensor) -> Tensor:
        """Soft share of each item in the top k, with the gradient of the form."""
        scores, threshold = opened.scores, opened.lists.spread(self._threshold(opened, query_ids))
        inside = torch.sigmoid(self.sharpness * (scores.detach() - threshold))
        if self.curvature is None:
            return inside
        above = self._above(opened, query_ids)
        curvature = self.curvature.blend(query_ids, self._log_curvature(opened, above)).exp()
        moved = scores - scores.detach()  # 0 in value
        threshold_moved = opened.mean(above.density * moved) / curvature
        return inside + self.sharpness * inside * (1 - inside) * (moved - opened.lists.spread(threshold_moved))

    def _checked(self, opened: Opened, query_ids: Tensor) -> Tensor:
        """The ids, 0 of lists with nothing valid."""
        count = opened.lists.count()
        if query_ids.shape != count.shape or query_ids.is_floating_point():
            raise InputError(
                f"query_ids must be integers, one a list, {tuple(count.shape)}: got {tuple(query_ids.shape)} of"
                f" {query_ids.dtype}."
            )
        return checked_ids(query_ids, count > 0, len(self.thresholds), "query_ids", "num_queries")

    def _threshold(self, opened: Opened, query_ids: Tensor) -> Tensor:
        return in_full_precision(self.thresholds)[query_ids].to(opened.scores.dtype)

    def _above(self, opened: Opened, query_ids: Tensor) -> _Above:
        threshold = opened.lists.spread(self._threshold(opened, query_ids))
        soft = torch.sigmoid((opened.scores.detach() - threshold) / self.temperature)
        return _Above(soft, soft * (1 - soft) / self.temperature)

    def _log_curvature(self, opened: Opened, above: _Above) -> Float[Tensor, "*batch"]:
        """Second derivative of the threshold's problem."""
        return (self.pull + opened.mean(above.density)).log()

    def extra_repr(self) -> str:
        """The configuration."""
        return f"k={self.k}, sharpness={self.sharpness}, form={self.form!r}"


def _fraction(
    opened: Opened,
    gained: Tensor,
    terms: Tensor,
    num_relevant: Tensor | None,
    ideal: Tensor | None,
    k: int | None = None,
) -> Fraction:
    """DCG over ideal DCG, of whole lists unless the numbers of the whole are given."""
    relevant = opened.labels > 0
    total = opened.lists.sum(torch.where(relevant, terms, 0))
    if num_relevant is not None:
        total = total * num_relevant / opened.lists.sum(relevant.to(total.dtype)).clamp(min=1)
    return Fraction(total, ideal_dcg(opened, gained, k) if ideal is None else ideal.to(total.dtype))
