"""Rankwell: learning to rank by loss.

>>> import torch, rankwell
>>> rankwell.losses.softmax_loss(torch.tensor([2.0, 1.0, 3.0]), torch.tensor([1.0, 0.0, 0.0]))
tensor(1.4076)
"""

from rankwell import errors, generators, losses, metrics, miners, nn, samplers, similarity, transforms, types
from rankwell.metrics import Measure

__all__ = [
    "Measure",
    "__version__",
    "errors",
    "generators",
    "losses",
    "metrics",
    "miners",
    "nn",
    "samplers",
    "similarity",
    "transforms",
    "types",
]

__version__ = "0.1.0"
