"""The picture of a learning curve."""

from pathlib import Path

from rankwell.atomic import write_atomically
from rankwell.errors import require
from rankwell.training import History

__all__ = ["draw_curve"]


def draw_curve(path: Path, history: History, monitor: str, loss: str) -> None:
    """Training loss and validation measure by epoch; the chosen epoch is marked."""
    matplotlib = require("matplotlib.figure", "cli")
    figure = matplotlib.Figure(figsize=(7, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [record.epoch for record in history.epochs]
    left.plot(epochs, [record.loss for record in history.epochs], color="#0072B2", marker="o", markersize=3)
    left.set(xlabel="epoch", ylabel=f"{loss} loss, mean over batches", title="Training")
    validated = [(record.epoch, record.validation[monitor]) for record in history.epochs if record.validation]
    if validated:
        right.plot(*zip(*validated, strict=True), color="#D55E00", marker="o", markersize=3)
        right.axvline(history.best_epoch, color="0.6", linestyle=":", label=f"chosen: epoch {history.best_epoch}")
        right.legend(frameon=False)
    right.set(xlabel="epoch", ylabel=monitor, title="Validation pairs")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=130)
