"""Generators make negatives of embeddings, after looking up and before scoring."""

from rankwell.generators.described import Described
from rankwell.generators.esans import Esans
from rankwell.generators.generator import GENERATORS, Embedded, Generator, Made, Updated
from rankwell.generators.hard_mixing import HardMixing
from rankwell.generators.loop_negatives import LoopNegatives
from rankwell.generators.memory import MemoryNegatives
from rankwell.generators.mixgcf import MixGCF
from rankwell.generators.semantic import SemanticNegatives
from rankwell.generators.synthetic_mix import SyntheticMix

__all__ = [
    "GENERATORS",
    "Described",
    "Embedded",
    "Esans",
    "Generator",
    "HardMixing",
    "LoopNegatives",
    "Made",
    "MemoryNegatives",
    "MixGCF",
    "SemanticNegatives",
    "SyntheticMix",
    "Updated",
]
