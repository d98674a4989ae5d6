"""Tuning: a study that is kept, shared and gone on with; trials that never see the test; folds that no search saw."""

import errno
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from rankwell.config import load_toml, resolve
from rankwell.errors import ConfigError, RunError
from rankwell.experiments import equal_tuning
from rankwell.experiments import study as study_module
from rankwell.experiments import trial as trial_module
from rankwell.experiments import tune as tune_module
from rankwell.experiments.compare import Budget, contenders, plan_cells
from rankwell.experiments.equal_tuning import tune_contenders, tuning_said
from rankwell.experiments.folder import RunFolder
from rankwell.experiments.nested_report import write_nested_report
from rankwell.experiments.search import space_of
from rankwell.experiments.study import Study, worker
from rankwell.experiments.trial import validated, work
from rankwell.experiments.tune import in_fold, nested, planned, search, tune
from rankwell.tasks import task_of

pytest.importorskip("optuna")
pytestmark = pytest.mark.usefixtures("no_picture")

SMALL = {
    "model": {"dim": 4},
    "sampler": {"n": 8},
    "training": {"batch_size": 64, "epochs": 2},
    "evaluation": {"measures": ["ndcg@20"]},
}
NEGATIVES = ["sampler.n=4:16"]


def started(
    folder: Path, pruner="none", searched=("loss.temperature=0.01:1:log", "training.learning_rate=1e-4:1e-1:log")
):
    config = resolve({"loss": {"name": "bsl", "temperature": 0.5}, "training": {"epochs": 4}})
    space = space_of(config, searched, [] if len(searched) != 2 else ["sampler.n", "loss.ratio"])
    return Study.start(folder, config, space, pruner, {"queries": 3})


def toy(options, epoch=4):
    """The best is a temperature of 0.1 and a learning rate of 0.003; more with each epoch."""
    far = (math.log10(options["loss.temperature"]) + 1) ** 2 + (
        math.log10(options["training.learning_rate"]) + 2.5
    ) ** 2
    return 1 - far - 0.1 / epoch


def carry_out(study, most, until=None):
    """Trials of the toy; ``until`` the trial of that number, which is left when half done."""
    while (taken := study.take(most)) is not None:
        for epoch in range(1, 5):
            if taken.report(epoch, toy(taken.options, epoch)):
                taken.end("pruned")
                break
            if taken.number == until and epoch == 2:
                taken.abandon()
                return
        else:
            taken.end("complete", toy(taken.options))


def told(study):
    return [(each.state, each.options, each.curve) for each in study.tried()]


def in_process(module, arguments, said, *, threads):
    """A worker that is no process."""
    work(Path(arguments[0]), int(arguments[1]))
    return SimpleNamespace(pid=os.getpid(), returncode=0, poll=lambda: 0)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(tune_module, "start", in_process)


def config_of(tiny, **changed):
    return resolve({"data": {"path": str(tiny)}, "loss": {"name": "bsl"}, **SMALL, **changed})


def test_the_optimum_is_found_and_the_configuration_is_the_first(tmp_path):
    study = started(tmp_path)
    carry_out(study, 24)
    tried = study.tried()
    assert tried[0].options == {"loss.temperature": 0.5, "training.learning_rate": 0.01}
    best = study.best()
    assert toy(best.options) > 0.9 > tried[0].value
    assert len({json.dumps(each.options) for each in tried}) == 24


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_killed_and_gone_on_with_it_tries_the_same(tmp_path, pruner):
    whole, cut = started(tmp_path / "whole", pruner), tmp_path / "cut"
    carry_out(whole, 14)
    ended = [each.number for each in whole.tried() if each.state == "complete"]
    for until in (ended[1], ended[-1], None):
        carry_out(started(cut, pruner), 14, until)
    assert told(started(cut, pruner)) == told(whole)
    assert {each.state for each in whole.tried()} == {"complete", "pruned"}
    assert whole.tried()[0].state == "complete"  # the configuration itself is never stopped


WORKER = """
import sys, os
from pathlib import Path
from rankwell.experiments.study import Study
study = Study(Path(sys.argv[1]))
study.take(6).end("complete", 1.0)
taken = study.take(6)
print(taken.number, flush=True)
os.kill(os.getpid(), 9)
"""


