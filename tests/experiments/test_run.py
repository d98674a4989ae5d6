import errno
import itertools
import json
import math
import os
import shutil
import tomllib
from pathlib import Path

import polars as pl
import pytest
import torch

from rankwell.config import Config, resolve
from rankwell.data import read_dataset
from rankwell.errors import ConfigError, DataError, InputError, RunError
from rankwell.experiments import RunFolder, run
from rankwell.tasks import Recommendation
from rankwell.tasks.interaction_data import read
from rankwell.training import RowAdam, checkpoint


def settings(path: Path | str, **sections: dict[str, object]) -> Config:
    raw: dict[str, dict[str, object]] = {
        "data": {"path": str(path)},
        "model": {"dim": 4},
        "sampler": {"n": 8},
        "training": {"epochs": 3, "batch_size": 64, "checkpoint_seconds": 0.0},
    }
    for section, values in sections.items():
        raw[section] = {**raw.get(section, {}), **values}
    return resolve(raw)


def listing(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


WHOLE = {
    *("config.toml", "run.json", "log.jsonl", "curve.png", "model.safetensors", "users.parquet", "items.parquet"),
    *("pairs.safetensors", "per_user.parquet", "metrics.json", "selection.json", "negatives.json", "negatives.png"),
}


def test_a_run_and_its_folder(tiny, tmp_path):
    config = settings(tiny)
    result = run(config, RunFolder(tmp_path / "run"))
    folder = tmp_path / "run"
    assert listing(folder) == WHOLE
    assert resolve(tomllib.loads((folder / "config.toml").read_text())) == config
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    data = read_dataset(tiny)
    facts = json.loads((folder / "run.json").read_text())
    assert (facts["data"]["users"], facts["data"]["items"]) == (data.train.num_users, data.train.num_items)
    assert data.test is not None and facts["data"]["test"] == len(data.test)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    values = [line["validation"]["ndcg@20"] for line in log if line["phase"] == "select"]
    phases = [("select", 1), ("select", 2), ("select", 3), *(("refit", epoch + 1) for epoch in range(result.epochs))]
    assert [(line["phase"], line["epoch"]) for line in log] == phases
    assert (result.epochs, result.validation) == (1 + values.index(max(values)), max(values))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"] == result.test and metrics["baselines"].keys() == {"popularity"}
    assert metrics["epochs"] == result.epochs and metrics["users"] == result.users


def test_figures_are_means_over_users_of_the_saved_model(tiny, tmp_path, no_picture):
    """Once more from the folder alone, by a loop: recall@20 and the test pairs of each user."""
    result = run(settings(tiny), RunFolder(tmp_path / "run"))
    saved = RunFolder(tmp_path / "run").load()
    user_ids, item_ids, lists, _ = saved.task.catalogue(saved.model, saved.data)
    table = pl.read_parquet(tmp_path / "run" / "per_user.parquet")
    for name, value in result.test.items():
        assert table[name].mean() == pytest.approx(value, abs=1e-6)
    test = read_dataset(tiny).test
    assert test is not None
    wanted = {user: set() for user in test.user_ids}
    for user, item in zip(test.user_ids.gather(test.users), test.item_ids.gather(test.items), strict=True):
        wanted[user].add(item)
    scores = saved.model.score_all(torch.arange(len(user_ids)))
    for row in table.iter_rows(named=True):
        code = user_ids.to_list().index(row["user"])
        known = lists.values[lists.offsets[code] : lists.offsets[code + 1]]
        scores[code, known] = -math.inf
        best = {item_ids[item] for item in scores[code].argsort(descending=True, stable=True)[:20].tolist()}
        assert row["test_items"] == len(wanted[row["user"]])
        assert row["recall@20"] == pytest.approx(len(best & wanted[row["user"]]) / len(wanted[row["user"]]))


def test_generated_data_comes_with_the_ideal(tmp_path, no_picture, monkeypatch):
    from rankwell.data import synthesise

    monkeypatch.setattr("rankwell.tasks.interaction_data.synthesise", lambda seed: synthesise(60, 40, 10, 3, seed=seed))
    result = run(settings("synthetic"), RunFolder(tmp_path / "run"))
    assert result.baselines.keys() == {"popularity", "ideal"}
    assert result.baselines["ideal"]["ndcg@20"] > result.baselines["popularity"]["ndcg@20"]


def test_test_pairs_choose_nothing(tiny, tmp_path, no_picture):
    """Another test file with the same users and items: weights, log and choice are the same, the figures are not."""
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    data = read_dataset(tiny)
    assert data.test is not None
    known = {user: set() for user in data.train.user_ids}
    for part in (data.train, data.test):
        for user, item in zip(part.user_ids.gather(part.users), part.item_ids.gather(part.items), strict=True):
            known[user].add(item)
    lines = [f"{user} {next(i for i in data.train.item_ids if i not in items)}\n" for user, items in known.items()]
    (other / "test.txt").write_text("".join(lines))
    results = [run(settings(path), RunFolder(tmp_path / f"run {path.name}")) for path in (tiny, other)]
    first, second = tmp_path / "run tiny", tmp_path / "run other"
    assert results[0].test != results[1].test
    assert _without_seconds(first, "selection.json") == _without_seconds(second, "selection.json")
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def _without_seconds(folder: Path, name: str) -> dict[str, object]:
    content = json.loads((folder / name).read_text())
    for epoch in content["epochs"]:
        del epoch["seconds"]
    return content


def test_without_refit_the_chosen_epoch_is_the_model(tiny, tmp_path, no_picture):
    result = run(settings(tiny, training={"refit": False}), RunFolder(tmp_path / "run"))
    assert listing(tmp_path / "run") == WHOLE - {"selection.json"}
    saved, data = RunFolder(tmp_path / "run").load(), read(settings(tiny).data, 0)
    assert data.valid is not None
    from rankwell.evaluation import evaluate
    from rankwell.metrics import Measure

    again = evaluate(
        saved.model,
        [Measure.parse("ndcg@20")],
        known=data.fit.known(),
        held_out=data.valid.known(),  # type: ignore[arg-type]
    )
    assert again.means()["ndcg@20"] == pytest.approx(result.validation)


def test_without_validation_every_epoch_is_trained(tiny, tmp_path, no_picture):
    result = run(settings(tiny, data={"valid_fraction": 0.0}), RunFolder(tmp_path / "run"))
    assert (result.epochs, result.validation) == (3, None)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["valid"] == 0


def test_refit_trains_on_everything(tiny, tmp_path, no_picture):
    """As many steps as all pairs fill, in the epochs that were chosen: the refit is a training without validation."""
    result = run(settings(tiny), RunFolder(tmp_path / "run"))
    plain = settings(tiny, data={"valid_fraction": 0.0}, training={"epochs": 3})
    from rankwell.models import MatrixFactorisation
    from rankwell.tasks.interaction_objective import build_objective
    from rankwell.training import fit

    data = read(plain.data, 0)
    model = MatrixFactorisation(data.train.num_users, data.train.num_items, **plain.parameters("model"))
    model.initialise(data.train.known(), seed=0)
    fit(
        build_objective(plain, model, data.train),
        data.train.tensors(),
        plain.training,
        seed=0,
        stop_after=result.epochs,
    )
    saved = RunFolder(tmp_path / "run").load().model.state_dict()
    assert all(saved[name].equal(value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["popularity", "graph_filter"])
def test_closed_form_models(tiny, tmp_path, name):
    config = resolve({"data": {"path": str(tiny)}, "model": {"name": name}})
    result = run(config, RunFolder(tmp_path / "run"))
    assert result.epochs == 0 and result.validation is None
    assert listing(tmp_path / "run") == WHOLE - {
        *("log.jsonl", "curve.png", "selection.json", "negatives.json", "negatives.png")
    }
    assert (result.test == result.baselines["popularity"]) is (name == "popularity")
    assert RunFolder(tmp_path / "run").load().model.score_all(torch.tensor([0])).any()


def test_weights_reach_the_training(tmp_path, no_picture):
    rows = [(f"u{u}", f"i{(3 * u + j) % 9}", 1 + (u + j) % 4) for u in range(12) for j in range(5)]
    for name, weigh in (("equal", lambda _: 2), ("own", lambda w: w)):
        lines = [f"{u},{i},{weigh(w)}\n" for u, i, w in rows]
        (tmp_path / f"{name}.csv").write_text("user,item,stars\n" + "".join(lines))
    models = {}
    for name in ("equal", "own"):
        config = settings(tmp_path / f"{name}.csv", data={"weight": "stars"}, loss={"name": "bpr"})
        run(config, RunFolder(tmp_path / name))
        models[name] = (tmp_path / name / "model.safetensors").read_bytes()
    assert models["equal"] != models["own"]


class Killed(BaseException):
    """What a kill is to a process: nothing catches it."""


def stop_before(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, number: int) -> None:
    original, count = getattr(owner, name), itertools.count(1)

    def wrapped(*args: object, **own: object) -> object:
        if next(count) == number:
            raise Killed
        return original(*args, **own)

    monkeypatch.setattr(owner, name, wrapped)


def test_stopped_before_every_file_the_run_goes_on(tiny, tmp_path, no_picture, monkeypatch):
    """Before each rename of a file in turn, so in every phase and between them: the same files, bit for bit."""
    config = settings(tiny, training={"epochs": 2, "batch_size": 300, "checkpoint_seconds": 99.0})
    run(config, RunFolder(tmp_path / "alone"))
    for number in itertools.count(1):
        folder = RunFolder(tmp_path / str(number))
        with monkeypatch.context() as patch:
            stop_before(patch, Path, "replace", number)
            try:
                run(config, folder)
                break
            except Killed:
                pass
        if (folder.path / "config.toml").exists():
            run(config, folder, resume=True)
        else:  # nothing was written: the same command again
            run(config, folder)
        assert listing(folder.path) == WHOLE
        for name in ("model.safetensors", "pairs.safetensors", "config.toml", "per_user.parquet"):
            assert (folder.path / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
        assert _without_seconds(folder.path, "selection.json") == _without_seconds(tmp_path / "alone", "selection.json")
    assert number > 15


def test_resuming_a_finished_run_gives_its_result(tiny, tmp_path, no_picture):
    config, folder = settings(tiny), RunFolder(tmp_path / "run")
    first = run(config, folder)
    (folder.path / "select").mkdir()  # killed between the last file and the tidying
    before = (folder.path / "metrics.json").stat().st_mtime_ns
    assert run(config, folder, resume=True) == first
    assert listing(folder.path) == WHOLE and (folder.path / "metrics.json").stat().st_mtime_ns == before


def interrupted(tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, step: int = 3) -> Config:
    config = settings(tiny)
    with monkeypatch.context() as patch:
        stop_before(patch, RowAdam, "step", step)
        with pytest.raises(Killed):
            run(config, RunFolder(folder))
    return config


def test_other_data_are_refused(tiny, tmp_path, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(tiny, data)
    config = interrupted(data, tmp_path / "run", monkeypatch)
    lines = (data / "train.txt").read_text().splitlines(keepends=True)
    (data / "train.txt").write_text("".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(
        RunError, match=r"the data changed since .*run was started: facts were users 40, .* or train in another folder"
    ):
        run(config, RunFolder(tmp_path / "run"), resume=True)


def test_another_configuration_is_refused(tiny, tmp_path, monkeypatch):
    interrupted(tiny, tmp_path / "run", monkeypatch)
    with pytest.raises(RunError, match="was started with another configuration"):
        run(settings(tiny, training={"epochs": 4}), RunFolder(tmp_path / "run"), resume=True)


def test_a_resumed_run_takes_its_own_number_of_threads(tiny, tmp_path, monkeypatch, no_picture):
    config = interrupted(tiny, tmp_path / "run", monkeypatch)
    started = json.loads((tmp_path / "run" / "run.json").read_text())["threads"]
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    run(config, RunFolder(tmp_path / "run"), resume=True)
    assert asked == [started]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_corrupt_checkpoint(tiny, tmp_path, monkeypatch, damage):
    config = interrupted(tiny, tmp_path / "run", monkeypatch)
    file = tmp_path / "run" / "select" / "checkpoint.safetensors"
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    file.write_bytes({"cut": whole[:-7], "flip": flipped, "empty": b""}[damage])
    with pytest.raises(
        RunError, match=r"select.checkpoint.safetensors is corrupt.*Delete the run folder and train again\.$"
    ):
        run(config, RunFolder(tmp_path / "run"), resume=True)


@pytest.mark.parametrize("name", ["run.json", "metrics.json"])
@pytest.mark.parametrize("content", ["{", "[]", '{"other": 1}'])
def test_corrupt_json(tiny, tmp_path, monkeypatch, name, content):
    config = interrupted(tiny, tmp_path / "run", monkeypatch)
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(RunError, match=rf"{name} is corrupt: .*rain again\.$"):
        run(config, RunFolder(tmp_path / "run"), resume=True)


def test_a_folder_that_exists(tiny, tmp_path, monkeypatch, run_module):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    monkeypatch.setattr(Recommendation, "read", lambda *_: pytest.fail("the data was read before looking"))
    with pytest.raises(RunError, match=r"run exists and is not empty. Give another --out.*--resume"):
        run(settings(tiny), RunFolder(tmp_path / "run"))
    assert listing(tmp_path / "run") == {"mine.txt"}
    with pytest.raises(RunError, match=r"mine.txt is a file, where a run needs a folder"):
        run(settings(tiny), RunFolder(tmp_path / "run" / "mine.txt"))


def test_an_empty_folder_may_be_there(tiny, tmp_path, no_picture):
    (tmp_path / "run").mkdir()
    assert run(settings(tiny), RunFolder(tmp_path / "run")).users


@pytest.mark.parametrize(
    ("sections", "error", "says"),
    [
        ({"model": {"dim": 0}}, InputError, "dim must be at least 1"),
        ({"model": {"dropout": 1.0}}, InputError, "dropout"),
        ({"sampler": {"n": 0}}, InputError, "one item and one negative"),
        ({"sampler": {"collisions": "redraw"}}, InputError, "cannot redraw"),
        ({"data": {"path": "nowhere.csv"}}, DataError, "no such file"),
        ({"data": {"split": "time"}}, DataError, "timestamps"),
        ({"loss": {"name": "mml", "margins": [0.5]}}, InputError, "margin"),
    ],
)
def test_bad_input_leaves_no_folder(tiny, tmp_path, sections, error, says):
    with pytest.raises(error, match=says):
        run(settings(tiny, **sections), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_loss_without_its_input_leaves_no_folder(tiny, tmp_path, monkeypatch):
    from rankwell.losses import LOSSES
    from rankwell.registry import Input

    def needy_loss(pos, neg, *, pos_where=None, where=None, weights=None, reduction="mean", teacher=None):
        return pos.sum()

    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))
    LOSSES.register("contrast", inputs={"teacher": Input("item", required=True)})(needy_loss)
    with pytest.raises(ConfigError, match="loss needy needs teacher, which interactions do not tell"):
        run(settings(tiny, loss={"name": "needy"}), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_divergence_is_one_sentence(tiny, tmp_path):
    with pytest.raises(RunError, match=r"the loss is .* training diverged"):
        run(settings(tiny, loss={"temperature": 1e-42}), RunFolder(tmp_path / "run"))


@pytest.mark.parametrize("number", [1, 2, 4, 9])
def test_no_space_left(tiny, tmp_path, monkeypatch, number):
    """At the n-th file: one sentence, nothing half-written; with space again, the run goes on."""
    config, folder = settings(tiny), RunFolder(tmp_path / "run")
    original, count = os.fsync, itertools.count(1)

    def full(handle: int) -> None:
        if next(count) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"cannot write .*: No space left on device. Nothing was changed"):
            run(config, folder)
    left = [path.name for path in folder.path.rglob("*") if path.is_file()] if folder.path.exists() else []
    assert set(left) <= WHOLE | {"checkpoint.safetensors", "best.safetensors"} and len(left) <= number
    if (folder.path / "config.toml").exists():
        assert run(config, folder, resume=True).users


def test_loading_what_is_no_finished_run(tiny, tmp_path, monkeypatch, no_picture):
    with pytest.raises(RunError, match=r"none is not a run's folder: it has no config.toml"):
        RunFolder(tmp_path / "none").load()
    config = interrupted(tiny, tmp_path / "run", monkeypatch)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunError, match=r"run is not finished. Go on with it by 'rankwell train --resume .*run'\.$"):
        folder.load()
    run(config, folder, resume=True)
    whole = (folder.path / "users.parquet").read_bytes()
    (folder.path / "users.parquet").write_bytes(whole[:50])
    with pytest.raises(RunError, match=r"users.parquet is corrupt or missing: [^\n]*. Train again\.$"):
        folder.load()
    pl.DataFrame({"id": ["a", "b"]}).write_parquet(folder.path / "users.parquet")
    with pytest.raises(
        RunError, match=r"holds files that do not fit each other: users must lie in [^\n]*Train again\.$"
    ):
        folder.load()
    (folder.path / "users.parquet").write_bytes(whole)
    weights, _ = checkpoint.load(folder.path / "model.safetensors")
    (folder.path / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"there is no .*model.safetensors"):
        folder.load()
    checkpoint.save(folder.path / "model.safetensors", weights, {})
    assert len(folder.load().data.train.user_ids) == 40


def test_what_a_kill_left_before_anything_was_written_is_swept(tiny, tmp_path, no_picture):
    (tmp_path / "run" / ".partial-x").mkdir(parents=True)
    (tmp_path / "run" / ".partial-x" / "config.toml").write_text("half")
    assert run(settings(tiny), RunFolder(tmp_path / "run")).users
    assert not list((tmp_path / "run").glob(".partial-*"))


def test_what_another_run_is_writing_is_left_alone(tiny, tmp_path):
    (tmp_path / "run" / ".partial-x").mkdir(parents=True)
    (tmp_path / "run" / "config.toml").write_text("")
    with pytest.raises(RunError, match="exists and is not empty"):
        run(settings(tiny), RunFolder(tmp_path / "run"))
    assert (tmp_path / "run" / ".partial-x").is_dir()


def test_a_figure_without_a_value_is_null_in_the_file_and_nan_again(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_json("metrics.json", {"test": {"a": math.nan, "b": 0.5}, "validation": None, "seconds": {"read": 1.0}})
    text = (tmp_path / "metrics.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["test"] == {
        "a": None,
        "b": 0.5,
    }
    found = folder.metrics()
    assert math.isnan(found["test"]["a"]) and found["test"]["b"] == 0.5 and found["validation"] is None
