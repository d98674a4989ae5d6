"""Write the site's pages into build/docs: what stands in docs/ by hand, and a page a name from the registries.

    python docs/generate.py        (make docs also turns them into build/site)

A page holds the docstring and the parameters; a loss's page also when to choose it, a picture of value and gradient, and the
time and memory that bench/losses.py last stored. Formulas become MathML, which browsers draw by themselves: the site loads
nothing from elsewhere.
"""

import inspect
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

from rankwell.data import BATCHES
from rankwell.experiments.advice import NAMED, Rules, load_rules
from rankwell.generators import GENERATORS
from rankwell.losses import LOSSES
from rankwell.metrics import METRICS
from rankwell.miners import MINERS
from rankwell.models import MODELS
from rankwell.pictures import draw_loss
from rankwell.registry import Entry, Registry
from rankwell.samplers import POSITIVES, SAMPLERS

DOCS = Path(__file__).parent
ROOT = DOCS.parent
OUT = ROOT / "build" / "docs"
MEASURED = ROOT / "bench" / "results" / "losses.json"

PAGES: dict[str, Registry[Any]] = {
    "losses": LOSSES, "metrics": METRICS, "samplers": SAMPLERS, "miners": MINERS, "generators": GENERATORS,
    "batches": BATCHES, "positives": POSITIVES, "models": MODELS,
}  # fmt: skip


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.copytree(DOCS, OUT, ignore=shutil.ignore_patterns("*.py", "README.md"))
    shutil.copy(ROOT / "CHANGELOG.md", OUT / "changelog.md")
    rules = load_rules()
    write(OUT / "choose.md", choose_page(rules))
    write(OUT / "references.md", references_page())
    measured = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {"losses": {}}
    for title, registry in PAGES.items():
        write(OUT / title / "index.md", index_page(title, registry))
        for entry in registry:
            page = OUT / title / entry.family / f"{entry.name}.md"
            extra = (
                [advice(entry, rules), picture(entry, page), measurement(entry, measured)] if title == "losses" else []
            )
            write(page, entry_page(entry, [part for part in extra if part]))
    print(f"{OUT.relative_to(ROOT)}: {', '.join(f'{len(registry)} {title}' for title, registry in PAGES.items())}")


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.rstrip() + "\n", encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------- pages


