"""Miners choose among scored negatives: they narrow a mask, and are joined by ``&``."""

from rankwell.miners.by_gap import hard, multi_similarity, semi_hard
from rankwell.miners.by_rank import easy_positive, hardest, top_fraction
from rankwell.miners.by_score import distance_weighted, margin_band
from rankwell.miners.false_negatives import false_negative_filter
from rankwell.miners.miner import MINERS, Mined, Miner, Seen, Step, none
from rankwell.miners.parsing import is_one, parse

__all__ = [
    "MINERS",
    "Mined",
    "Miner",
    "Seen",
    "Step",
    "distance_weighted",
    "easy_positive",
    "false_negative_filter",
    "hard",
    "hardest",
    "is_one",
    "margin_band",
    "multi_similarity",
    "none",
    "parse",
    "semi_hard",
    "top_fraction",
]
