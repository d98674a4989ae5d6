r"""Exact sums over all pairs of a list without making a pair: by sorting and prefix sums.

For a binary list the hinge over all pairs needs one sort of the better items' :math:`s_i` together with the worse items'
:math:`v_j = s_j + m`. A pair costs :math:`v_j - s_i` where :math:`v_j > s_i`, so that an item needs only the number and
the sums of what stands before it (or behind it) on the other side:

.. math:: \sum_i w_i \sum_{j:\, v_j > s_i} (v_j - s_i), \qquad
    \sum_i w_i \sum_{j:\, v_j > s_i} (v_j^2 - 2 v_j s_i + s_i^2)

Graded labels go by the bits of their level: the levels of the two items of a pair have a highest bit in which they
differ, and the better one has it set. In the round of that bit the pair stands in one group (the list and the bits
above), as in a binary list. So L levels cost the logarithm of L sorts.

The order is exact: float32 scores are compared with sums that are rounded up. Sums are of centred scores and in float64,
so that their differences keep more digits than float32 has. Lists go in runs of bounded size, so that temporaries do not
grow with their number. The squared gap, which has no kink, needs no order of the scores: sums by label are enough.
"""

import bisect
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rankwell.kernels.chunked_pairs import chunked_sums
from rankwell.types import Mask, Offsets

__all__ = ["SORTED", "sorted_sums"]

SORTED = ("hinge", "squared_hinge", "square", "any_square")
"""What has an exact sum: hinges; the squared gap; and the squared gap over the pairs of any two items."""

RUN_ITEMS = 3 << 14
"""Items of consecutive lists that are sorted together, few enough for the cache. A longer list is a run of its own."""

RUN_LISTS = 1 << 12
"""Lists in a run: their numbers have to fit into a sort key beside scores, levels and positions."""

FEW_LEVELS = 64
"""Whole labels below this are levels as they are; others are ranked by a sort."""

SHORT, SHORT_OF_MANY_LEVELS = 64, 128
"""Short lists are cheaper by pairs than by sorting: up to this many items, averaged over items."""

LAST_BITS = 5
"""Levels below this bit are left to the pairs, if their groups are short."""

Sums = tuple[Tensor, Tensor, Tensor]
"""Pairs of each list; gradients by scores and by weights. The last is also what an item loses to its worse ones."""


# ---------------------------------------------------------------------------------------------------------------- groups


class _Groups(NamedTuple):
    """Items of equal groups, one behind the other, for sums inside the groups."""

    names: Tensor
    sizes: Tensor
    items: int

    @property
    def ends(self) -> Tensor:
        """Where the last item of each group stands; that of the one before, if it is empty."""
        return self.sizes.cumsum(0) - 1

    def before(self, x: Tensor) -> Tensor:
        """Sums of what stands up to each place in its group, itself included. Overwrites ``x``."""
        total = x.cumsum_(0)
        if len(self.sizes) > 1:
            total -= self.spread(torch.cat([total.new_zeros(1), total[self.ends[:-1]]]))
        return total

    def after(self, x: Tensor) -> Tensor:
        """Sums of what stands behind each place in its group. Overwrites ``x``."""
        total = x.cumsum_(0)
        return torch.sub(self.spread(total[self.ends]), total, out=total)

    def sum(self, x: Tensor) -> Tensor:
        """Sums of groups, in float64."""
        if len(self.sizes) == 1:
            return x.sum(0, keepdim=True, dtype=torch.float64)
        return torch.segment_reduce(x.double(), "sum", lengths=self.sizes, unsafe=True, initial=0)

    def spread(self, x: Tensor) -> Tensor:
        """One a group to one an item; a single one is left to broadcast."""
        return x.repeat_interleave(self.sizes, output_size=self.items) if len(x) > 1 else x


def _groups(ordered: Tensor) -> _Groups:
    """Groups of items by names that rise."""
    if len(ordered) and bool(ordered[0] == ordered[-1]):
        return _Groups(ordered[:1].clone(), torch.full_like(ordered[:1], len(ordered)), len(ordered))
    names, sizes = torch.unique_consecutive(ordered, return_counts=True)
    return _Groups(names.clone(), sizes.clone(), len(ordered))  # they come with room for as many groups as items


class _Run(NamedTuple):
    """Some consecutive lists."""

    scores: Tensor
    labels: Tensor
    weights: Tensor | None
    """None for ones."""
    where: Mask
    given: _Groups
    """The lists."""
    lists: Tensor
    """``[n]``: which list an item belongs to. What is masked is one more list, of one level."""
    centred: Tensor
    """``[n]``: scores less the mean of their list, in float64."""
    bits: int
    """Bits of the numbers of lists."""


