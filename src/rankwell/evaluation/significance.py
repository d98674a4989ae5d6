"""Whether one contender is better than another: variance over users told apart from variance over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from rankwell.errors import InputError, require

__all__ = ["Difference", "Summary", "difference", "holm", "mean_ranks", "summarise", "summarise_figures"]

RESAMPLES = 999, 9_999
"""Fewest and most; between them as many as make ``DRAWS``."""
DRAWS, BLOCK = 1 << 26, 1 << 22
"""Numbers that resampling draws in all, and holds at a time."""
NORMAL = 2_000
"""With more users that differ, the mean under flipped signs is normal, to far less than resampling would err."""
LEAST_UNITS = 10
"""With fewer users, no test says anything."""

ROUNDING = 1e-12
"""Differences whose spread is less than this share of the largest value are taken to be all the same."""

Values = Float[np.ndarray, "s u"]


@dataclass(frozen=True)
class Summary:
    """One contender's figure: of each seed a value of each user or query."""

    mean: float
    low: float
    high: float
    """Of 95 % bootstrap intervals over users, of the mean over seeds: what other users of the same kind would give."""
    over_seeds: float
    """Standard deviation over seeds of the mean over users: what other seeds would give; NaN for one seed."""
    over_units: float
    """Standard deviation over users of the mean over seeds."""
    seeds: int
    units: int
    """0 where the figure is one of all users together: then nothing is known over users."""


@dataclass(frozen=True)
class Difference:
    r"""How much the first contender is above the second, and how sure that is.

    With :math:`d_u` the difference of user u's means over seeds, :math:`\bar d` its mean over U users, :math:`s_A^2` and
    :math:`s_B^2` the variances over S seeds of the two contenders' means over users,

    .. math:: t = \frac{\bar d}{\sqrt{v_U + v_A + v_B}}, \quad v_U = \frac{\operatorname{var}_u d_u}{U},
        \quad v_A = \frac{s_A^2}{S_A}, \quad v_B = \frac{s_B^2}{S_B}

    against Student's distribution with Welch and Satterthwaite's degrees of freedom. The noise of a user under one seed is in
    both :math:`v_U` and :math:`v_A`: the test is a little conservative.
    """

    mean: float
    low: float
    high: float
    """Of 95 % intervals: of the test with both variances, where there are two seeds; else of the bootstrap over users."""
    p: float
    """Two-sided, for "the losses are equal", with the variance over seeds; NaN where a contender has one seed."""
    p_permutation: float
    """Two-sided, for "these trained models are equal": signs of :math:`d_u` flipped. It knows nothing of other seeds."""
    p_t: float
    """The same by Student's paired test."""
    effect: float
    r""":math:`\bar d` over the standard deviation of :math:`d_u` (Cohen's :math:`d_z`); 0 where both are 0."""
    wins: int
    ties: int
    losses: int
    """Users with :math:`d_u` above, at and below 0."""
    identical: bool
    """Whether both have the same values, of every seed and user."""
    units: int


def summarise(values: Values, *, seed: int = 0) -> Summary:
    """Mean, interval over users, and the two variances of one contender.

    Users with NaN under any seed do not count.

    Raises:
        InputError: if no user counts.

    >>> found = summarise(np.array([[0.0, 1.0], [0.0, 0.5]]))
    >>> found.mean, round(found.over_seeds, 4), found.units
    (0.375, 0.1768, 2)
    """
    values = _counting(values)
    of_units = values.mean(0)
    low, high = _bootstrap(of_units, seed)
    over_seeds = float(values.mean(1).std(ddof=1)) if len(values) > 1 else math.nan
    over_units = float(of_units.std(ddof=1)) if len(of_units) > 1 else math.nan
    return Summary(float(of_units.mean()), low, high, over_seeds, over_units, *values.shape)


def summarise_figures(values: Float[np.ndarray, " s"]) -> Summary:
    """The same of a measure that is one figure a result, as ``coverage``, and no mean over users: no interval over them.

    >>> summarise_figures(np.array([0.5, 0.75])).mean
    0.625
    """
    over_seeds = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return Summary(float(values.mean()), math.nan, math.nan, over_seeds, math.nan, len(values), 0)


