"""Comparisons: cells that are kept, fail alone and go on; what they are told to have found."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError
from dataclasses import asdict, replace

import numpy as np
import polars as pl
import pytest

from rankwell.config import resolve
from rankwell.errors import ConfigError, RankwellError, RunError
from rankwell.experiments import cell as cell_module
from rankwell.experiments import compare as compare_module
from rankwell.experiments import run
from rankwell.experiments import seconds as seconds_module
from rankwell.experiments.cell import Outcome, carry_out, read_outcome
from rankwell.experiments.compare import Budget, compare, contenders, plan_cells
from rankwell.experiments.folder import RunFolder, write_config
from rankwell.experiments.processes import why_it_failed
from rankwell.experiments.report import write_report
from rankwell.experiments.seconds import Spent, read_spent, tell_spent, with_epochs_for
from rankwell.experiments.sentences import protocol
from rankwell.experiments.standings import standings
from rankwell.training import Epoch

pytestmark = pytest.mark.usefixtures("no_picture")

FOUR = Budget(steps=4)
SMALL = {"model": {"dim": 4}, "sampler": {"n": 8}, "training": {"batch_size": 64}}


def in_process(config, folder, **_):
    """A cell without a process of its own, which takes seconds to start."""
    error = ""
    try:
        run(config, RunFolder(folder / "run"), resume=True)
    except RankwellError as raised:
        error = str(raised)
    RunFolder(folder).write_json("outcome.json", {"error": error})
    return Outcome(error)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(compare_module, "carry_out", in_process)


def planned(tiny, folder, losses=("bpr", "bsl"), seeds=2, budget=FOUR, **changed):
    return plan_cells({"data": {"path": str(tiny)}, **SMALL, **changed}, contenders(losses), seeds, budget, folder)[:2]


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        ([], "needs something to compare: give --losses A,B"),
        (["bpr", "bpr"], "'bpr' is compared twice"),
        (["mml(neg_weight)"], r"'neg_weight' must read parameter=value"),
        (["mml(neg_weight=4"], r"must read NAME or NAME\(parameter=value"),
    ],
)
def test_contenders_that_are_wrong(losses, says):
    with pytest.raises(ConfigError, match=says):
        contenders(losses)


def test_parameters_with_commas_stay_whole():
    own = contenders(["mml(margins=[0.8,0.9],neg_weight=4)"])["mml(margins=[0.8,0.9],neg_weight=4)"]
    assert own == {"loss": {"name": "mml", "margins": "[0.8,0.9]", "neg_weight": "4"}}


def test_losses_of_other_files_keep_their_odd_names():
    named = contenders(["bpr", "my losses/öde-1.py:steep(slope=2)"])
    assert named["my losses/öde-1.py:steep(slope=2)"]["loss"] == {"name": "my losses/öde-1.py:steep", "slope": "2"}


def test_budgets_that_are_wrong():
    with pytest.raises(ConfigError, match="give one of the two"):
        Budget(steps=1, seconds=1)
    with pytest.raises(ConfigError, match="must be above 0: got nan"):
        Budget(seconds=float("nan"))


def test_cells_share_the_split_and_have_equal_steps(tiny, tmp_path):
    cells, _ = planned(tiny, tmp_path, budget=Budget(steps=30))
    assert [(cell.contender, cell.config.seed, cell.config.split_seed) for cell in cells] == [
        ("bpr", 0, 0),
        ("bpr", 1, 0),
        ("bsl", 0, 0),
        ("bsl", 1, 0),
    ]
    assert len({cell.config.training.epochs for cell in cells}) == 1 and not cells[0].config.training.refit
    with pytest.raises(ConfigError, match="at least one seed: got 0"):
        planned(tiny, tmp_path, seeds=0)


def test_the_folder_follows_settings_and_data(tiny, tmp_path):
    def folders(**changed):
        return [cell.folder.name for cell in planned(tiny, tmp_path, **changed)[0]]

    assert folders() == folders()
    assert not set(folders()) & set(folders(model={"dim": 5}))
    assert not set(folders()) & set(folders(budget=Budget(seconds=5)))
    other = tmp_path / "other"
    other.mkdir()
    for file in tiny.iterdir():
        (other / file.name).write_text(file.read_text())
    lines = (other / "train.txt").read_text().splitlines()
    before = planned(other, tmp_path)[0]
    (other / "train.txt").write_text("\n".join([lines[0].rsplit(" ", 1)[0], *lines[1:]]) + "\n")
    assert before[0].folder != planned(other, tmp_path)[0][0].folder


@pytest.mark.usefixtures("quick")
def test_an_interrupted_comparison_goes_on(tiny, tmp_path, monkeypatch):
    whole = compare(*planned(tiny, tmp_path / "whole"), tmp_path / "whole", budget=FOUR, jobs=1)
    calls = []

    def interrupted(config, folder, **how):
        calls.append(folder.name)
        if len(calls) in (2, 4):
            raise KeyboardInterrupt
        return in_process(config, folder, **how)

    monkeypatch.setattr(compare_module, "carry_out", interrupted)
    cells, facts = planned(tiny, tmp_path / "cut")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            compare(cells, facts, tmp_path / "cut", budget=FOUR, jobs=1)
    cut = compare(cells, facts, tmp_path / "cut", budget=FOUR, jobs=1)
    assert len(calls) == len(cells) + 2  # nothing that had ended was done again
    for first, second in zip(standings(whole).contenders, standings(cut).contenders, strict=True):
        assert first.name == second.name
        assert all((first.values[name] == second.values[name]).all() for name in first.values)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("moments", [(1, 3, 9), (6, 2, 13)])
def test_killed_within_cells_side_by_side_it_ends_in_the_same_numbers(tiny, tmp_path, monkeypatch, moments):
    """Everything stops at some steps of training, counted over both cells under way; what was not written is lost."""
    loop = importlib.import_module("rankwell.training.fit")
    budget, step, left = Budget(steps=12), loop._carry_out, []

    def mortal(*given):
        if left:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        return step(*given)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    compared = compare(*planned(tiny, whole, budget=budget), whole, budget=budget, jobs=2)
    monkeypatch.setattr(loop, "_carry_out", mortal)
    for moment in moments:
        left[:] = [moment]
        with pytest.raises(KeyboardInterrupt):
            compare(*planned(tiny, cut, budget=budget), cut, budget=budget, jobs=2)
    left.clear()
    again = compare(*planned(tiny, cut, budget=budget), cut, budget=budget, jobs=2)
    for first, second in zip(standings(compared).contenders, standings(again).contenders, strict=True):
        assert first.name == second.name and first.seeds == second.seeds and first.slices == second.slices
        assert all((first.values[name] == second.values[name]).all() for name in first.values)
        assert [[value for *_, value in each] for each in first.curves] == [
            [value for *_, value in each] for each in second.curves
        ]


def _diverging(cell):
    training = replace(cell.config.training, learning_rate=1e30)
    model = {**cell.config.model, "similarity": "dot"}
    return replace(cell, config=cell.config.model_copy(update={"training": training, "model": model}))


@pytest.mark.usefixtures("quick")
def test_one_failing_contender_fails_alone(tiny, tmp_path):
    cells, facts = planned(tiny, tmp_path, losses=("bpr", "mse", "bsl"))
    broken = [_diverging(cell) if cell.contender == "mse" else cell for cell in cells]
    found = standings(compare(broken, facts, tmp_path, budget=FOUR))
    assert [each.name for each in found.contenders][-1] == "mse"
    assert set(found.contenders[-1].failed) == {0, 1} and "diverged" in found.contenders[-1].failed[0]
    assert all(len(each.seeds) == 2 for each in found.contenders[:2]) and len(found.pairs) == 1


@pytest.mark.usefixtures("quick")
def test_changed_data_are_said(tiny, tmp_path):
    cells, facts = planned(tiny, tmp_path, seeds=1)
    said = []
    compare(cells, facts, tmp_path, budget=FOUR, say=said.append)
    compare(cells, {**facts, "fingerprint": "x"}, tmp_path, budget=FOUR, say=said.append)
    assert said == [f"the data changed since the last comparison in {tmp_path}: its cells are computed again"]


@pytest.mark.usefixtures("quick")
def test_changed_data_are_said_again_after_an_interruption(tiny, tmp_path):
    cells, facts = planned(tiny, tmp_path, seeds=1)
    other, said = {**facts, "fingerprint": "x"}, []
    compare(cells, facts, tmp_path, budget=FOUR)

    def interrupting(*_):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            compare(cells, other, tmp_path, budget=FOUR, watcher=interrupting)
    resumed = compare(cells, other, tmp_path, budget=FOUR, say=said.append)
    assert said == resumed.facts["notes"] == RunFolder(tmp_path).read_json("comparison.json")["notes"]
    assert len(said) == 1 and not compare(cells, other, tmp_path, budget=FOUR).facts["notes"]


def test_a_cell_in_a_process_of_its_own(tiny, tmp_path):
    config = resolve(
        {"data": {"path": str(tiny)}, **SMALL, "training": {"epochs": 1, "batch_size": 64, "refit": False}}
    )
    outcome = carry_out(config, tmp_path, threads=1)
    assert not outcome.error and outcome.peak_bytes > 1e8 and outcome.processor_seconds > 0
    assert (outcome.jobs, outcome.threads) == (1, 1)
    assert read_outcome(tmp_path) == outcome and RunFolder(tmp_path / "run").finished


@pytest.mark.usefixtures("quick")
def test_open_epochs_are_told_as_they_became(tiny, tmp_path):
    """The run alone knows how many without a budget in steps; a model in closed form has the seconds of its fit."""
    budget, folder = Budget(), tmp_path / "c"
    cells, facts, _ = plan_cells(
        {"data": {"path": str(tiny)}, "loss": {"name": "bpr"}, "training": {"batch_size": 4_096, "epochs": None}},
        contenders([], models=["mf(dim=4)", "ease"]),
        1,
        budget,
        folder,
    )
    found = standings(compare(cells, facts, folder, budget=budget))
    write_report(found, folder)
    assert all(each.settings["training"]["epochs"] > 1 for each in found.contenders)
    assert all(each.seconds > 0 for each in found.contenders)


@pytest.mark.usefixtures("quick")
def test_further_questions_are_among_the_slices(tiny, tmp_path):
    cells, facts = planned(tiny, tmp_path, losses=("bpr",), seeds=2)
    compared = compare(cells, facts, tmp_path, budget=FOUR)
    for cell, value in zip(cells, (0.25, 0.75), strict=True):
        run_folder = RunFolder(cell.folder / "run")
        result = run_folder.read_json("metrics.json")
        slices = {"among 3 new items": {"mf": {"recall@20": value}, "popularity": {"recall@20": 0.0}}}
        run_folder.write_json("metrics.json", {**result, "slices": slices})
    assert standings(compared).contenders[0].slices["among 3 new items"] == {"mean": 0.5}


@pytest.mark.usefixtures("quick")
def test_popularity_and_activity_make_slices(tiny, tmp_path):
    found = standings(compare(*planned(tiny, tmp_path, seeds=1), tmp_path, budget=FOUR))
    names = [re.sub(r"\d+", "N", name) for name in found.contenders[0].slices]
    assert names[-3:] == ["N head items", "N middle items", "N tail items"]


@pytest.mark.usefixtures("quick")
def test_a_measure_without_any_value_is_an_error(tiny, tmp_path):
    cells, facts = planned(tiny, tmp_path, seeds=1)
    compared = compare(cells, facts, tmp_path, budget=FOUR)
    for cell in cells:
        file = cell.folder / "run" / "per_user.parquet"
        pl.read_parquet(file).with_columns(pl.lit(float("nan")).alias("recall@20")).write_parquet(file)
    with pytest.raises(RunError, match="recall@20 has no value for anyone in the test part"):
        standings(compared)


def endless(tiny):
    return resolve(
        {"data": {"path": str(tiny)}, **SMALL, "training": {"epochs": 100_000, "batch_size": 4, "patience": 0}}
    )


def test_a_stopped_cell_leaves_no_outcome(tiny, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(CancelledError):
        carry_out(endless(tiny), tmp_path, threads=1, stop=stop)
    assert read_outcome(tmp_path) is None


def test_a_cell_ends_when_the_comparison_is_killed(tiny, tmp_path):
    write_config(tmp_path / "config.toml", endless(tiny))
    command = [sys.executable, "-m", cell_module.__name__, str(tmp_path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=60, check=False)  # the other end is closed
    assert done.returncode == 1 and not RunFolder(tmp_path / "run").finished


def test_an_error_stops_the_cells_beside(tiny, tmp_path, monkeypatch):
    cells, facts = planned(tiny, tmp_path)
    stopped = []

    def slow(config, folder, *, stop, **_):
        if folder == cells[0].folder:
            return Outcome()
        stopped.append(stop.wait(20))
        raise CancelledError

    def watcher(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare_module, "carry_out", slow)
    with pytest.raises(KeyboardInterrupt):
        compare(cells, facts, tmp_path, budget=FOUR, jobs=2, watcher=watcher)
    assert all(stopped)


def test_ctrl_c_is_heard_while_cells_run(tiny, tmp_path, monkeypatch):
    """Polars takes signals in a way that lets a wait without an end go on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("started so that it ignores Ctrl-C, as a shell's background jobs are")
    cells, facts = planned(tiny, tmp_path)
    heard = []

    def slow(config, folder, *, stop, **_):
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start() if folder == cells[0].folder else None
        heard.append(stop.wait(10))
        raise CancelledError

    monkeypatch.setattr(compare_module, "carry_out", slow)
    with pytest.raises(KeyboardInterrupt):
        compare(cells, facts, tmp_path, budget=FOUR, jobs=2)
    assert heard == [True, True]


