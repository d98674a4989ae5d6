"""What was mined, in figures and in a picture."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from rankwell.atomic import write_atomically
from rankwell.errors import require
from rankwell.mining.negatives import Mined
from rankwell.mining.settings import MiningSettings
from rankwell.words import many

__all__ = ["Report"]

POSITIVES, NEGATIVES = "#0072B2", "#D55E00"
"""Okabe and Ito's blue and vermilion, told apart by all eyes."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

ADVICE = {
    "range_min": "lower --range-min",
    "absolute_margin": "lower --absolute-margin",
    "relative_margin": "lower --relative-margin",
    "max_score": "raise --max-score",
    "min_score": "lower --min-score",
}


class Report:
    """Counts blocks as they go by; keeps their scores, four bytes each.

    >>> report = Report(MiningSettings(num_negatives=2, max_score=0.6))
    >>> report.add(Mined(
    ...     torch.tensor([0]), torch.tensor([7]), torch.tensor([0.9]), torch.tensor([[3, -1]]),
    ...     torch.tensor([[0.5, -torch.inf]]), candidates=4, dropped={"max_score": 3},
    ... ))
    >>> dict(report.counts())["negatives a pair"]
    '1.00 of 2'
    """

    def __init__(self, settings: MiningSettings) -> None:
        self.settings = settings
        self.pairs = self.queries = self.candidates = self.short = self.without = 0
        self.dropped: Counter[str] = Counter()
        self._scores: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, mined: Mined) -> None:
        """Count a block."""
        there = mined.negatives >= 0
        found = there.sum(1)
        self.pairs += len(found)
        self.queries += 1 + int(mined.queries.diff().ne(0).sum()) if len(found) else 0
        self.candidates += mined.candidates
        self.short += int((found < self.settings.num_negatives).sum())
        self.without += int((found == 0).sum())
        self.dropped.update(mined.dropped)
        gaps = mined.positive_scores[:, None] - mined.negative_scores
        self._scores.append((mined.positive_scores.cpu(), mined.negative_scores[there].cpu(), gaps[there].cpu()))

    def counts(self) -> Iterator[tuple[str, str]]:
        """What, and how many."""
        negatives = sum(len(scores) for _, scores, _ in self._scores)
        yield "queries, pairs", f"{self.queries:,}, {self.pairs:,}"
        yield "negatives", f"{negatives:,}"
        yield "negatives a pair", f"{negatives / max(self.pairs, 1):.2f} of {self.settings.num_negatives}"
        yield "candidates", f"{self.candidates:,}"
        for name, number in self.dropped.items():
            limit = getattr(self.settings, name)
            yield f"dropped by {name} {limit:g}", f"{number:,} ({number / max(self.candidates, 1):.1%})"
        if self.short:
            yield (
                "pairs with too few",
                f"{self.short:,} ({self.short / self.pairs:.1%}), {self.without:,} of them with none",
            )

    def advice(self, *, rescored: bool = False) -> str | None:
        """What to do about pairs with too few negatives; None where there are none."""
        if not self.short:
            return None
        ways = [f"raise --range-max (now {self.settings.window(rescored=rescored)})"]
        ways += [ADVICE[name] for name, number in self.dropped.most_common() if number]
        return (
            f"{many(self.short, 'pair')} with fewer than {self.settings.num_negatives} negatives: {' or '.join(ways)}."
        )

    def scores(self) -> Iterator[tuple[str, list[float]]]:
        """Mean and quantiles of positives' and negatives' scores, and of their differences."""
        for name, values in zip(("positive", "negative", "difference"), self._joined(), strict=True):
            if len(values):
                # torch.quantile takes no more than 16 million numbers.
                ordered = values.sort().values
                places = [round(share * (len(ordered) - 1)) for share in QUANTILES]
                yield name, [float(values.mean(dtype=torch.float64)), *(float(ordered[place]) for place in places)]

    def draw(self, path: Path) -> None:
        """Histograms of the scores, into a file of the type that its name says (``.svg``, ``.png``)."""
        figure = require("matplotlib.figure", "cli").Figure(figsize=(6.4, 3.0), layout="constrained")
        axes = figure.subplots()
        positives, negatives, _ = self._joined()
        every = torch.cat([positives, negatives])
        edges = torch.linspace(float(every.min()), float(every.max()) + 1e-6, 61)
        for values, name, colour in ((positives, "positives", POSITIVES), (negatives, "negatives", NEGATIVES)):
            if len(values):
                heights = torch.histc(values, 60, float(edges[0]), float(edges[-1])) / len(values)
                axes.stairs(heights.tolist(), edges.tolist(), color=colour, fill=True, alpha=0.35)
                axes.stairs(heights.tolist(), edges.tolist(), color=colour, label=f"{len(values):,} {name}")
        axes.set(xlabel="score", ylabel="share", title="Scores of positives and of the negatives mined")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
        with write_atomically(path) as temporary:
            figure.savefig(temporary, dpi=130, format=path.suffix.removeprefix("."))

    def _joined(self) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(torch.cat(parts) for parts in zip(*self._scores, strict=True))  # type: ignore[return-value]
