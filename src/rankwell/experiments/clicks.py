"""Clicks that a production ranker collects: who ranks the lists that are shown, and what its log becomes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from rankwell import keyed
from rankwell.data.batching import ListBatches
from rankwell.data.clicks import (
    ClickModel,
    Sessions,
    clicks_by_query,
    clicks_by_session,
    estimate_examination,
    inverse,
    simulate_clicks,
)
from rankwell.data.judged import JudgedLists
from rankwell.errors import ConfigError, DataError
from rankwell.evaluation import score_lists
from rankwell.evaluation.judged import ListScorer
from rankwell.losses import softmax_loss
from rankwell.models import MLPRanker
from rankwell.training import ListObjective, TrainingSettings, fit

__all__ = ["ClickLog", "Per", "Propensity", "as_table", "production_ranker"]

Propensity: TypeAlias = Literal["known", "estimated", "none"]
Per: TypeAlias = Literal["query", "session"]

PRODUCTION = 3
"""Keeps the random numbers of the production ranker's queries apart from those drawn for other purposes."""


def production_ranker(lists: JudgedLists, share: float, *, seed: int) -> MLPRanker:
    """A linear ranker, trained on the judgements of a few queries: a random ``share`` of those with a relevant document, one
    at least."""
    if not 0 < share <= 1:
        raise ConfigError(f"the production ranker's share of queries must be in (0, 1]: got {share}.")
    relevant = np.flatnonzero(np.maximum.reduceat(lists.labels, lists.offsets[:-1]) > 0)
    if not len(relevant):
        raise DataError("a production ranker needs a query with a relevant document: there is none.")
    chosen = torch.randperm(len(relevant), generator=keyed.generator(seed, PRODUCTION))
    few = lists.take(relevant[chosen[: max(1, round(share * len(relevant)))].sort().values.numpy()])
    ranker = MLPRanker(lists.features.shape[1], widths=(), dropout=0.0)
    ranker.initialise(*few.tensors(), seed=seed)
    settings = TrainingSettings(epochs=50, learning_rate=0.01)
    fit(ListObjective(ranker, softmax_loss, seed), ListBatches(*few.tensors(), 8, seed=seed), settings, seed=seed)
    return ranker


@dataclass(frozen=True)
class ClickLog:
    """Simulated sessions on judged lists; they are drawn anew whenever they are looked at, to the same bits.

    ``ranker`` orders the lists that are shown, but for a share ``shuffled`` of the sessions, which are in random order.
    """

    lists: JudgedLists
    ranker: ListScorer
    model: ClickModel
    sessions: int
    seed: int
    shuffled: float = 0.0

    def blocks(self) -> Iterator[Sessions]:
        """The sessions."""
        return simulate_clicks(
            self.lists, self.scores, self.model, self.sessions, seed=self.seed, shuffled=self.shuffled
        )

    @cached_property
    def scores(self) -> Float[Tensor, " n"]:
        """What the documents are ordered by."""
        features, _, offsets = self.lists.tensors()
        return score_lists(self.ranker, features, offsets)

    def weigh(self, propensity: Propensity, clip: float = 0.0) -> Callable[[Sessions], Tensor]:
        """What a click counts: the inverse of the examination that the model knows, or of one estimated from the shuffled
        sessions; or 1."""
        if propensity == "none":
            return lambda block: torch.ones(len(block.clicks))
        if propensity == "known":
            return lambda block: inverse(block.examination, clip)
        found = estimate_examination(self.blocks())
        # Positions that no shuffled session has shown are taken as the last one that was.
        return lambda block: inverse(found[(block.positions - 1).clamp(max=len(found) - 1)], clip)

    def judged(self, propensity: Propensity, clip: float = 0.0, per: Per = "query") -> JudgedLists:
        """Lists whose labels are clicks, with their weights."""
        gather = clicks_by_query if per == "query" else clicks_by_session
        return gather(self.lists, self.blocks(), self.weigh(propensity, clip))


def as_table(lists: JudgedLists) -> pl.DataFrame:
    """Columns ``query``, ``label``, ``weight`` and the features, by their names, or their numbers where they have none.

    Raises :class:`DataError` where a feature is called like one of the three.
    """
    names = lists.names or tuple(str(place) for place in range(lists.features.shape[1]))
    own = {
        "query": lists.query_ids[np.repeat(np.arange(len(lists)), np.diff(lists.offsets))],
        "label": lists.labels,
        "weight": np.ones_like(lists.labels) if lists.weights is None else lists.weights,
    }
    if twice := sorted(own.keys() & set(names)):
        raise DataError(
            f"a feature is called {twice[0]!r}, as a column that is to be written. Leave it out by --ignore."
        )
    return pl.DataFrame({**own, **dict(zip(names, lists.features.T, strict=True))})
