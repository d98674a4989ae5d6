"""Samplers choose negatives before scoring, and say with what probability."""

from rankwell.samplers.aobpr import AOBPRSampler
from rankwell.samplers.by_group import ByGroupSampler
from rankwell.samplers.cached import CachedSampler
from rankwell.samplers.dns import DNSSampler
from rankwell.samplers.genni import GenNiSampler
from rankwell.samplers.in_batch import InBatchSampler, MixedSampler
from rankwell.samplers.nearest import NearestSampler
from rankwell.samplers.popularity import LogUniformSampler, PopularitySampler
from rankwell.samplers.positives import (
    POSITIVES,
    HardnessPositives,
    OnePositive,
    Positives,
    PositiveSampler,
    RarityPositives,
    UniformPositives,
)
from rankwell.samplers.registry import SAMPLERS, Foresighted, Sampler
from rankwell.samplers.srns import SRNSSampler
from rankwell.samplers.uniform import UniformSampler
from rankwell.samplers.weighted import WeightedSampler

__all__ = [
    "POSITIVES",
    "SAMPLERS",
    "AOBPRSampler",
    "ByGroupSampler",
    "CachedSampler",
    "DNSSampler",
    "Foresighted",
    "GenNiSampler",
    "HardnessPositives",
    "InBatchSampler",
    "LogUniformSampler",
    "MixedSampler",
    "NearestSampler",
    "OnePositive",
    "PopularitySampler",
    "PositiveSampler",
    "Positives",
    "RarityPositives",
    "SRNSSampler",
    "Sampler",
    "UniformPositives",
    "UniformSampler",
    "WeightedSampler",
]
