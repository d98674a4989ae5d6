"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from jaxtyping import Int
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import AdamW, Optimizer

from rankwell.data.batching import Batches, ShuffledBatches
from rankwell.errors import ConfigError, InputError, RunError
from rankwell.registry import Search
from rankwell.training import checkpoint
from rankwell.training.allocator import keep_freed_memory
from rankwell.training.norms import limit_norms
from rankwell.training.objective import Objective
from rankwell.training.row_adam import RowAdam
from rankwell.training.smoothing import Smoothing

__all__ = ["Epoch", "History", "TrainingSettings", "Watcher", "fit"]


LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "weight_decay": 0,
    "max_norm": 0,
    "label_smoothing": 0,
    "patience": 0,
    "validate_every": 1,
    "checkpoint_seconds": 0,
    "watch_every": 0,
}
"""The smallest value of each setting."""


@dataclass(frozen=True)
class TrainingSettings:
    """How to train."""

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # noqa: RUF012  (pydantic's name; it is not a field)

    epochs: int | None = None
    """Passes over the training pairs at most; the schedule's horizon. None: as many as make 6,000 steps, 8 to 100."""
    batch_size: int = 1024
    learning_rate: Annotated[float, Search(1e-4, 1e-1, log=True)] = 0.01
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """How the learning rate falls over the epochs: not at all, by half a cosine to 0, or straight to 0."""
    warmup: float = 0.0
    """Share of the epochs over which the learning rate first rises, straight from 0."""
    weight_decay: float = 0.0
    """Decoupled decay of the rows of each batch."""
    max_norm: float = 0.0
    """Rows of tables are scaled back to this Euclidean norm after each update; 0 sets no limit. Of a model that looks up no
    rows, the rows of all its matrices: vectors, or the incoming weights of a hidden number."""
    label_smoothing: float = 0.0
    """Share of the labels that is spread over the other items: see :class:`~rankwell.training.smoothing.Smoothing`."""
    patience: int = 5
    """Stop after so many validations without a better one; 0 never stops early."""
    validate_every: int = 1
    """Epochs between validations; the last epoch is always validated."""
    refit: bool = True
    """Train again on training and validation pairs together, for the number of epochs that validation chose."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints within an epoch; each epoch ends with one."""
    watch_every: int = 50
    """Steps between looks at the negatives and their gradients, for the run's log and picture; 0 never looks."""

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:  # so that NaN is refused too
                raise ConfigError(f"{name} must be at least {least}: got {value}.")
        Smoothing(self.label_smoothing)  # which checks it
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"learning_rate must be a finite number above 0: got {self.learning_rate}.")

        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup must be a share of the epochs, in [0, 1): got {self.warmup}.")

    @property
    def horizon(self) -> int:
        """The number of epochs, once it is known."""
        if self.epochs is None:
            raise ConfigError(
                "the number of epochs is not known yet: ask for_steps, with the steps of an epoch, first."
            )
        return self.epochs

    def for_steps(self, steps: int) -> "TrainingSettings":
        """The same with a number of epochs, for epochs of so many steps.

        >>> TrainingSettings().for_steps(700).epochs, TrainingSettings().for_steps(9).epochs
        (9, 100)
        """
        return self if self.epochs else replace(self, epochs=min(max(math.ceil(6_000 / steps), 8), 100))


@dataclass
class Epoch:
    """What the log says of one epoch (numbered from 1)."""

    epoch: int
    loss: float
    learning_rate: float
    """At its start."""
    seconds: float
    validation: dict[str, float] | None = None
    negatives: dict[str, Any] | None = None
    """What training saw of them, where somebody looked."""


@dataclass
class History:
    """Where training stands: all that a checkpoint holds beside tensors."""

    epochs: list[Epoch] = field(default_factory=list)
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    best_epoch: int = 0
    best_value: float = -math.inf
    stale: int = 0
    """Validations since the best one."""


class Watcher(Protocol):
    """What the loop tells a progress bar."""

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """After every few steps."""
        ...

    def on_epoch(self, record: Epoch, best: bool) -> None:
        """After each epoch."""
        ...


