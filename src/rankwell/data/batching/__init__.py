"""Batches: in which order, and in which company, the rows of the data come to training."""

from rankwell.data.batching.class_balanced import ClassBalancedBatches
from rankwell.data.batching.high_loss import HighLossBatches
from rankwell.data.batching.lists import ListBatch, ListBatches
from rankwell.data.batching.no_duplicates import NoDuplicatesBatches
from rankwell.data.batching.of_sequences import SequenceBatch, SequenceBatches
from rankwell.data.batching.passes import BATCHES, Batch, Batches, PairBatches, num_batches
from rankwell.data.batching.shuffled import ShuffledBatches, batches

__all__ = [
    "BATCHES",
    "Batch",
    "Batches",
    "ClassBalancedBatches",
    "HighLossBatches",
    "ListBatch",
    "ListBatches",
    "NoDuplicatesBatches",
    "PairBatches",
    "SequenceBatch",
    "SequenceBatches",
    "ShuffledBatches",
    "batches",
    "num_batches",
]