def test_a_cell_killed_before_its_configuration_was_written_starts_again(tiny, tmp_path):
    (tmp_path / "run" / ".partial-x").mkdir(parents=True)
    config = resolve({"data": {"path": str(tiny)}, **SMALL, "training": {"epochs": 1, "refit": False}})
    write_config(tmp_path / "config.toml", config)
    cell_module._main(tmp_path, None)
    assert RunFolder(tmp_path / "run").finished


def test_contenders_that_are_the_same_in_other_words(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"'bpr' and 'bpr\(\)' are the same"):
        planned(tiny, tmp_path, losses=("bpr", "bpr()"))


def test_long_names_fit_into_a_file_name(tiny, tmp_path):
    margins = ",".join(["0.123456"] * 40)
    cells, _ = planned(tiny, tmp_path, losses=(f"mml(margins=[{margins}],margin_weights=[{margins}])",))
    assert all(len(cell.folder.name) < 200 for cell in cells)


def test_why_a_process_failed(tmp_path):
    said = tmp_path / "said.txt"
    said.write_text("Traceback …\nValueError: no\n")
    assert why_it_failed(1, said) == "ValueError: no"
    assert "killed, as by a system without memory" in why_it_failed(-9, said)
    said.write_text("")
    assert "said nothing" in why_it_failed(3, said)


