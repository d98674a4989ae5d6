"""The site's pages: built from the registries, nothing of the docstrings' markup left over."""

import importlib.util
import inspect
import re
from pathlib import Path

import pytest

from rankwell.experiments.advice import NAMED, load_rules
from rankwell.losses import LOSSES

DOCS = Path(__file__).parents[1] / "docs"
pytest.importorskip("latex2mathml", reason="the site needs the extra docs")

spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)


@pytest.mark.parametrize(
    "entry", [entry for registry in generate.PAGES.values() for entry in registry], ids=lambda entry: entry.name
)
def test_a_page_has_no_markup_left(entry):
    page = generate.entry_page(entry, [])
    assert page.startswith(f"# {entry.name}\n")
    assert not re.search(r":(math|cite|func|class|mod|meth):|(?<!`)``(?!`)|\.\. math|\0", page)
    assert page.count("```") % 2 == 0 and page.count("<math") == page.count("</math>")
    assert "merror" not in page


@pytest.mark.parametrize("entry", LOSSES, ids=lambda entry: entry.name)
def test_a_loss_says_when_to_choose_it(entry):
    paragraphs = inspect.getdoc(entry.function).split("\n\n")
    (choice,) = [text for text in paragraphs if text.startswith("Choose it ")]
    assert paragraphs[paragraphs.index(choice) + 1].startswith(("Args:", "Raises:", ">>> "))
    assert re.search(r":(func|class):`", choice), "it names no neighbour"
    # What we measured is as it is stored, in one of the files that the paragraph names.
    named = re.findall(r"``((?:bench|docs)/[\w/]+\.\w+)``", choice)
    stored = "".join((DOCS.parent / file).read_text(encoding="utf-8") for file in named)
    for figure in re.findall(r"\d*\.\d{3,}", choice):
        assert re.search(rf"(?<!\d){re.escape(figure)}(?!\d)", stored), f"{figure} stands in no file that is named"


@pytest.mark.parametrize("entry", LOSSES, ids=lambda entry: entry.name)
def test_a_page_says_once_when_to_choose_the_loss(entry):
    section = generate.advice(entry, load_rules())
    page = generate.entry_page(entry, [section])
    assert page.count("## When to choose it\n\nChoose it ") == page.count("\nChoose it ") == 1
    assert not re.search(r":(math|cite|func|class|mod|meth):|(?<!`)``(?!`)|\0", section)


def test_choices_name_losses_that_exist():
    rules = load_rules()
    page = generate.choose_page(rules)
    assert page.count("\n| ") == len(rules.rule) + 1
    for rule in rules.rule:
        names = rules.losses(rule)[:NAMED]
        assert ", ".join(f"[{name}](losses/{LOSSES[name].family}/{name}.md)" for name in names) in page
        assert all(rule.data in generate.advice(LOSSES[name], rules) for name in names)


def test_links_lead_to_pages():
    for registry in generate.PAGES.values():
        index = generate.index_page("names", registry)
        assert all(f"({entry.family}/{entry.name}.md)" in index for entry in registry)
    assert "../../losses/contrast/bpr.md" in generate.reference("~rankwell.losses.bpr_loss")
    assert generate.reference("rankwell.kernels.pairs") == "`pairs`"
