"""What is asked for: how many negatives, from which places, by which rules."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from rankwell.errors import InputError, nearest
from rankwell.lists import check_count

__all__ = ["Index", "MarginTo", "MiningSettings", "MiningSimilarity", "Strategy"]

Strategy: TypeAlias = Literal["top", "random"]
MarginTo: TypeAlias = Literal["lowest", "own", "highest"]
MiningSimilarity: TypeAlias = Literal["cosine", "dot"]
Index: TypeAlias = Literal["exact", "flat", "ivf", "hnsw"]

WIDE = 10
"""Candidates looked at for one negative, where some may be dropped or are drawn from."""


@dataclass(frozen=True)
class MiningSettings:
    r"""The rules, under the names of sentence-transformers' ``mine_hard_negatives``, with its meanings.

    A query's candidates are its ``range_max`` best documents; its positives are none, and take no place. With s the
    candidate's score and :math:`s^+` the positive's, a candidate stays where

    .. math:: s \le s^+ - a, \qquad s \le s^+ - r\,|s^+|, \qquad s_{\min} \le s \le s_{\max}

    Of those that stay the ``range_min`` best are passed over; of the rest the best are taken, or any. Rescoring comes before
    the rules: all scores are then the rescorer's. ``false_negative_filter(1 - r, margin=a)`` among the miners keeps the same,
    with the highest positive for :math:`s^+`.

    Args:
        num_negatives: how many for each pair of query and positive; fewer, where fewer stay.
        range_min: how many of the best candidates that stay are passed over, as likely false negatives.
        range_max: how many candidates are looked at; None for ``range_min + num_negatives``, of ten times as many negatives
            where a rule, a rescorer or ``random`` needs a choice.
        absolute_margin: a, in units of the scores; None for no such rule, as for the next three.
        relative_margin: r, a share of the positive's score.
        max_score: scores above this are suspect.
        min_score: scores below this are too easy.
        sampling_strategy: ``top`` for the best, ``random`` for any with the same probability.
        margin_to: which positive's score margins are held against where a query has several: that of the pair (``own``), or
            for all pairs of a query the ``lowest`` or the ``highest``.
        similarity: ``cosine``, or ``dot`` of the vectors as they are.
        index: ``exact``, or FAISS: ``flat`` is exact too; ``ivf`` and ``hnsw`` are fast in millions of documents and miss some.
        block: queries scored at a time, and documents: ``4 * block**2`` bytes of scores.
        seed: of ``random``.

    Raises:
        InputError: if a number is not finite or out of range, a word unknown, or the window too small for the negatives.

    Source: :cite:`moreira2024` compares such rules; it recommends ``relative_margin=0.05``.
    """

    num_negatives: int = 3
    range_min: int = 0
    range_max: int | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    sampling_strategy: Strategy = "top"
    margin_to: MarginTo = "lowest"
    similarity: MiningSimilarity = "cosine"
    index: Index = "exact"
    block: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        check_count(self.num_negatives, "num_negatives")
        check_count(self.range_min, "range_min", least=0)
        check_count(self.range_max, "range_max", optional=True)
        check_count(self.block, "block")
        for name, value in self.rules().items():
            if not math.isfinite(value):
                raise InputError(f"{name} must be a finite number: got {value}.")
        for name, kind in (
            ("sampling_strategy", Strategy),
            ("margin_to", MarginTo),
            ("similarity", MiningSimilarity),
            ("index", Index),
        ):
            value, known = getattr(self, name), get_args(kind)
            if value not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}: got {value!r}. {nearest(value, known)}")
        if self.range_max is not None and self.range_max - self.range_min < self.num_negatives:
            raise InputError(
                f"range_max must leave room for num_negatives above range_min: got range_max {self.range_max},"
                f" range_min {self.range_min}, num_negatives {self.num_negatives}. Raise range_max."
            )
        if self.min_score is not None and self.max_score is not None and self.min_score > self.max_score:
            raise InputError(
                f"min_score must not be above max_score: got min_score {self.min_score}, max_score {self.max_score}."
            )

    def rules(self) -> dict[str, float]:
        """The rules on scores that are set."""
        names = ("absolute_margin", "relative_margin", "max_score", "min_score")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def window(self, *, rescored: bool = False) -> int:
        """Candidates of a query: ``range_max``, or what stands for it.

        >>> MiningSettings(num_negatives=3, range_min=5).window(), MiningSettings(3, max_score=0.8).window()
        (8, 30)
        """
        if self.range_max is not None:
            return self.range_max
        choice = rescored or self.rules() or self.sampling_strategy == "random"
        return self.range_min + self.num_negatives * (WIDE if choice else 1)
