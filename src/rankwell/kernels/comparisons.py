r"""Ranks from the comparisons of each item with all others, in memory that does not grow with their number.

.. math:: \hat\pi_i = 1 + \sum_{j \ne i} \phi(s_j - s_i)

with a smooth step :math:`\phi`, or the expected discount of a rank that is a sum of independent comparisons. Rows that are
asked for go in chunks against all columns; the chunks are made again in the backward pass, so that memory is O(n) and the
gradient exact. A block of lists on another device is waited for once.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rankwell.kernels.operators import applied, flatten, list_operator, no_second_derivative
from rankwell.lists import Opened, blocks
from rankwell.types import Mask, Offsets

__all__ = ["STEPS", "Step", "average_ranks", "compared_ranks", "compared_sums", "expected_discounts", "places"]

CHUNK_PAIRS = 1 << 17
"""Comparisons made at once: half a megabyte a temporary, small enough for the cache."""

BLOCK_ITEMS = 1 << 15
"""Padded items of one block of lists."""

Step: TypeAlias = Literal["logistic", "gaussian", "hinge", "squared_hinge", "above"]


def _logistic(gap: Tensor) -> Tensor:
    return torch.sigmoid(gap)


def _logistic_slope(gap: Tensor) -> Tensor:
    return torch.sigmoid(gap).mul_(torch.sigmoid(-gap))  # by 1 - sigmoid the far end would lose its digits


def _gaussian(gap: Tensor) -> Tensor:
    chance: Tensor = torch.special.ndtr(gap)
    return chance


def _gaussian_slope(gap: Tensor) -> Tensor:
    return gap.square().mul_(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))


def _hinge(gap: Tensor) -> Tensor:
    return (gap + 1).relu_()


def _hinge_slope(gap: Tensor) -> Tensor:
    return (gap > -1).to(gap.dtype)


def _squared_hinge(gap: Tensor) -> Tensor:
    return (gap + 1).relu_().square_()


def _squared_hinge_slope(gap: Tensor) -> Tensor:
    return (gap + 1).relu_().mul_(2)


def _above(gap: Tensor) -> Tensor:
    return (gap > 0).to(gap.dtype)


STEPS: dict[Step, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], float]] = {
    "logistic": (_logistic, _logistic_slope, 0.5),
    "gaussian": (_gaussian, _gaussian_slope, 0.5),
    "hinge": (_hinge, _hinge_slope, 1.0),
    "squared_hinge": (_squared_hinge, _squared_hinge_slope, 1.0),
    "above": (_above, torch.zeros_like, 0.0),
}
"""Value and slope by the gap :math:`(s_j - s_i) / \\tau`, each a new tensor, and the value at 0."""


FAR = 80.0
"""Gaps up to here have odds that float32 holds."""


def _logistic_of(odds: Tensor) -> Tensor:
    return odds.add_(1).reciprocal_()


def _logistic_slope_of(odds: Tensor) -> Tensor:
    value = (odds + 1).reciprocal_()
    return odds.mul_(value).mul_(value)


OF_ODDS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "logistic": (_logistic_of, _logistic_slope_of)
}
"""The same by :math:`e^{(s_i - s_j) / \\tau}`, which is overwritten: a product of an exponential a row and one a column saves
those of pairs."""


# ---------------------------------------------------------------------------------------------------------------- chunks


class _Chunk(NamedTuple):
    rows: Tensor
    """``[g, r]``: items that are compared."""
    asked: Tensor
    """``[g, r]``: false for padding."""
    columns: Tensor
    """``[g, n]``: the items of their lists."""
    valid: Mask
    """``[g, n]``."""
    own: Tensor
    """``[g, r]``: the column that each row is itself."""

    def gaps(self, scores: Tensor, temperature: float) -> Tensor:
        """Of each column over each row, ``[g, r, n]``."""
        columns = _at(scores, self.columns)
        return (columns[:, None] - columns.gather(-1, self.own)[..., None]).div_(temperature)

    def values(self, scores: Tensor, step: str, temperature: float) -> Tensor:
        """Steps of the gaps."""
        return self._stepped(0, scores, step, temperature)

    def slopes(self, scores: Tensor, step: str, temperature: float) -> Tensor:
        """Slopes of the steps; 0 for an item's gap to itself, which would cancel and take digits with it."""
        return self._stepped(1, scores, step, temperature).scatter_(-1, self.own[..., None], 0)

    def _stepped(self, which: Literal[0, 1], scores: Tensor, step: str, temperature: float) -> Tensor:
        odds = self._odds(scores, temperature) if step in OF_ODDS else None
        return STEPS[step][which](self.gaps(scores, temperature)) if odds is None else OF_ODDS[step][which](odds)  # type: ignore[index]

    def _odds(self, scores: Tensor, temperature: float) -> Tensor | None:
        """Odds of each row over each column, unless there are far gaps."""
        if scores.device.type != "cpu":  # a look at the numbers would wait for the device
            return None
        columns = _at(scores, self.columns).double().div_(temperature)
        low, high = columns.aminmax(dim=-1, keepdim=True)
        if not bool((high - low <= FAR).all()):
            return None
        columns -= (low + high) / 2
        rows = columns.gather(-1, self.own).exp_().to(scores.dtype)
        return rows[..., None] * columns.neg_().exp_().to(scores.dtype)[:, None]

    def columns_and_loads(self, loads: Tensor) -> Tensor:
        """Which columns are valid, and the loads of these, ``[g, n, 2]``: a product with it sums both."""
        return torch.stack([self.valid.to(loads.dtype), self.valid * _at(loads, self.columns)], -1)