def test_a_budget_in_seconds_becomes_epochs(tiny, tmp_path):
    config = resolve({"data": {"path": str(tiny)}, **SMALL})
    for seconds, folder in ((1e-9, tmp_path / "a"), (1e3, tmp_path / "b")):
        folder.mkdir()
        epochs = with_epochs_for(seconds, config, folder, folder).training.epochs or 0
        assert (epochs > 1) == (seconds > 1) and read_spent(folder).epochs == epochs


def timing(monkeypatch, *seconds):
    """Epochs of so many seconds each; those that were looked at."""
    seen = []

    def timed(*_, watcher, **__):
        for each in seconds:
            seen.append(each)
            watcher.on_epoch(Epoch(1, 0.0, 0.1, each), False)

    monkeypatch.setattr(seconds_module, "fit", timed)
    return seen


def test_the_first_epoch_is_slow_and_does_not_count(tiny, tmp_path, monkeypatch):
    seen = timing(monkeypatch, 5.0, 1.0, 1.0, 2.0, 1.0, 7.0)
    config = resolve({"data": {"path": str(tiny)}, **SMALL})
    assert with_epochs_for(200.0, config, tmp_path, tmp_path).training.epochs == 200
    assert len(seen) == 5  # a twentieth of the seconds
    seen.clear()
    (tmp_path / "other").mkdir()
    assert with_epochs_for(8.0, config, tmp_path / "other", tmp_path / "other").training.epochs == 8
    assert len(seen) == 2  # one after the first at least


