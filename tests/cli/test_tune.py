"""``rankwell tune`` and ``compare --tune`` as a person meets them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rankwell.experiments import compare as compare_module
from rankwell.experiments import tune as tune_module
from rankwell.experiments.cell import Outcome
from rankwell.experiments.folder import RunFolder
from rankwell.experiments.run import run
from rankwell.experiments.trial import work

from .conftest import SMALL

pytest.importorskip("optuna")
pytestmark = pytest.mark.usefixtures("no_picture")


@pytest.fixture
def quick(monkeypatch):
    """Trials and runs without processes of their own, which take seconds to start."""

    def trials(module, arguments, said, *, threads):
        work(Path(arguments[0]), int(arguments[1]))
        return SimpleNamespace(pid=os.getpid(), returncode=0, poll=lambda: 0)

    def cell(config, folder, **_):
        run(config, RunFolder(folder / "run"), resume=True)
        RunFolder(folder).write_json("outcome.json", {})
        return Outcome()

    monkeypatch.setattr(tune_module, "start", trials)
    monkeypatch.setattr(compare_module, "carry_out", cell)


@pytest.mark.usefixtures("quick")
def test_tune_and_train_what_was_found(rankwell, tiny, tmp_path):
    words = ["tune", tiny, "--loss", "mml", *SMALL, "--search", "sampler.n=4:16", "--keep", "loss.margin_weights"]
    said = rankwell(*words, "--trials", 2, "--out", tmp_path / "t")
    assert said.code == 0, said.err
    assert "of 2 is best by ndcg@20 in validation" in said.out and "On the test, looked at once" in said.out
    assert "trial 0: 0." in said.err and "trial 1: 0." in said.err and "margins [0.7, 0.8, 0.9]" in said.err
    assert (tmp_path / "t" / "report.html").is_file() and (tmp_path / "t" / "best" / "metrics.json").is_file()
    again = rankwell(*words, "--trials", 2, "--out", tmp_path / "t")
    assert again.code == 0 and again.out == said.out and "trial" not in again.err
    trained = rankwell("train", "--config", tmp_path / "t" / "best.toml", "--dry-run")
    assert trained.code == 0


@pytest.mark.usefixtures("quick")
def test_compare_after_tuning_each(rankwell, tiny, tmp_path):
    words = [
        "compare",
        tiny,
        "--losses",
        "bpr,bsl",
        *SMALL,
        "--seeds",
        1,
        "--tune",
        2,
        "--out",
        tmp_path / "c",
        "--jobs",
        1,
    ]
    said = rankwell(*words)
    assert said.code == 0, said.err
    assert "bpr, trial 0: 0." in said.err and "bsl, trial 1: " in said.err
    protocol = " ".join(json.loads((tmp_path / "c" / "report.json").read_text())["protocol"])
    assert (
        "tuned by the same number of trials, 2" in protocol and "bsl: 2 trials, 0 stopped early, 0 failed" in protocol
    )
    again = rankwell(*words)
    assert again.out == said.out and "trial" not in again.err
    assert rankwell(*words[:-2], "--seconds", 1).sentence.startswith("trials are made equal by steps or epochs")
    facts = RunFolder(tmp_path / "c").read_json("comparison.json")
    RunFolder(tmp_path / "c").write_json("comparison.json", {**facts, "torch": "0"})
    again = rankwell(*words, "--tune", 3)
    assert again.err.startswith("note: torch's version changed since") and again.err.count("note: ") == 1, again.err
    assert "trial 2: " in again.err


def test_what_would_be_searched(rankwell, tiny, tmp_path):
    said = rankwell("tune", tiny, "--loss", "mml", "--dry-run", "--out", tmp_path / "t")
    assert "loss.margins[0]" in said.out and "0.0001 to 0.1, log" in said.out and not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--search", "loss.margn=1:2"], "--search loss.margn=1:2: there is no loss.margn."),
        (["--search", "loss.neg_weight=2:1"], "--search loss.neg_weight=2:1: an empty range."),
        (["--keep", "loss.temperature"], "--keep loss.temperature: it is not searched."),
        (["--pruner", "medin"], "unknown pruner 'medin'. Did you mean 'median'?"),
        (["--trials", "0"], "tuning needs at least one trial: got 0."),
        (["--jobs", "0"], "--jobs must be at least 1: got 0."),
        (["--folds", "1"], "cross-validation needs at least two folds: got 1."),
        (["--folds", "3"], "data.fold splits data that have no test part"),
        (["--data.valid_fraction", "0"], "tuning chooses by validation, and these data keep none"),
        (["--model", "ease"], "there is nothing to tune"),
    ],
)
def test_bad_input_is_told_and_leaves_nothing(rankwell, tiny, tmp_path, words, says):
    sentence = rankwell("tune", tiny, "--loss", "mml", *words, "--out", tmp_path / "t").sentence
    assert sentence.startswith(says) and not (tmp_path / "t").exists()


def test_train_does_not_pay_for_it():
    code = "import sys, rankwell.cli; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