def fit(
    objective: Objective,
    pairs: tuple[Int[Tensor, " n"], Int[Tensor, " n"]] | Batches[Any],
    settings: TrainingSettings,
    *,
    seed: int,
    stop_after: int | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    monitor: str = "",
    negatives: Callable[[], dict[str, Any] | None] | None = None,
    folder: Path | None = None,
    watcher: Watcher | None = None,
) -> History:
    """Train ``objective.groups`` on (users, items) pairs, and leave them as the best validated epoch (or the last) left them.

    Pairs are shuffled. :class:`~rankwell.data.Batches`, of any rows, have a size and a seed of their own; those that learn
    are told the loss of each row, if the objective tells it. ``validate`` gives measures of the model as it is, of
    which ``monitor`` is to be maximised; ``negatives`` gives what an observer of the objective saw in the epoch that ends.
    With a ``folder``, state is saved there after each epoch and every ``checkpoint_seconds``, and a later call with the same
    arguments goes on from it: every random number is keyed by seed, epoch and step, so that the result has the same bits.
    ``stop_after`` ends after so many epochs of the schedule. Raises :class:`RunError` when the loss is no longer finite,
    :class:`InputError` without pairs.
    """
    batches = pairs if isinstance(pairs, Batches) else ShuffledBatches(pairs, settings.batch_size, seed=seed)
    if not len(batches):
        raise InputError("training needs at least one row of data: got none.")
    keep_freed_memory()
    settings = settings.for_steps(batches.steps(0))
    last = min(stop_after or settings.horizon, settings.horizon)
    _smooth(objective, Smoothing(settings.label_smoothing, seed))
    optimisers = {name: _optimisers(group, settings) for name, group in objective.groups.items()}
    store = _Store(
        folder, {**objective.groups, "batches": batches}, [one for group in optimisers.values() for one in group]
    )
    at = store.load()
    while at.epoch < last and not (settings.patience and at.stale >= settings.patience):
        _train_mode(objective, True)
        started = time.monotonic() - at.seconds
        steps = batches.steps(at.epoch)
        for step, batch in enumerate(batches.of_epoch(at.epoch, at.step), at.step):
            rate = _learning_rate(settings, at.epoch + step / steps)
            value, of_rows = _carry_out(objective, batch, at.epoch, step, optimisers, rate)
            at.loss_sum += value
            if batches.learns:
                batches.learn(batch.index, _needed(of_rows))
            at.step = step + 1
            if watcher and (at.step % 10 == 0 or at.step == steps):
                watcher.on_step(at.epoch + 1, at.step, steps, at.loss_sum / at.step)
            if store.due(settings.checkpoint_seconds):
                at.seconds = time.monotonic() - started
                store.save(at)
        _train_mode(objective, False)
        started_at = _learning_rate(settings, at.epoch)
        record = Epoch(at.epoch + 1, at.loss_sum / steps, started_at, time.monotonic() - started)
        record.negatives = negatives() if negatives else None
        at.epoch, at.step, at.loss_sum, at.seconds = at.epoch + 1, 0, 0.0, 0.0
        if validate and (at.epoch % settings.validate_every == 0 or at.epoch == last):
            record.validation = validate()
            value = record.validation[monitor]
            if math.isnan(value):
                raise RunError(
                    f"{monitor} is defined for nothing that validation holds. Choose another --evaluation.monitor, or other"
                    " validation data."
                )
            at.stale += 1
            if value > at.best_value:
                at.best_value, at.best_epoch, at.stale = value, at.epoch, 0
                store.keep_best()
        at.epochs.append(record)
        if watcher:  # before the checkpoint: an epoch that is told of and then lost is told of again, never left out
            watcher.on_epoch(record, at.best_epoch == at.epoch)
        store.save(at)
    if validate:
        store.load_best()
    _train_mode(objective, False)
    return at


def _carry_out(
    objective: Objective, batch: Any, epoch: int, step: int, optimisers: dict[str, list[Optimizer]], rate: float
) -> tuple[float, Tensor | None]:
    """Carry out the plays of one step; gives the first one's value, and its rows."""
    first, rows = math.nan, None
    for number, play in enumerate(objective.plays(batch, epoch=epoch, step=step)):
        value = play.value.item()
        if not math.isfinite(value):
            raise RunError(
                f"the loss is {value} at step {step + 1} of epoch {epoch + 1}: training diverged. Lower"
                " --training.learning_rate or look for extreme weights in the data."
            )
        if step % play.every == 0:
            (-play.value if play.maximise else play.value).backward()  # type: ignore[no-untyped-call]
            for optimiser in (one for name in (play.group, *play.beside) for one in optimisers[name]):
                for group in optimiser.param_groups:
                    group["lr"] = rate
                optimiser.step()
            for optimiser in (one for group in optimisers.values() for one in group):
                optimiser.zero_grad()
        if number == 0:
            first, rows = value, play.rows
    return first, rows


def _smooth(objective: Any, smoothing: Smoothing) -> None:
    """Tell the objective, which meets the loss, how its labels are smoothed."""
    if hasattr(objective, "smoothing"):
        objective.smoothing = smoothing
    elif smoothing.epsilon:
        raise ConfigError(
            f"training.label_smoothing: {type(objective).__name__} has no labels to smooth. Leave the option out."
        )


