"""The report of a comparison, from contenders made by hand; in a browser, where there is one."""

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from rankwell.config import resolve
from rankwell.evaluation.significance import difference, holm, summarise
from rankwell.experiments.cell import Outcome
from rankwell.experiments.charts import _curves, _quality, _ranks, _together
from rankwell.experiments.compare import Cell, Comparison
from rankwell.experiments.report import write_failures, write_report
from rankwell.experiments.sentences import finding
from rankwell.experiments.standings import Contender, Pair, Standings, Used
from rankwell.pictures import COLOURS

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def made(values: dict[str, np.ndarray], failed: dict[str, str] | None = None) -> Standings:
    """Standings of contenders with these values ``[seeds, users]`` of one measure, the best first."""
    seen = {
        "by_rank": {"ranks": ["1", "2-3"], "gradient": [0.7, 0.3]},
        "by_popularity": {"gradient": [0.1] * 10},
    }
    settings = {
        "task": "interactions",
        "data": {"path": "x.csv"},
        "split_seed": 0,
        "loss": {"name": "bpr"},
        "training": {"patience": 5, "learning_rate": 0.01, "batch_size": 4, "epochs": 2},
    }
    alive = [
        Contender(
            name,
            settings,
            tuple(range(len(each))),
            {},
            {"ndcg@10": each},
            {"ndcg@10": summarise(each)},
            place + 1.0,
            tuple(Used(1.5, 2, 3.0, 400_000_000, None) for _ in each),
            tuple([(1, 0.5, 0.1), (2, 1.5, 0.2)] for _ in each),
            seen,
            {"history up to 3": {"count": 2.0, "mean": 0.25}},
        )
        for place, (name, each) in enumerate(values.items())
    ]
    dead = [
        Contender(name, settings, (), {0: why}, {}, {}, math.nan, (), (), None, {})
        for name, why in (failed or {}).items()
    ]
    pairs = [(first, second) for at, first in enumerate(alive) for second in alive[at + 1 :]]
    gaps = [difference(first.values["ndcg@10"], second.values["ndcg@10"]) for first, second in pairs]
    several = any(len(each.seeds) > 1 for each in alive)
    adjusted = holm([gap.p if several else gap.p_permutation for gap in gaps])
    found = tuple(Pair(a.name, b.name, gap, p) for (a, b), gap, p in zip(pairs, gaps, adjusted, strict=True))
    about = {
        "command": "rankwell compare x.csv --losses a,b",
        "budget": "4 steps, rounded up to whole epochs",
        "jobs": 2,
        "threads": 1,
        "rankwell": "0",
        "torch": "0",
        "data": {"users": 1200, "fingerprint": "0a"},
        "notes": ["3 duplicate pairs merged"],
    }
    count = len(next(iter(values.values()))[0])
    baselines = {"popularity": {"ndcg@10": 0.1}}
    names = "ndcg@10", ("ndcg@10",), "ndcg@10", "user", "users"
    return Standings(*names, count, (*alive, *dead), found, several, baselines, about)


GENERATOR = np.random.default_rng(0)
USERS = GENERATOR.random(30)
NOISE = GENERATOR.normal(scale=0.01, size=(2, 3, 30))
GOOD = {"a<b>": USERS + 0.5 + NOISE[0], "c": USERS + NOISE[1]}


def test_every_pair_and_both_kinds_of_tests_are_told(tmp_path):
    found = made({**GOOD, "d": GOOD["c"] - 0.1})
    lines = (write_report(found, tmp_path).parent / "report.md").read_text().splitlines()
    at = lines.index("## Every pair")
    assert len([line for line in lines[at + 4 : at + 8] if line]) == 3
    assert "p, users alone: permutation | Student's t" in lines[at + 2]
    assert f"| {found.pairs[0].difference.p_permutation:.2g} | {found.pairs[0].difference.p_t:.2g} |" in lines[at + 4]


def test_cells_of_markdown_hold_names_of_any_kind(tmp_path):
    write_report(made({"a|<b>$x$": GOOD["a<b>"], "c": GOOD["c"]}), tmp_path)
    assert "| a\\|&lt;b>$x$ | " in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("used", "says"),
    [
        ([(2, 1)] * 3, "2 at a time with 1 thread each; seconds are of training, without validation. "),
        ([(1, 2), (2, 1), (1, 2)], "1 at a time with 2 threads each or 2 at a time with 1 thread each; seconds are"),
        ([(1, 2), (2, 1), (1, 2)], "validation, and do not compare across these."),
        ([(2, 1)] * 3, "Energy is not shown: runs side by side cannot be told apart."),
        ([(1, 2)] * 3, "Energy is not shown: this system does not tell it."),
    ],
    ids=["side by side", "both", "both do not compare", "no energy", "no energy alone"],
)
def test_what_seconds_and_energy_are_of(tmp_path, used, says):
    found = made(GOOD)
    took = tuple(Used(1.5, 2, 3.0, 400_000_000, None, jobs, threads) for jobs, threads in used)
    write_report(replace(found, contenders=tuple(replace(each, used=took) for each in found.contenders)), tmp_path)
    assert says in (tmp_path / "report.md").read_text()


