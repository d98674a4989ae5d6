"""A comparison told: one HTML file that needs no network, the same as Markdown, and as JSON."""

import html
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rankwell.atomic import write_text
from rankwell.evaluation.significance import LEAST_UNITS
from rankwell.experiments.charts import charts
from rankwell.experiments.equal_tuning import tuning_said
from rankwell.experiments.page import (
    Cell,
    figures,
    finite,
    html_table,
    machine,
    markdown_table,
    number,
    page,
    points,
)
from rankwell.experiments.standings import Contender, Pair, Standings

__all__ = ["finding", "write_report"]


def write_report(found: Standings, folder: Path) -> Path:
    """Write ``report.html``, ``report.md`` and ``report.json`` to the folder; gives the first."""
    pictures = charts(found)
    write_text(folder / "report.json", json.dumps(_plain(found), indent=1) + "\n")
    write_text(folder / "report.md", _markdown(found))
    write_text(folder / "report.html", _html(found, pictures))
    return folder / "report.html"


def finding(found: Standings) -> str:
    """The comparison in a few sentences.

    Which contender is first, from how many it is told apart, and what that does not say.
    """
    alive = [each for each in found.contenders if each.seeds]
    best = alive[0]
    summary = best.summaries[found.measure]
    said = (
        f"{best.name} is first by {found.measure}: {summary.mean:.4f} (95 % interval over {summary.units:,} {found.units}"
        f" {summary.low:.4f} to {summary.high:.4f})."
    )
    against = [pair for pair in found.pairs if pair.better == best.name]
    if against and (units := max(pair.difference.units for pair in against)) < LEAST_UNITS:
        return f"{said} {units} {found.units} are too few for any test: at least {LEAST_UNITS} are needed."
    if against:
        apart = [pair.worse for pair in against if pair.apart]
        said += f" It is told apart from {len(apart)} of {len(against)} others at the level .05, adjusted for all pairs (Holm)."
        if level := [pair.worse for pair in against if not pair.apart and not math.isnan(pair.adjusted)]:
            said += f" Not told apart from it: {', '.join(level)}."
        if untested := [pair.worse for pair in against if math.isnan(pair.adjusted)]:
            said += f" Not tested, for one of the two has a single seed: {', '.join(untested)}."
        if same := [pair.worse for pair in against if pair.difference.identical]:
            said += f" Identical to it, value by value: {', '.join(same)}."
        said += f" {_scope(found)}"
    return said


def _scope(found: Standings) -> str:
    """What the tests know of."""
    if found.several_seeds:
        said = f"The tests know the variance over {found.units} and over seeds."
        if any(len(each.seeds) == 2 for each in found.contenders):
            said += " Of two seeds they know it badly: three are better."
        return said
    return (
        f"With one seed the tests know only the variance over {found.units}: they say whether these trained models differ, not"
        " whether the losses would with other seeds. Give --seeds 3 or more."
    )


def _table(found: Standings) -> tuple[list[str], list[list[Cell]]]:
    """The ranked table: heads, and rows."""
    alive = [each for each in found.contenders if each.seeds]
    against = {pair.worse: pair for pair in found.pairs if pair.better == alive[0].name}
    heads = [
        "contender",
        found.measure,
        "95 % over " + found.units,
        "sd over seeds",
        "sd over " + found.units,
        "less the first",
    ]
    heads += ["95 % of that", "p (Holm)", "effect", "wins/ties/losses", *found.measures[1:]]
    heads += ["seconds", "epochs", "peak MB", "joules", "seeds"]
    return heads, [_row(found, each, against.get(each.name)) for each in alive]


def _row(found: Standings, each: Contender, pair: Pair | None) -> list[Cell]:
    summary = each.summaries[found.measure]
    row: list[Cell] = [(each.name, each.name), number(summary.mean)]
    row += [
        (f"{summary.low:.4f} to {summary.high:.4f}", summary.low),
        number(summary.over_seeds),
        number(summary.over_units),
    ]
    if pair is None:
        row += [("", "")] * 5
    else:
        gap = pair.difference
        counts = f"{gap.losses:,}/{gap.ties:,}/{gap.wins:,}"  # of the worse of the two
        row += [
            number(-gap.mean, "+.4f"),
            (f"{-gap.high:+.4f} to {-gap.low:+.4f}", -gap.high),
            number(pair.adjusted, ".2g"),
        ]
        row += [number(-gap.effect, "+.2f"), (counts, gap.losses)]
    others = [each.summaries.get(measure) for measure in found.measures[1:]]
    row += [number(math.nan if other is None else other.mean) for other in others]
    joules = [used.joules for used in each.used if used.joules is not None]
    row += [number(each.seconds, ".1f"), number(float(np.mean([used.epochs for used in each.used])), ".1f")]
    row += [number(max(used.peak_bytes for used in each.used) / 1e6, ",.0f")]
    row += [number(float(np.mean(joules)) if joules else math.nan, ",.0f"), (str(len(each.seeds)), len(each.seeds))]
    return row


