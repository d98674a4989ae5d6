"""Losses: pure functions of scores and labels, lower is better. The contract is in :mod:`rankwell.losses.registry`."""

from rankwell.losses.contrast import bpr_loss, bsl_loss, decoupled_softmax_loss, sampled_softmax_loss
from rankwell.losses.embedding import info_nce_loss, triplet_loss
from rankwell.losses.margins import ccl_loss, mml_loss
from rankwell.losses.pairwise import hinge_loss, logistic_loss
from rankwell.losses.pointwise import mse_loss, sigmoid_loss
from rankwell.losses.registry import (
    LOSSES,
    ContrastLoss,
    EmbeddingLoss,
    ListLoss,
    contrast_loss,
    embedding_loss,
    list_loss,
)
from rankwell.losses.softmax import softmax_loss
from rankwell.losses.styles import as_contrast, contrast, in_batch

__all__ = [
    "LOSSES",
    "ContrastLoss",
    "EmbeddingLoss",
    "ListLoss",
    "as_contrast",
    "bpr_loss",
    "bsl_loss",
    "ccl_loss",
    "contrast",
    "contrast_loss",
    "decoupled_softmax_loss",
    "embedding_loss",
    "hinge_loss",
    "in_batch",
    "info_nce_loss",
    "list_loss",
    "logistic_loss",
    "mml_loss",
    "mse_loss",
    "sampled_softmax_loss",
    "sigmoid_loss",
    "softmax_loss",
    "triplet_loss",
]
