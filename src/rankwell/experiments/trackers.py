"""Where a run's figures go beside its folder: TensorBoard, MLflow. Needs ``rankwell[track]``."""

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rankwell.atomic import write_text
from rankwell.errors import require

__all__ = ["TRACES", "TRACKERS", "MLflow", "TensorBoard", "Tracker"]

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""How long training waits for a server that is away, where the environment does not say; MLflow's own is minutes."""

BATCH = 100
"""Parameters that MLflow takes at once."""


class Tracker(Protocol):
    """Where figures go beside the run's folder. What a method raises is told once, and ends the tracking."""

    def start(self, parameters: Mapping[str, Any]) -> None:
        """Begin, or go on with what was begun in the same folder."""
        ...

    def log(self, phase: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Figures of an epoch."""
        ...

    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """Figures of the test, and files worth keeping."""
        ...

    def close(self, status: str) -> None:
        """End: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        ...


class TensorBoard:
    """Event files in a folder, one below it for each phase, so that phases lie over each other in one chart.

    Raises:
        MissingExtra: if tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        require("tensorboard", "track")  # else the next would say that torch is missing
        self._writer = require("torch.utils.tensorboard", "track").SummaryWriter
        self.folder = folder
        self._open: dict[str, Any] = {}
        self._parameters: dict[str, Any] = {}

    def start(self, parameters: Mapping[str, Any]) -> None:
        """Write the parameters as a table."""
        self._parameters = dict(parameters)
        rows = [f"| {name} | {value} |" for name, value in parameters.items()]
        self._at("").add_text("parameters", "\n".join(["| | |", "|---|---|", *rows]))

    def log(self, phase: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Scalars, to the disk at once."""
        for name, value in figures.items():
            self._at(phase).add_scalar(name, value, epoch)
        self._at(phase).flush()

    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:  # noqa: ARG002
        """Figures of the test beside the parameters, for the table of hyperparameters."""
        told = {f"test/{name}": value for name, value in figures.items()}
        self._at("").add_hparams(self._parameters, told, run_name=".")

    def close(self, status: str) -> None:  # noqa: ARG002
        """Close the files."""
        for writer in self._open.values():
            writer.close()

    def _at(self, phase: str) -> Any:
        if phase not in self._open:
            self._open[phase] = self._writer(str(self.folder / phase))
        return self._open[phase]


class MLflow:
    """A run of MLflow, in the store that ``MLFLOW_TRACKING_URI`` names; its id is kept in ``mlflow.json`` in a folder.

    Args:
        folder: where the id is kept, so that a later one with the same folder goes on with the same run.
        name: of the run; the folder's without it.
        experiment: where ``MLFLOW_EXPERIMENT_NAME`` says nothing.

    Raises:
        MissingExtra: if mlflow is not installed.
    """

    def __init__(self, folder: Path, *, name: str | None = None, experiment: str = "rankwell") -> None:
        self._mlflow = require("mlflow", "track")
        self.file = folder / "mlflow.json"
        self.name = name or str(folder)
        self.experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", experiment)
        self._run = ""
        self._client: Any = None

    def start(self, parameters: Mapping[str, Any]) -> None:
        """Create the run, or go on with it, and log the parameters; those that are there already must be the same."""
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        self._client = self._mlflow.MlflowClient()
        if self.file.is_file():
            self._run = json.loads(self.file.read_text(encoding="utf-8"))["run_id"]
            self._client.update_run(self._run, status="RUNNING")
        else:
            found = self._client.get_experiment_by_name(self.experiment)
            experiment = found.experiment_id if found else self._client.create_experiment(self.experiment)
            self._run = self._client.create_run(experiment, run_name=self.name).info.run_id
            write_text(self.file, json.dumps({"run_id": self._run}) + "\n")
        told = [self._mlflow.entities.Param(name, str(value)) for name, value in parameters.items()]
        for first in range(0, len(told), BATCH):
            self._client.log_batch(self._run, params=told[first : first + BATCH])

    def log(self, phase: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Metrics, in one request."""
        now = int(time.time() * 1000)
        told = [
            # MLflow takes letters, digits and few signs.
            (re.sub(r"[^\w.\- /]", "_", f"{phase}/{name}".replace("@", "_at_")), value)
            for name, value in figures.items()
        ]
        metrics = [self._mlflow.entities.Metric(name, value, now, epoch) for name, value in told]
        self._client.log_batch(self._run, metrics=metrics)

    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """Figures of the test, and the files as artefacts."""
        self.log("test", 0, figures)
        for file in files:
            self._client.log_artifact(self._run, str(file))

    def close(self, status: str) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._run, status)


TRACKERS: Mapping[str, Callable[[Path], Tracker]] = {
    "mlflow": MLflow,
    "tensorboard": lambda folder: TensorBoard(folder / "tensorboard"),
}
"""By name, for the folder of a run."""

TRACES = {"mlflow": "mlflow.json", "tensorboard": "tensorboard"}
"""What of them is in the folder of a run that was tracked before."""
