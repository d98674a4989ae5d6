"""Evaluation of judged lists: every query's documents are ranked, and measured against all its labels."""

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.errors import InputError
from rankwell.evaluation.full import Evaluation
from rankwell.evaluation.top import Progress
from rankwell.metrics import Measure, evaluate_measures

__all__ = ["ListScorer", "evaluate_lists", "score_lists"]


class ListScorer(Protocol):
    """What scores lists of documents."""

    def __call__(self, features: Float[Tensor, "n f"], offsets: Int[Tensor, " lists_plus_1"]) -> Float[Tensor, " n"]:
        """Scores of documents, of which those of a list follow each other."""
        ...


@torch.no_grad()
def score_lists(
    model: ListScorer,
    features: Float[Tensor, "n f"],
    offsets: Int[Tensor, " lists_plus_1"],
    *,
    block: int = 1 << 14,
    progress: Progress | None = None,
) -> Float[Tensor, " n"]:
    """Scores of all documents, whole lists of about ``block`` documents at a time."""
    ends = offsets.tolist()
    scores, first = [], 0
    while first < len(ends) - 1:
        last = first + 1
        while last < len(ends) - 1 and ends[last + 1] - ends[first] <= block:
            last += 1
        rows = slice(ends[first], ends[last])
        scores.append(model(features[rows], offsets[first : last + 1] - ends[first]))
        first = last
        if progress:
            progress(first, len(ends) - 1)
    return torch.cat(scores) if scores else features.new_zeros(0)


def evaluate_lists(
    model: ListScorer,
    measures: Sequence[Measure],
    features: Float[Tensor, "n f"],
    labels: Float[Tensor, " n"],
    offsets: Int[Tensor, " lists_plus_1"],
    *,
    block: int = 1 << 14,
    progress: Progress | None = None,
) -> Evaluation:
    """Rank the documents of each query and measure the rankings, queries in the place of users.

    Raises :class:`InputError` where there is no query, two measures are the same, or a score is NaN.
    """
    if not measures or len({str(measure) for measure in measures}) < len(measures):
        raise InputError(f"measures must be at least one, each once: got {[str(measure) for measure in measures]}.")
    if len(offsets) < 2:
        raise InputError("at least one query must be evaluated: there is none.")
    scores = score_lists(model, features, offsets, block=block, progress=progress)
    if bool(scores.isnan().any()):
        raise InputError("scores of documents must not be NaN: the model gave NaN. Did its training diverge?")
    values = evaluate_measures(measures, scores, labels, offsets=offsets, uncounted=torch.nan)
    return Evaluation(torch.arange(len(offsets) - 1), {name: each.cpu() for name, each in values.items()}, 0)
