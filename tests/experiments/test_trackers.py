"""What TensorBoard and MLflow hold, read back by their own readers."""

import importlib
import importlib.util
import json

import pytest
import torch

from rankwell.experiments.trackers import MLflow, TensorBoard
from rankwell.experiments.tracking import Tracking
from rankwell.losses import bpr_loss
from rankwell.models import MatrixFactorisation
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective, Epoch, TrainingSettings, fit
from rankwell.types import Ragged

PARAMETERS = {"loss.name": "bpr", "model.dim": 4, "evaluation.measures": "['ndcg@5']"}

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="the tracker needs tensorboard, of the extra track"
)
needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="the tracker needs mlflow, of the extra track"
)


def objective():
    users, items = torch.arange(6).repeat_interleave(2), torch.arange(12) % 5
    known = Ragged(torch.arange(0, 13, 2), items.view(6, 2).sort().values.flatten())
    model = MatrixFactorisation(6, 5, dim=2)
    model.initialise(known, seed=0)
    sampler = UniformSampler(known, 5, seed=0, n=2, shared=False)
    return ContrastObjective(model, bpr_loss, sampler, seed=0), (users, items)


def scalars(folder):
    """Scalars of an event folder, as tensorboard reads them: by tag, steps and values."""
    module = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    found = module.EventAccumulator(str(folder)).Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}, found


@needs_tensorboard
def test_tensorboard_of_a_training(tmp_path):
    """As a watcher of ``fit``, by hand; a second time in the same folder, as a resumed run has it."""
    of, pairs = objective()
    with Tracking(TensorBoard(tmp_path), parameters=lambda: PARAMETERS) as watcher:
        history = fit(
            of, pairs, TrainingSettings(epochs=2), seed=0, validate=lambda: {"m": 0.25}, monitor="m", watcher=watcher
        )
    with Tracking(TensorBoard(tmp_path), parameters=lambda: PARAMETERS) as watcher:
        watcher.on_epoch(Epoch(3, 0.5, 0.125, 2.0), True)
        watcher.finish({"ndcg@5": 0.75})
    values, _ = scalars(tmp_path / "train")
    losses = [pytest.approx(record.loss) for record in history.epochs]
    assert values["loss"] == [(1, losses[0]), (2, losses[1]), (3, 0.5)]
    assert values["m"] == [(1, 0.25), (2, 0.25)]
    assert values["learning_rate"][2] == (3, 0.125) and values["seconds"][2] == (3, 2.0)
    values, found = scalars(tmp_path)
    assert values == {"test/ndcg@5": [(0, 0.75)]}
    (text,) = found.Tensors("parameters/text_summary")[0].tensor_proto.string_val
    assert "| loss.name | bpr |" in text.decode()
    assert "_hparams_/session_start_info" in found.summary_metadata


@needs_tensorboard
def test_tensorboard_on_a_full_disk(tmp_path):
    """Where its folder should be is a file."""
    (tmp_path / "file").write_text("")
    watcher = Tracking(TensorBoard(tmp_path / "file" / "logs"))
    with pytest.warns(RuntimeWarning, match="tracking by TensorBoard is off"):
        watcher.on_epoch(Epoch(1, 0.5, 0.1, 2.0), True)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.chdir(tmp_path)  # where it keeps artefacts
    return importlib.import_module("mlflow").MlflowClient


@needs_mlflow
@pytest.mark.filterwarnings("ignore")  # of its own
def test_mlflow_goes_on_with_the_same_run(tmp_path, store):
    (tmp_path / "curve.png").write_bytes(b"a picture")
    folder = tmp_path / "run"
    watcher = Tracking(MLflow(folder), parameters=lambda: PARAMETERS)
    watcher.on_epoch(Epoch(1, 0.5, 0.1, 2.0, {"ndcg@5": 0.25}), True)
    watcher.__exit__(KeyboardInterrupt)
    run_id = json.loads((folder / "mlflow.json").read_text())["run_id"]
    assert store().get_run(run_id).info.status == "KILLED"
    with Tracking(MLflow(folder), parameters=lambda: PARAMETERS) as watcher:
        watcher.on_epoch(Epoch(2, 0.25, 0.05, 2.0, {"ndcg@5": 0.5}), True)
        watcher.finish({"ndcg(ties=order)@5": 0.75}, [tmp_path / "curve.png"])
    client = store()
    experiment = client.get_experiment_by_name("rankwell")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_id, found.info.status, found.info.run_name) == (run_id, "FINISHED", str(folder))
    assert found.data.params == {name: str(value) for name, value in PARAMETERS.items()}
    measured = [(one.step, one.value) for one in client.get_metric_history(run_id, "train/ndcg_at_5")]
    assert measured == [(1, 0.25), (2, 0.5)]
    assert found.data.metrics["train/loss"] == 0.25 and found.data.metrics["train/learning_rate"] == 0.05
    assert found.data.metrics["test/ndcg_ties_order__at_5"] == 0.75
    assert [one.path for one in client.list_artifacts(run_id)] == ["curve.png"]


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_without_its_server(tmp_path, store, monkeypatch):
    """A port that nobody listens on."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.warns(RuntimeWarning, match="tracking by MLflow is off from here on, training goes on: "):
        Tracking(MLflow(tmp_path)).phase("select", 1)
