"""The objective of judged lists: a list loss on the scores of a model that sees features."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import ConfigError
from rankwell.registry import Input
from rankwell.training.objective import DROPOUT, NOISE, Play
from rankwell.training.smoothing import Smoothing

__all__ = ["ListObjective"]


@dataclass
class ListObjective:
    """A list loss, with its parameters bound, on ``model(features, offsets)``: ragged lists as they are.

    ``inputs`` are the declared extra inputs that the loss takes: it goes without those that are not required and that nobody
    offers. Offered are ``query_ids`` and ``key``. Where a batch has weights of its documents, the loss gets them. Labels are
    multiplied by ``scale``, for losses that want them in [0, 1].
    """

    model: nn.Module
    loss: Callable[..., Tensor]
    seed: int
    inputs: Mapping[str, Input] = field(default_factory=dict)
    scale: float = 1.0
    groups: dict[str, nn.Module] = field(init=False)
    smoothing: Smoothing = field(default=Smoothing(), init=False)
    offers: ClassVar[tuple[str, ...]] = ("query_ids", "key")
    """Inputs of losses that the lists fill."""

    def __post_init__(self) -> None:
        self.groups = {"model": self.model}
        if unknown := [name for name, given in self.inputs.items() if given.required and name not in self.offers]:
            raise ConfigError(
                f"the loss needs {', '.join(unknown)}, which judged lists do not tell. Choose another loss."
            )

    def plays(self, batch: Any, *, epoch: int, step: int) -> Iterator[Play]:
        """One play: the mean loss of the batch's lists."""
        drawn = keyed.generator(self.seed, epoch, step, DROPOUT, device=batch.labels.device)
        scores = self.model(batch.features, batch.offsets, generator=drawn)
        offered = {"query_ids": batch.index, "key": keyed.mix(self.seed, epoch, step, NOISE)}
        extra = {name: value for name, value in offered.items() if name in self.inputs}
        if (weights := getattr(batch, "weights", None)) is not None:
            extra["weights"] = weights
        yield Play(
            self.smoothing.of_lists(self.loss)(scores, self.scale * batch.labels, offsets=batch.offsets, **extra)
        )
