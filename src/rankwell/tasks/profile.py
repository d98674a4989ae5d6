"""What data are like, in words that all tasks share: what rules of advice ask about."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rankwell.data.statistics import gini, top_share

__all__ = ["LabelKind", "Profile", "profile_of"]

LabelKind = Literal["implicit", "binary", "graded", "classes", "pairs", "teacher"]
"""Only what was taken · relevant or not · more than two grades · classes · what belongs together · scores of a teacher."""


@dataclass(frozen=True)
class Profile:
    """Counts, shape and skew. Queries are whom is ranked for: users, queries, rows or examples; items are what is ranked."""

    labels: LabelKind
    queries: int
    items: int
    pairs: int
    """Of a query and what is right for it."""
    positives: float
    """Pairs a query, on average."""
    list_median: float
    list_max: int
    """Items that the data list for a query."""
    density: float
    """Pairs over queries times items; where items belong to one query each, over the items."""
    gini: float | None = None
    """Of the items' pairs: 0 where all have as many; None where items belong to one query each."""
    top_1_percent: float | None = None
    """The share of the pairs that the most frequent hundredth of the items has."""
    repeat_rate: float | None = None
    """The share of rows that repeat an earlier pair; None where nobody counts them."""

    def rows(self, query: str, queries: str) -> list[tuple[str, str]]:
        """Name and value of each figure as text, for a table; the task says what one query is called, and several."""
        rows = [
            ("labels", self.labels),
            (queries, f"{self.queries:,}"),
            ("items to rank", f"{self.items:,}"),
            ("positive pairs", f"{self.pairs:,} ({self.positives:,.3g} a {query})"),
            (f"items listed for a {query}", f"{self.list_median:,.6g} in the middle, {self.list_max:,} at most"),
            ("density", f"{self.density:.3%}"),
        ]
        if self.gini is not None and self.top_1_percent is not None:
            rows.append(("popularity", f"Gini {self.gini:.3f}, the top 1 % of items has {self.top_1_percent:.1%}"))
        if self.repeat_rate is not None:
            rows.append(("repeat rate", f"{self.repeat_rate:.2%}"))
        return rows


def profile_of(
    labels: LabelKind,
    *,
    sizes: NDArray[np.int64],
    positives: NDArray[np.int64],
    items: int,
    popularity: NDArray[np.int64] | None = None,
    repeat_rate: float | None = None,
) -> Profile:
    """The profile of queries that list ``sizes`` items each, ``positives`` of them right, of so many ``items`` in all.

    ``popularity`` has the pairs of each item. Queries without items do not count. Time O(queries + items log items).

    >>> made = profile_of("binary", sizes=np.array([2, 4, 0]), positives=np.array([1, 1, 0]), items=6)
    >>> made.queries, made.positives, made.list_median, made.list_max
    (2, 1.0, 3.0, 4)
    """
    there = sizes > 0
    queries, pairs = int(there.sum()), int(positives.sum())
    chosen = None if popularity is None else np.sort(popularity[popularity > 0])[::-1]
    return Profile(
        labels=labels,
        queries=queries,
        items=items,
        pairs=pairs,
        positives=pairs / max(queries, 1),
        list_median=float(np.median(sizes[there])) if queries else 0.0,
        list_max=int(sizes.max(initial=0)),
        density=pairs / max(items if popularity is None else queries * items, 1),
        gini=None if chosen is None else gini(chosen),
        top_1_percent=None if chosen is None else top_share(chosen, 0.01),
        repeat_rate=repeat_rate,
    )
