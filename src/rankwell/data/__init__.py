"""Interactions: reading, splitting, describing, generating and batching them. Needs the extra ``rankwell[data]``."""

# ruff: noqa: E402 - the sentence about the extra must come before the first import of polars
from rankwell.errors import require

require("polars", "data")

from rankwell.data.batching import (
    BATCHES,
    Batch,
    Batches,
    ClassBalancedBatches,
    HighLossBatches,
    NoDuplicatesBatches,
    PairBatches,
    ShuffledBatches,
    batches,
    num_batches,
)
from rankwell.data.features import FeatureEncoder
from rankwell.data.item_columns import ItemColumns, Missing, read_items, read_users
from rankwell.data.readers import Dataset, Format, Unseen, read_dataset, read_interactions
from rankwell.data.schema import Interactions, codes_of
from rankwell.data.splits import (
    Split,
    split_balanced,
    split_cold_items,
    split_fold,
    split_global_time,
    split_leave_last,
    split_random,
)
from rankwell.data.statistics import Statistics, describe
from rankwell.data.synthetic import Synthetic, synthesise
from rankwell.data.synthetic_features import Featured, synthesise_features

__all__ = [
    "BATCHES",
    "Batch",
    "Batches",
    "ClassBalancedBatches",
    "Dataset",
    "FeatureEncoder",
    "Featured",
    "Format",
    "HighLossBatches",
    "Interactions",
    "ItemColumns",
    "Missing",
    "NoDuplicatesBatches",
    "PairBatches",
    "ShuffledBatches",
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
    "read_items",
    "read_users",
    "split_balanced",
    "split_cold_items",
    "split_fold",
    "split_global_time",
    "split_leave_last",
    "split_random",
    "synthesise",
    "synthesise_features",
]
