"""Objectives of sequences: every event of a window foretells the next one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import ConfigError, InputError
from rankwell.registry import Input
from rankwell.similarity import by_row
from rankwell.training.generated import Scored
from rankwell.training.objective import DROPOUT, NOISE, ContrastObjective, Play
from rankwell.training.smoothing import Smoothing

__all__ = ["EventScorer", "SequenceHeadObjective", "SequenceObjective"]


@dataclass
class SequenceHeadObjective:
    r"""A head loss of the state behind each event, with the next event's item as its target: no negatives are drawn.

    .. math:: \frac{1}{n} \sum_{t=1}^{n} \ell(h_t, V, i_{t+1})

    over the n events of the batch that something follows. ``linear_softmax`` makes it the full cross-entropy. Offered are the
    inputs ``query_ids``, ``num_items``, ``key`` and a ``generator``, keyed by the step. Items that a user knows stay in the
    denominator: they may come again.
    """

    model: nn.Module
    loss: Callable[..., Tensor]
    seed: int
    inputs: Mapping[str, Input] = field(default_factory=dict)
    groups: dict[str, nn.Module] = field(init=False)
    smoothing: Smoothing = field(default=Smoothing(), init=False)
    offers: ClassVar[tuple[str, ...]] = ("query_ids", "num_items", "key", "generator")
    """Inputs of losses that the batch fills."""

    def __post_init__(self) -> None:
        self.groups = {"model": self.model}
        if unknown := [name for name, given in self.inputs.items() if given.required and name not in self.offers]:
            raise ConfigError(f"the loss needs {', '.join(unknown)}, which sequences do not tell. Choose another loss.")

    def plays(self, batch: Any, *, epoch: int, step: int) -> Iterator[Play]:
        """One play: the mean loss of the batch's events."""
        model: Any = self.model
        states = _states(model, batch, self.seed, epoch, step)
        key = keyed.mix(self.seed, epoch, step, NOISE)
        offered = {
            "query_ids": batch.users,
            "num_items": model.num_items,
            "key": key,
            "generator": keyed.generator(key, device=states.device),
        }
        extra = {name: value for name, value in offered.items() if name in self.inputs}
        loss = self.smoothing.of_targets(self.loss, epoch, step)
        yield Play(loss(states, model.item_vectors(), batch.items, **extra))


@dataclass
class SequenceObjective(ContrastObjective):
    r"""A contrast loss of the next item against sampled ones, at every event.

    .. math:: \frac{1}{n} \sum_{t=1}^{n} \ell(\langle h_t, v_{i_{t+1}} \rangle, (\langle h_t, v_j \rangle)_{j \in N_t})

    All of :class:`ContrastObjective`, a row being an event: its user's known items are what the sampler knows, so that
    nothing that the user has or will have is a negative (where the sampler says so), as in SASRec's own code; others let all
    but the next item be one, which ``collisions="keep"`` comes near. ``n`` negatives a row are drawn for each event, not for
    each sequence; a pool is shared by all events of the batch.

    Samplers that ask the model by sample (``genni``, ``dns``) are answered by the event's own state; those that ask by user
    are refused, as a user has a state for each event. Generators are refused, too: they are made for vectors of users.
    """

    def _scored(self, batch: Any, items: Tensor, epoch: int, step: int) -> Scored:
        model: Any = self.model
        states = _states(model, batch, self.seed, epoch, step)
        drawn = self.sampler(
            batch.users,
            batch.index,
            epoch=epoch,
            step=step,
            positives=batch.items,
            scorer=EventScorer(states.detach(), batch.index, model.item_vectors().detach()),
        )
        right = model.item_vectors(items)
        pos = (states * right).sum(-1) if items.ndim == 1 else by_row(states, right)
        neg = by_row(states, model.item_vectors(drawn.ids))
        return Scored(pos, neg, drawn, neg.shape[-1], drawn.ids, own=True)


class EventScorer:
    """Answers samplers for the events of a batch, by their states.

    >>> scorer = EventScorer(torch.tensor([[1.0], [2.0]]), torch.tensor([7, 4]), torch.tensor([[3.0], [5.0]]))
    >>> scorer.score_samples(torch.tensor([4]), torch.tensor([0, 1]))
    tensor([[ 6., 10.]])
    """

    def __init__(self, states: Float[Tensor, "n d"], samples: Int[Tensor, " n"], items: Float[Tensor, "m d"]) -> None:
        self._states, self._items = states, items
        self._samples, self._order = samples.sort()

    def score_samples(self, samples: Int[Tensor, " b"], items: Int[Tensor, "*b m"]) -> Float[Tensor, "b m"]:
        """Scores of the items, by the states of these events; items ``[m]`` are shared by all."""
        states = self._states[self._order[torch.searchsorted(self._samples, samples)]]
        return by_row(states, nn.functional.embedding(items, self._items))

    def item_vectors(self, items: Int[Tensor, " m"] | None = None) -> Float[Tensor, "m d"]:
        """Items' vectors; the whole catalogue's for None."""
        return self._items if items is None else self._items[items]

    def query_vectors(self, queries: Int[Tensor, " q"]) -> Float[Tensor, "q d"]:
        """Refused: a user of a sequence has no one vector."""
        raise InputError(
            f"this sampler asks the model about users ({len(queries)} of them), and a model of sequences has a state for each"
            " event. Choose the sampler genni or dns, or one that does not ask."
        )

    def score(self, queries: Int[Tensor, " q"], items: Int[Tensor, "*q m"]) -> Float[Tensor, "q m"]:  # noqa: ARG002
        """Refused likewise."""
        return self.query_vectors(queries)


def _states(model: Any, batch: Any, seed: int, epoch: int, step: int) -> Tensor:
    """The state behind each event of the batch, with the dropout of this step."""
    drawn = keyed.generator(seed, epoch, step, DROPOUT, device=batch.items.device)
    states: Tensor = model.states(batch.history, generator=drawn)
    return states
