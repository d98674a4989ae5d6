"""What reports share: one HTML file that needs no network, with tables that sort, and the same as Markdown."""

import base64
import html
import io
import math
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import rankwell
from rankwell.atomic import write_json, write_text
from rankwell.errors import require
from rankwell.pictures import COLOURS

__all__ = [
    "Cell",
    "Table",
    "drawn",
    "figures",
    "html_table",
    "machine",
    "markdown_table",
    "number",
    "page",
    "points",
    "shown",
    "style",
    "versions",
    "write_page",
]

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; margin: 0 auto; max-width: 68rem; padding: 1rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .25rem .5rem; text-align: right; white-space: nowrap; }
th { white-space: normal; overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: inherit; white-space: normal;
  overflow-wrap: break-word; max-width: min(14rem, 40vw); }
thead tr, tbody tr { background: #fff; } thead th { border-bottom: 2px solid #444; vertical-align: bottom; }
tbody tr:nth-child(even) { background: #f4f4f4; } button { all: unset; cursor: pointer; font-weight: bold; }
button:focus-visible { outline: 2px solid #0072B2; } button::after { content: " \\2195"; color: #777; }
img { min-width: 36rem; max-width: 100%; height: auto; } figure { margin: 1rem 0; overflow-x: auto; }
figcaption { font-weight: bold; }
pre { background: #f4f4f4; padding: .6rem; overflow-x: auto; } .best { font-weight: bold; }
"""

SCRIPT = """
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.closest("th"), table = head.closest("table"), at = [...head.parentNode.children].indexOf(head);
  const up = head.getAttribute("aria-sort") !== "descending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "descending" : "ascending");
  const value = row => { const cell = row.children[at]; return cell.dataset.value ?? cell.textContent; };
  const order = (a, b) => { const [x, y] = [value(a), value(b)], d = Number(x) - Number(y);
    return Number.isNaN(d) ? x.localeCompare(y) : d; };
  const body = table.tBodies[0], empty = row => value(row) === "";
  const rows = [...body.rows].sort((a, b) => empty(a) - empty(b) || (up ? order(b, a) : order(a, b)));
  body.append(...rows);
});
"""

PAGE = """<!doctype html>
<html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width,initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>
{body}
<script>{script}</script></body></html>
"""

MARKERS = "osD^vPX*<>"

Cell = tuple[str, float | str]
"""What is shown, and what it is sorted by."""

Table = tuple[Sequence[str], Sequence[Sequence[Cell]]]
"""Heads and rows."""


def page(title: str, parts: Iterable[str]) -> str:
    """The whole file."""
    return PAGE.format(title=html.escape(title), style=STYLE, body="\n".join(parts), script=SCRIPT)


def number(value: float, form: str = ".4f") -> Cell:
    """A number, or nothing for NaN."""
    if math.isnan(value):
        return "", ""
    return format(value, form), max(min(value, 1e300), -1e300)  # browsers read no inf


def shown(value: Any) -> str:
    """A setting in few digits."""
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def html_table(heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table that sorts by a click on a head."""
    head = "".join(f"<th scope=col><button>{html.escape(name)}</button></th>" for name in heads)
    body = "".join("<tr>" + "".join(_td(cell, value) for cell, value in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _td(cell: str, value: float | str) -> str:
    return f'<td data-value="{html.escape(str(value))}">{html.escape(cell)}</td>'


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> list[str]:
    """The same in lines."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    cells = ([cell.replace("|", "\\|").replace("<", "&lt;") for cell, _ in row] for row in rows)
    return [*lines, *("| " + " | ".join(row) + " |" for row in cells), ""]


def write_page(
    folder: Path,
    title: str,
    content: Mapping[str, Any],
    tables: Mapping[str, Table],
    failed: Sequence[str],
    pictures: Mapping[str, str],
    links: Mapping[str, str] | None = None,
) -> Path:
    """One content as three files: ``report.html``, ``report.md`` and ``report.json``; gives the first."""
    write_json(folder / "report.json", content)
    lines = [f"# {title}", "", content["finding"], ""]
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(content['finding'])}</p>"]
    for place, (name, table) in enumerate(tables.items()):
        lines += [f"## {name}", "", *markdown_table(*table)]
        parts += [f"<h2>{html.escape(name)}</h2>", html_table(*table)]
        if place == 0:
            parts += figures(pictures)
    if links:
        lines += [*(f"- [{name}]({path})" for name, path in links.items()), ""]
        linked = (f'<a href="{html.escape(path)}">{html.escape(name)}</a>' for name, path in links.items())
        parts += [f"<p>{' · '.join(linked)}</p>"]
    if failed:
        lines += ["## Failed", "", *(f"- {each}" for each in failed), ""]
        parts += ["<h2>Failed</h2>", points(failed)]
    lines += ["## Protocol", "", *(f"- {each}" for each in content["protocol"]), ""]
    lines += [f"`{content['command']}`", "", machine(content), ""]
    parts += ["<h2>Protocol</h2>", points(content["protocol"])]
    parts += [
        "<h2>Again</h2>",
        f"<pre>{html.escape(content['command'])}</pre>",
        f"<p>{html.escape(machine(content))}</p>",
    ]
    write_text(folder / "report.md", "\n".join(lines))
    write_text(folder / "report.html", page(title, parts))
    return folder / "report.html"


def versions() -> dict[str, str]:
    """What the report was made with."""
    return {"rankwell": rankwell.__version__, "torch": torch.__version__}


def points(items: Iterable[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def figures(pictures: Mapping[str, str]) -> list[str]:
    """SVG pictures by their titles."""
    made = []
    for title, svg in pictures.items():
        source = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
        name = html.escape(title)
        made.append(f'<figure><figcaption>{name}</figcaption><img alt="{name}" src="{source}"></figure>')
    return made


def machine(about: Mapping[str, Any]) -> str:
    """Versions, and the hardware."""
    return (
        f"rankwell {about['rankwell']}, torch {about['torch']}, Python {platform.python_version()},"
        f" {platform.system()}, {_processor()}, {os.cpu_count()} cores"
    )


def _processor() -> str:
    """What Linux calls it, or the kind of machine."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def drawn(draw: Callable[[Any], None], lines: int) -> str:
    """A picture as SVG, with room for so many lines."""
    matplotlib = require("matplotlib", "cli")
    figure = require("matplotlib.figure", "cli").Figure(figsize=(7.5, 2 + 0.32 * max(lines, 4)), layout="constrained")
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "rankwell", "font.size": 9}):
        draw(figure)
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def style(place: int) -> dict[str, Any]:
    """Colour and marker of the contender, or sort, at a place."""
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