def difference(first: Values, second: Values, *, seed: int = 0) -> Difference:
    """The first contender less the second, on the same users ``[s, u]``; seeds need not be as many.

    Users with NaN on either side do not count. With fewer than 10 users all p are NaN. Time and memory are bounded:
    9,999 resamples of up to 6,700 users, fewer of more.

    Raises:
        InputError: if the users are not as many, or none counts.

    >>> values = np.arange(40.0).reshape(2, 20)
    >>> found = difference(values, values)
    >>> found.identical, found.p_permutation, found.ties
    (True, 1.0, 20)
    """
    if first.shape[1] != second.shape[1]:
        raise InputError(f"both must have the same users: got {first.shape[1]} and {second.shape[1]}.")
    both = _counting(np.concatenate([first, second]))
    first, second = both[: len(first)], both[len(first) :]
    of_units = first.mean(0) - second.mean(0)
    mean, spread = float(of_units.mean()), float(of_units.std(ddof=1)) if len(of_units) > 1 else 0.0
    if spread <= ROUNDING * float(np.abs(both).max()):
        spread = 0.0
    tested = len(of_units) >= LEAST_UNITS
    low, high, p = _with_seeds(first, second, of_units) if tested else (math.nan, math.nan, math.nan)
    if math.isnan(low):
        low, high = _bootstrap(of_units, seed)
    return Difference(
        mean,
        low,
        high,
        p,
        _permutation(of_units, seed) if tested else math.nan,
        _paired_t(of_units) if tested else math.nan,
        mean / spread if spread else math.copysign(math.inf, mean) if mean else 0.0,
        int((of_units > 0).sum()),
        int((of_units == 0).sum()),
        int((of_units < 0).sum()),
        np.array_equal(first, second),
        len(of_units),
    )


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p, in the order given; NaN stays NaN and is no comparison.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted((value, place) for place, value in enumerate(p) if not math.isnan(value))
    adjusted, highest = [math.nan] * len(p), 0.0
    for done, (value, place) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - done) * value))
        adjusted[place] = highest
    return adjusted


def mean_ranks(values: Float[np.ndarray, "c u"]) -> Float[np.ndarray, " c"]:
    """The mean over users of each contender's rank, 1 for the highest, ties shared.

    >>> mean_ranks(np.array([[1.0, 1.0], [0.0, 1.0]])).tolist()
    [1.25, 1.75]
    """
    stats: Any = require("scipy.stats", "cli")
    ranks: Float[np.ndarray, " c"] = stats.rankdata(-values, axis=0).mean(1)
    return ranks


def _counting(values: Values) -> Values:
    """The users that have a value everywhere."""
    kept = values[:, ~np.isnan(values).any(0)].astype(np.float64)
    if not kept.size:
        raise InputError("a comparison needs at least one user with a value under every seed: there is none.")
    return kept


def _with_seeds(first: Values, second: Values, of_units: Float[np.ndarray, " u"]) -> tuple[float, float, float]:
    """Interval and p with the variances of users and of seeds; NaN where a contender has one seed."""
    if min(len(first), len(second)) < 2:
        return math.nan, math.nan, math.nan
    stats: Any = require("scipy.stats", "cli")
    parts = [(of_units.var(ddof=1) / len(of_units), len(of_units) - 1)]
    parts += [(side.mean(1).var(ddof=1) / len(side), len(side) - 1) for side in (first, second)]
    variance, mean = sum(part for part, _ in parts), float(of_units.mean())
    if not variance:
        return mean, mean, float(mean == 0)
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    width = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    return float(mean - width), float(mean + width), float(2 * stats.t.sf(abs(mean) / math.sqrt(variance), freedom))


def _permutation(of_units: Float[np.ndarray, " u"], seed: int) -> float:
    """Two-sided p of the mean under flipped signs; those of zeros change nothing."""
    moved = of_units[of_units != 0]
    if len(moved) < 2:
        return 1.0
    if len(moved) > NORMAL:
        return math.erfc(abs(float(moved.sum())) / math.sqrt(2 * float((moved**2).sum())))
    stats: Any = require("scipy.stats", "cli")
    found = stats.permutation_test(
        (moved,),
        lambda flipped, axis: flipped.mean(axis),
        permutation_type="samples",
        vectorized=True,
        **_resamples(len(moved), seed),
    )
    return float(found.pvalue)


def _paired_t(of_units: Float[np.ndarray, " u"]) -> float:
    """Two-sided p of Student's paired test."""
    if not np.ptp(of_units):
        return float(of_units[0] == 0)
    stats: Any = require("scipy.stats", "cli")
    units = len(of_units)
    t = abs(float(of_units.mean())) / (float(of_units.std(ddof=1)) / math.sqrt(units))
    return float(2 * stats.t.sf(t, units - 1))


def _bootstrap(of_units: Float[np.ndarray, " u"], seed: int) -> tuple[float, float]:
    """The percentile interval of the mean."""
    if len(of_units) < 2 or not np.ptp(of_units):
        return float(of_units.mean()), float(of_units.mean())
    stats: Any = require("scipy.stats", "cli")
    found = stats.bootstrap(
        (of_units,),
        np.mean,
        method="percentile",
        vectorized=True,
        **_resamples(len(of_units), seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _resamples(units: int, seed: int) -> dict[str, Any]:
    """How often, and how many at a time."""
    often = min(max(DRAWS // units, RESAMPLES[0]), RESAMPLES[1])
    return {"n_resamples": often, "batch": max(1, BLOCK // units), "rng": np.random.default_rng(seed)}