def index_page(title: str, registry: Registry[Any]) -> str:
    """A table a family."""
    parts = [f"# {title.capitalize()}", f"{len(registry)} by the file that they are written in."]
    for family, entries in registry.families().items():
        rows = [f"| [{e.name}]({family}/{e.name}.md) | {e.kind} | {markdown(e.summary)} |" for e in entries]
        parts.append("\n".join([f"## {heading(family)}", "", "| name | kind | |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def entry_page(entry: Entry[Any], extra: list[str]) -> str:
    """Facts, docstring, parameters, and what else there is to show."""
    paper = f"[{entry.paper}](../../references.md#{entry.paper})" if entry.paper else ""
    facts = " · ".join(
        fact for fact in (entry.kind, f"O({entry.complexity})" if entry.complexity else "", paper) if fact
    )
    said, _ = parted(entry)
    parts = [f"# {entry.name}", facts, markdown(said), *extra, parameters(entry)]
    return "\n\n".join(part for part in parts if part)


def parted(entry: Entry[Any]) -> tuple[str, str]:
    """A loss's docstring without the paragraph that says when to choose it, and that paragraph; else all, and nothing."""
    said = inspect.getdoc(entry.function) or ""
    choice = re.search(r"(?<=\n\n)Choose it .*?(?:\n\n|\Z)", said, re.S) if LOSSES.find(entry.name) is entry else None
    return (said.replace(choice[0], ""), choice[0].rstrip()) if choice else (said, "")


def parameters(entry: Entry[Any]) -> str:
    """The table of own parameters and declared inputs."""
    rows = []
    for own in entry.parameters.values():
        span = f"{own.search.low} … {own.search.high}{', log' if own.search.log else ''}" if own.search else ""
        default = own.default if own.default != "" else "''"
        rows.append(f"| `{own.name}` | `{default}` | {span} |")
    for name, given in entry.inputs.items():
        need = "required" if given.required else "optional"
        rows.append(f"| `{name}` | {need} input, {given.holds}, one a {given.alignment} | |")
    return "\n".join(["| parameter | default | where tuning looks |", "|---|---|---|", *rows]) if rows else ""


def advice(entry: Entry[Any], rules: Rules) -> str:
    """The paragraph of the docstring, and the rules of advice that name the loss."""
    _, choice = parted(entry)
    mine = [rule for rule in rules.rule if entry.name in rules.losses(rule)[:NAMED]]
    lines = [f"- **{rule.data}**, labels: {rule.label}. {rule.why}" for rule in mine]
    named = "\n".join(["Among the first to try, by [Which loss?](../../choose.md), for:", "", *lines]) if lines else ""
    parts = [part for part in (markdown(choice), named) if part]
    return "\n\n".join(["## When to choose it", *parts]) if parts else ""


def picture(entry: Entry[Any], page: Path) -> str:
    """Value and gradient over the score of an irrelevant item, above those of well-known losses."""
    page.parent.mkdir(parents=True, exist_ok=True)
    draw_loss(page.with_suffix(".svg"), entry)
    said = f"Value and gradient of {entry.name} by the score of an irrelevant item"
    command = f"With parameters of your own: `rankwell losses {entry.name} --plot {entry.name}.svg"
    own = next((f" --{name} …" for name in entry.parameters), "")
    return f"## Value and gradient\n\n![{said}]({entry.name}.svg)\n\n{command}{own}`"


def measurement(entry: Entry[Any], measured: dict[str, Any]) -> str:
    """Time and memory, forward and backward."""
    mine = measured["losses"].get(entry.name)
    if not mine:
        return ""
    rows = [f"| {shape} | {at['ms']:.2f} | {at['peak_mb']:.2f} |" for shape, at in mine.items()]
    head = ["| shape | ms, forward and backward | MB above the inputs |", "|---|---|---|"]
    said = f"{measured['hardware']}, {measured['date']}; `python bench/losses.py`."
    return "\n".join(["## Time and memory", "", *head, *rows, "", said])


def choose_page(rules: Rules) -> str:
    """Your data and labels, and the losses to try first."""
    table = ["| your data | your labels | try | because |", "|---|---|---|---|"]
    for rule in rules.rule:
        names = rules.losses(rule)[:NAMED]
        links = ", ".join(f"[{name}](losses/{LOSSES[name].family}/{name}.md)" for name in names)
        table.append(f"| {rule.data} | {rule.label} | {links} | {rule.why} |")
    intro = (
        "Your data and labels, and the candidates in the order to try them. `rankwell advise` [finds the row](advise.md) for"
        " your data and says what each choice rests on. Only a comparison on your data tells the best."
    )
    return "\n\n".join(["# Which loss?", intro, "\n".join(table)])


def references_page() -> str:
    """The bibliography, an anchor a key."""
    parts = ["# References"]
    text = (ROOT / "references.bib").read_text(encoding="utf-8")
    for key, body in re.findall(r"^@\w+\{(\w+),\n(.*?)^\}", text, re.M | re.S):
        fields = dict(re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", body, re.M))
        fields = {name: re.sub(r"[{}]", "", value) for name, value in fields.items()}
        where = next(
            (fields[name] for name in ("journal", "booktitle", "publisher", "howpublished") if name in fields), ""
        )
        title, author, year = (fields.get(name, "") for name in ("title", "author", "year"))
        parts.append(f"<a id='{key}'></a>**{title}**  \n{author}. {where}, {year}.")
    return "\n\n".join(parts)


def heading(family: str) -> str:
    return family.replace("_", " ").capitalize()


# ------------------------------------------------------------------------------------------------------------- markdown


def markdown(text: str) -> str:
    """What our docstrings use of reStructuredText, as Markdown."""
    stash: list[str] = []

    def keep(made: Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], str]:
        def put(match: re.Match[str]) -> str:
            stash.append(made(match))
            return f"\0{len(stash) - 1}\0"

        return put

    text = re.sub(r"^\.\. math::((?:.*\n)(?:[ ]+.*\n|\n(?=[ ]))*)", keep(block), text + "\n", flags=re.M)
    text = re.sub(r"^ *>>> (?:.*\n(?!\s*\n))*.*\n", keep(example), text, flags=re.M)
    text = re.sub(r"``(.+?)``", keep(lambda match: f"`{match[1]}`"), text, flags=re.S)
    text = re.sub(r":math:`([^`]+)`", keep(lambda match: convert(" ".join(match[1].split()))), text)
    text = re.sub(r":cite:`([^`]+)`", r"[\1](../../references.md#\1)", text)
    text = re.sub(r":\w+:`~?([\w.]+)`", lambda match: reference(match[1]), text)
    text = re.sub(r"^(Args|Raises|Returns):$", r"**\1**\n", text, flags=re.M)
    text = re.sub(r"^    (\w+): ", r"- `\1`: ", text, flags=re.M).replace("\n        ", "\n  ")
    text = text.replace("*", r"\*") if "**" not in text else text
    while "\0" in text:
        text = re.sub("\0(\\d+)\0", lambda match: stash[int(match[1])], text)
    # At the start of a line Markdown would take a formula for a block.
    inline = r'(?=<math [^>]*display="inline")'
    return re.sub(rf"(^|\n\n){inline}", "\\1\u200b", re.sub(rf"(?<!\n)\n *{inline}", " ", text)).strip()


def block(match: re.Match[str]) -> str:
    source = " ".join(inspect.cleandoc(match[1]).split())
    if r"\\" in source and r"\begin" not in source:
        source = rf"\begin{{align*}}{source}\end{{align*}}"
    return f"\n{convert(source, display='block')}\n\n"


def example(match: re.Match[str]) -> str:
    return f"```python\n{inspect.cleandoc(match[0])}\n```\n"


def reference(path: str) -> str:
    """A link to what has a page, else the bare name."""
    name = path.rpartition(".")[2]
    for sort, registry in PAGES.items():
        for other in registry:
            if getattr(other.function, "__name__", "") == name:
                return f"[{name}](../../{sort}/{other.family}/{other.name}.md)"
    return f"`{name}`"


if __name__ == "__main__":
    main()
