"""Objectives: the only place where a model meets a loss."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import ConfigError
from rankwell.generators import Generator, Updated
from rankwell.lists import reduce
from rankwell.miners import Miner
from rankwell.registry import Input
from rankwell.samplers import Foresighted, Positives, PositiveSampler, Sampler
from rankwell.training.generated import Scored, check_vectors, generated
from rankwell.training.smoothing import Smoothing
from rankwell.transforms import correct_log_q
from rankwell.types import Auxiliary, Contrast, Overwrite, Scorer, VectorModel

__all__ = ["Contrast", "ContrastModel", "ContrastObjective", "Objective", "Observer", "Play", "own_term"]

DROPOUT = 1
"""Keeps the random numbers of dropout apart from those drawn for other purposes at the same step."""


NOISE = 4
"""Keeps the random numbers of a loss apart likewise."""

MINING = 5
"""Keeps the random numbers of a miner apart likewise."""

AUXILIARY = 6
"""Keeps the random numbers of a model's own term apart likewise."""

PRODUCTS = ("MmBackward0", "_ContrastProductBackward")
"""What made scores that are kept by nobody: the gradient of a product needs its factors, and it is no view."""


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
    beside: tuple[str, ...] = ()
    """Further groups, which go down (or up) with it."""
    rows: Float[Tensor, " b"] | None = None
    """What each row of the batch has to do with the value, for batches that learn from it; where the objective tells it."""


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


class Observer(Protocol):
    """Looks on while an objective trains, and changes nothing. With state, it is a module: checkpoints then keep it."""

    def looks(self, step: int) -> bool:
        """Whether it looks at this step of an epoch."""
        ...

    def __call__(self, seen: Contrast) -> None:
        """Before the loss of a step, which may write over ``seen.neg``: keep a copy. A hook on it gets the gradient."""
        ...


def own_term(model: Auxiliary, seen: Contrast, seed: int) -> Float[Tensor, ""]:
    """The model's own term of a step, with its random numbers."""
    return model.auxiliary(
        seen, generator=keyed.generator(seed, seen.epoch, seen.step, AUXILIARY, device=seen.users.device)
    )


