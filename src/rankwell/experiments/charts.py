"""Pictures of a comparison, as SVG."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rankwell.experiments.page import drawn, style
from rankwell.experiments.standings import Contender, Standings

__all__ = ["charts"]


def charts(found: Standings) -> dict[str, str]:
    """By its title, each picture that the comparison has data for."""
    alive = [each for each in found.contenders if each.seeds]
    made: dict[str, Callable[[Any], None] | None] = {
        "Quality, with 95 % intervals over users and the single seeds": lambda figure: _quality(figure, found, alive),
        "Critical differences: mean rank over users": (lambda figure: _ranks(figure, found, alive))
        if len(alive) > 1
        else None,
        "Quality against training time": lambda figure: _time(figure, found, alive),
        "Learning curves": (lambda figure: _curves(figure, found, alive)) if any(map(_validated, alive)) else None,
        "Gradient by rank and popularity of the negative": (
            (lambda figure: _gradient(figure, alive)) if any(each.negatives for each in alive) else None
        ),
    }
    return {title: drawn(draw, len(alive)) for title, draw in made.items() if draw}


def _validated(contender: Contender) -> bool:
    return any(contender.curves)


def _label(contender: Contender) -> str:
    """Its name, in lines that leave room for what is drawn."""
    return textwrap.fill(contender.name.replace("$", r"\$"), 32)  # two of them would begin a formula


def _quality(figure: Any, found: Standings, alive: Sequence[Contender]) -> None:
    axes = figure.subplots()
    for place, each in enumerate(alive):
        summary = each.summaries[found.measure]
        axes.plot(
            [summary.low, summary.high], [place, place], color="0.6", linewidth=4, solid_capstyle="butt", zorder=1
        )
        seeds = np.nanmean(each.values[found.measure], axis=1)
        axes.scatter(seeds, [place] * len(seeds), s=14, color="0.2", marker="|", zorder=3)
        axes.plot(summary.mean, place, markersize=6, linestyle="", zorder=2, **style(place))
    for name, values in found.baselines.items():
        axes.axvline(values[found.measure], color="0.5", linestyle=":", linewidth=1)
        top = {"xy": (values[found.measure], 1.0), "xycoords": axes.get_xaxis_transform(), "va": "bottom"}
        axes.annotate(name, **top, fontsize="x-small", color="0.4", ha="center", annotation_clip=False)
    axes.set_yticks(range(len(alive)), [_label(each) for each in alive])
    axes.set_ylim(len(alive) - 0.5, -0.5)
    axes.set(xlabel=f"{found.measure} (bar: 95 % interval over {found.units}; strokes: seeds)")


def _ranks(figure: Any, found: Standings, alive: Sequence[Contender]) -> None:
    axes = figure.subplots()
    order = sorted(alive, key=lambda each: each.rank)
    for height, each in enumerate(order, start=1):
        place = alive.index(each)  # the same colour in every picture
        axes.plot([each.rank, each.rank], [0, height], color="0.7", linewidth=0.8, zorder=1)
        axes.plot(each.rank, 0, markersize=6, clip_on=False, **style(place))
        free = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # of the lines of those behind it
        text = f" {_label(each)} ({each.rank:.2f})"
        axes.annotate(text, (each.rank, height), fontsize="small", va="center", bbox=free)
    apart = {frozenset((pair.better, pair.worse)) for pair in found.pairs if pair.apart}
    for depth, (first, last) in enumerate(_together([each.name for each in order], apart)):
        low, high = order[first].rank, order[last].rank
        axes.plot([low, high], [-0.5 - 0.35 * depth] * 2, color="0.1", linewidth=3, solid_capstyle="round")
    axes.axhline(0, color="0.1", linewidth=0.8)
    axes.set(
        xlabel=f"mean rank by {found.measure}, 1 is best; thick lines join those that are not told apart", yticks=[]
    )
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.25)


def _together(names: Sequence[str], apart: set[frozenset[str]]) -> list[tuple[int, int]]:
    """Longest runs of neighbours of which no two are told apart, by first and last place.

    >>> _together(["a", "b", "c"], {frozenset("ac")})
    [(0, 1), (1, 2)]
    """
    runs: list[tuple[int, int]] = []
    for first in range(len(names)):
        last = first
        while last + 1 < len(names) and all(
            frozenset((names[last + 1], name)) not in apart for name in names[first : last + 1]
        ):
            last += 1
        if last > first and not (runs and runs[-1][1] >= last):
            runs.append((first, last))
    return runs


def _time(figure: Any, found: Standings, alive: Sequence[Contender]) -> None:
    axes = figure.subplots()
    for place, each in enumerate(alive):
        seconds = [used.training_seconds for used in each.used]
        seeds = np.nanmean(each.values[found.measure], axis=1)
        axes.scatter(seconds, seeds, s=26, label=_label(each), **style(place))
    axes.set(xlabel="seconds of training (one mark a seed)", ylabel=found.measure)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _curves(figure: Any, found: Standings, alive: Sequence[Contender]) -> None:
    """Against what each may use, and against what it took."""
    both = figure.subplots(1, 2, sharey=True)
    for place, each in enumerate(alive):
        for number, curve in enumerate(each.curves):
            if curve:
                *places, values = zip(*curve, strict=True)
                label = _label(each) if number == 0 else None
                for axes, along in zip(both, places, strict=True):
                    axes.plot(along, values, linewidth=1, markersize=3, label=label, **style(place))
    left, right = both
    left.xaxis.get_major_locator().set_params(integer=True)
    left.set(xlabel="epoch (one line a seed)", ylabel=f"{found.monitor} in validation")
    right.set(xlabel="seconds of training")
    right.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _gradient(figure: Any, alive: Sequence[Contender]) -> None:
    left, right = figure.subplots(1, 2)
    for place, each in enumerate(alive):
        if each.negatives is None:
            continue
        ranks, shares = each.negatives["by_rank"]["ranks"], each.negatives["by_rank"]["gradient"]
        left.plot(ranks[: len(shares)], shares, linewidth=1, markersize=3, label=_label(each), **style(place))
        if each.negatives["by_popularity"] is not None:
            by_popularity = each.negatives["by_popularity"]["gradient"]
            right.plot(range(1, len(by_popularity) + 1), by_popularity, linewidth=1, markersize=3, **style(place))
    left.tick_params(axis="x", rotation=45)
    left.set(xlabel="rank among the row's negatives", ylabel="share of gradient, last epoch")
    right.set(xlabel="tenth of the items, least popular first", ylabel="share of gradient, last epoch")
    figure.legend(*left.get_legend_handles_labels(), frameon=False, fontsize="x-small", loc="outside right center")
