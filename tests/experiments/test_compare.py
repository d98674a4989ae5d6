"""Comparisons: cells that are kept, fail alone and go on; what they are told to have found."""

from dataclasses import replace

import pytest

from rankwell.config import resolve
from rankwell.errors import ConfigError, RankwellError
from rankwell.experiments import cell as cell_module
from rankwell.experiments import compare as compare_module
from rankwell.experiments import run
from rankwell.experiments.cell import Outcome, carry_out, read_outcome
from rankwell.experiments.compare import Budget, compare, contenders, plan_cells
from rankwell.experiments.folder import RunFolder
from rankwell.experiments.standings import standings

pytestmark = pytest.mark.usefixtures("no_picture")

FOUR = Budget(steps=4)
SMALL = {"model": {"dim": 4}, "sampler": {"n": 8}, "training": {"batch_size": 64}}


def in_process(config, folder, *, threads, seconds=None, alone=False):
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
    return plan_cells({"data": {"path": str(tiny)}, **SMALL, **changed}, contenders(losses), seeds, budget, folder)


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


def test_a_cell_in_a_process_of_its_own(tiny, tmp_path):
    config = resolve(
        {"data": {"path": str(tiny)}, **SMALL, "training": {"epochs": 1, "batch_size": 64, "refit": False}}
    )
    outcome = carry_out(config, tmp_path, threads=1)
    assert not outcome.error and outcome.peak_bytes > 1e8 and outcome.processor_seconds > 0
    assert read_outcome(tmp_path) == outcome and RunFolder(tmp_path / "run").finished


def test_why_a_process_failed(tmp_path):
    said = tmp_path / "said.txt"
    said.write_text("Traceback …\nValueError: no\n")
    assert cell_module._error(1, said) == "ValueError: no"
    assert "killed, as by a system without memory" in cell_module._error(-9, said)
    said.write_text("")
    assert "said nothing" in cell_module._error(3, said)


def test_a_budget_in_seconds_becomes_epochs(tiny):
    config = resolve({"data": {"path": str(tiny)}, **SMALL})
    assert cell_module._fitting(config, 1e-9).training.epochs == 1
    assert (cell_module._fitting(config, 1e3).training.epochs or 0) > 1
