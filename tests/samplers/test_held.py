"""State that samplers keep of the model: sizes that it tells, and training that goes on from it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankwell.errors import RunError
from rankwell.losses import bpr_loss
from rankwell.models import MatrixFactorisation
from rankwell.samplers import SAMPLERS
from rankwell.samplers.held import HoldsModel
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.types import Ragged

USERS, ITEMS = 8, 12
KNOWN = Ragged(
    torch.arange(USERS + 1) * 3, torch.tensor([[u % 4, u % 4 + 4, u % 4 + 8] for u in range(USERS)]).flatten()
)
PAIRS = (torch.repeat_interleave(KNOWN.offsets.diff()), KNOWN.values)
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "aobpr": ("aobpr", {"refresh": 4}),
    "aobpr by rows": ("aobpr", {}),
    "srns": ("srns", {"size": 5, "warm_up": 1}),
    "flat": ("nearest", {"index": "flat", "refresh": 4, "window": 6}),
    "ivf": ("nearest", {"index": "ivf", "refresh": 4, "window": 6}),
    "hnsw": ("nearest", {"index": "hnsw", "refresh": 4, "window": 6}),
}


def objective(kind: str) -> ContrastObjective:
    name, own = KINDS[kind]
    model = MatrixFactorisation(USERS, ITEMS, dim=4, init="normal", init_std=1.0)
    model.initialise(KNOWN, seed=0)
    return ContrastObjective(model, bpr_loss, SAMPLERS[name].function(KNOWN, ITEMS, seed=0, n=3, **own), seed=0)


def everything(run: ContrastObjective) -> list[Tensor]:
    return [tensor for group in run.groups.values() for tensor in group.state_dict().values()]


class Stopped(Exception):
    pass


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_training_goes_on_bit_for_bit(tmp_path, kind):
    """A run that is ended within an epoch, after 5 of 9 steps and between two refreshes, ends where an undisturbed one does."""
    settings = TrainingSettings(epochs=3, batch_size=8, learning_rate=0.1, checkpoint_seconds=0)
    whole = objective(kind)
    fit(whole, PAIRS, settings, seed=0)
    broken = objective(kind)
    plays, count = broken.plays, 0

    def stopping(batch, *, epoch, step):
        nonlocal count
        count += 1
        if count > 5:
            raise Stopped
        yield from plays(batch, epoch=epoch, step=step)

    broken.plays = stopping  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        fit(broken, PAIRS, settings, seed=0, folder=tmp_path)
    again = objective(kind)
    fit(again, PAIRS, settings, seed=0, folder=tmp_path)
    assert all(one.equal(other) for one, other in zip(everything(whole), everything(again), strict=True))
    assert not all(one.equal(other) for one, other in zip(everything(whole), everything(broken), strict=True))


def test_the_best_epochs_state_comes_back():
    run = objective("aobpr")
    seen = []

    def validate() -> dict[str, float]:
        seen.append([tensor.clone() for tensor in everything(run)])
        return {"m": [0.1, 0.9, 0.2][len(seen) - 1]}

    fit(run, PAIRS, TrainingSettings(epochs=3, batch_size=8), seed=0, validate=validate, monitor="m")
    assert all(one.equal(other) for one, other in zip(everything(run), seen[1], strict=True))
    assert not all(one.equal(other) for one, other in zip(seen[1], seen[2], strict=True))


def test_a_state_of_another_sampler_is_refused(tmp_path: Path):
    settings = TrainingSettings(epochs=1, batch_size=8)
    fit(objective("srns"), PAIRS, settings, seed=0, folder=tmp_path)
    with pytest.raises(RunError, match=r"is of another model: it lacks sampler\.ranking of shape \(0, 12\)"):
        fit(objective("aobpr"), PAIRS, settings, seed=0, folder=tmp_path)


def test_a_state_with_more_than_the_sampler_has_is_refused(tmp_path: Path):
    def run(sampler: nn.Module) -> ContrastObjective:
        return ContrastObjective(objective("srns").model, bpr_loss, sampler, seed=0)  # type: ignore[arg-type]

    settings, own = TrainingSettings(epochs=1, batch_size=8), objective("srns").sampler
    assert isinstance(own, nn.Module)
    own.register_buffer("more", torch.zeros(1))
    fit(run(own), PAIRS, settings, seed=0, folder=tmp_path)
    with pytest.raises(RunError, match="is of another model: it has more than sampler"):
        fit(objective("srns"), PAIRS, settings, seed=0, folder=tmp_path)


class Held(HoldsModel):
    def __init__(self) -> None:
        super().__init__()
        self.hold("table", 0, 3, dtype=torch.float32, device=torch.device("cpu"))
        self.forgot = 0

    def forget(self) -> None:
        self.forgot += 1


def test_only_sizes_that_are_open_are_taken():
    held = Held()
    held.load_state_dict({"table": torch.ones(5, 3)})
    assert held.table.equal(torch.ones(5, 3)) and held.forgot == 1
    held.load_state_dict({"table": torch.ones(2, 3)})
    assert held.table.shape == (2, 3)
    for other in (torch.ones(5, 4), torch.ones(5)):
        with pytest.raises(RuntimeError, match="size mismatch for table"):
            held.load_state_dict({"table": other})
    with pytest.raises(RuntimeError, match="Missing key"):
        held.load_state_dict({})


def test_a_part_of_another_module_loads_too():
    whole, other = nn.ModuleDict({"part": Held()}), nn.ModuleDict({"part": Held()})
    whole["part"].table = torch.ones(5, 3)  # type: ignore[assignment]
    other.load_state_dict(whole.state_dict())
    assert other["part"].table.equal(torch.ones(5, 3))  # type: ignore[operator]
