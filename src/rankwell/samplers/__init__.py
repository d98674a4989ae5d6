"""Samplers choose negatives before scoring, and say with what probability."""

from rankwell.samplers.by_group import ByGroupSampler
from rankwell.samplers.in_batch import InBatchSampler, MixedSampler
from rankwell.samplers.popularity import LogUniformSampler, PopularitySampler
from rankwell.samplers.registry import SAMPLERS, Sampler
from rankwell.samplers.uniform import UniformSampler
from rankwell.samplers.weighted import WeightedSampler

__all__ = [
    "SAMPLERS",
    "ByGroupSampler",
    "InBatchSampler",
    "LogUniformSampler",
    "MixedSampler",
    "PopularitySampler",
    "Sampler",
    "UniformSampler",
    "WeightedSampler",
]
