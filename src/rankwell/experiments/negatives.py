"""The picture of what training saw of its negatives."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankwell.atomic import write_atomically
from rankwell.errors import require
from rankwell.pictures import COLOURS

__all__ = ["draw_negatives"]

RATES = {
    "collision_rate": "collisions (of draws)",
    "violating": "above the positive",
    "suspected_false": "suspected false",
    "held_out_positives": "held-out positives",
    "with_gradient": "with any gradient",
}
"""Lines of the first panel, as the figures are called and as they are labelled."""

FIRST, LAST, BESIDE = COLOURS[5], COLOURS[0], "0.4"


def draw_negatives(path: Path, epochs: Sequence[Mapping[str, Any]]) -> None:
    """Draw rates by epoch, and gradient by rank and by popularity.

    ``epochs`` holds what :meth:`rankwell.training.NegativesSeen.finish` gave, with the ``epoch``; at least one. Rates stand on
    a logarithmic axis, where those of 0 have no place.
    """
    matplotlib = require("matplotlib.figure", "cli")
    figure = matplotlib.Figure(figsize=(12, 3.6), layout="constrained")
    rates, ranks, popularity = figure.subplots(1, 3)
    _draw_rates(rates, epochs)
    _draw_ranks(ranks, epochs[0], epochs[-1])
    _draw_popularity(popularity, epochs[0], epochs[-1])
    for axes in (rates, ranks, popularity):
        axes.spines[["top", "right"]].set_visible(False)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=130, format=path.suffix.removeprefix("."))


def _draw_rates(axes: Any, epochs: Sequence[Mapping[str, Any]]) -> None:
    numbers = [each["epoch"] for each in epochs]
    lines = {label: [each[name] for each in epochs] for name, label in RATES.items()}
    lines["effective number, of all"] = [each["effective"] / max(each["negatives"], 1) for each in epochs]
    for (label, values), colour, marker in zip(lines.items(), COLOURS, "osD^vP", strict=True):
        if any(values):
            shown = [value or None for value in values]
            axes.plot(numbers, shown, color=colour, marker=marker, markersize=3, linewidth=1, label=label)
    axes.set(xlabel="epoch", ylabel="share of negatives", title="Negatives", yscale="log")
    axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if axes.lines:  # six of them leave no room within
        axes.legend(frameon=False, fontsize="x-small", ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))


def _draw_ranks(axes: Any, first: Mapping[str, Any], last: Mapping[str, Any]) -> None:
    names = max((each["by_rank"]["ranks"] for each in (first, last)), key=len)
    _bars(axes, first, last, "by_rank", len(names))
    shares = last["by_rank"]["negatives"]
    axes.plot(
        range(len(shares)), shares, color=BESIDE, marker="_", markersize=11, linestyle="", label="share of negatives"
    )
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize="x-small")
    axes.set(xlabel="rank among the row's negatives", ylabel="share of gradient", title="Gradient by rank")
    axes.legend(frameon=False, fontsize="x-small", loc="upper right")


def _draw_popularity(axes: Any, first: Mapping[str, Any], last: Mapping[str, Any]) -> None:
    axes.set(
        xlabel="tenth of the items, least popular first", ylabel="share of gradient", title="Gradient by popularity"
    )
    if first["by_popularity"] is None or last["by_popularity"] is None:
        axes.text(0.5, 0.5, "negatives that are no items", ha="center", transform=axes.transAxes)
        return
    shares = last["by_popularity"]["drawn"]
    _bars(axes, first, last, "by_popularity", len(shares))
    axes.plot(range(len(shares)), shares, color=BESIDE, marker="_", markersize=11, linestyle="", label="share of draws")
    axes.set_xticks(range(len(shares)), range(1, len(shares) + 1))
    axes.legend(frameon=False, fontsize="x-small", loc="upper left")


def _bars(axes: Any, first: Mapping[str, Any], last: Mapping[str, Any], by: str, groups: int) -> None:
    """The gradient of two epochs side by side; one alone where the first is the last."""
    shown = [(first, FIRST, -0.2), (last, LAST, 0.2)] if first["epoch"] != last["epoch"] else [(last, LAST, 0.0)]
    for each, colour, shift in shown:
        shares = each[by]["gradient"]
        shares = [*shares, *[0.0] * (groups - len(shares))]
        places = [group + shift for group in range(groups)]
        axes.bar(places, shares, width=0.4, color=colour, label=f"epoch {each['epoch']}")
