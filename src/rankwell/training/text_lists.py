"""Whole lists of texts: queries with graded or scored documents, for list losses and for learning from a teacher."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell import keyed
from rankwell.data.batching import Batches
from rankwell.data.batching.passes import in_blocks
from rankwell.errors import ConfigError
from rankwell.lists import take_lists
from rankwell.registry import Input
from rankwell.training.objective import DROPOUT, NOISE, Play
from rankwell.training.smoothing import Smoothing
from rankwell.types import Ragged

__all__ = ["TextListBatches", "TextListObjective", "TextLists"]


class TextLists(NamedTuple):
    """Documents of some lists, one list behind the other, each with its query's code; ``index`` are the lists' numbers."""

    queries: Int[Tensor, " n"]
    documents: Int[Tensor, " n"]
    labels: Float[Tensor, " n"]
    teacher: Float[Tensor, " n"] | None
    """A teacher's scores."""
    offsets: Int[Tensor, " lists_plus_1"]
    index: Int[Tensor, " lists"]  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch


class TextListBatches(Batches[TextLists]):
    """Each list once a pass, in random order, ``batch_size`` lists at a time; the last batch may be smaller."""

    def __init__(self, lists: TextLists, batch_size: int, *, seed: int) -> None:
        super().__init__(len(lists.offsets) - 1, batch_size, seed=seed)
        self.lists = lists
        self._places = Ragged(lists.offsets, torch.arange(len(lists.documents)))

    def rows(self, epoch: int) -> Ragged:
        """A permutation, cut into batches."""
        return in_blocks(torch.randperm(len(self), generator=keyed.generator(self.seed, epoch)), self.batch_size)

    def batch(self, index: Int[Tensor, " lists"]) -> TextLists:
        """These lists, whole."""
        taken, lists = take_lists(self._places, index), self.lists
        at = taken.values
        teacher = None if lists.teacher is None else lists.teacher[at]
        return TextLists(lists.queries[at], lists.documents[at], lists.labels[at], teacher, taken.offsets, index)


@dataclass
class TextListObjective:
    """A list loss, with its parameters bound, on ``model.pair_scores(queries, documents)`` over ``temperature``.

    So encoders (:class:`~rankwell.training.encoded_texts.EncodedTexts`) and models of pairs
    (:class:`~rankwell.training.paired_texts.PairedTexts`) train alike. ``inputs`` are the declared extra inputs that the
    loss takes: offered are ``query_ids``, ``key``, and ``teacher`` where the lists have one.

    Raises :class:`ConfigError` where the loss needs something else.
    """

    model: nn.Module
    loss: Callable[..., Tensor]
    seed: int
    inputs: Mapping[str, Input] = field(default_factory=dict)
    temperature: float = 1.0
    taught: bool = False
    """Whether the lists have a teacher's scores."""
    groups: dict[str, nn.Module] = field(init=False)
    smoothing: Smoothing = field(default=Smoothing(), init=False)

    def __post_init__(self) -> None:
        self.groups = {"model": self.model}
        offered = ("query_ids", "key", *(("teacher",) if self.taught else ()))
        unknown = [name for name, given in self.inputs.items() if given.required and name not in offered]
        if "teacher" in unknown:
            raise ConfigError(
                "the loss needs a teacher's scores: give labelled lists or triplets with a column 'scores' beside the labels."
            )
        if unknown:
            raise ConfigError(f"the loss needs {', '.join(unknown)}, which lists of texts do not tell. Choose another.")

    def plays(self, batch: TextLists, *, epoch: int, step: int) -> Iterator[Play]:
        """One play: the mean loss of the batch's lists."""
        drawn = keyed.generator(self.seed, epoch, step, DROPOUT)
        scores = self.model.pair_scores(batch.queries, batch.documents, generator=drawn)  # type: ignore[operator]
        offered: dict[str, Any] = {
            "query_ids": batch.index,
            "key": keyed.mix(self.seed, epoch, step, NOISE),
            "teacher": batch.teacher,
        }
        extra = {name: value for name, value in offered.items() if name in self.inputs and value is not None}
        extra = {name: value.to(scores.device) if isinstance(value, Tensor) else value for name, value in extra.items()}
        labels, offsets = batch.labels.to(scores.device), batch.offsets.to(scores.device)
        loss = self.smoothing.of_lists(self.loss)
        yield Play(loss(scores / self.temperature, labels, offsets=offsets, **extra))
