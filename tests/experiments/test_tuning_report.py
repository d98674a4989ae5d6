"""The report of tuning, from a study made by hand; in a browser, where there is one."""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from rankwell.config import resolve
from rankwell.evaluation.significance import Summary
from rankwell.experiments.nested_report import found_over_folds, write_nested_report
from rankwell.experiments.run import Result
from rankwell.experiments.search import space_of
from rankwell.experiments.study import Study
from rankwell.experiments.tune import Nested, Plan, Tuning
from rankwell.experiments.tuning_charts import _slices, importances
from rankwell.experiments.tuning_report import _importance, found_in_tuning, write_tuning_report

pytest.importorskip("optuna")
pytest.importorskip("sklearn")

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
COMMAND = "rankwell tune 'x.csv' --loss psl"


def made(folder: Path, trials: int = 14, looks: tuple[int, ...] = (3,)) -> Tuning:
    """A search in which the temperature is all that matters; the second trial failed, the third was stopped."""
    config = resolve({"loss": {"name": "psl"}, "training": {"epochs": 2}, "evaluation": {"measures": ["ndcg@20"]}})
    space = space_of(config, ["training.weight_decay=1e-4:1:log"])
    study = Study.start(folder, config, space, "none", {"users": 3})
    while (taken := study.take(trials)) is not None:
        if taken.number == 1:
            taken.end("fail", error="out of <memory>.")
            continue
        taken.report(1, 0.1)
        if taken.number == 2:
            taken.end("pruned", seconds=0.5)
        else:
            taken.end("complete", -abs(math.log10(taken.options["loss.temperature"]) + 2), epoch=2, seconds=1.5)
    plan, best = Plan(config, space, trials, "none", {"users": 3}, ("2 rows merged",)), study.best()
    result = Result({"ndcg@20": 0.25}, {"popularity": {"ndcg@20": 0.1}}, 3, 2, best.value, {})
    return Tuning(folder, plan, tuple(study.tried()), best, config, result, looks)


def test_what_is_told(tmp_path):
    found = made(tmp_path)
    said = found_in_tuning(found)
    assert f"Trial {found.best.number} of 14 is best by ndcg@20 in validation" in said
    assert "the configuration as it was given has -0.6990" in said  # log10 of 0.05 is 0.699 away from -2
    assert "Came to their end: 12; stopped early: 1; failed: 1. On the test, looked at once: ndcg@20 0.2500." in said
    report = write_tuning_report(found, COMMAND)
    plain = json.loads((tmp_path / "report.json").read_text())
    assert len(plain["trials"]) == 14 and plain["trials"][1]["value"] is None and plain["command"] == COMMAND
    assert plain["space"]["training.weight_decay"]["log"] and abs(sum(plain["importance"].values()) - 1) < 1e-6
    text = (tmp_path / "report.md").read_text()
    assert "; data synthetic: users 3; split by seed 0." in text and "- Note: 2 rows merged." in text
    assert "- trial 1: out of <memory>." in text and "| loss.temperature | 0.05 |" in text and COMMAND in text
    assert "It never looked at the test" in text and "Importance is fANOVA's" in text
    page = report.read_text()
    assert "out of &lt;memory&gt;." in page and page.count("<img") == 3
    assert "http" not in re.sub(r"http://www.w3.org\S*", "", page)


def test_what_matters_is_told_of_enough_trials(tmp_path):
    shares = importances(Study(made(tmp_path / "many", trials=40).folder))
    assert next(iter(shares)) == "loss.temperature" and shares["loss.temperature"] > 0.6
    few = made(tmp_path / "few", trials=5)
    assert importances(Study(few.folder)) == {}
    write_tuning_report(few, COMMAND)
    assert "Importance is not told: it takes 8 trials" in (few.folder / "report.md").read_text()


def test_trials_that_are_all_equal_say_nothing_of_what_matters(tmp_path):
    config = resolve({"loss": {"name": "psl"}, "training": {"epochs": 2}, "evaluation": {"measures": ["ndcg@20"]}})
    study = Study.start(tmp_path, config, space_of(config), "none", {})
    while (taken := study.take(9)) is not None:
        taken.end("complete", 1.0, epoch=1, seconds=1.0)
    assert importances(study) == {}
    assert _importance({}, study.tried()) == [
        "Importance is not told: the trials that came to their end have all the same value."
    ]


def test_looks_at_the_test_are_counted(tmp_path):
    found = made(tmp_path, trials=4, looks=(0, 3))
    write_tuning_report(found, COMMAND)
    assert "The test was looked at 2 times" in (tmp_path / "report.md").read_text()
    assert "On the test, looked at 2 times" in found_in_tuning(found)


def test_folds_are_told(tmp_path):
    folds = tuple(made(tmp_path / f"fold{number}", trials=4) for number in (1, 2))
    found = Nested(tmp_path, folds, {"ndcg@20": Summary(0.25, 0.2, 0.3, math.nan, 0.1, 1, 6)})
    assert (
        "Tuned anew in each of 2 folds, ndcg@20 is 0.2500 (95 % interval over 6 users 0.2000 to 0.3000)"
        in found_over_folds(found)
    )
    write_nested_report(found, COMMAND)
    text = (tmp_path / "report.md").read_text()
    assert "| parameter | fold 1 | fold 2 |" in text and "| ndcg@20 | 0.2500 | 0.2000 | 0.3000 | 6 |" in text
    assert "each fold was searched by itself" in text and "- [fold 2](fold2/report.html)" in text
    assert '<a href="fold2/report.html">fold 2</a>' in (tmp_path / "report.html").read_text()


def test_the_configured_value_outside_the_range_is_in_its_slice(tmp_path):
    config = resolve({"loss": {"name": "psl", "temperature": 5.0}, "training": {"epochs": 2, "weight_decay": 0.0}})
    space = space_of(config, ["loss.temperature=0.01:1:log", "training.weight_decay=1e-4:1:log"])
    study = Study.start(tmp_path, config, space, "none", {})
    while (taken := study.take(3)) is not None:
        taken.end("complete", 0.5, epoch=1, seconds=1.0)
    figure = Figure()
    _slices(
        figure, study.tried(), {name: space[name] for name in ("loss.temperature", "training.weight_decay")}, "ndcg@20"
    )
    temperatures, decays = (axes.lines[0].get_xdata() for axes in figure.axes)
    assert len(temperatures) == 3 and 5.0 in temperatures
    assert len(decays) == 2 and 0.0 not in decays  # a logarithm has no place for 0


PROBE = """<script>
window.addEventListener("load", () => {
  const trials = [...document.querySelectorAll("table")].at(-1);
  trials.querySelectorAll("th button")[1].click();
  const best = trials.querySelector("tbody tr td").textContent;
  const pictures = [...document.images].every(image => image.complete && image.naturalWidth > 0);
  const frame = document.createElement("iframe"); frame.style.width = "390px"; frame.srcdoc = PAGE;
  frame.onload = () => {
    const page = frame.contentDocument.documentElement;
    document.title = JSON.stringify([best, pictures, page.scrollWidth <= 390]);
  };
  document.body.append(frame);
});
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_in_a_browser(tmp_path: Path):
    found = made(tmp_path)
    report = write_tuning_report(found, COMMAND).read_text()
    page = json.dumps(report).replace("</", "<\\/")
    (tmp_path / "probe.html").write_text(report.replace("</body>", PROBE.replace("PAGE", page) + "</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=8000"]
    command = [str(BROWSER), *options, "--dump-dom", (tmp_path / "probe.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title and json.loads(title[1]) == [str(found.best.number), True, True]
    assert "CONSOLE" not in done.stderr