def _protocol(found: Standings) -> list[str]:
    """How it was done, a sentence each."""
    alive = [each for each in found.contenders if each.seeds]
    settings = alive[0].settings
    data = ", ".join(f"{key} {value}" for key, value in settings["data"].items())
    training, seeds = settings["training"], max(len(each.seeds) + len(each.failed) for each in found.contenders)
    said = [
        f"Task {settings['task']}; data: {data}; split by seed {settings['split_seed']}, the same for all.",
        f"Each contender had {found.about['budget']} and {seeds} seed(s) of start, order and draws.",
        _selection(found, training["patience"]),
        "The test part was looked at once a run, and nothing was chosen by it.",
        "Measures break ties by their expectation over all orders of the tied items, unless a measure's name says otherwise.",
        f"Intervals of figures are bootstrap percentiles over {found.units}; those of differences are"
        f" {'of the test' if found.several_seeds else 'the same'}. p is two-sided, adjusted for all {len(found.pairs)} pairs by"
        f" Holm's method; effect is the mean difference over its standard deviation over {found.units}. {_scope(found)}",
        *tuning_said(found.about.get("tuning", {})),
    ]
    return [*said, _cost(found), *(f"Note: {note}." for note in found.about["notes"])]


def _cost(found: Standings) -> str:
    """What seconds, memory and energy are of."""
    used = [each for contender in found.contenders for each in contender.used]
    ways = sorted({(each.jobs, each.threads) for each in used})
    said = " or ".join(f"{jobs} at a time with {threads} thread{'s' * (threads > 1)} each" for jobs, threads in ways)
    said = f"Runs went {said}; seconds are of training, without validation"
    said += ", and do not compare across these." if len(ways) > 1 else "."
    said += " Memory is the peak of the whole process."
    if any(each.joules is not None for each in used):
        return f"{said} Joules are of the processor packages from a run's start to its end."
    unknown = "this system does not tell it" if ways[0][0] == 1 else "runs side by side cannot be told apart"
    return f"{said} Energy is not shown: {unknown}."


def _selection(found: Standings, patience: int) -> str:
    """How the epoch was chosen, if at all."""
    if not any(curve for each in found.contenders for curve in each.curves):
        return "No epoch was chosen: there was no validation, and each was trained to its end."
    return (
        f"The epoch was chosen by {found.monitor} in validation; training stopped early after {patience} validations without"
        " a better one (0: never)."
    )


def _settings(each: Contender) -> str:
    """The contender's own sections in a line."""
    parts = []
    for section, values in each.settings.items():
        if isinstance(values, Mapping) and "name" in values:
            own = ", ".join(f"{key}={value}" for key, value in values.items() if key != "name")
            parts.append(f"{section} {values['name']}" + (f"({own})" if own else ""))
    own = each.settings["training"]
    parts += [f"learning rate {own['learning_rate']:g}, batch {own['batch_size']:,}"]
    return "; ".join(parts) + (f", {own['epochs']} epochs" if "epochs" in own else "")  # open where it failed early


def _failures(found: Standings) -> list[str]:
    return [f"{each.name}, seed {seed}: {why}" for each in found.contenders for seed, why in each.failed.items()]