def test_energy_is_told_where_it_is_known(tmp_path):
    found = made(GOOD)
    took = tuple(Used(1.5, 2, 3.0, 400_000_000, 120.0, 1, 2) for _ in range(3))
    write_report(replace(found, contenders=tuple(replace(each, used=took) for each in found.contenders)), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert (
        "Joules are of the processor packages" in text and "| contender | seconds | epochs | peak MB | joules |" in text
    )


def test_what_is_found_is_said():
    said = finding(made(GOOD))
    assert said.startswith("a<b> is first by ndcg@10") and "told apart from 1 of 1 others" in said
    assert "variance over users and over seeds" in said


def test_two_seeds_are_said_to_be_few():
    said = finding(made({name: values[:2] for name, values in GOOD.items()}))
    assert said.endswith("Of two seeds they know it badly: three are better.") and "badly" not in finding(made(GOOD))


def test_one_seed_claims_no_more_than_it_knows():
    said = finding(made({name: values[:1] for name, values in GOOD.items()}))
    assert "whether these trained models differ, not whether the losses would" in said


def test_too_few_users_are_said():
    said = finding(made({name: values[:, :7] for name, values in GOOD.items()}))
    assert said.endswith("7 users are too few for any test: at least 10 are needed.") and "told apart" not in said


def test_who_failed_and_what_is_ahead_is_said(tmp_path):
    found = made({"a": GOOD["c"]}, {"b": "training diverged", "d": "no memory"})
    found = replace(
        found, baselines={name: {"ndcg@10": of} for name, of in (("popularity", 0.9), ("ease", 0.1), ("ideal", 1.9))}
    )
    said = finding(found)
    assert said.startswith("a is first by ndcg@10") and "No run of b and d came to its end." in said
    assert said.endswith("It is behind what needs no training: popularity (0.9000).")
    text = (write_report(found, tmp_path).parent / "report.md").read_text()
    assert "Nothing was tested." in text and "by Holm's method" not in text


def test_too_few_users_with_a_value_are_said():
    values = {name: each.copy() for name, each in GOOD.items()}
    for each in values.values():
        each[:, 7:] = np.nan
    assert "7 users are too few for any test" in finding(made(values))


def test_a_contender_with_one_seed_left_is_not_tested():
    said = finding(made({"a": USERS + 0.5 + NOISE[0], "b": USERS + NOISE[1], "c": USERS[None]}))
    assert "told apart from 1 of 2 others" in said and "Not tested, for one of the two has a single seed: c." in said


def test_without_validation_nothing_is_said_to_be_chosen(tmp_path):
    found = made(GOOD)
    contenders = tuple(replace(each, curves=([], [], [])) for each in found.contenders)
    write_report(replace(found, contenders=contenders), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "No epoch was chosen: there was no validation" in text and "in validation;" not in text


def test_open_epochs_and_empty_cells(tmp_path):
    found = made(GOOD, {"d": "no memory"})
    settings = {**found.contenders[-1].settings, "training": {"patience": 5, "learning_rate": 0.01, "batch_size": 4}}
    dead = replace(found.contenders[-1], settings=settings)
    text = write_report(replace(found, contenders=(*found.contenders[:-1], dead)), tmp_path).read_text()
    assert "d: loss bpr; learning rate 0.01, batch 4</li>" in text
    assert '<td data-value=""></td>' in text and 'data-value="inf"' not in text


def test_baselines_stand_by_the_axes():
    figure = Figure()
    _quality(figure, made(GOOD), list(made(GOOD).contenders))
    (axes,) = figure.axes
    assert axes.get_ylim() == (1.5, -0.5)
    assert [text.xy[1] for text in axes.texts] == [1.0]


def test_a_contender_has_one_colour_in_every_picture():
    found = made(GOOD)
    first, second = (replace(each, rank=rank) for each, rank in zip(found.contenders, (1.9, 1.1), strict=True))
    figure = Figure()
    _ranks(figure, found, [first, second])
    dots = {line.get_xdata()[0]: line.get_color() for line in figure.axes[0].lines if line.get_marker() != "None"}
    assert dots[1.9] == COLOURS[0] and dots[1.1] == COLOURS[1]


def test_identical_contenders_are_said():
    said = finding(made({"a": GOOD["c"], "b": GOOD["c"]}))
    assert said.startswith("a and b are first by ndcg@10")
    assert "told apart from 0 of 1" in said and "Identical to it, value by value: b." in said


def test_the_three_files(tmp_path):
    report = write_report(made(GOOD, {"d": "training diverged"}), tmp_path)
    text = report.read_text()
    assert "a&lt;b&gt;" in text and "<b>" not in text.replace("a&lt;b&gt;", "")
    assert (
        "d, seed 0: training diverged" in text
        and "d, seed 0: training diverged" in (tmp_path / "report.md").read_text()
    )
    assert not re.search(r'(src|href)="?https?:', text)  # no network
    content = json.loads(
        (tmp_path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON")
    )
    assert content["contenders"][0]["measures"]["ndcg@10"]["mean"] == pytest.approx(GOOD["a<b>"].mean())
    assert content["pairs"][0]["p_holm"] < 0.05


def test_the_protocol_tells_sizes_and_notes_of_the_data_and_no_defaults(tmp_path):
    found = made(GOOD)
    data = {"path": "x.csv", "user": "who", "unseen": "error", "test_fraction": 0.2}
    contenders = tuple(replace(each, settings={**each.settings, "data": data}) for each in found.contenders)
    text = (write_report(replace(found, contenders=contenders), tmp_path).parent / "report.md").read_text()
    assert "- Task interactions; data x.csv: users 1,200, fingerprint 0a; user who; split by seed 0" in text
    assert "- Note: 3 duplicate pairs merged." in text


def test_cost_and_other_measures_have_a_table_of_their_own(tmp_path):
    found = made(GOOD)
    both = {"ndcg@10", "mrr@10"}
    contenders = tuple(
        replace(each, summaries=dict.fromkeys(both, each.summaries["ndcg@10"])) for each in found.contenders
    )
    found = replace(found, contenders=contenders, measures=("ndcg@10", "mrr@10"))
    lines = (write_report(found, tmp_path).parent / "report.md").read_text().splitlines()
    at = lines.index("## Other measures, and cost")
    assert lines[at + 2] == "| contender | mrr@10 | seconds | epochs | peak MB |"
    mean = f"{GOOD['a<b>'].mean():.4f}"
    assert lines[at + 4] == f"| a&lt;b> | {mean} | 1.5 | 2.0 | 400 |"
    assert not any("mrr" in line for line in lines[:at])


def test_learning_curves_are_by_epochs_and_by_seconds():
    figure = Figure()
    _curves(figure, made(GOOD), list(made(GOOD).contenders))
    epochs, seconds = ([line.get_xdata().tolist() for line in axes.lines] for axes in figure.axes)
    assert epochs == [[1, 2]] * 6 and seconds == [[0.5, 1.5]] * 6


def test_a_comparison_that_failed_as_a_whole_has_a_report(tmp_path):
    config = resolve({"loss": {"name": "bpr"}})
    cells = tuple(Cell("b<r>", seed, config, tmp_path / str(seed), {}) for seed in (0, 1))
    facts = made(GOOD).about
    report = write_failures(
        Comparison(tmp_path, cells, (Outcome("out of memory."), Outcome("training diverged.")), facts)
    )
    page, text = report.read_text(), (tmp_path / "report.md").read_text()
    for line in ("b<r>, seed 0: out of memory.", "b<r>, seed 1: training diverged.", "Note: 3 duplicate pairs merged."):
        assert f"- {line}" in text and line.replace("<", "&lt;").replace(">", "&gt;") in page
    assert json.loads((tmp_path / "report.json").read_text())["failed"] == [
        "b<r>, seed 0: out of memory.",
        "b<r>, seed 1: training diverged.",
    ]
    assert facts["command"] in text


def test_runs_of_what_is_not_told_apart():
    assert _together(list("abcd"), {frozenset("ac"), frozenset("ad"), frozenset("bd")}) == [(0, 1), (1, 2), (2, 3)]
    assert _together(list("abc"), set()) == [(0, 2)]
    assert _together(list("ab"), {frozenset("ab")}) == []


PROBE = """<script>
window.addEventListener("load", () => {
  const heads = document.querySelectorAll("th button"); heads[1].click();
  const down = document.querySelector("tbody tr td").textContent; heads[1].click();
  const up = document.querySelector("tbody tr td").textContent;
  const table = document.querySelector("table"), names = [...table.tHead.rows[0].cells];
  const p = names.findIndex(th => /Holm/.test(th.textContent));
  heads[p].click();
  const last = [...table.tBodies[0].rows].at(-1).cells[p].textContent;
  const pictures = [...document.images].every(image => image.complete && image.naturalWidth > 0);
  const frame = document.createElement("iframe"); frame.style.width = "390px"; frame.srcdoc = PAGE;
  frame.onload = () => {
    const page = frame.contentDocument.documentElement;
    const readable = [...frame.contentDocument.images].every(image => image.width >= 500);
    document.title = JSON.stringify([down, up, last, pictures, page.scrollWidth <= 390, readable]);
  };
  document.body.append(frame);
});
</script>"""


LONG = f"mml(margins=[{','.join(['0.75'] * 20)}])"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_in_a_browser(tmp_path: Path):
    report = write_report(made({"a<b>": GOOD["a<b>"], LONG: GOOD["c"]}), tmp_path).read_text()
    page = json.dumps(report).replace("</", "<\\/")
    (tmp_path / "probe.html").write_text(report.replace("</body>", PROBE.replace("PAGE", page) + "</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=8000"]
    command = [str(BROWSER), *options, "--dump-dom", (tmp_path / "probe.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title and json.loads(title[1].replace("&lt;", "<").replace("&gt;", ">")) == [
        "a<b>",
        LONG,
        "",
        True,
        True,
        True,
    ]
    assert "CONSOLE" not in done.stderr
