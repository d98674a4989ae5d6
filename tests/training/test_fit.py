import itertools
import math
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from rankwell.errors import ConfigError, InputError, RunError
from rankwell.losses import bpr_loss
from rankwell.models import MatrixFactorisation
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective, Epoch, RowAdam, TrainingSettings, checkpoint, fit
from rankwell.types import Ragged

USERS, ITEMS = 10, 8
PAIRS = (
    torch.arange(USERS).repeat_interleave(3),
    torch.tensor([(2 * u + j) % ITEMS for u in range(USERS) for j in (0, 1, 3)]),
)
KNOWN = Ragged(torch.arange(0, 31, 3), PAIRS[1].view(USERS, 3).sort().values.flatten())


def objective(dropout: float = 0.2) -> ContrastObjective:
    model = MatrixFactorisation(USERS, ITEMS, dim=3, dropout=dropout, init="normal")
    model.initialise(KNOWN, seed=0)
    return ContrastObjective(model, bpr_loss, UniformSampler(KNOWN, ITEMS, seed=0, n=4, shared=False), seed=0)


def settings(**own: Any) -> TrainingSettings:
    return TrainingSettings(**{"epochs": 5, "batch_size": 7, "learning_rate": 0.05, **own})


def weights(of: ContrastObjective) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in of.model.state_dict().values()]


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(a.equal(b) for a, b in zip(left, right, strict=True))


class Watch:
    def __init__(self) -> None:
        self.steps: list[tuple[int, int, int, float]] = []
        self.epochs: list[tuple[Epoch, bool]] = []

    def on_step(self, *told: Any) -> None:
        self.steps.append(told)

    def on_epoch(self, record: Epoch, best: bool) -> None:
        self.epochs.append((record, best))


def scripted(of: ContrastObjective, values: list[float]) -> tuple[Any, list[list[Tensor]]]:
    """A validation that gives these values, and the weights that it saw."""
    seen: list[list[Tensor]] = []

    def validate() -> dict[str, float]:
        assert not of.model.training
        seen.append(weights(of))
        return {"m": values[len(seen) - 1]}

    return validate, seen


@pytest.mark.parametrize(
    ("schedule", "left"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 3 / 4, 2 / 4, 1 / 4]),
        ("cosine", [1, (1 + math.sqrt(0.5)) / 2, 1 / 2, (1 - math.sqrt(0.5)) / 2]),
    ],
)
def test_schedules(schedule, left):
    history = fit(objective(), PAIRS, settings(epochs=4, schedule=schedule), seed=0)
    assert [record.learning_rate for record in history.epochs] == pytest.approx([0.05 * share for share in left])


def test_the_rate_falls_within_an_epoch(monkeypatch):
    rates = []
    step = RowAdam.step

    def noting(self: RowAdam, closure: None = None) -> None:
        rates.append(self.param_groups[0]["lr"])
        step(self, closure)

    monkeypatch.setattr(RowAdam, "step", noting)
    fit(objective(), PAIRS, settings(epochs=2, schedule="linear"), seed=0)
    steps = math.ceil(30 / 7)
    assert rates == pytest.approx([0.05 * (1 - number / (2 * steps)) for number in range(2 * steps)])


def test_loss_falls_and_the_log_says_so():
    watch = Watch()
    history = fit(objective(), PAIRS, settings(epochs=15), seed=0, watcher=watch)
    assert history.epochs[-1].loss < 0.8 * history.epochs[0].loss
    assert (
        [record.epoch for record in history.epochs]
        == list(range(1, 16))
        == [record.epoch for record, _ in watch.epochs]
    )
    assert [told[:3] for told in watch.steps] == [(epoch, 5, 5) for epoch in range(1, 16)]
    assert watch.steps[0][3] == pytest.approx(history.epochs[0].loss)
    assert history.epoch == 15 and history.best_epoch == 0


def test_same_seed_same_bits_other_seed_other_bits():
    runs = []
    for seed in (0, 0, 1):
        run = objective()
        fit(run, PAIRS, settings(), seed=seed)
        runs.append(weights(run))
    assert equal(runs[0], runs[1]) and not equal(runs[0], runs[2])


