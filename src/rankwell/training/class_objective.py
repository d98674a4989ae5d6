"""Examples with classes: embeddings of a batch against each other, those of one class being right for each other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import ConfigError
from rankwell.generators import Embedded
from rankwell.similarity import dot
from rankwell.training.in_batch import InBatchObjective
from rankwell.training.objective import DROPOUT, MINING, Play
from rankwell.types import Mask

__all__ = ["ClassObjective"]


@dataclass
class ClassObjective(InBatchObjective):
    """An embedding loss of examples, each of them both query and item.

    Of the batch's examples those of its class are right for a query, the others are its negatives, and the example itself is
    neither, also where a batch holds it twice. Where a class has but one example in the batch, its query has no positive:
    each loss says what it does then. Offered is ``item_classes``, in which each vector of a generator is a class of its own.

    A generator sees each example beside another of its class, the next one in the batch: LoOp's curve joins these two, and a
    memory takes in every example once, by its class, and leaves out the query's own class. A stateful loss
    (:class:`~rankwell.losses.CrossBatchMemoryLoss`) has the earlier examples of the class as positives, too; it is given no
    generator. Memory as :class:`~rankwell.training.InBatchObjective`.

    Raises :class:`~rankwell.errors.ConfigError` for a stateful loss with a generator, or where the loss needs what classes do
    not tell.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    offers: ClassVar[tuple[str, ...]] = ("item_classes",)
    """Inputs of losses that the classes fill."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := [name for name, each in self.inputs.items() if each.required and name not in self.offers]:
            raise ConfigError(f"the loss needs {', '.join(unknown)}, which classes do not tell. Choose another loss.")
        if isinstance(self.loss, nn.Module):
            if self.generator is not None:
                raise ConfigError("a loss with a memory of its own takes no generator: leave one of them out.")
            self.groups["loss"] = self.loss  # so that checkpoints keep what it remembers

    def plays(self, batch: Any, *, epoch: int, step: int) -> Iterator[Play]:
        """One play: the mean loss of the batch."""
        if not isinstance(self.loss, nn.Module):
            yield from super().plays(batch, epoch=epoch, step=step)
            return
        positives, where = self.pairs(batch)
        vectors = self._embedded(batch, keyed.generator(self.seed, epoch, step, DROPOUT, device=batch.index.device))
        if self.miner.steps:
            drawn = keyed.generator(self.seed, epoch, step, MINING, device=batch.index.device)
            where = self.miner.in_batch(dot(vectors, vectors), positives, where=where, generator=drawn)
        loss = self.smoothing.of_pairs(self.loss, epoch, step)  # which refuses, where it is to smooth
        yield Play(loss(vectors, ids=batch.classes, where=where))
        self.loss.update(batch.classes, vectors.detach())  # type: ignore[operator]

    def pairs(self, batch: Any) -> tuple[Mask, Mask | None]:
        """Examples of one class are positives, and none is compared with itself."""
        apart = batch.index[:, None] != batch.index
        return (batch.classes[:, None] == batch.classes) & apart, apart

    def looked_up(self, batch: Any, negatives: Mask, epoch: int, step: int, dropout: torch.Generator) -> Embedded:
        """The embeddings, and for each another one of its class."""
        vectors, classes = self._embedded(batch, dropout), batch.classes
        unit = self.model.similarity == "cosine"
        return Embedded(
            vectors,
            vectors[_next_of_class(classes)],
            vectors,
            negatives,
            batch.index,
            classes,
            classes,
            batch.index,
            epoch,
            step,
            unit,
        )

    def given(self, batch: Any, num_items: int) -> Mapping[str, Any]:
        """The classes of all items, for losses that ask."""
        if "item_classes" not in self.inputs:
            return {}
        made = int(num_items - len(batch.classes))
        none = -1 - torch.arange(made, device=batch.classes.device)
        return {"item_classes": torch.cat([batch.classes, none])}

    def _embedded(self, batch: Any, dropout: torch.Generator) -> Tensor:
        vectors: Tensor = self.model(batch.features, generator=dropout)
        return vectors


def _next_of_class(classes: Tensor) -> Tensor:
    """For each place the next one of its class, the first behind the last; itself where there is no other.

    >>> _next_of_class(torch.tensor([5, 7, 5, 9, 5])).tolist()
    [2, 1, 4, 3, 0]
    """
    order = classes.argsort(stable=True)
    ordered = classes[order]
    sizes = torch.unique_consecutive(ordered, return_counts=True)[1]
    starts = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    within = torch.arange(len(classes), device=classes.device) - starts
    following = starts + (within + 1) % torch.repeat_interleave(sizes, sizes)
    return torch.empty_like(order).index_copy_(0, order, order[following])