def test_processes_share_a_study_and_one_is_killed(tmp_path):
    study = started(tmp_path)
    taken = study.take(6)
    assert taken is not None and taken.number == 0
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    other = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (
        other.returncode == -9 and other.stdout == "2\n"
    )  # while this one is at work, it did one, and died at the next
    assert [each.state for each in study.tried()] == ["running", "complete", "running"]
    before = study.tried()[2].options
    taken.end("complete", 0.0)
    carry_out(study, 6)
    assert [each.state for each in study.tried()] == ["complete"] * 6 and study.tried()[2].options == before
    assert len({json.dumps(each.options) for each in study.tried()}) == 6


def test_a_trial_that_ends_while_others_are_counted_stays_ended(tmp_path, monkeypatch):
    study = started(tmp_path)
    taken, other = study.take(5), Study(tmp_path)
    locks = other._running

    def ends_before(number):
        if number == 0:
            taken.end("complete", 0.5)
        return locks(number)

    monkeypatch.setattr(other, "_running", ends_before)
    later = other.take(5)
    assert later.number == 1
    assert [each.state for each in study.tried()] == ["complete", "running"] and study.tried()[0].value == 0.5
    later.abandon()


def test_lists_in_order_are_learnt_from_as_they_were_tried(tmp_path):
    config = resolve({"loss": {"name": "mml"}, "training": {"epochs": 4}})
    space = space_of(config)
    study, orders = Study.start(tmp_path, config, space, "none", {}), set()
    while (taken := study.take(16)) is not None:
        margins = [taken.trial.params[f"loss.margins[{place}]"] for place in range(3)]
        assert margins == taken.options["loss.margins"] == sorted(margins)
        orders.add(tuple(margins))
        taken.end("complete", 1.0)
    assert len(orders) == 16


