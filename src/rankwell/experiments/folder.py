"""A run's folder: what is in it, and how it is read back."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
from torch import Tensor, nn

from rankwell.atomic import PREFIX, sweep, write_atomically, write_json, write_text
from rankwell.config import Config, load_toml, resolve
from rankwell.errors import DataError, InputError, RunError, require
from rankwell.evaluation import Evaluation
from rankwell.tasks import Data, Task, task_of
from rankwell.training import Epoch, checkpoint

__all__ = ["RunFolder", "SavedRun", "write_config"]

PHASES = ("select", "refit")
"""Folders of checkpoints."""


FIGURES = ("test", "baselines", "slices")
"""Of ``metrics.json``, what holds measures by their names."""


def write_config(path: Path, config: Config) -> None:
    """Write a configuration as TOML."""
    write_text(path, require("tomli_w", "cli").dumps(config.as_dict()))


@dataclass(frozen=True)
class SavedRun:
    """A finished run, ready to score: it needs none of the original files."""

    config: Config
    model: nn.Module
    task: Task[Any]
    data: Data[Any]
    """What its task keeps of them."""


@dataclass(frozen=True)
class RunFolder:
    """Where everything of one run lies.

    ``config.toml`` the resolved configuration · ``run.json`` data, versions, notes · ``log.jsonl`` a line an epoch ·
    ``curve.png`` · ``negatives.json``, ``negatives.png`` what training saw of its negatives · ``model.safetensors`` ·
    ``users.parquet``, ``items.parquet`` ids by code · ``pairs.safetensors`` known and test pairs · ``per_user.parquet`` ·
    ``metrics.json``, written last: with it the run is finished. ``select`` and ``refit`` hold checkpoints while training
    lasts.
    """

    path: Path

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / "metrics.json").is_file()

    def check_new(self) -> None:
        """Raise :class:`RunError` where something is already, beside what a killed process was writing."""
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, where a run needs a folder. Give another --out.")
        # Looked at before it is swept: another run may be writing there.
        if self.path.exists() and not all(entry.name.startswith(PREFIX) for entry in self.path.iterdir()):
            raise RunError(
                f"{self.path} exists and is not empty. Give another --out, delete it, or go on with it by --resume."
            )
        sweep(self.path)

    def create(self, config: Config, facts: Mapping[str, Any]) -> None:
        """Write what identifies the run, the configuration first: with it a run can be resumed."""
        if not (self.path / "config.toml").is_file():
            write_config(self.path / "config.toml", config)
        self.write_json("run.json", facts)

    def discard_untrained(self) -> None:
        """Remove the folder of a run that failed before anything was trained."""
        if not self.finished and not any(self.path.glob("*/checkpoint.safetensors")):
            shutil.rmtree(self.path, ignore_errors=True)

    def started_with(self) -> Mapping[str, Any] | None:
        """What ``run.json`` says; None where the run was killed before it was written."""
        facts = self.read_json("run.json")
        if facts is not None and not (isinstance(facts, dict) and {"data", "threads"} <= facts.keys()):
            raise RunError(f"{self.path / 'run.json'} is corrupt: it lacks data and threads. Train again.")
        return facts

    def config(self) -> Config:
        """The resolved configuration."""
        if not (self.path / "config.toml").is_file():
            raise RunError(f"{self.path} is not a run's folder: it has no config.toml. Check the path.")
        return resolve(load_toml(self.path / "config.toml"), str(self.path / "config.toml"))

    def write_json(self, name: str, content: Any) -> None:
        """Write JSON atomically; NaN as null."""
        write_json(self.path / name, content)

    def read_json(self, name: str) -> Any:
        """Read JSON; None where there is none."""
        file = self.path / name
        try:
            return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        except (ValueError, OSError) as error:
            raise RunError(f"{file} is corrupt: {error}. Delete the run folder and train again.") from error

    def metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` says; a figure that is null there, as of a measure without a value for anyone, is NaN."""
        found = self.read_json("metrics.json")
        if not isinstance(found, dict):
            raise RunError(f"{self.path / 'metrics.json'} is corrupt: it is no object. Train again.")
        return {key: _with_nan(value) if key in FIGURES else value for key, value in found.items()}

    def save_model(self, model: nn.Module, task: Task[Any], data: Data[Any]) -> None:
        """Everything that judging and serving need."""
        checkpoint.save(self.path / "model.safetensors", model.state_dict(), {})
        task.save(self.path, data)

    def load(self) -> SavedRun:
        """Read a finished run back."""
        config = self.config()
        if not self.finished:
            raise RunError(f"{self.path} is not finished. Go on with it by 'rankwell train --resume {self.path}'.")
        task = task_of(config.task)
        try:
            data = task.load(self.path, config)
            model = task.model(config, data)
        except (DataError, InputError) as error:
            raise RunError(
                f"{self.path} holds files that do not fit each other: {str(error).rstrip('.')}. Train again."
            ) from error
        self._load_weights(model)
        return SavedRun(config, model, task, data)

    def write_evaluation(self, rows: pl.DataFrame, evaluation: Evaluation, unit: str) -> None:
        """The values of each user or query; what is one number of all is in ``metrics.json`` alone."""
        each = {name: values for name, values in evaluation.values.items() if values.ndim}
        table = rows.with_columns(pl.Series(name, values.numpy()) for name, values in each.items())
        with write_atomically(self.path / f"per_{unit}.parquet", pl.exceptions.PolarsError) as temporary:
            table.write_parquet(temporary)

    def log(self, phase: str, epoch: Epoch) -> None:
        """Add an epoch's line; an epoch that is trained again after an interruption takes the place of its line."""
        file = self.path / "log.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        before = [line for line in lines if (said := json.loads(line))["phase"] != phase or said["epoch"] < epoch.epoch]
        write_text(file, "".join(f"{line}\n" for line in (*before, json.dumps({"phase": phase, **asdict(epoch)}))))

    def add_negatives(self, phase: str, epochs: Sequence[Epoch]) -> None:
        """Write what a phase saw of its negatives, beside other phases."""
        seen = [{"epoch": each.epoch, **each.negatives} for each in epochs if each.negatives]
        self.write_json("negatives.json", {**self.negatives(), phase: seen})

    def negatives(self) -> dict[str, list[dict[str, Any]]]:
        """By phase, what each epoch saw of its negatives; empty where nobody looked."""
        seen: dict[str, list[dict[str, Any]]] = self.read_json("negatives.json") or {}
        return seen

    def drop_checkpoints(self) -> None:
        """Remove what only an interrupted run needs."""
        for name in PHASES:
            shutil.rmtree(self.path / name, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a killed process was writing."""
        for folder in (self.path, *(self.path / name for name in PHASES)):
            sweep(folder)

    def _load_weights(self, model: nn.Module) -> None:
        weights: dict[str, Tensor]
        weights, _ = checkpoint.load(self.path / "model.safetensors")
        try:
            model.load_state_dict(weights)
        except (RuntimeError, InputError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise RunError(
                f"{self.path / 'model.safetensors'} does not fit config.toml and the ids beside it: {reason}. Train again."
            ) from error
        model.eval()


def _with_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_nan(inner) for key, inner in value.items()}
    return math.nan if value is None else value