@dataclass
class ContrastObjective:
    r"""One positive against sampled negatives: a contrast loss on a model's scores, or on those that the miner leaves.

    ``loss`` is a contrast loss with its parameters bound. The negatives' scores are corrected by :math:`\log n q` where two
    things hold, and never otherwise: ``correct`` is true (the loss is of the softmax family: it estimates a sum over the
    catalogue), and the sampler states log q. n is the number of negatives that a row or the pool has, masked ones too;
    ``temperature`` is the loss's own, since the correction belongs behind the division by it. The positive stays as it is. The
    miner looks at the model's own scores, before the correction, whose n stays the number of draws.

    ``inputs`` are the declared extra inputs that the loss takes: it goes without those that are not required and that nobody
    offers. ``fills`` makes some of them, by name, of what the step puts before the loss. ``weights`` holds one number for each
    row of the data. The sampler gets the positives of the batch, and the model if it is a :class:`~rankwell.types.Scorer`. The
    ``observer`` is shown what the steps that it looks at put before the loss.

    A ``generator`` makes negatives of the vectors of what was sampled. Its own are corrected only where they state a log q, and
    n then counts both kinds. Its parameters fall with the model's; what it takes in from a step comes when that is done.

    With ``positives``, a row has several: its own one, which is all that the sampler sees, and others of its user, which weigh
    as it does. With ``per_row``, plays tell the loss of each row, for batches that learn from it. Where a batch has weights of
    its own, they multiply these, not the loss's terms; the mean is over rows either way.

    A model that is :class:`~rankwell.types.Auxiliary` adds a term of its own to that mean, which it weighs itself: neither
    weights nor the losses of rows see it.
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
    observer: Observer | None = None
    generator: Generator | None = None
    positives: PositiveSampler | None = None
    per_row: bool = False
    fills: Mapping[str, Callable[[Contrast], Tensor | None]] = field(default_factory=dict)
    groups: dict[str, nn.Module] = field(init=False)
    smoothing: Smoothing = field(default=Smoothing(), init=False)
    offers: ClassVar[tuple[str, ...]] = ("query_ids", "num_items", "key")
    """Inputs of losses that batch and data fill."""

    def __post_init__(self) -> None:
        self.groups = {"model": self.model}
        if isinstance(self.sampler, nn.Module) and self.sampler.state_dict():
            self.groups["sampler"] = self.sampler  # so that checkpoints keep what it has seen
        observer: object = self.observer
        if isinstance(observer, nn.Module):
            self.groups["observer"] = observer
        self._beside: tuple[str, ...] = ()
        # Once, for looking through a protocol takes longer than a small operator.
        self._scorer = self.model if isinstance(self.model, Scorer) else None
        self._term = self.model if isinstance(self.model, Auxiliary) else None
        self._foresighted = self.sampler if isinstance(self.sampler, Foresighted) else None
        self._of_vectors = isinstance(self.model, VectorModel)
        if self.generator is not None:
            check_vectors(self.model, "a generator makes negatives of")
            if isinstance(self.generator, nn.Module):
                self.groups["generator"] = self.generator
                self._beside = ("generator",) if any(True for _ in self.generator.parameters()) else ()
        offered = {*self.offers, *self.fills}
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
        items, pos_where = self._positives(batch, epoch)
        scored = self._scored(batch, items, epoch, step)
        pos, neg, drawn, n, ids, seen, made, _ = scored
        looked = self.observer is not None and neg.requires_grad and self.observer.looks(step)
        hands_over = self._hands_over(scored)
        by_place = hands_over and drawn.places is not None and not self.miner.steps
        masks: dict[str, Tensor | None] = {}
        if looked or not by_place:  # else a mask as long as the scores, which is not needed, is not made
            masks["where"] = None if drawn.collisions is None else ~drawn.collisions
        if pos_where is not None:
            masks["pos_where"] = pos_where
        if self.miner.steps:
            generator = keyed.generator(self.seed, epoch, step, MINING, device=batch.users.device)
            mined = self.miner.masks(pos, neg, where=masks["where"], pos_where=pos_where, generator=generator)
            masks = {"where": mined.where} if pos.ndim < neg.ndim else mined._asdict()
        if looked or not hands_over:
            collisions, kept = drawn.collisions, (masks["where"], masks.get("pos_where"))
            before = Contrast(batch.users, items, ids, drawn.log_q, collisions, pos, neg, *kept, epoch=epoch, step=step)
        if looked:
            self.observer(before)  # type: ignore[misc]
        handed = None
        if hands_over:
            handed = _handed_over(neg, drawn.places if by_place else None, masks.get("where"))
            if by_place:
                masks.pop("where", None)
        if self.correct and drawn.log_q is not None:
            if handed and drawn.log_q.numel() == 1:  # only differences count, and the positives are few
                pos = pos + self.temperature * (math.log(n) + drawn.log_q)
            else:
                neg = correct_log_q(neg, drawn.log_q, n, self.temperature, overwrite=handed is not None)
                handed = handed and handed._replace(most=math.inf)
        weights = None if self.weights is None else self.weights[batch.index]
        if weights is not None and pos.ndim == neg.ndim:
            weights = weights[:, None]  # of a row's positives: all weigh as its own
        offered = self._offered(batch.users, keyed.mix(self.seed, epoch, step, NOISE))
        extra = {name: value for name, value in offered.items() if name in self.inputs}
        extra |= {name: fill(before) for name, fill in self.fills.items() if name in self.inputs}
        if handed:
            extra["overwrite"] = handed
        loss = self.smoothing.of_rows(self.loss, epoch, step)
        value, rows = self._value(loss, batch, pos, neg, {**masks, "weights": weights, **extra})
        if made is not None and made.penalty is not None:
            value = value + made.penalty
        if self._term is not None:
            value = value + own_term(self._term, before, self.seed)
        yield Play(value, beside=self._beside, rows=rows)
        maker: object = self.generator
        if seen is not None and isinstance(maker, Updated):
            maker.update(seen)

    def _hands_over(self, scored: Scored) -> bool:
        """Whether the loss may write over the negatives' scores.

        That is where it can, where the scores are nobody else's (a view's hooks would be lost), and where nobody needs them
        later: not a model with a term of its own, nor smoothing, which calls the loss twice.
        """
        late = self._term is not None or bool(self.smoothing.epsilon) or bool(self.fills)
        made = type(scored.neg.grad_fn).__name__
        return "overwrite" in self.inputs and not late and scored.own and made in PRODUCTS

    def _value(
        self, loss: Callable[..., Tensor], batch: Any, pos: Tensor, neg: Tensor, given: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """The mean loss and, where somebody needs them, the losses of rows that it is the mean of."""
        weights = getattr(batch, "weights", None)
        if not self.per_row and weights is None:
            return loss(pos, neg, **given), None
        rows = loss(pos, neg, **given, reduction="none")
        there = given.get("pos_where")
        valid = None if there is None else there.any(-1)  # as losses count rows
        return reduce(rows if weights is None else rows * weights, valid, "mean"), rows.detach()

    def _positives(self, batch: Any, epoch: int) -> Positives:
        """The rows' positives: their own, or several."""
        if self.positives is None:
            return Positives(batch.items, None)
        return self.positives(batch.users, batch.index, batch.items, epoch=epoch, scorer=self._scorer)

    def _scored(self, batch: Any, items: Tensor, epoch: int, step: int) -> Scored:
        """The model's scores of positives, and of negatives that were sampled or made of such."""
        coming = getattr(batch, "coming", None)
        if coming is not None and self._foresighted is not None:
            self._foresighted.expect(coming, epoch=epoch, step=step)
        drawn = self.sampler(
            batch.users,
            batch.index,
            epoch=epoch,
            step=step,
            positives=batch.items,
            scorer=self._scorer,
        )
        dropout = keyed.generator(self.seed, epoch, step, DROPOUT, device=batch.users.device)
        if self.generator is not None:
            batch = batch if items is batch.items else batch._replace(items=items)
            return generated(self.model, self.generator, batch, drawn, epoch=epoch, step=step, dropout=dropout)
        pos, neg = self.model.contrast_scores(batch.users, items, drawn.ids, generator=dropout)  # type: ignore[operator]
        return Scored(pos, neg, drawn, neg.shape[-1], drawn.ids, own=self._of_vectors)

    def _offered(self, users: Tensor, key: int) -> dict[str, Any]:
        """The declared extra inputs that batch and data can fill."""
        return dict(zip(self.offers, (users, self.model.num_items, key), strict=True))


def _handed_over(neg: Tensor, places: Tensor | None, where: Tensor | None) -> Overwrite:
    """Leave to write over these scores, of which absent ones are minus infinity from now on."""
    if places is not None:
        neg.detach().view(-1).index_fill_(0, places, -torch.inf)  # few places, where a mask is as long as the scores
    elif where is not None:
        neg.detach().masked_fill_(~where, -torch.inf)
    return Overwrite(places, getattr(neg.grad_fn, "most", math.inf))
