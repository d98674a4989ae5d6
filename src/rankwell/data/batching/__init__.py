"""Batches: in which order, and in which company, the rows of the data come to training."""

from rankwell.data.batching.class_balanced import ClassBalancedBatches
from rankwell.data.batching.examples import ExampleBatch, ExampleBatches
from rankwell.data.batching.high_loss import HighLossBatches
from rankwell.data.batching.labelled import LabelBatch, LabelBatches
from rankwell.data.batching.lists import ListBatch, ListBatches
from rankwell.data.batching.no_duplicates import NoDuplicatesBatches
from rankwell.data.batching.of_sequences import SequenceBatch, SequenceBatches
from rankwell.data.batching.passes import BATCHES, Batch, Batches, PairBatches, num_batches
from rankwell.data.batching.shuffled import ShuffledBatches, batches
from rankwell.data.batching.weighted import WeightedBatches

__all__ = [
    "BATCHES",
    "Batch",
    "Batches",
    "ClassBalancedBatches",
    "ExampleBatch",
    "ExampleBatches",
    "HighLossBatches",
    "LabelBatch",
    "LabelBatches",
    "ListBatch",
    "ListBatches",
    "NoDuplicatesBatches",
    "PairBatches",
    "SequenceBatch",
    "SequenceBatches",
    "ShuffledBatches",
    "WeightedBatches",
    "batches",
    "num_batches",
]
