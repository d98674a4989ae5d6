"""Training: objectives, the loop, checkpoints, row-wise optimisers."""

from rankwell.training.class_objective import ClassObjective
from rankwell.training.fit import Epoch, History, TrainingSettings, Watcher, fit
from rankwell.training.in_batch import EmbeddingObjective, InBatchObjective
from rankwell.training.list_objective import ListObjective
from rankwell.training.negatives_seen import NegativesSeen
from rankwell.training.objective import Contrast, ContrastObjective, Objective, Observer, Play
from rankwell.training.row_adam import RowAdam

__all__ = [
    "ClassObjective",
    "Contrast",
    "ContrastObjective",
    "EmbeddingObjective",
    "Epoch",
    "History",
    "InBatchObjective",
    "ListObjective",
    "NegativesSeen",
    "Objective",
    "Observer",
    "Play",
    "RowAdam",
    "TrainingSettings",
    "Watcher",
    "fit",
]
