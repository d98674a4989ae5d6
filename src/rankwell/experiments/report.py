"""A comparison told: one HTML file that needs no network, the same as Markdown, and as JSON."""

import html
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rankwell.atomic import write_json, write_text
from rankwell.experiments.charts import charts
from rankwell.experiments.compare import Comparison
from rankwell.experiments.page import (
    Cell,
    figures,
    html_table,
    machine,
    markdown_table,
    number,
    page,
    points,
    write_page,
)
from rankwell.experiments.sentences import failures, finding, notes_said, protocol, settings_of
from rankwell.experiments.standings import Contender, Pair, Standings

__all__ = ["write_failures", "write_report"]


def write_report(found: Standings, folder: Path) -> Path:
    """Write ``report.html``, ``report.md`` and ``report.json`` to the folder; gives the first."""
    pictures = charts(found)
    write_json(folder / "report.json", _plain(found))
    write_text(folder / "report.md", _markdown(found))
    write_text(folder / "report.html", _html(found, pictures))
    return folder / "report.html"


def write_failures(comparison: Comparison) -> Path:
    """The three files of a comparison in which no run came to its end: why each did not, and the command."""
    ended = zip(comparison.cells, comparison.outcomes, strict=True)
    content = {
        "finding": "No run came to its end.",
        "protocol": [f"Each contender had {comparison.facts['budget']}.", *notes_said(comparison.facts["notes"])],
        **comparison.facts,
    }
    failed = [f"{cell.contender}, seed {cell.seed}: {outcome.error}" for cell, outcome in ended]
    return write_page(comparison.folder, "Comparison: every run failed", {**content, "failed": failed}, {}, failed, {})


def _table(found: Standings) -> tuple[list[str], list[list[Cell]]]:
    """The ranked table by the first measure: heads, and rows."""
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
    heads += ["95 % of that", "p (Holm)", "effect", "wins, ties, losses", "seeds"]
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
    return [*row, (str(len(each.seeds)), len(each.seeds))]


def _cost(found: Standings) -> tuple[list[str], list[list[Cell]]]:
    """The other measures, and what each contender took."""
    others = found.measures[1:]
    rows: list[list[Cell]] = []
    energy = any(used.joules is not None for each in found.contenders for used in each.used)
    for each in found.contenders:
        if each.seeds:
            row: list[Cell] = [(each.name, each.name)]
            row += [number(each.summaries[name].mean if name in each.summaries else math.nan) for name in others]
            row += [number(each.seconds, ".1f"), number(float(np.mean([used.epochs for used in each.used])), ".1f")]
            row += [number(max(used.peak_bytes for used in each.used) / 1e6, ",.0f")]
            joules = [used.joules for used in each.used if used.joules is not None]
            row += [number(float(np.mean(joules)) if joules else math.nan, ",.0f")] * energy
            rows.append(row)
    return ["contender", *others, "seconds", "epochs", "peak MB", *["joules"] * energy], rows


def _of_cost(found: Standings) -> str:
    return "Other measures, and cost" if found.measures[1:] else "Cost"


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
    return [*heads, "effect", "wins, ties, losses"], rows


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
    lines += ["", f"## {_of_cost(found)}", "", *markdown_table(*_cost(found))]
    if failed := failures(found):
        lines += ["", "## Failed", "", *(f"- {each}" for each in failed)]
    if len(found.pairs) > 1:
        lines += ["", "## Every pair", "", *markdown_table(*_pairs(found))]
    if len(_slices(found)[0]) > 1:
        lines += ["", f"## {found.measure} by slices", "", *markdown_table(*_slices(found))]
    lines += ["", "## Protocol", "", *(f"- {each}" for each in protocol(found)), ""]
    lines += ["## Settings", "", *(f"- **{each.name}**: {settings_of(each)}" for each in found.contenders), ""]
    return "\n".join([*lines, f"`{found.about['command']}`", "", machine(found.about), ""])


def _html(found: Standings, pictures: Mapping[str, str]) -> str:
    escape = html.escape

    parts = [f"<h1>Which is best? {escape(' · '.join(each.name for each in found.contenders))}</h1>"]
    parts += [f"<p>{escape(finding(found))}</p>", html_table(*_table(found))]
    parts += [
        f"<p>Baseline {escape(name)}: {values[found.measure]:.4f}.</p>" for name, values in found.baselines.items()
    ]
    parts += [f"<h2>{_of_cost(found)}</h2>", html_table(*_cost(found))]
    if failed := failures(found):
        parts += ["<h2>Failed</h2>", points(failed)]
    parts += figures(pictures)
    if len(found.pairs) > 1:
        parts += ["<h2>Every pair</h2>", html_table(*_pairs(found))]
    if len(_slices(found)[0]) > 1:
        parts += [f"<h2>{escape(found.measure)} by slices</h2>", html_table(*_slices(found))]
    parts += ["<h2>Protocol</h2>", points(protocol(found))]
    parts += ["<h2>Settings</h2>", points(f"{each.name}: {settings_of(each)}" for each in found.contenders)]
    parts += [
        "<h2>Again</h2>",
        f"<pre>{escape(found.about['command'])}</pre>",
        f"<p>{escape(machine(found.about))}</p>",
    ]
    return page(f"Comparison by {found.measure}", parts)


def _plain(found: Standings) -> dict[str, Any]:
    """Everything, as plain values."""
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
    return {
        "measure": found.measure,
        "monitor": found.monitor,
        found.units: found.count,
        "finding": finding(found),
        "contenders": contenders,
        "pairs": pairs,
        "baselines": found.baselines,
        "protocol": protocol(found),
        "about": found.about,
    }
