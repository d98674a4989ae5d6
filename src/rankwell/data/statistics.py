"""What a data set is like, before anything is trained on it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rankwell.data.schema import Interactions

__all__ = ["Statistics", "describe", "gini", "top_share"]

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
"""The probabilities of the quantiles: least, quartiles, tenth from the top, most."""

_EARLIEST_SECONDS = 2**28  # 1978: smaller numbers are counters or years, larger ones seconds


@dataclass(frozen=True)
class Statistics:
    """Counts, shape and skew of interactions; fractions, not percentages.

    Quantiles of interactions per user and per item are at least, 25 %, 50 %, 75 %, 90 % and most, over users and items
    with any. ``gini`` of item popularity is 0 where all items are equally popular and nears 1 where one has everything.
    ``repeat_rate`` is the part of rows that repeat an earlier pair, None where reading did not count them. ``time_span`` is
    the first and last timestamp. ``labels`` says what weights are: implicit, constant, binary, graded or real.
    """

    users: int
    items: int
    interactions: int
    density: float
    per_user: tuple[float, ...]
    per_item: tuple[float, ...]
    gini: float
    top_1_percent: float
    top_10_percent: float
    repeat_rate: float | None
    time_span: tuple[float, float] | None
    labels: str

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of each figure as text, in the order for a table."""
        rows = [
            ("users", f"{self.users:,}"),
            ("items", f"{self.items:,}"),
            ("interactions", f"{self.interactions:,}"),
            ("density", f"{self.density:.3%}"),
            ("per user (min 25 50 75 90 % max)", " ".join(f"{value:,.10g}" for value in self.per_user)),
            ("per item (min 25 50 75 90 % max)", " ".join(f"{value:,.10g}" for value in self.per_item)),
            ("Gini of item popularity", f"{self.gini:.3f}"),
            ("share of the top 1 % of items", f"{self.top_1_percent:.1%}"),
            ("share of the top 10 % of items", f"{self.top_10_percent:.1%}"),
        ]
        if self.repeat_rate is not None:
            rows.append(("repeat rate", f"{self.repeat_rate:.2%}"))
        if self.time_span is not None:
            rows.append(("time", " to ".join(_moment(value) for value in self.time_span)))
        return [*rows, ("labels", self.labels)]


def describe(data: Interactions, *, merged: int | None = None) -> Statistics:
    """Describe interactions; ``merged`` is how many duplicate rows reading merged (:class:`Dataset` has it).

    Users and items are counted where they have an interaction here, not in the whole vocabulary. Time O(n).
    """
    users = data.activity()[data.activity() > 0]
    items = np.sort(data.popularity()[data.popularity() > 0])[::-1]
    times = data.timestamps
    return Statistics(
        users=len(users),
        items=len(items),
        interactions=len(data),
        density=len(data) / max(len(users) * len(items), 1),
        per_user=_quantiles(users),
        per_item=_quantiles(items),
        gini=gini(items),
        top_1_percent=top_share(items, 0.01),
        top_10_percent=top_share(items, 0.1),
        repeat_rate=None if merged is None else merged / max(merged + len(data), 1),
        time_span=None if times is None or len(times) == 0 else (float(times.min()), float(times.max())),
        labels=_labels(data.weights),
    )


def _quantiles(counts: NDArray[np.int64]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(counts, QUANTILES)) if len(counts) else ()


def gini(descending: NDArray[np.int64]) -> float:
    """Mean absolute difference of two draws over twice the mean, by ranks instead of pairs; counts stand in falling order.

    >>> gini(np.array([5, 5])), gini(np.array([10, 0]))
    (0.0, 0.5)
    """
    n, total = len(descending), int(descending.sum())
    if total == 0:
        return 0.0
    # For ascending counts x_1 … x_n: Σ (2 i − n − 1) x_i / (n Σ x); descending order changes the sign.
    return float((np.arange(n - 1, -n - 1, -2) * descending).sum() / (n * total))


def top_share(descending: NDArray[np.int64], fraction: float) -> float:
    """The share of interactions that the most popular fraction of items has; at least one item."""
    top = max(round(fraction * len(descending)), 1)
    return float(descending[:top].sum() / max(int(descending.sum()), 1))


def _labels(weights: NDArray[Any] | None) -> str:
    if weights is None:
        return "implicit (no weights)"
    values = pl.Series(weights).unique().sort().to_numpy()  # several times faster than numpy's unique
    if len(values) == 0 or len(values) == 1:
        return f"constant ({values[0]:g})" if len(values) else "none"
    if set(values.tolist()) <= {0.0, 1.0}:
        return "binary (0, 1)"
    kind = "graded" if len(values) <= 32 else "real"
    return f"{kind} ({len(values):,} values, {values[0]:g} to {values[-1]:g})"


def _moment(value: float) -> str:
    """A date where the number looks like seconds or milliseconds since 1970, or else the number."""
    for unit in (1.0, 1000.0):
        if _EARLIEST_SECONDS <= value / unit < 2**33:
            return datetime.fromtimestamp(value / unit, tz=UTC).strftime("%Y-%m-%d %H:%M")
    return f"{value:,.10g}"
