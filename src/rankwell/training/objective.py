"""Objectives: the only place where a model meets a loss."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import ConfigError
from rankwell.miners import Miner
from rankwell.registry import Input
from rankwell.samplers import Sampler
from rankwell.transforms import correct_log_q
from rankwell.types import Scorer

__all__ = ["ContrastModel", "ContrastObjective", "Objective", "Play"]

DROPOUT = 1
"""Keeps the random numbers of dropout apart from those drawn for other purposes at the same step."""


NOISE = 4
"""Keeps the random numbers of a loss apart likewise."""

MINING = 5
"""Keeps the random numbers of a miner apart likewise."""


@dataclass(frozen=True)
class Play:
    """One move of a training step: whose parameters go down (or up) this value.

    Ordinary training is one play a step. Alternating and min–max training yield several; each is made after the one
    before has been carried out, and so sees the parameters that it left.
    """

    value: Float[Tensor, ""]
    group: str = "model"
    maximise: bool = False
    every: int = 1
    """Carried out at steps that this divides."""


class Objective(Protocol):
    """Turns batches into plays."""

    @property
    def groups(self) -> Mapping[str, nn.Module]:
        """The parameter groups that plays name, each with its own optimiser, and what else has state that checkpoints keep."""
        ...

    def plays(self, batch: Any, *, epoch: int, step: int) -> Iterator[Play]:
        """The moves of this step. The first one's value is what the log shows."""
        ...


class ContrastModel(Protocol):
    """What a contrast objective asks of a model."""

    def contrast_scores(
        self, queries: Tensor, positives: Tensor, negatives: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Scores of positives ``[b]`` and negatives ``[b, n]``."""
        ...


@dataclass
class ContrastObjective:
    r"""One positive against sampled negatives: a contrast loss on a model's scores, or on those that the miner leaves.

    ``loss`` is a contrast loss with its parameters bound. The negatives' scores are corrected by :math:`\log n q` where two
    things hold, and never otherwise: ``correct`` is true (the loss is of the softmax family: it estimates a sum over the
    catalogue), and the sampler states log q. n is the number of negatives that a row or the pool has, masked ones too;
    ``temperature`` is the loss's own, since the correction belongs behind the division by it. The positive stays as it is. The
    miner looks at the model's own scores, before the correction, whose n stays the number of draws.

    ``inputs`` are the declared extra inputs that the loss takes: it goes without those that are not required and that nobody
    offers. ``weights`` holds one number for each row of the data. The sampler gets the positives of the batch, and the model
    if it is a :class:`~rankwell.types.Scorer`.
    """

    model: nn.Module
    loss: Callable[..., Tensor]
    sampler: Sampler
    seed: int
    correct: bool = False
    temperature: float = 1.0
    inputs: Mapping[str, Input] = field(default_factory=dict)
    weights: Float[Tensor, " n"] | None = None
    miner: Miner = field(default_factory=Miner)
    groups: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        self.groups = {"model": self.model}
        if isinstance(self.sampler, nn.Module) and self.sampler.state_dict():
            self.groups["sampler"] = self.sampler  # so that checkpoints keep what it has seen
        offered = self._offered(torch.zeros(0), key=0)
        if unknown := [name for name, given in self.inputs.items() if given.required and name not in offered]:
            raise ConfigError(
                f"the loss needs {', '.join(unknown)}, which interactions do not tell. Choose another loss."
            )
        if needed := [name for name, given in self.miner.inputs.items() if given.required]:
            raise ConfigError(
                f"the miner needs {', '.join(needed)}, which interactions do not tell. Choose another miner."
            )

    def plays(self, batch: Any, *, epoch: int, step: int) -> Iterator[Play]:
        """One play: the mean loss of the batch."""
        ids, log_q, collisions = self.sampler(
            batch.users,
            batch.index,
            epoch=epoch,
            step=step,
            positives=batch.items,
            scorer=self.model if isinstance(self.model, Scorer) else None,
        )
        dropout = keyed.generator(self.seed, epoch, step, DROPOUT, device=batch.users.device)
        pos, neg = self.model.contrast_scores(batch.users, batch.items, ids, generator=dropout)  # type: ignore[operator]
        masks = {"where": None if collisions is None else ~collisions}
        if self.miner.steps:
            drawn = keyed.generator(self.seed, epoch, step, MINING, device=batch.users.device)
            mined = self.miner.masks(pos, neg, where=masks["where"], generator=drawn)
            masks = {"where": mined.where} if pos.ndim < neg.ndim else mined._asdict()
        if self.correct and log_q is not None:
            neg = correct_log_q(neg, log_q, neg.shape[-1], self.temperature)
        weights = None if self.weights is None else self.weights[batch.index]
        offered = self._offered(batch.users, keyed.mix(self.seed, epoch, step, NOISE))
        extra = {name: value for name, value in offered.items() if name in self.inputs}
        yield Play(self.loss(pos, neg, **masks, weights=weights, **extra))

    def _offered(self, users: Tensor, key: int) -> dict[str, Any]:
        """The declared extra inputs that batch and data can fill."""
        return {"query_ids": users, "num_items": self.model.num_items, "key": key}