def _open(scores: Tensor, labels: Tensor, weights: Tensor | None, where: Mask, lengths: Tensor) -> tuple[_Run, Tensor]:
    """A run, and the centre of each list."""
    given = _Groups(torch.arange(len(lengths), device=scores.device, dtype=torch.int32), lengths, len(scores))
    lists, count, bits = given.spread(given.names).expand(scores.shape), lengths, (len(lengths) - 1).bit_length()
    if not bool((where[:1] if where.stride() == (0,) else where).all()):
        bits = len(lengths).bit_length()
        lists, count = torch.where(where, lists, len(lengths)), given.sum(where)
    centres = given.sum(scores) / count.clamp(min=1)
    # A list with a score that is not finite is put at zero, so that its neighbours' sums stay what they are.
    centred = scores.sub(given.spread(centres)).nan_to_num_(0, 0, 0)
    return _Run(scores, labels, weights, where, given, lists, centred, bits), centres


# ---------------------------------------------------------------------------------------------------------------- order


def _order(group: Tensor, bits: int, key: Tensor, last: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The order by (group, key, last), and in that order groups from bit 33 on, and ``last`` as the lowest bit.

    Groups have so many bits, at most 30; ``last`` is boolean, and false if not given.
    """
    if key.dtype != torch.int32:
        order = key.argsort() if last is None else last.to(torch.uint8).argsort(stable=True)
        order = order if last is None else order[key[order].argsort(stable=True)]
        order = order[group[order].argsort(stable=True)]
        tail = group.to(torch.int64)[order] << 33
        return order, tail if last is None else tail | last[order]
    places = (len(key) - 1).bit_length()
    if key.device.type != "cpu" or bits + 33 + places > 63:
        packed, order = _packed(group, bits, key, last, 0).sort()
        return order, packed
    # With the position in the last bits there is one number to sort, and numpy sorts those by vector instructions: in a
    # quarter of the time of torch's radix sort.
    packed = _packed(group, bits, key, last, places)
    packed.numpy().sort()
    order = packed & (1 << places) - 1
    packed >>= places
    return order, packed


def _packed(group: Tensor, bits: int, key: Tensor, last: Tensor | None, places: int) -> Tensor:
    """Group, key, last and position, from the highest bit to the lowest; no position for no ``places``."""
    zero = 1 << 32 + places  # what the keys are counted from
    packed = torch.arange(zero, zero + len(key)) if places else torch.full_like(key, zero, dtype=torch.int64)
    packed.add_(key, alpha=2 << places)
    if last is not None:
        packed.add_(last, alpha=1 << places)
    return packed.add_(group, alpha=1 << 33 + places) if bits else packed


def _key(x: Tensor) -> Tensor:
    """float32 as integers that order as the numbers do; float64 as it is."""
    if x.dtype != torch.float32:
        return x
    bits = (x + 0.0).view(torch.int32)  # -0 is 0
    return bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF))


def _key_above(x: Tensor, margin: float) -> Tensor:
    """Keys of ``x`` plus the margin, rounded up: they exceed the key of a number if and only if the exact sum does."""
    exact = x.double() + margin
    if x.dtype != torch.float32:
        return exact
    rounded = exact.to(x.dtype)
    return _key(rounded).add_(exact.gt_(rounded.double()).to(torch.int32))


# ---------------------------------------------------------------------------------------------------------------- hinge


def _hinges(run: _Run, margin: float, squared: bool) -> Sums:
    """The rounds of all bits; the last ones by pairs where that is cheaper."""
    level, bits, rest = _levels(run)
    pairs = run.centred.new_zeros(len(run.given.sizes) + 1)
    totals = pairs, torch.zeros_like(run.centred), torch.zeros_like(run.scores)
    if rest:
        _add_pairs(run, level, rest, margin, squared, totals)
    keys = _key(run.scores), _key_above(run.scores, margin)
    for bit in range(rest, bits):
        _add_round(run, level, bit, bits - 1 - bit, keys, margin, squared, totals)
    return pairs[:-1], *totals[1:]


def _add_round(
    run: _Run,
    level: Tensor,
    bit: int,
    above: int,
    keys: tuple[Tensor, Tensor],
    margin: float,
    squared: bool,
    totals: Sums,
) -> None:
    """Add the pairs whose levels differ in a bit, and are equal in the ``above`` bits above it."""
    better = (level & 1 << bit).bool()
    group = run.lists << above | level >> (bit + 1) if above else run.lists
    order, ordered = _order(group, run.bits + above, torch.where(better, *keys), better)
    better, groups = (ordered & 1).to(torch.uint8), _groups(ordered.bitwise_right_shift_(33))
    del group, ordered
    won = groups.sum(better)
    totals[0].index_add_(0, groups.names >> above, won * (groups.sizes - won))
    slopes, values = _round(groups, run, order, better, margin, squared)
    totals[1].scatter_add_(0, order, slopes)
    totals[2].scatter_add_(0, order, values)


def _round(
    groups: _Groups, run: _Run, order: Tensor, better: Tensor, margin: float, squared: bool
) -> tuple[Tensor, Tensor]:
    """Gradients by scores and by weights, of items that are sorted by score, the worse ones' plus margin.

    ``better`` is 1 or 0: to float64 and a product take a half of the time of a boolean mask.
    """
    x, number = run.centred.index_select(0, order), 1 - better.double()
    x.add_(number, alpha=margin)
    number, first = groups.after(number), groups.after(_of_worse(x, better))
    short = torch.addcmul(first, number, x, value=-1)  # the sum of what each item is short of
    if squared:
        first.add_(short).mul_(x)
        values = groups.after(_of_worse(x, better).mul_(x)).sub_(first).mul_(better.double()).to(run.scores.dtype)
        slopes = short.mul_(2)
    else:
        values = (short * better.double()).to(run.scores.dtype)
        slopes = number
    del number, first, short
    weights = better.double()
    if run.weights is not None:
        weights *= run.weights.index_select(0, order)
    slopes.mul_(weights).neg_()
    if squared:
        first = groups.before(weights * x)
        over = groups.before(weights).mul_(x).sub_(first).mul_(2)
    else:
        over = groups.before(weights)
    return torch.lerp(over, slopes, better.double(), out=over), values


def _of_worse(x: Tensor, better: Tensor) -> Tensor:
    return torch.addcmul(x, x, better.double(), value=-1)  # exactly x or 0


def _levels(run: _Run) -> tuple[Tensor, int, int]:
    """Levels of the items, how many bits they have, and how many of the last bits are cheaper by pairs."""
    if _are_few(run.labels):
        return run.labels.to(torch.int32), int(run.labels.max()).bit_length(), 0
    order, ordered, cells = _cells(run)
    lists = _groups(ordered)
    cells -= lists.spread(cells[lists.ends - lists.sizes + 1])
    bits, rest = int(cells.max()).bit_length(), 0
    if bits > LAST_BITS:
        sizes = torch.unique_consecutive(ordered << bits | cells >> LAST_BITS, return_counts=True)[1]
        rest = LAST_BITS if bool(sizes.square().sum() <= SHORT_OF_MANY_LEVELS * len(cells)) else 0
    level = torch.empty(cells.shape, dtype=torch.int32, device=cells.device)
    return level.index_copy_(0, order, cells.to(torch.int32)), bits, rest


def _are_few(labels: Tensor) -> bool:
    """Whether labels are few whole numbers, which are levels as they are."""
    low, high = (float(x) for x in labels.aminmax())
    return low >= 0 and high < FEW_LEVELS and torch.equal(labels.round(), labels)


def _cells(run: _Run) -> tuple[Tensor, Tensor, Tensor]:
    """The order by list and label, and in that order the lists, and numbers that rise where either changes."""
    order, ordered = _order(run.lists, run.bits, _key(run.labels))
    lists, labels = ordered.bitwise_right_shift_(33), run.labels[order]
    new = (labels[1:] != labels[:-1]).logical_or_(lists[1:] != lists[:-1])
    return order, lists, torch.cat([lists.new_zeros(1), new.cumsum(0)])


def _add_pairs(run: _Run, level: Tensor, rest: int, margin: float, squared: bool, totals: Sums) -> None:
    """Add what is left to the pairs: those that differ in the last bits only."""
    order, ordered = _order(run.lists, run.bits, level)
    level = level[order]
    groups = _groups(ordered.bitwise_right_shift_(33).bitwise_left_shift_(30).add_(level >> rest))
    del ordered
    offsets = torch.cat([groups.sizes.new_zeros(1), groups.sizes.cumsum(0)])
    labels = (level & (1 << rest) - 1).to(run.scores.dtype)
    weights = run.scores.new_ones(()).expand(labels.shape) if run.weights is None else run.weights[order]
    phi = "squared_hinge" if squared else "hinge"
    _, counts, *slopes = chunked_sums(run.scores[order], labels, weights, run.where[order], offsets, phi, margin)
    totals[0].index_add_(0, groups.names >> 30, counts.double())
    for total, part in zip(totals[1:], slopes, strict=True):
        total.index_add_(0, order, part.to(total.dtype))


# --------------------------------------------------------------------------------------------------------------- squares


def _squares(run: _Run) -> Sums:
    """Squared gaps of better and worse items: sums over the items of lower and of higher labels."""
    order, ordered, cells = _cells(run)
    x = run.centred[order]
    weights = torch.ones_like(x) if run.weights is None else run.weights[order].double()
    lists, level = _groups(ordered), _groups(cells)

    def below(x: Tensor) -> Tensor:
        return level.spread((lists.before(x.clone()) - x)[level.ends - level.sizes + 1])

    def above(x: Tensor) -> Tensor:
        return level.spread(lists.after(x.clone())[level.ends])

    number, first, second = below(torch.ones_like(x)), below(x), below(x.square())
    values = number * x.square() - 2 * x * first + second
    slopes = 2 * (weights * (number * x - first) + x * above(weights) - above(weights * x))
    pairs = x.new_zeros(len(run.given.sizes) + 1).index_add_(0, lists.names, lists.sum(number.expand(x.shape)))
    by_scores, by_weights = (torch.empty_like(x).index_copy_(0, order, y.expand(x.shape)) for y in (slopes, values))
    return pairs[:-1], by_scores, by_weights


def _any_squares(run: _Run) -> Sums:
    """Squared gaps of any two items, by their distance from the list's mean."""
    total, spread = run.given.sum, run.given.spread
    there = run.where.double()
    weights = there if run.weights is None else run.weights * there
    number = total(there)
    x = (run.centred - spread(total(run.centred * there) / number.clamp(min=1))) * there
    values = (spread(number) * x.square() + spread(total(x.square()))) * there / 2
    slopes = (spread(number) * weights + spread(total(weights))) * x - spread(total(weights * x)) * there
    return number * (number - 1) / 2, slopes, values


# ---------------------------------------------------------------------------------------------------------------- lists


def sorted_sums(
    scores: Tensor, labels: Tensor, weights: Tensor, where: Mask, offsets: Offsets, phi: str, margin: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted sum and number of pairs of each list; gradients of the sum by scores and by weights.

    ``phi`` is a name of :data:`SORTED`. A pair of ``any_square`` weighs the mean of its items, all others as the better.
    """
    lengths = offsets.diff()
    if phi.endswith("hinge") and _are_short(lengths, labels):
        return chunked_sums(scores, labels, weights, where, offsets, phi, margin)
    # One weight for all is multiplied in at the end.
    factor = weights[:1] if weights.stride() == (0,) and len(weights) else None
    parts: list[tuple[Tensor, ...]] = [tuple(scores.new_zeros(0) for _ in range(4))]
    for lists, items in _runs(offsets):
        if items.start == items.stop:
            number = lists.stop - lists.start
            parts.append(tuple(scores.new_zeros(size) for size in (number, number, 0, 0)))
            continue
        given = weights[items] if factor is None else None
        run, centres = _open(scores[items], labels[items], given, where[items], lengths[lists])
        parts.append(tuple(x.to(scores.dtype) for x in _run_sums(run, centres, phi, margin)))
    sums, counts, by_scores, by_weights = (torch.cat(x) if len(x) > 2 else x[-1] for x in zip(*parts, strict=True))
    if factor is not None:
        sums, by_scores = sums.mul_(factor), by_scores.mul_(factor)
    return sums, counts, by_scores, by_weights


def _are_short(lengths: Tensor, labels: Tensor) -> bool:
    """Whether lists are so short that their pairs take less time than sorting."""
    pairs, items = int(lengths.square().sum()), len(labels)
    return pairs <= SHORT * items or (pairs <= SHORT_OF_MANY_LEVELS * items and not _are_few(labels))


def _run_sums(run: _Run, centres: Tensor, phi: str, margin: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if phi == "any_square":
        pairs, slopes, values = _any_squares(run)
    elif phi == "square":
        pairs, slopes, values = _squares(run)
    else:
        pairs, slopes, values = _hinges(run, margin, phi == "squared_hinge")
    total = values if run.weights is None else run.weights * values.double()
    # NaN for a list with a score that is not finite.
    return run.given.sum(total) + 0 * centres, pairs, slopes, values


def _runs(offsets: Offsets) -> Iterator[tuple[slice, slice]]:
    """Consecutive lists, and their items, by runs. Reads the offsets off the device once."""
    ends: list[int] = offsets.tolist()
    first = 0
    while first < len(ends) - 1:
        last = bisect.bisect_right(ends, ends[first] + RUN_ITEMS) - 1
        last = max(first + 1, min(last, first + RUN_LISTS))
        yield slice(first, last), slice(ends[first], ends[last])
        first = last
