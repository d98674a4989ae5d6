"""Evaluation of what comes next: the whole catalogue is ranked behind each history, and the item that came is looked for."""

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.evaluation.full import Evaluation, evaluate
from rankwell.evaluation.recommended import Background
from rankwell.evaluation.top import Progress
from rankwell.lists import take_lists
from rankwell.metrics import Measure
from rankwell.metrics.registry import RESULTS
from rankwell.types import Ragged

__all__ = ["HistoryRanker", "NextItemModel", "distinct_items", "evaluate_next"]


class NextItemModel(Protocol):
    """What scores the items that may follow a history."""

    num_items: int

    def score_next(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each history, oldest event first, written to ``out`` if given."""
        ...


class HistoryRanker(nn.Module):
    """The model with the histories that it is asked about: a :class:`~rankwell.types.FullRanker` whose queries number them.

    So :func:`~rankwell.evaluation.top_items` recommends what comes next, and :func:`~rankwell.evaluation.evaluate` measures it.
    """

    def __init__(self, model: NextItemModel, histories: Ragged) -> None:
        super().__init__()
        self.model, self.histories, self.num_items = model, histories, model.num_items
        self.training = getattr(model, "training", False)  # of a module, so that evaluation leaves it as it was

    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each numbered history."""
        return self.model.score_next(take_lists(self.histories, queries), out)


def evaluate_next(
    model: NextItemModel,
    measures: Sequence[Measure],
    histories: Ragged,
    targets: Int[Tensor, " q"],
    *,
    exclude_history: bool = False,
    background: Background | None = None,
    block: int = 256,
    progress: Progress | None = None,
) -> Evaluation:
    """Rank the catalogue behind each history and measure where the item that came stands.

    Every item competes, those of the history too: an item may come again, and figures published for SASRec and others under
    "full ranking" mostly leave them in. ``exclude_history`` takes them out, as others do; it favours models that bring
    up what was seen before, and an item that did come again counts as missed. A figure should say which of the two it is.

    With one item to find, ``recall@k`` is the hit rate HR@k, and ``ndcg@k`` is 1 / log2(1 + rank) up to place k. All else is
    as in :func:`~rankwell.evaluation.evaluate`: the mean over all orders of ties, values a question, on the CPU, blocks of
    ``block`` questions. ``users`` of the result number the questions. Measures of recommended items take a question for a
    user; without ``background`` the items of its history are what it has.

    Raises :class:`InputError` where there is no question, targets are not one a history, or a score is NaN.

    >>> class Again:  # the last item, again
    ...     num_items = 3
    ...     def score_next(self, history, out=None):
    ...         scores = torch.nn.functional.one_hot(history.values[history.offsets[1:] - 1], 3).float()
    ...         return scores if out is None else out.copy_(scores)
    >>> histories, targets = Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 2])), torch.tensor([1, 1])
    >>> evaluate_next(Again(), [Measure.parse("recall@1"), Measure.parse("mrr@3")], histories, targets).values
    {'recall@1': tensor([1., 0.]), 'mrr@3': tensor([1.0000, 0.4167])}
    """
    questions = histories.offsets.numel() - 1
    if targets.shape != (questions,) or targets.is_floating_point():
        raise InputError(
            f"targets must be one item code a history, [{questions}]: got {targets.dtype} of shape {tuple(targets.shape)}."
        )
    nothing = Ragged(torch.zeros_like(histories.offsets), histories.values[:0])
    known = distinct_items(histories, model.num_items) if exclude_history else nothing
    if background is None and any(measure.kind in RESULTS for measure in measures):
        background = Background.of(distinct_items(histories, model.num_items), model.num_items)
    wanted = Ragged(torch.arange(questions + 1, device=targets.device), targets)
    ranker = HistoryRanker(model, histories)
    return evaluate(
        ranker, measures, known=known, held_out=wanted, background=background, block=block, progress=progress
    )


def distinct_items(histories: Ragged, num_items: int) -> Ragged:
    """The items of each history, each once and ascending: as lists of what is known."""
    lists = torch.arange(len(histories.offsets) - 1, device=histories.offsets.device)
    # torch.unique, not the method, which has no type.
    keys = torch.unique(torch.repeat_interleave(lists, histories.offsets.diff()) * num_items + histories.values)
    counts = torch.bincount(keys.div(num_items, rounding_mode="floor"), minlength=len(lists))
    return Ragged(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), keys % num_items)