def test_an_error_that_is_not_the_files_is_not_said_to_be(tmp_path, monkeypatch):
    study = started(tmp_path)

    def odd(*_):
        raise ValueError("no fault of the file")

    monkeypatch.setattr(study_module, "propose", odd)
    with pytest.raises(ValueError, match=r"^no fault of the file$"):
        study.take(3)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, number):
    def none(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(RunError, match=r"has no locks, which keep processes apart: give another --out\."):
        started(tmp_path)


def test_a_small_space_ends_when_all_is_tried(tmp_path):
    study = started(tmp_path, searched=("training.schedule=cosine,linear", "sampler.n=8:10", "loss.ratio=1,2"))
    for name in [
        name for name in study.space if study.space[name].path in ("loss.temperature", "training.learning_rate")
    ]:
        del study.space[name]
    number = 0
    while (taken := study.take(100)) is not None:
        taken.end("complete", float(number := number + 1))
    tried = [json.dumps(each.options) for each in study.tried()]
    assert len(tried) == len(set(tried)) == 13  # 2 * 3 * 2, and the configured ratio of 1.2 with 1,024 negatives


def test_a_study_of_something_else_is_refused(tmp_path):
    started(tmp_path)
    with pytest.raises(RunError, match="has a study of other search space: its trials cannot be compared"):
        started(tmp_path, searched=("loss.temperature=0.01:0.9:log", "training.learning_rate=1e-4:1e-1:log"))
    with pytest.raises(RunError, match="has a study of other pruner"):
        started(tmp_path, pruner="median")
    with pytest.raises(RunError, match="has no study"):
        Study(tmp_path / "other")


def test_half_a_line_is_cut_off_and_nonsense_is_told(tmp_path):
    study = started(tmp_path)
    carry_out(study, 2)
    with study.path.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')  # killed while it wrote
    carry_out(started(tmp_path), 3)
    assert len(study.tried()) == 3
    study.path.write_bytes(b"nonsense\n")
    with pytest.raises(RunError, match="is corrupt"):
        started(tmp_path)


@pytest.mark.usefixtures("quick")
def test_tuning_then_one_run_then_more_trials(tiny, tmp_path):
    config, seen = config_of(tiny), []
    first = tune(planned(config, trials=3, search=NEGATIVES), tmp_path, watcher=lambda each: seen.append(each.number))
    assert seen == [0, 1, 2] and len(first.looks) == 1 and first.tried[0].options["sampler.n"] == 8
    assert first.best.value == max(each.value for each in first.tried if each.state == "complete")
    assert resolve(load_toml(tmp_path / "best.toml")).as_dict() == first.config.as_dict()
    assert first.result.validation == pytest.approx(first.best.value, abs=1e-6)  # the run is the trial, once more
    plan = planned(config, trials=5, search=NEGATIVES)
    more = tune(plan, tmp_path, watcher=lambda each: seen.append(each.number))
    assert seen == list(range(5)) and more.tried[:3] == first.tried
    assert list(more.looks) == sorted({first.best.number, more.best.number})
    assert RunFolder(tmp_path / "best").config().as_dict() == more.config.as_dict()
    assert tune(plan, tmp_path, watcher=lambda each: seen.append(each.number)).result == more.result and len(seen) == 5


def test_what_was_found_keeps_its_split_under_other_seeds(tmp_path):
    raw = {"task": "ltr", "data": {"path": str(judged(tmp_path / "a.csv"))}}
    assert planned(resolve({**raw, "split_seed": 5}), trials=1).config.split_seed == 5
    config = planned(resolve({**raw, "seed": 3}), trials=1).config
    again = resolve({**config.as_dict(), "seed": 1})  # as train --config best.toml --seed 1
    parts = [task_of("ltr").read(each.splitting()) for each in (config, again, resolve({**raw, "seed": 1}))]
    for first, second, other in ([data.test for data in parts], [data.valid for data in parts]):
        assert first.query_ids.to_list() == second.query_ids.to_list() != other.query_ids.to_list()


def test_threads_are_those_of_the_settings(tiny, tmp_path, monkeypatch):
    seen = []

    def counted(module, arguments, said, *, threads):
        seen.append(threads)
        return in_process(module, arguments, said, threads=threads)

    monkeypatch.setattr(tune_module, "start", counted)
    monkeypatch.setattr(trial_module, "validated", lambda *_: (0.5, 1))
    monkeypatch.setattr(tune_module, "run", lambda *_, **__: None)
    tune(planned(config_of(tiny, threads=3), trials=1), tmp_path / "a")
    assert seen == [3]
    with pytest.raises(ConfigError, match="threads 3: a comparison shares the cores among its runs"):
        plan_cells(config_of(tiny, threads=3).as_dict(), contenders(["bsl"]), 1, Budget(), tmp_path / "b")


def test_a_trial_sees_no_test_part(tiny):
    config = config_of(tiny)
    task = task_of(config.task)
    data = task.read(config)
    assert validated(config, task, data) == validated(config, task, replace(data, test=None))


@pytest.mark.usefixtures("quick")
def test_a_failed_trial_fails_alone(tiny, tmp_path, monkeypatch):
    outcomes = iter([None, MemoryError(), ConfigError("these do not go together."), ValueError("odd\nlines"), None])

    def sometimes(*_):
        if error := next(outcomes):
            raise error
        return 0.5, 1

    monkeypatch.setattr(trial_module, "validated", sometimes)
    study, tried = search(planned(config_of(tiny), trials=5), tmp_path)
    assert [each.state for each in tried] == ["complete", "fail", "fail", "fail", "complete"]
    assert [each.facts["error"] for each in tried[1:4]] == [
        "out of memory. Search smaller values, or take a smaller batch.",
        "these do not go together.",
        "ValueError: odd",
    ]
    assert study.best().number == 0  # the first of equals


@pytest.mark.usefixtures("quick")
def test_when_all_trials_fail(tiny, tmp_path):
    config = config_of(tiny, loss={"name": "mse"}, model={"dim": 4, "similarity": "dot"})
    plan = planned(config, trials=2, search=["training.learning_rate=1e30:2e30"], keep=["sampler.n"])
    config = plan.config.model_copy(update={"training": replace(plan.config.training, learning_rate=1e30)})
    with pytest.raises(RunError, match=r"no trial of .* came to its end: the loss is .*: training diverged"):
        tune(replace(plan, config=config), tmp_path)


def test_a_worker_that_is_killed_fails_its_trial(tiny, tmp_path, monkeypatch):
    def dies(module, arguments, said, *, threads):
        study = Study(tmp_path)
        if len(study.tried()) > 1:
            return in_process(module, arguments, said, threads=threads)
        taken = study.take(3)
        taken.trial.set_user_attr("worker", worker(77))
        taken.abandon()
        return SimpleNamespace(pid=77, returncode=-9, poll=lambda: -9)

    monkeypatch.setattr(trial_module, "validated", lambda *_: (0.5, 1))
    monkeypatch.setattr(tune_module, "start", dies)
    _, tried = search(planned(config_of(tiny), trials=3), tmp_path)
    assert [each.state for each in tried] == ["fail", "fail", "complete"]
    assert "was killed, as by a system without memory" in tried[0].facts["error"]


def test_what_cannot_be_tuned(tiny):
    config = config_of(tiny)
    with pytest.raises(ConfigError, match="at least one trial: got 0"):
        planned(config, trials=0)
    with pytest.raises(ConfigError, match="there is nothing to tune"):
        planned(config_of(tiny, model={"name": "ease"}), trials=1)
    with pytest.raises(ConfigError, match=r"these data keep none: leave data\.valid_fraction above 0"):
        planned(config_of(tiny, data={"path": str(tiny), "valid_fraction": 0}), trials=1)
    with pytest.raises(ConfigError, match=r"data\.fold splits data that have no test part"):
        planned(in_fold(config, 1, 3), trials=1)
    with pytest.raises(ConfigError, match=r"data\.fold is one fold, and --folds takes each in turn"):
        in_fold(in_fold(config, 1, 3), 1, 3)
    with pytest.raises(ConfigError, match="task sequences is not split at random, and has no folds"):
        in_fold(resolve({"task": "sequences"}), 1, 3)


def judged(path: Path, changed: set[int] = frozenset()) -> Path:
    """Twenty queries of eight documents; those of ``changed`` queries have other features and labels."""
    drawn = np.random.default_rng(0)
    query = np.repeat(np.arange(20), 8)
    features, labels = drawn.normal(size=(160, 3)), drawn.integers(0, 3, 160)
    other = np.isin(query, list(changed))
    features[other], labels[other] = -features[other] + 1, 2 - labels[other]
    columns = {f"x{place}": column for place, column in enumerate(features.T)}
    pl.DataFrame({"query": query, "label": labels, **columns}).write_csv(path)
    return path


def ranking(path: Path):
    raw = {
        "task": "ltr",
        "data": {"path": str(path)},
        "model": {"widths": [4]},
        "training": {"epochs": 2, "batch_size": 8},
        "evaluation": {"measures": ["ndcg@10"]},
    }
    return [planned(in_fold(resolve(raw), number, 2), trials=2) for number in (1, 2)]


@pytest.mark.usefixtures("quick")
def test_figures_of_folds_are_of_what_no_search_saw(tmp_path):
    found = nested(ranking(judged(tmp_path / "a.csv")), tmp_path / "a")
    rows = [pl.read_parquet(each.folder / "best" / "per_query.parquet") for each in found.folds]
    asked = [set(part["query"].to_list()) for part in rows]
    assert not asked[0] & asked[1] and len(asked[0] | asked[1]) == 20
    mean = np.concatenate([part["ndcg@10"].to_numpy() for part in rows]).mean()
    assert found.summaries["ndcg@10"].mean == pytest.approx(mean) and found.summaries["ndcg@10"].units == 20
    # Other values of what the first fold tests: its search has the same bits, and its figure is another.
    changed = {int(name) for name in asked[0]}
    again = nested(ranking(judged(tmp_path / "a.csv", changed)), tmp_path / "b")
    assert told(Study(again.folds[0].folder)) == told(Study(found.folds[0].folder))
    assert again.folds[0].result.test != found.folds[0].result.test
    assert told(Study(again.folds[1].folder)) != told(Study(found.folds[1].folder))


@pytest.mark.usefixtures("quick")
def test_one_figure_a_fold_has_no_interval(tmp_path):
    lines = "".join(f"u{user},i{item}\n" for user in range(8) for item in range(8) if (user + item) % 3)
    (tmp_path / "a.csv").write_text(f"user,item\n{lines}")
    raw = {"data": {"path": str(tmp_path / "a.csv")}, "model": {"name": "ease"}}
    raw["evaluation"] = {"measures": ["recall@2", "coverage@2", "novelty@2"], "monitor": "recall@2"}
    plans = [
        planned(in_fold(resolve(raw), number, 2), trials=1, search=["model.regularisation=1:9"]) for number in (1, 2)
    ]
    found = nested(plans, tmp_path / "tuned")
    shown, novel = (found.summaries[name] for name in ("coverage@2", "novelty@2"))
    assert list(found.summaries) == raw["evaluation"]["measures"]
    assert shown.mean == pytest.approx(np.mean([each.result.test["coverage@2"] for each in found.folds]))
    assert np.isnan([shown.low, shown.high]).all() and shown.units == 0
    assert novel.low <= novel.mean <= novel.high and novel.units == 8
    report = write_nested_report(found, "rankwell tune").with_suffix(".md").read_text()
    assert f"| coverage@2 | {shown.mean:.4f} |  |  | 0 |" in report


@pytest.mark.usefixtures("quick")
def test_contenders_get_the_same_number_of_trials(tiny, tmp_path):
    named = contenders(["bpr", "mml(neg_weight=40)"], models=["mf", "ease"])
    raw = {"data": {"path": str(tiny)}, "sampler": {"n": 8}, "training": {"batch_size": 64}}
    budget, seen = Budget(steps=4), []
    found, about = tune_contenders(raw, named, 2, budget, tmp_path, jobs=1, watcher=lambda *each: seen.append(each))
    assert {name: each["trials"] for name, each in about.items()} == {
        "bpr, mf": 2,
        "bpr, ease": 0,
        "mml(neg_weight=40), mf": 2,
        "mml(neg_weight=40), ease": 0,
    }
    assert len(seen) == 4 and found["bpr, ease"] == named["bpr, ease"]
    own = found["mml(neg_weight=40), mf"]
    assert own["loss"]["neg_weight"] == "40" and "pos_weight" in own["loss"] and "learning_rate" in own["training"]
    cells, _, _ = plan_cells(raw, {"mml": own}, 1, budget, tmp_path)
    assert cells[0].config.training.learning_rate == about["mml(neg_weight=40), mf"]["found"]["training.learning_rate"]
    assert tune_contenders(raw, named, 2, budget, tmp_path, watcher=lambda *each: seen.append(each)) == (found, about)
    assert len(seen) == 4
    said = tuning_said(about)
    assert "same number of trials, 2" in said[0] and said[3] == "bpr, ease: nothing to tune, trained as configured."
    assert "best of many, and so too high" in said[1] and "take the settings found as fixed" in said[1]
    bpr = about["bpr, mf"]
    assert list(bpr["searched"]) == ["training.learning_rate", "sampler.n"] and bpr["configured"]["sampler.n"] == 8
    config = resolve({**raw, "loss": {"name": "bpr"}})  # as 'rankwell tune' has it
    assert list(bpr["searched"]) == [each.path for each in planned(config, trials=1).space.values()]
    _, kept = tune_contenders(raw, contenders(["bpr"], ["uniform(n=8)"]), 1, budget, tmp_path, jobs=1)
    assert list(kept["bpr"]["searched"]) == ["training.learning_rate"]
    with pytest.raises(ConfigError, match="not by seconds: give --steps"):
        tune_contenders(raw, named, 2, Budget(seconds=1), tmp_path)


def test_contenders_without_a_budget_are_pruned_by_the_epochs_of_their_runs(tiny, tmp_path, monkeypatch):
    plans = []

    def planned_only(plan, *_, **__):
        plans.append(plan)
        raise RunError("seen.")

    monkeypatch.setattr(equal_tuning, "search", planned_only)
    raw = {"data": {"path": str(tiny)}, "training": {"batch_size": 64}}
    with pytest.raises(RunError, match="seen"):
        tune_contenders(raw, contenders(["bpr"]), 2, Budget(), tmp_path, jobs=1)
    assert plans[0].config.training.epochs == planned(plans[0].config, trials=1).config.training.epochs > 4
    assert "sampler.n" in plans[0].space
