"""Pictures of tuning, as SVG: the search over time, each parameter's slice, and which parameters mattered."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from rankwell.errors import require
from rankwell.experiments.dimensions import Dimension, Space
from rankwell.experiments.page import drawn, style
from rankwell.experiments.study import Study, Tried

__all__ = ["LEAST", "importances", "tuning_charts"]

LEAST = 8
"""Trials that came to their end, below which nothing is said of what mattered."""

COLUMNS = 3
"""Slices beside each other."""

SORTS = {"complete": "came to its end", "pruned": "stopped early", "fail": "failed"}
"""Of trials, in words."""


def importances(study: Study) -> dict[str, float]:
    """By the name of each parameter its share of importance, the largest first; empty for too few or equal trials.

    fANOVA: a random forest is fitted to the values of the trials, and a parameter's importance is the variance over the space
    that it explains by itself; shares sum to 1. Trials without the parameter, such as the configured one where its value lies
    outside the range, do not count. Empty, too, without scikit-learn, which grows the forest.
    """
    complete = [each for each in study.tried() if each.state == "complete"]
    tried = {name: [_value(each, study.space[name]) for each in complete] for name in study.space}
    names = [
        name for name, each in study.space.items() if len({str(value) for value in tried[name] if value in each}) > 1
    ]
    if len(complete) < LEAST or not names:
        return {}
    importance = require("optuna.importance", "tune")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            evaluator = importance.FanovaImportanceEvaluator(seed=0)
        except ImportError:
            return {}
        try:
            found = importance.get_param_importances(study.study, evaluator=evaluator, params=names)
        except RuntimeError:  # values that are all equal have no variance to explain
            return {}
    return {name: float(value) for name, value in found.items()}


def tuning_charts(tried: Sequence[Tried], space: Space, shares: Mapping[str, float], monitor: str) -> dict[str, str]:
    """By its title, each picture."""
    rows = math.ceil(len(space) / COLUMNS)
    made = {
        "The search: value in validation by trial": drawn(lambda figure: _history(figure, tried, monitor), 6),
        "Slices: value in validation against each parameter, marks as above": drawn(
            lambda figure: _slices(figure, tried, space, monitor), 7 * rows - 6
        ),
    }
    if shares:
        made["Importance of parameters"] = drawn(lambda figure: _importance(figure, shares), len(shares))
    return made


def _history(figure: Any, tried: Sequence[Tried], monitor: str) -> None:
    axes = figure.subplots()
    for place, (state, words) in enumerate(SORTS.items()):
        of = [each for each in tried if each.state == state]
        shown = [(each.number, _height(each)) for each in of if not math.isnan(_height(each))]
        if shown:
            axes.plot(*zip(*shown, strict=True), linestyle="", markersize=5, label=words, **style(place))
        for each in of:
            if math.isnan(_height(each)):
                axes.axvline(each.number, color="0.6", linestyle=":", linewidth=1)
    best, steps = -math.inf, []
    for each in tried:
        best = max(best, each.value if each.state == "complete" else best)
        steps.append((each.number, best if math.isfinite(best) else math.nan))
    if steps:
        axes.step(*zip(*steps, strict=True), where="post", color="0.3", linewidth=1, label="best so far")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(
        xlabel="trial (0: as configured; dotted: failed before its first epoch)", ylabel=f"{monitor} in validation"
    )
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _height(each: Tried) -> float:
    """Its value; of one that did not come to its end, the best that it had."""
    return each.value if each.state == "complete" else max(each.curve.values(), default=math.nan)


def _slices(figure: Any, tried: Sequence[Tried], space: Space, monitor: str) -> None:
    columns = min(COLUMNS, len(space))
    grid = figure.subplots(math.ceil(len(space) / columns), columns, squeeze=False, sharey=True)
    for axes, (name, each) in zip(grid.flat, space.items(), strict=False):
        for place, state in enumerate(SORTS):
            points = [(_value(one, each), _height(one)) for one in tried if one.state == state]
            shown = [(x, y) for x, y in points if _has_place(each, x) and not math.isnan(y)]
            if shown:
                x, y = zip(*shown, strict=True)
                axes.plot(_places(each, x), y, linestyle="", markersize=4, **style(place))
        if each.choices:
            axes.set_xticks(range(len(each.choices)), [str(choice) for choice in each.choices])
            axes.set_xlim(-0.5, len(each.choices) - 0.5)
        else:
            _span(axes, each)
        axes.set_xlabel(name)
    for axes in list(grid.flat)[len(space) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(monitor)


def _span(axes: Any, each: Dimension) -> None:
    """The range that was searched; its ends and its middle are marked."""
    axes.set_xscale("log" if each.log else "linear")
    middle = math.sqrt(each.low * each.high) if each.log else (each.low + each.high) / 2
    places = each.low, middle, each.high
    axes.set_xticks(places, [f"{place:,.0f}" if each.whole else f"{place:.3g}" for place in places])
    axes.minorticks_off()


def _value(each: Tried, dimension: Dimension) -> Any:
    """What the trial tried of one parameter; as configured, it may lie outside the range."""
    value = each.options.get(dimension.path)
    return value[dimension.place] if dimension.place is not None and isinstance(value, list) else value


def _has_place(each: Dimension, value: Any) -> bool:
    """Whether the value can be drawn; none can be where a logarithm has no place for it, or it is no choice."""
    if each.choices:
        return value in each.choices
    return isinstance(value, (int, float)) and (value > 0 or not each.log)


def _places(each: Dimension, values: Sequence[Any]) -> list[Any]:
    return [each.choices.index(value) for value in values] if each.choices else list(values)


def _importance(figure: Any, shares: Mapping[str, float]) -> None:
    axes = figure.subplots()
    axes.barh(range(len(shares)), list(shares.values()), color=style(0)["color"])
    axes.set_yticks(range(len(shares)), list(shares))
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set(xlabel="share of the variance that single parameters explain (fANOVA)")