def test_all_seeds_have_the_epochs_of_the_first(tiny, tmp_path, monkeypatch):
    seen = timing(monkeypatch, 5.0, 1.0, 1.0, 1.0)
    cells, _ = planned(tiny, tmp_path, budget=Budget(seconds=8))
    one, other = cells[:2]
    for cell in (one, other):
        cell.folder.mkdir(parents=True)
        assert with_epochs_for(8, cell.config, cell.folder, one.folder).training.epochs == 8
    assert len(seen) == 2 and read_spent(one.folder) == read_spent(other.folder)


def test_other_seconds_than_the_budget_are_noted(tiny, tmp_path, monkeypatch):
    """But for a run that stopped early, which needed no more."""
    asked = []

    def cell(config, folder, *, first, **_):
        asked.append(first)
        trained = 1 if "bsl" in folder.name else 2
        config = config.model_copy(update={"training": replace(config.training, epochs=trained)})
        RunFolder(folder).write_json("seconds.json", asdict(Spent(1e4, 5e3, 2)))
        outcome = in_process(config, folder)
        tell_spent(folder)
        return outcome

    monkeypatch.setattr(compare_module, "carry_out", cell)
    budget, said = Budget(seconds=1e4), []
    cells, facts = planned(tiny, tmp_path, budget=budget)
    compared = compare(cells, facts, tmp_path, budget=budget, say=said.append)
    assert asked == [cells[at].folder for at in (0, 0, 2, 2)]
    assert [each.partition(":")[0] for each in said] == [
        "bpr took other seconds than its budget, not because it stopped early"
    ]
    assert re.search(r": \d+\.\d of 10000 with seed 0, \d+\.\d of 10000 with seed 1$", said[0])
    assert compared.facts["notes"] == said == RunFolder(tmp_path).read_json("comparison.json")["notes"]
    spent = read_spent(cells[0].folder)
    assert spent.trained == 2 and 0 < spent.used < 8e3
    assert not replace(spent, used=9e3).unequal and replace(spent, used=2e4, trained=1).unequal