def _at(x: Tensor, items: Tensor) -> Tensor:
    return x.index_select(0, items.flatten()).view(items.shape)  # a quarter of the time of x[items]


def _chunks(where: Mask, rows: Mask, offsets: Offsets) -> Iterator[_Chunk]:
    """The rows that are asked for, against all of their lists."""
    for _, items, valid in blocks(offsets, BLOCK_ITEMS):
        valid = valid & _at(where, items)
        asked = valid & _at(rows, items)
        first = asked.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
        n, most = items.shape[1], int(asked.sum(-1).max())
        height = min(most, max(1, CHUNK_PAIRS // n))
        step = max(1, CHUNK_PAIRS // (max(height, 1) * n))
        for low in range(0, len(items), step):
            some = slice(low, low + step)
            for top in range(0, most, max(height, 1)):
                place = first[some, top : top + height]
                compared, real = items[some].gather(-1, place), asked[some].gather(-1, place)
                yield _Chunk(compared, real, items[some], valid[some], place)


def _compare(
    scores: Tensor, loads: Tensor, where: Tensor, rows: Tensor, offsets: Tensor, step: str, temperature: float
) -> tuple[Tensor, Tensor]:
    """Sums of the steps over all valid items, plain and times loads, itself included; 0 for rows not asked for."""
    of_all, of_loads = torch.zeros_like(scores), torch.zeros_like(scores)
    for chunk in _chunks(where, rows, offsets):
        value = chunk.values(scores, step, temperature)
        sums = (value @ chunk.columns_and_loads(loads)) * chunk.asked[..., None]
        for total, part in zip((of_all, of_loads), sums.unbind(-1), strict=True):
            total.index_add_(0, chunk.rows.flatten(), part.flatten())  # padding adds 0 to a first item
    return of_all, of_loads


def _compare_slopes(
    scores: Tensor,
    grad_all: Tensor,
    grad_loads: Tensor,
    loads: Tensor,
    where: Tensor,
    rows: Tensor,
    offsets: Tensor,
    step: str,
    temperature: float,
) -> Tensor:
    """Gradient by the scores, from those of both sums."""
    slopes = torch.zeros_like(scores)
    for chunk in _chunks(where, rows, offsets):
        by_gap = chunk.slopes(scores, step, temperature)
        columns = chunk.columns_and_loads(loads)
        grads = torch.stack([_at(grad_all, chunk.rows), _at(grad_loads, chunk.rows)], -1) * chunk.asked[..., None]
        # A pair's slope times grads @ columns', summed over rows and over columns: without making that product.
        slopes.index_add_(0, chunk.columns.flatten(), ((grads.mT @ by_gap) * columns.mT).sum(-2).flatten())
        slopes.index_add_(0, chunk.rows.flatten(), ((by_gap @ columns) * grads).sum(-1).flatten(), alpha=-1)
    return slopes.div_(temperature)


def _spread(by_gap: Tensor, chunk: _Chunk, slopes: Tensor) -> None:
    """Add slopes by gaps to the columns, and take them from the rows."""
    by_gap.scatter_(-1, chunk.own[..., None], 0)  # an item's gap to itself: it would cancel, and take digits with it
    slopes.index_add_(0, chunk.columns.flatten(), by_gap.sum(-2).flatten())
    slopes.index_add_(0, chunk.rows.flatten(), by_gap.sum(-1).flatten(), alpha=-1)


def _two(scores: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    """Outputs that are like the scores."""
    return torch.empty_like(scores), torch.empty_like(scores)


compare = list_operator(_compare, _two)
compare_slopes = no_second_derivative(list_operator(_compare_slopes), "losses of soft ranks")


class _Compare(torch.autograd.Function):
    """The sums, whose chunks are made again in the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        return compare(*inputs)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG004
        *tensors, ctx.step, ctx.temperature = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad_all: Tensor, grad_loads: Tensor) -> tuple[Tensor | None, ...]:
        scores, *rest = ctx.saved_tensors
        slopes = compare_slopes(scores, grad_all, grad_loads, *rest, ctx.step, ctx.temperature)
        return slopes, None, None, None, None, None, None


def compared_sums(
    opened: Opened, rows: Mask, loads: Tensor, step: Step, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Soft ranks of the asked ``rows`` in their lists, else 1; and the sums of the loads of what stands softly above them,
    else 0. Loads are one an item, and have no gradient.
    """
    flat = flatten(opened)
    loads = loads.detach().to(flat.scores.dtype)
    sums = applied(
        _Compare, flat.scores, loads.reshape(-1), flat.where, rows.reshape(-1), flat.offsets, step, temperature
    )
    own = STEPS[step][2]
    of_all, of_loads = (x.reshape(rows.shape) for x in sums)
    return torch.where(rows, of_all + (1 - own), 1), torch.where(rows, of_loads - own * loads, 0)


def compared_ranks(opened: Opened, rows: Mask, step: Step, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Soft ranks of the asked ``rows`` in their lists, and among themselves; else 1."""
    ranks, above = compared_sums(opened, rows, rows, step, temperature)
    return ranks, 1 + above


# ------------------------------------------------------------------------------------------- distribution of the rank


@functools.cache
def _exponentials(size: int) -> tuple[tuple[float, float], ...]:
    r"""Pairs :math:`(c, \omega)` with :math:`1 / \log_2(2 + r) \approx \sum \omega (1 - c)^r` for :math:`0 \le r < size`.

    The discount is completely monotone: a mixture of exponentials, of which some 20 are enough. By least squares at rates
    spaced evenly on a logarithmic scale.
    """
    count = 8 + math.ceil(math.log2(size))
    rates = torch.logspace(math.log10(0.5 / size), math.log10(4.0), count, dtype=torch.double)
    rates = torch.cat([rates.new_zeros(1), rates])
    dense = torch.arange(min(size, 512), dtype=torch.double)
    at = torch.cat([dense, torch.logspace(math.log10(512), math.log10(size), 512, dtype=torch.double)])[:size]
    discount = 1 / torch.log2(2 + at)
    basis = torch.exp(-at[:, None] * rates)
    weights = torch.linalg.lstsq(basis / discount[:, None], torch.ones_like(at)[:, None], driver="gelsd").solution
    return tuple(zip((-torch.expm1(-rates)).tolist(), weights[:, 0].tolist(), strict=True))


def _discount(scores: Tensor, where: Tensor, rows: Tensor, offsets: Tensor, deviation: float) -> Tensor:
    """Expected discount of the rank of each row: the generating function of a sum of independent comparisons."""
    values = torch.zeros_like(scores)
    for chunk in _chunks(where, rows, offsets):
        beats = torch.special.ndtr(chunk.gaps(scores, deviation)).mul_(chunk.valid[:, None])
        value = torch.zeros_like(beats[..., 0])
        for c, weight in _terms(beats):
            value.add_(_product(beats, c), alpha=weight)
        values.index_add_(0, chunk.rows.flatten(), (value * chunk.asked).flatten())
    return values


def _discount_slopes(
    scores: Tensor, grad: Tensor, where: Tensor, rows: Tensor, offsets: Tensor, deviation: float
) -> Tensor:
    slopes = torch.zeros_like(scores)
    for chunk in _chunks(where, rows, offsets):
        gaps = chunk.gaps(scores, deviation)
        beats = torch.special.ndtr(gaps).mul_(chunk.valid[:, None])
        by_beats = torch.zeros_like(beats)
        for c, weight in _terms(beats):
            by_beats.addcdiv_(_product(beats, c)[..., None], 1 - c * beats, value=-c * weight)
        by_beats.mul_(_gaussian_slope(gaps)).mul_(chunk.valid[:, None])
        _spread(by_beats.mul_((grad[chunk.rows] * chunk.asked)[..., None]), chunk, slopes)
    return slopes.div_(deviation)


def _terms(beats: Tensor) -> tuple[tuple[float, float], ...]:
    # Not fitted to fewer: there large weights would cancel.
    return _exponentials(max(1024, 1 << (beats.shape[-1] - 1).bit_length()))


def _product(beats: Tensor, c: float) -> Tensor:
    """Mean of (1 - c)^r over the number r of rivals that beat the row; its own 1/2 is divided out."""
    return (beats * -c).log1p_().sum(-1).sub_(math.log1p(-c / 2)).exp_()


discount = list_operator(_discount)
discount_slopes = no_second_derivative(list_operator(_discount_slopes), "losses of soft ranks")


class _Discount(torch.autograd.Function):
    """Expected discounts, whose chunks are made again in the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        return discount(*inputs)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        *tensors, ctx.deviation = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scores, *rest = ctx.saved_tensors
        return discount_slopes(scores, grad, *rest, ctx.deviation), None, None, None, None


def expected_discounts(opened: Opened, rows: Mask, deviation: float) -> Tensor:
    r"""Mean of :math:`1 / \log_2(1 + \pi_i)` when rival j stands above item i with chance :math:`\Phi((s_j - s_i) / d)`,
    independently of the others; 0 for rows that are not asked for.

    The distribution of the rank is that of a sum of independent yes-or-no draws. Its recursion takes O(n^2) an item; the
    discount as a sum of some 20 exponentials, whose means are products over the rivals, takes O(n), to a part in a million.
    """
    flat = flatten(opened)
    return applied(_Discount, flat.scores, flat.where, rows.reshape(-1), flat.offsets, deviation).reshape(rows.shape)  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------------------------ hard ranks


def _hard_ranks(x: Tensor, where: Tensor, offsets: Tensor, average: bool) -> Tensor:
    """Place of each item by ``x``, best first, counted from 1; ``average``: the mean place of its equals. 0 where masked."""
    ranks = torch.zeros_like(x)
    for _, items, valid in blocks(offsets, BLOCK_ITEMS):
        valid = valid & _at(where, items)
        keys, order = torch.where(valid, -_at(x, items), torch.inf).sort(dim=-1, stable=True)
        items, valid = items.gather(-1, order), valid.gather(-1, order)
        if average:
            place = (torch.searchsorted(keys, keys) + torch.searchsorted(keys, keys, right=True) + 1) / 2
        else:
            place = torch.arange(1, items.shape[1] + 1, device=x.device)
        ranks.index_add_(0, items.flatten(), (place * valid).to(x.dtype).flatten())
    return ranks


hard_ranks = list_operator(_hard_ranks)


def places(opened: Opened, x: Tensor) -> Tensor:
    """Place of each item in its list by ``x``, the highest at 1, equals in their order; 0 where masked. No gradient."""
    flat = flatten(opened)
    return hard_ranks(x.detach().reshape(-1), flat.where, flat.offsets, False).reshape(x.shape)  # type: ignore[no-any-return]


def average_ranks(opened: Opened, x: Tensor) -> Tensor:
    """As :func:`places`, but equals share the mean of their places."""
    flat = flatten(opened)
    return hard_ranks(x.detach().reshape(-1), flat.where, flat.offsets, True).reshape(x.shape)  # type: ignore[no-any-return]