def test_stops_by_patience_and_restores_the_best():
    run, watch = objective(), Watch()
    validate, seen = scripted(run, [0.1, 0.4, 0.3, 0.4, 0.2, 0.9])
    history = fit(run, PAIRS, settings(epochs=9, patience=3), seed=0, validate=validate, monitor="m", watcher=watch)
    assert (history.epoch, history.best_epoch, history.best_value) == (5, 2, 0.4)  # an equal value is no better one
    assert equal(weights(run), seen[1]) and not equal(seen[1], seen[4])
    assert [best for _, best in watch.epochs] == [True, True, False, False, False]
    assert [record.validation for record in history.epochs] == [{"m": value} for value in (0.1, 0.4, 0.3, 0.4, 0.2)]
    assert not run.model.training


def test_patience_zero_never_stops():
    run = objective()
    validate, _ = scripted(run, [0.5, 0.4, 0.3, 0.2, 0.1])
    history = fit(run, PAIRS, settings(patience=0), seed=0, validate=validate, monitor="m")
    assert (history.epoch, history.best_epoch) == (5, 1)


def test_validates_every_so_often_and_at_the_end():
    run = objective()
    validate, seen = scripted(run, [0.1, 0.2, 0.3])
    history = fit(run, PAIRS, settings(validate_every=2, patience=1), seed=0, validate=validate, monitor="m")
    assert [record.epoch for record in history.epochs if record.validation] == [2, 4, 5]
    assert history.best_epoch == 5 and len(seen) == 3


def test_stop_after_keeps_the_schedule():
    whole, part = objective(), objective()
    full = fit(whole, PAIRS, settings(epochs=6), seed=0)
    history = fit(part, PAIRS, settings(epochs=6), seed=0, stop_after=2)
    assert history.epoch == 2
    for short, long in zip(history.epochs, full.epochs, strict=False):
        assert (short.loss, short.learning_rate) == (long.loss, long.learning_rate)
    assert not equal(weights(whole), weights(part))
    same = objective()
    fit(same, PAIRS, settings(epochs=6), seed=0, stop_after=99)
    assert equal(weights(same), weights(whole))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_loss_is_one_sentence(value, tmp_path):
    run = objective()
    calls = itertools.count(1)
    run.loss = lambda pos, neg, **_: bpr_loss(pos, neg) + (0 if next(calls) < 8 else value)
    with pytest.raises(RunError, match=f"the loss is {value} at step 3 of epoch 2: training diverged"):
        fit(run, PAIRS, settings(), seed=0, folder=tmp_path)
    assert all(bool(tensor.isfinite().all()) for tensor in weights(run))


def test_settings_out_of_range():
    for bad in ({"epochs": 0}, {"batch_size": 0}, {"patience": -1}, {"validate_every": 0}, {"weight_decay": math.nan}):
        (name,) = bad
        with pytest.raises(ConfigError, match=f"{name} must be at least"):
            settings(**bad)
    for rate in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="learning_rate must be a finite number above 0"):
            settings(learning_rate=rate)


def test_nothing_to_train_on():
    with pytest.raises(InputError, match="at least one row"):
        fit(objective(), (PAIRS[0][:0], PAIRS[1][:0]), settings(), seed=0)


def test_a_folder_changes_nothing_and_a_finished_one_trains_no_more(tmp_path):
    plain, stored = objective(), objective()
    validate, _ = scripted(plain, [0.1, 0.3, 0.2, 0.1, 0.1])
    first = fit(plain, PAIRS, settings(), seed=0, validate=validate, monitor="m")
    validate, _ = scripted(stored, [0.1, 0.3, 0.2, 0.1, 0.1])
    second = fit(stored, PAIRS, settings(checkpoint_seconds=0), seed=0, validate=validate, monitor="m", folder=tmp_path)
    assert equal(weights(plain), weights(stored)) and first.best_epoch == second.best_epoch == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.safetensors", "checkpoint.safetensors"]
    again = objective()
    third = fit(again, PAIRS, settings(), seed=0, validate=lambda: 1 / 0, monitor="m", folder=tmp_path)  # type: ignore[arg-type,return-value]
    assert third == second and equal(weights(again), weights(stored))