def _pairs(found: Standings) -> tuple[list[str], list[list[Cell]]]:
    """Every two contenders, with the tests that know seeds and those that know users alone."""
    units = found.units
    heads = ["better", "worse", "difference", "95 %", "p", "p (Holm)", f"p, {units} alone: permutation", "Student's t"]
    rows: list[list[Cell]] = []
    for pair in found.pairs:
        gap = pair.difference
        row = [(pair.better, pair.better), (pair.worse, pair.worse), number(gap.mean, "+.4f")]
        row += [(f"{gap.low:+.4f} to {gap.high:+.4f}", gap.low), number(gap.p, ".2g"), number(pair.adjusted, ".2g")]
        row += [number(gap.p_permutation, ".2g"), number(gap.p_t, ".2g"), number(gap.effect, "+.2f")]
        rows.append([*row, (f"{gap.wins:,}/{gap.ties:,}/{gap.losses:,}", gap.wins)])
    return [*heads, "effect", "wins/ties/losses"], rows


def _slices(found: Standings) -> tuple[list[str], list[list[Cell]]]:
    alive = [each for each in found.contenders if each.seeds]
    names = list(alive[0].slices)
    rows: list[list[Cell]] = [
        [(each.name, each.name), *(number(each.slices.get(name, {}).get("mean", math.nan)) for name in names)]
        for each in alive
    ]
    return ["contender", *names], rows


def _markdown(found: Standings) -> str:
    lines = ["# Comparison", "", finding(found), "", *markdown_table(*_table(found))]
    lines += [f"Baseline {name}: {values[found.measure]:.4f}." for name, values in found.baselines.items()]
    if failed := _failures(found):
        lines += ["", "## Failed", "", *(f"- {each}" for each in failed)]
    if len(found.pairs) > 1:
        lines += ["", "## Every pair", "", *markdown_table(*_pairs(found))]
    if len(_slices(found)[0]) > 1:
        lines += ["", f"## {found.measure} by slices", "", *markdown_table(*_slices(found))]
    lines += ["", "## Protocol", "", *(f"- {each}" for each in _protocol(found)), ""]
    lines += ["## Settings", "", *(f"- **{each.name}**: {_settings(each)}" for each in found.contenders), ""]
    return "\n".join([*lines, f"`{found.about['command']}`", "", machine(found.about), ""])


def _html(found: Standings, pictures: Mapping[str, str]) -> str:
    escape = html.escape

    parts = [f"<h1>Which is best? {escape(' · '.join(each.name for each in found.contenders))}</h1>"]
    parts += [f"<p>{escape(finding(found))}</p>", html_table(*_table(found))]
    parts += [
        f"<p>Baseline {escape(name)}: {values[found.measure]:.4f}.</p>" for name, values in found.baselines.items()
    ]
    if failed := _failures(found):
        parts += ["<h2>Failed</h2>", points(failed)]
    parts += figures(pictures)
    if len(found.pairs) > 1:
        parts += ["<h2>Every pair</h2>", html_table(*_pairs(found))]
    if len(_slices(found)[0]) > 1:
        parts += [f"<h2>{escape(found.measure)} by slices</h2>", html_table(*_slices(found))]
    parts += ["<h2>Protocol</h2>", points(_protocol(found))]
    parts += ["<h2>Settings</h2>", points(f"{each.name}: {_settings(each)}" for each in found.contenders)]
    parts += [
        "<h2>Again</h2>",
        f"<pre>{escape(found.about['command'])}</pre>",
        f"<p>{escape(machine(found.about))}</p>",
    ]
    return page(f"Comparison by {found.measure}", parts)


def _plain(found: Standings) -> dict[str, Any]:
    """Everything as JSON; NaN as null."""
    contenders = [
        {
            "name": each.name,
            "settings": each.settings,
            "seeds": each.seeds,
            "failed": {str(seed): why for seed, why in each.failed.items()},
            "measures": {name: asdict(summary) for name, summary in each.summaries.items()},
            "by_seed": {name: np.nanmean(values, axis=1).tolist() for name, values in each.values.items()},
            "mean_rank": each.rank,
            "used": [asdict(used) for used in each.used],
            "curves": each.curves,
            "negatives": each.negatives,
            "slices": each.slices,
        }
        for each in found.contenders
    ]
    pairs = [
        {"better": pair.better, "worse": pair.worse, **asdict(pair.difference), "p_holm": pair.adjusted}
        for pair in found.pairs
    ]
    content = {
        "measure": found.measure,
        "monitor": found.monitor,
        found.units: found.count,
        "finding": finding(found),
        "contenders": contenders,
        "pairs": pairs,
        "baselines": found.baselines,
        "protocol": _protocol(found),
        "about": found.about,
    }
    cleaned: dict[str, Any] = finite(content)
    return cleaned
