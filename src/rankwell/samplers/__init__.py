"""Samplers choose negatives before scoring, and say with what probability."""

from rankwell.samplers.registry import SAMPLERS, Sampler
from rankwell.samplers.uniform import UniformSampler

__all__ = ["SAMPLERS", "Sampler", "UniformSampler"]
