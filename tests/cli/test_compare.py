"""``rankwell compare`` as a person meets it."""

import re
import shutil
import threading

import pytest

from rankwell.cli import compare as compare_command
from rankwell.experiments import compare as compare_module
from rankwell.experiments.cell import Outcome
from rankwell.experiments.folder import RunFolder
from rankwell.experiments.run import run

from .conftest import SMALL

pytestmark = pytest.mark.usefixtures("no_picture")


@pytest.fixture
def carried_out(monkeypatch) -> list[str]:
    """Runs without processes of their own, which take seconds to start; their folders."""
    done: list[str] = []

    def cell(config, folder, **_):
        done.append(folder.name)
        if len(done) == 2:
            raise KeyboardInterrupt
        run(config, RunFolder(folder / "run"), resume=True)
        RunFolder(folder).write_json("outcome.json", {})
        return Outcome()

    monkeypatch.setattr(compare_module, "carry_out", cell)
    return done


def test_compare_interrupted_goes_on_and_then_trains_what_is_added(rankwell, tiny, tmp_path, carried_out):
    words = ["compare", tiny, *SMALL, "--seeds", 2, "--jobs", 1, "--out", tmp_path / "c", "--losses"]
    said = rankwell(*words, "bpr,bsl")
    assert said.code == 130 and said.err.endswith("with anything else by the same command.\n")
    said = rankwell(*words, "bpr,bsl")
    assert said.code == 0, said.err
    assert " first by recall@20: " in said.out and "over 40 users" in said.out
    assert len(carried_out) == 5  # the second of four twice
    more = rankwell(*words, "bpr,bsl,ccl")
    assert more.code == 0 and [name.partition(".")[0] for name in carried_out[5:]] == ["ccl", "ccl"]
    lines = [line for line in more.err.splitlines() if ", seed " in line]
    assert all(re.search(r"^(bpr|bsl).*: recall@20 \d\.\d{4}, kept from before$", line) for line in lines[:4])
    assert all(re.search(r"^ccl.*: recall@20 \d\.\d{4}, 0 s of processor$", line) for line in lines[4:])
    assert len(lines) == 6
    assert all((tmp_path / "c" / f"report.{kind}").is_file() for kind in ("html", "md", "json"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "a comparison needs something to compare"),
        (["--losses", "bpr,bsll"], "bsll"),
        (["--losses", "bpr", "--jobs", "0"], "--jobs must be at least 1: got 0."),
        (["--losses", "bpr", "--steps", "4", "--seconds", "4"], "give one of the two"),
        (["--losses", "bpr", "--seconds", "4", "--jobs", "2"], "runs side by side would steal each other's seconds"),
        (["--losses", "bpr", "--seeds", "0"], "at least one seed: got 0"),
    ],
    ids=["nothing", "unknown", "jobs", "budgets", "side by side", "seeds"],
)
def test_what_compare_refuses(rankwell, tiny, tmp_path, words, says):
    assert says in rankwell("compare", tiny, *words, "--out", tmp_path / "c").sentence


def test_notes_on_the_data_are_said_before_anything_is_trained(rankwell, tiny, tmp_path, carried_out):
    shutil.copytree(tiny, tmp_path / "twice")
    train = tmp_path / "twice" / "train.txt"
    lines = train.read_text().splitlines()
    train.write_text("\n".join([*lines, lines[-1]]) + "\n")
    said = rankwell("compare", tmp_path / "twice", *SMALL, "--losses", "bpr", "--seeds", 1, "--out", tmp_path / "c")
    note = f"train.txt: {len(lines[-1].split()) - 1} duplicate pairs merged, the earliest row of each kept"
    assert said.err.splitlines()[0] == f"note: {note}"
    assert f"- Note: {note}." in (tmp_path / "c" / "report.md").read_text()


def test_where_every_run_failed_there_is_a_report_of_why(rankwell, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(compare_module, "carry_out", lambda *_, **__: Outcome("out of memory."))
    words = ["--losses", "bpr,bsl", "--seeds", 1, "--out", tmp_path / "c"]
    said = rankwell("compare", tiny, *SMALL, *words)
    report = tmp_path / "c" / "report.html"
    assert said.code == 2 and said.out == ""
    assert said.err.splitlines()[-1] == f"error: no run of the comparison came to its end: out of memory. See {report}."
    assert "bsl, seed 0: out of memory." in report.read_text()


def test_without_a_terminal_a_line_a_minute_tells_how_far_runs_are(rankwell, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(compare_command, "MINUTE", 0.0)
    waiting = threading.Event()

    def cell(config, folder, **_):
        run(config, RunFolder(folder / "run"), resume=True)
        waiting.wait(10)
        return Outcome()

    def going(self, far):
        told(self, far)
        if any("epoch 2 of 2" in each for each in far.values()):
            waiting.set()

    told = compare_command._Bar.going
    monkeypatch.setattr(compare_module, "carry_out", cell)
    monkeypatch.setattr(compare_command._Bar, "going", going)
    said = rankwell("compare", tiny, *SMALL, "--losses", "bpr", "--seeds", 1, "--out", tmp_path / "c")
    assert waiting.is_set() and "bpr, seed 0: epoch 2 of 2\n" in said.err
