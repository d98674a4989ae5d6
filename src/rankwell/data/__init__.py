"""Interactions: reading, splitting, describing, generating and batching them. Needs the extra ``rankwell[data]``."""

# ruff: noqa: E402 - the sentence about the extra must come before the first import of polars
from rankwell.errors import require

require("polars", "data")

from rankwell.data.batches import Batch, batches, num_batches
from rankwell.data.readers import Dataset, Format, Unseen, read_dataset, read_interactions
from rankwell.data.schema import Interactions, codes_of
from rankwell.data.splits import Split, split_global_time, split_leave_last, split_random
from rankwell.data.statistics import Statistics, describe
from rankwell.data.synthetic import Synthetic, synthesise

__all__ = [
    "Batch",
    "Dataset",
    "Format",
    "Interactions",
    "Split",
    "Statistics",
    "Synthetic",
    "Unseen",
    "batches",
    "codes_of",
    "describe",
    "num_batches",
    "read_dataset",
    "read_interactions",
    "split_global_time",
    "split_leave_last",
    "split_random",
    "synthesise",
]
