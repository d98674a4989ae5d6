"""What a run is known again by: files that its settings name count like the data."""

import pytest

from rankwell.config import resolve
from rankwell.errors import RunError
from rankwell.experiments import run
from rankwell.experiments.cell import carry_out, read_outcome
from rankwell.experiments.compare import Budget, compare, contenders, plan_cells
from rankwell.experiments.facts import named_files
from rankwell.experiments.folder import RunFolder
from rankwell.experiments.study import Study
from rankwell.experiments.trial import work
from rankwell.experiments.tune import planned
from rankwell.losses import LOSSES

SMALL = {"model": {"dim": 4}, "sampler": {"n": 8}, "training": {"epochs": 1, "batch_size": 64}}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A loss in a file of its own."""
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))
    file = tmp_path / "own.py"
    file.write_text(
        "from rankwell.losses import contrast_loss\n\n@contrast_loss()\n"
        "def gap_loss(pos, neg, *, pos_where=None, where=None, weights=None, reduction='mean'):\n"
        "    return -(pos[:, None] - neg).tanh().mean()\n"
    )
    return file


def edit(file):
    file.write_text(file.read_text().replace("-(", "+("))


def test_files_are_known_by_their_contents(own):
    assert named_files(resolve({"data": {"path": "synthetic"}})) == {}
    config = resolve({"data": {"path": str(own)}, "loss": {"name": f"{own}:gap_loss"}})
    before = named_files(config)
    assert list(before) == [str(own)]
    edit(own)
    assert named_files(config).keys() == before.keys() and named_files(config) != before


def test_files_of_an_encoder_count_and_other_folders_do_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("mine", "bpr"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "weights").write_text("1")
    config = resolve({"loss": {"name": "bpr"}})
    assert named_files(config) == {}
    config = config.model_copy(update={"model": {"name": "bi_encoder", "encoder": "mine"}})
    assert list(named_files(config)) == ["mine/deep/weights"]


def test_an_edited_loss_makes_other_cells_and_is_said(own, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("rankwell.experiments.compare._carried_out", lambda *_: (_ for _ in ()))
    raw, named, budget = {"data": {"path": str(tiny)}, **SMALL}, contenders([f"{own}:gap_loss", "bpr"]), Budget()
    said, cells = [], []
    for _ in range(2):
        planned_cells, facts, _ = plan_cells(raw, named, 1, budget, tmp_path)
        cells.append([cell.folder for cell in planned_cells])
        with pytest.raises(KeyError):  # nothing was carried out
            compare(planned_cells, facts, tmp_path, budget=budget, say=said.append)
        edit(own)
    assert cells[0][0] != cells[1][0] and cells[0][1] == cells[1][1]
    assert said == [f"{own} changed since the last comparison in {tmp_path}: its cells are computed again"]


def test_a_loss_edited_before_its_run_begins_fails_it(own, tiny, tmp_path):
    raw, named = {"data": {"path": str(tiny)}, **SMALL}, contenders([f"{own}:gap_loss"])
    (cell,), _, _ = plan_cells(raw, named, 1, Budget(), tmp_path)
    edit(own)
    outcome = carry_out(cell.config, cell.folder, threads=1, files=cell.files)
    assert outcome.error == f"{own} changed since this run was planned: compare again."
    assert read_outcome(cell.folder) == outcome and not (cell.folder / "run").exists()


def test_trials_of_an_edited_loss_are_refused_by_its_name(own, tiny, tmp_path):
    config = resolve({"data": {"path": str(tiny)}, **SMALL, "loss": {"name": f"{own}:gap_loss"}})
    plan = planned(config, trials=1)
    Study.start(tmp_path / "study", plan.config, plan.space, plan.pruner, plan.data)
    edit(own)
    with pytest.raises(RunError, match=f"^{own} changed since the study in .* was started: give back"):
        work(tmp_path / "study", 1)


def test_an_edited_loss_ends_a_study_and_a_run(own, tiny, tmp_path):
    config = resolve({"data": {"path": str(tiny)}, **SMALL, "loss": {"name": f"{own}:gap_loss"}})
    folder = RunFolder(tmp_path / "run")
    plan = planned(config, trials=1)
    Study.start(tmp_path / "study", plan.config, plan.space, plan.pruner, plan.data)
    folder.create(config, {"data": plan.data, "threads": 1})
    edit(own)
    other = planned(config, trials=1)
    with pytest.raises(RunError, match=f"has a study of other contents of {own}: its trials"):
        Study.start(tmp_path / "study", other.config, other.space, other.pruner, other.data)
    with pytest.raises(
        RunError, match=f"^{own} changed since {folder.path} was started: .*{named_files(config)[str(own)]}"
    ):
        run(config, folder, resume=True)