@pytest.mark.usefixtures("quick")
def test_measures_of_recommended_items_are_told_and_not_tested(tiny, tmp_path):
    evaluation = {"measures": ["recall@5", "coverage@5", "novelty@5"], "monitor": "recall@5"}
    cells, facts = planned(tiny, tmp_path, evaluation=evaluation)
    found = standings(compare(cells, facts, tmp_path, budget=FOUR, jobs=1))
    write_report(found, tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    for contender in report["contenders"]:
        runs = [RunFolder(cell.folder / "run") for cell in cells if cell.contender == contender["name"]]
        figures = [run.read_json("metrics.json")["test"] for run in runs]
        shown, novel = (contender["measures"][name] for name in ("coverage@5", "novelty@5"))
        assert contender["by_seed"]["coverage@5"] == [each["coverage@5"] for each in figures]
        assert shown["mean"] == pytest.approx(np.mean([each["coverage@5"] for each in figures]))
        assert shown["low"] is shown["high"] is shown["over_units"] is None and shown["units"] == 0
        assert novel["mean"] == pytest.approx(np.mean([each["novelty@5"] for each in figures]))
        assert novel["low"] <= novel["mean"] <= novel["high"] and novel["units"] == 40
    said = (tmp_path / "report.md").read_text()
    assert (
        "Of recommended items, ties by the lower item code: coverage@5 and novelty@5. Higher is not always better"
        in said
    )
    assert "No interval over users: coverage@5, one figure a result of all users together." in said
    assert "one figure a result" not in "".join(protocol(replace(found, measures=("recall@5",))))
    with pytest.raises(ConfigError, match="the first one ranks, and novelty@5 is of recommended items"):
        planned(tiny, tmp_path, evaluation={"measures": ["novelty@5", "recall@5"]})


def test_several_commands_share_the_cells(tiny, tmp_path, monkeypatch):
    cells, facts = planned(tiny, tmp_path, seeds=1)
    other, calls = compare_module._claimed(cells[0]), []
    assert other.__enter__()  # as another command that is at it

    def carried_out(config, folder, **how):
        calls.append(folder)
        in_process(cells[0].config, cells[0].folder, **how)  # meanwhile the other comes to its end
        other.__exit__(None, None, None)
        return in_process(config, folder, **how)

    monkeypatch.setattr(compare_module, "carry_out", carried_out)
    found = compare(cells, facts, tmp_path, budget=FOUR, jobs=1)
    assert calls == [cells[1].folder] and [each.error for each in found.outcomes] == ["", ""]
    assert standings(found).contenders[0].seeds == (0,)


def test_what_failed_elsewhere_meanwhile_is_taken_as_it_is(tiny, tmp_path, monkeypatch):
    cells, facts = planned(tiny, tmp_path, seeds=1)
    other, calls = compare_module._claimed(cells[0]), []
    assert other.__enter__()

    def carried_out(config, folder, **how):
        calls.append(folder)
        RunFolder(cells[0].folder).write_json("outcome.json", {"error": "out of memory."})
        other.__exit__(None, None, None)
        return in_process(config, folder, **how)

    monkeypatch.setattr(compare_module, "carry_out", carried_out)
    found = compare(cells, facts, tmp_path, budget=FOUR, jobs=1)
    assert calls == [cells[1].folder] and [each.error for each in found.outcomes] == ["out of memory.", ""]
    monkeypatch.setattr(compare_module, "carry_out", in_process)
    assert not any(each.error for each in compare(cells, facts, tmp_path, budget=FOUR, jobs=1).outcomes)