def _needed(rows: Tensor | None) -> Tensor:
    if rows is None:
        raise InputError(
            "these batches learn from the loss of each row, which the objective does not tell: set its per_row to true."
        )
    return rows


def _optimisers(group: nn.Module, settings: TrainingSettings) -> list[Optimizer]:
    """Row-wise Adam for what is looked up by rows, AdamW for the rest."""
    names = set(getattr(group, "row_parameters", ()))
    rows = [value for name, value in group.named_parameters() if name in names]
    rest = [value for name, value in group.named_parameters() if name not in names]
    usual: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    made: list[Optimizer] = []
    if rows:
        made.append(RowAdam(rows, **usual, max_norm=settings.max_norm))
    if rest:
        made.append(AdamW(rest, **usual, fused=True))  # one pass over the numbers instead of a dozen
        made[-1].register_step_post_hook(partial(_count, rest))
        if settings.max_norm and not rows:
            made[-1].register_step_post_hook(partial(_limit, [one for one in rest if one.ndim == 2], settings.max_norm))
    return made


def _count(changed: list[nn.Parameter], *_: Any) -> None:
    """Count a fused step as torch counts other changes, for what is kept until a weight changes."""
    increment_version(changed)


def _limit(matrices: list[nn.Parameter], most: float, *_: Any) -> None:
    for each in matrices:
        limit_norms(each, most)


def _learning_rate(settings: TrainingSettings, epochs_done: float) -> float:
    done = epochs_done / settings.horizon
    if done < settings.warmup:
        return settings.learning_rate * done / settings.warmup
    done = (done - settings.warmup) / (1 - settings.warmup)
    left = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done}
    return settings.learning_rate * left[settings.schedule]


def _train_mode(objective: Objective, on: bool) -> None:
    for group in objective.groups.values():
        group.train(on)


class _Store:
    """Checkpoints of one training: where it stands, and the best weights so far."""

    def __init__(self, folder: Path | None, groups: Mapping[str, nn.Module], optimisers: Sequence[Optimizer]) -> None:
        self.folder, self.groups, self.optimisers = folder, groups, optimisers
        self.best: dict[str, Tensor] | None = None
        self.saved = time.monotonic()

    def due(self, seconds: float) -> bool:
        """Whether it is time for a checkpoint within the epoch."""
        return self.folder is not None and time.monotonic() - self.saved >= seconds

    def save(self, at: History) -> None:
        """Write where training stands."""
        if self.folder is not None:
            tensors, facts = checkpoint.optimiser_tensors(self.optimisers)
            state = {"history": asdict(at), "optimisers": facts}
            checkpoint.save(self.folder / "checkpoint.safetensors", {**dict(self._weights()), **tensors}, state)
            self.saved = time.monotonic()

    def load(self) -> History:
        """Go back to the checkpoint, if there is one."""
        if self.folder is None or not (self.folder / "checkpoint.safetensors").exists():
            return History()
        tensors, state = checkpoint.load(self.folder / "checkpoint.safetensors")
        self._restore(tensors, "checkpoint.safetensors")
        checkpoint.load_optimisers(self.optimisers, tensors, state["optimisers"])
        history = state["history"]
        return History(**{**history, "epochs": [Epoch(**record) for record in history["epochs"]]})

    def keep_best(self) -> None:
        """Remember the weights as they are."""
        if self.folder is None:
            self.best = {name: tensor.detach().clone() for name, tensor in self._weights()}
        else:
            checkpoint.save(self.folder / "best.safetensors", dict(self._weights()), {})

    def load_best(self) -> None:
        """Put the remembered weights back."""
        if self.folder is not None:
            self._restore(checkpoint.load(self.folder / "best.safetensors")[0], "best.safetensors")
        elif self.best is not None:
            self._restore(self.best)

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        for group, module in self.groups.items():
            for name, tensor in module.state_dict().items():
                yield f"{group}.{name}", tensor

    def _restore(self, tensors: dict[str, Tensor], file: str = "") -> None:
        for group, module in self.groups.items():
            prefix = f"{group}."
            own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            try:
                module.load_state_dict(own)  # a module may take sizes of buffers from what it loads
            except RuntimeError as error:
                lacks = [
                    f"lacks {prefix}{name} of shape {tuple(tensor.shape)}"
                    for name, tensor in module.state_dict().items()
                    if name not in own or own[name].shape != tensor.shape
                ]
                raise RunError(
                    f"{self.folder}/{file} is of another model: it {(lacks or [f'has more than {group}'])[0]}."
                    " Go on with the settings that the training was started with."
                ) from error
