"""Training: objectives, the loop, checkpoints, row-wise optimisers."""

from rankwell.training.fit import Epoch, History, TrainingSettings, Watcher, fit
from rankwell.training.objective import ContrastObjective, Objective, Play
from rankwell.training.row_adam import RowAdam

__all__ = [
    "ContrastObjective",
    "Epoch",
    "History",
    "Objective",
    "Play",
    "RowAdam",
    "TrainingSettings",
    "Watcher",
    "fit",
]
