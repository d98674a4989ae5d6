"""What a configuration holds: sections with types, and sections with a name and that name's own parameters."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from rankwell.errors import ConfigError, require

require("pydantic", "cli")

from pydantic import (  # noqa: E402
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    field_validator,
)

from rankwell.metrics import Measure  # noqa: E402
from rankwell.metrics.registry import RESULTS  # noqa: E402
from rankwell.models import MODELS  # noqa: E402
from rankwell.training import TrainingSettings  # noqa: E402

__all__ = ["NAMED", "Config", "EvaluationConfig", "Section", "listed", "refuse_watching"]

NAMED = ("model", "loss", "sampler", "miner", "generator", "batches", "positives")
"""Sections that hold a name and that name's own parameters."""


def refuse_watching(given: Mapping[str, Any], why: str) -> None:
    """Raise :class:`ConfigError` where looks at negatives are asked for, by another number than the default one, in vain."""
    default = TrainingSettings.__dataclass_fields__["watch_every"].default
    asked = dict(given.get("training", {})).get("watch_every", 0)
    if str(asked) not in ("0", str(default)):
        raise ConfigError(f"training.watch_every {asked} looks at sampled negatives: {why} has none. Leave it out.")


def listed(value: Any) -> Any:
    """A comma-separated text, as the command line gives it, as a list; commas inside parentheses do not count.

    >>> listed("recall@20, ndcg(gain=linear,ties=order)@10")
    ['recall@20', 'ndcg(gain=linear,ties=order)@10']
    """
    return [part.strip() for part in re.split(r",(?![^(]*\))", value)] if isinstance(value, str) else value


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EvaluationConfig(Section):
    """What to measure."""

    measures: Annotated[list[str], BeforeValidator(listed)] = []
    monitor: str = ""
    """The measure of the validation part that chooses the epoch."""
    block: Annotated[int, Field(ge=1)] = 256
    """Users scored at a time."""
    by_popularity: bool = False
    """Whether head, middle, tail and new items get figures of their own, where training counts items: see
    :func:`~rankwell.tasks.popularity_parts.popularity_parts`. Each takes as long as an evaluation."""

    def check_first(self) -> None:
        """Raise :class:`ConfigError` where the first measure, by which comparisons rank, is one of recommended items."""
        first = self.measures[0]
        if Measure.parse(first).kind in RESULTS:
            raise ConfigError(
                f"evaluation.measures: the first one ranks, and {first} is of recommended items: higher is not always better."
                " Put a measure first of which it is, such as ndcg@10."
            )

    @field_validator("measures", mode="after")
    @classmethod
    def _canonical(cls, values: list[str]) -> list[str]:
        return list(dict.fromkeys(str(Measure.parse(value)) for value in values))

    @field_validator("monitor", mode="after")
    @classmethod
    def _canonical_monitor(cls, value: str) -> str:
        return str(Measure.parse(value)) if value else value


class Config(Section):
    """Everything a run is made of. Sections without a type of their own hold a name and that name's own parameters.

    The task decides which of these sections there are (the others are empty), what ``data`` holds, and what is left open.
    """

    task: str = "interactions"
    """Which kind of ranking problem: see ``rankwell tasks``."""
    data: SerializeAsAny[Section] = Section()
    model: dict[str, Any] = {}
    loss: dict[str, Any] = {}
    sampler: dict[str, Any] = {}
    miner: dict[str, Any] = {}
    generator: dict[str, Any] = {}
    batches: dict[str, Any] = {}
    positives: dict[str, Any] = {}
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Which random split; None: that of the seed. With it, several seeds share a split."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads of the processor; 0 leaves it to torch."""

    def parameters(self, section: str) -> dict[str, Any]:
        """The own parameters of a chosen name."""
        return {key: value for key, value in getattr(self, section).items() if key != "name"}

    @property
    def trainable(self) -> bool:
        """Whether the model is trained, not made in closed form."""
        return bool(getattr(MODELS[self.model["name"]].function, "trainable", True))

    def splitting(self) -> "Config":
        """The same with the seed that splits the data."""
        return self if self.split_seed is None else self.model_copy(update={"seed": self.split_seed})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a TOML file; what is None is left out, and sections that the task has not."""
        plain: dict[str, Any] = _without_none(self.model_dump(mode="json"))
        return {key: value for key, value in plain.items() if value != {} or key == "data"}


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return value
