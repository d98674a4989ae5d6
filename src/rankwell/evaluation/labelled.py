"""Evaluation of labelled rows: all labels are ranked for each row, and measured against those that it has."""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rankwell.data.labelled_rows import indicators, take_features
from rankwell.errors import InputError
from rankwell.evaluation.full import Evaluation
from rankwell.evaluation.top import Progress
from rankwell.lists import take_lists
from rankwell.metrics import Measure, evaluate_measures
from rankwell.types import Features, Ragged

__all__ = ["LabelScorer", "evaluate_labels", "score_labels"]

LabelScorer = Callable[[Features], Float[Tensor, "n labels"]]
"""What scores every label for each row."""


@torch.no_grad()
def score_labels(
    model: LabelScorer, features: Features, *, block: int = 1024, progress: Progress | None = None
) -> Iterator[tuple[slice, Float[Tensor, "b labels"]]]:
    """Scores of all labels, ``block`` rows at a time, with the rows' places. Raises :class:`InputError` where one is NaN."""
    rows = len(features.numbers)
    for first in range(0, rows, block):
        at = slice(first, min(first + block, rows))
        scores = model(take_features(features, torch.arange(at.start, at.stop)))
        if bool(scores.isnan().any()):
            raise InputError("scores of labels must not be NaN: the model gave NaN. Did its training diverge?")
        yield at, scores
        if progress:
            progress(at.stop, rows)


def evaluate_labels(
    model: LabelScorer,
    measures: Sequence[Measure],
    features: Features,
    labels: Ragged,
    num_labels: int,
    *,
    block: int = 1024,
    progress: Progress | None = None,
) -> Evaluation:
    """Rank all labels for each row and measure the rankings, rows in the place of users.

    Memory O(block · labels). Raises :class:`InputError` where there is no row, two measures are the same, or a score is NaN.
    """
    if not measures or len({str(measure) for measure in measures}) < len(measures):
        raise InputError(f"measures must be at least one, each once: got {[str(measure) for measure in measures]}.")
    if len(labels.offsets) < 2:
        raise InputError("at least one row must be evaluated: there is none.")
    values: dict[str, list[Tensor]] = {str(measure): [] for measure in measures}
    for at, scores in score_labels(model, features, block=block, progress=progress):
        relevant = indicators(take_lists(labels, torch.arange(at.start, at.stop)), num_labels)
        for name, of in evaluate_measures(measures, scores, relevant, uncounted=torch.nan).items():
            values[name].append(of.cpu())
    rows = torch.arange(len(labels.offsets) - 1)
    return Evaluation(rows, {name: torch.cat(parts) for name, parts in values.items()}, 0)