def test_another_models_checkpoint(tmp_path):
    fit(objective(), PAIRS, settings(epochs=1), seed=0, folder=tmp_path)
    other = objective()
    other.model = MatrixFactorisation(USERS, ITEMS, dim=4)
    other.__post_init__()
    with pytest.raises(
        RunError, match=r"checkpoint.safetensors is of another model: it lacks model.users of shape \(10, 4\)"
    ):
        fit(other, PAIRS, settings(), seed=0, folder=tmp_path)


def whole_training(folder: Path | None) -> list[Tensor]:
    """25 steps in 5 epochs, a checkpoint after each step, validated by a function of the weights."""
    run = objective()

    def validate() -> dict[str, float]:
        return {"m": -abs(float(run.model.score_all(torch.arange(USERS)).mean()) - 0.1)}

    fit(
        run,
        PAIRS,
        settings(checkpoint_seconds=0, patience=0),
        seed=0,
        validate=validate,
        monitor="m",
        folder=folder,
    )
    return weights(run)


def before(owner: Any, name: str, act: Callable[..., object]) -> None:
    """Have something done before each call. In a child that will not come back: nothing is put back."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **own: Any) -> Any:
        act(*args)
        return original(*args, **own)

    setattr(owner, name, wrapped)


def killed(kind: str, number: int, folder: Path) -> None:
    """Train in a process that kills itself before its step, fsync or rename of that number, or in the middle of a file."""
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # later Pythons warn of threads: the child starts none and waits for none
        pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)
            count = itertools.count(1)

            def kill(*_: object) -> None:
                if next(count) == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            def kill_halfway(tensors: dict[str, Tensor], path: Path) -> None:
                path.write_bytes(safetensors.torch.save(tensors)[:-20])
                kill()

            owner, name, act = {
                "step": (RowAdam, "step", kill),
                "fsync": (os, "fsync", kill),
                "replace": (Path, "replace", kill),
                "half": (safetensors.torch, "save_file", kill_halfway),
            }[kind]
            before(owner, name, act)
            whole_training(folder)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


KINDS = ("step", "half", "fsync", "replace")


@pytest.fixture(scope="module")
def left_alone() -> list[Tensor]:
    return whole_training(None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("case", range(12))
def test_killed_three_times_gives_the_same_bits(case, tmp_path, left_alone):
    """Each process comes less far than its 25 steps and some 35 files; the moments are chosen by seed."""
    chance = random.Random(case)
    for number in range(3):
        killed(KINDS[(case + number) % 4], chance.randint(1, 8), tmp_path)
    assert equal(whole_training(tmp_path), left_alone)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("kind", KINDS[1:])
def test_killed_while_writing_leaves_the_checkpoint_before(kind, tmp_path):
    killed(kind, 3, tmp_path)
    _, state = checkpoint.load(tmp_path / "checkpoint.safetensors")
    assert (state["history"]["epoch"], state["history"]["step"]) == (0, 2)


def test_resumes_in_the_middle_of_an_epoch(tmp_path):
    """The checkpoint after step 3 of epoch 2, by its own words; the rest is as if nothing had happened."""

    class Stop(Exception):
        pass

    run = objective()
    calls = []

    def loss(pos: Tensor, neg: Tensor, **given: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 9:
            raise Stop
        return bpr_loss(pos, neg, **given)

    run.loss = loss
    with pytest.raises(Stop):
        fit(run, PAIRS, settings(checkpoint_seconds=0), seed=0, folder=tmp_path)
    _, state = checkpoint.load(tmp_path / "checkpoint.safetensors")
    assert (state["history"]["epoch"], state["history"]["step"]) == (1, 3)
    resumed, alone = objective(), objective()
    history = fit(resumed, PAIRS, settings(), seed=0, folder=tmp_path)
    expected = fit(alone, PAIRS, settings(), seed=0)
    assert equal(weights(resumed), weights(alone))
    assert [record.loss for record in history.epochs] == [record.loss for record in expected.epochs]


def test_a_monitor_that_is_never_defined_is_said():
    with pytest.raises(RunError, match=r"auc is defined for nothing that validation holds\. Choose another"):
        fit(objective(), PAIRS, settings(), seed=0, validate=lambda: {"auc": math.nan}, monitor="auc")
