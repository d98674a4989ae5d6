"""What a run will take, before it is run."""

from dataclasses import dataclass

from rankwell.config import Config
from rankwell.evaluation.top import GROUP
from rankwell.experiments.parts import build_batches, read, with_epochs
from rankwell.generators import GENERATORS
from rankwell.models import MODELS
from rankwell.samplers import SAMPLERS

__all__ = ["Plan", "plan"]

BASE = 450e6
"""Bytes of Python, torch, Polars and their libraries before any data, measured on Linux."""

SCORE_COPIES = 6
"""Tensors of the size of the batch's scores that a loss and its gradient hold at once, at most."""


VECTOR_COPIES = 6
"""Tensors of the size of the looked-up vectors of negatives for each row, and their gradients, at most."""


@dataclass(frozen=True)
class Plan:
    """The size of the work."""

    config: Config
    """With its number of epochs."""
    users: int
    items: int
    pairs: dict[str, int]
    steps: int
    """Training steps an epoch."""
    epochs: int
    memory: dict[str, float]
    """Predicted bytes, by what holds them; their sum is the peak."""

    def rows(self) -> list[tuple[str, str]]:
        """For printing."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.pairs.items())
        parts = ", ".join(f"{name} {size / 1e6:,.0f}" for name, size in self.memory.items())
        work = f"{self.steps:,} steps an epoch, at most {self.epochs} epochs" if self.epochs else "closed form"
        return [
            ("users, items", f"{self.users:,}, {self.items:,}"),
            ("pairs", counts),
            ("work", work),
            ("peak memory", f"about {sum(self.memory.values()) / 1e6:,.0f} MB ({parts})"),
        ]


def plan(config: Config) -> Plan:
    """Read the data and predict steps and peak memory.

    Memory: the library itself; pairs, 48 bytes each for codes, keys and lists; the model's weights, its two moments and a
    copy being written; the batch's scores, positives and negatives; what a generator makes; a block of scores of the whole
    catalogue.
    """
    data = read(config.data, config.seed)
    config = with_epochs(config, data)
    pairs = {"train": len(data.train), "test": len(data.test)}
    if data.valid is not None:
        pairs["valid"] = len(data.valid)
    users, items = data.train.num_users, data.train.num_items
    trainable = bool(getattr(MODELS[config.model["name"]].function, "trainable", True))
    memory = {"library": BASE, "pairs": 48.0 * sum(pairs.values())}
    if trainable:
        weights = 4.0 * (users + items) * config.model.get("dim", 64)
        memory["model"] = 4 * weights
        scores = config.training.batch_size * config.sampler.get("n", config.training.batch_size)
        memory["batch scores"] = 4.0 * SCORE_COPIES * scores
        if not config.sampler.get("shared", SAMPLERS[config.sampler["name"]].kind != "model"):
            memory["batch vectors"] = 4.0 * VECTOR_COPIES * scores * config.model.get("dim", 64)
        if config.generator["name"] != "none":
            memory["made vectors"] = _made(config)
    else:
        memory["model"] = 8.0 * (len(data.train) + (users + items) * config.model.get("rank", 1))
    memory["evaluation"] = 4.0 * config.evaluation.block * (items + GROUP) * 1.2
    return Plan(
        config,
        users,
        items,
        pairs,
        build_batches(config, data.fit, data.items).steps(0) if trainable else 0,
        config.training.horizon if trainable else 0,
        memory,
    )


def _made(config: Config) -> float:
    """Bytes of the vectors that the generator makes, and of their scores."""
    batch = config.training.batch_size
    size = getattr(GENERATORS[config.generator["name"]].function, "size", None)
    each, shared = size(**config.parameters("generator")) if size else (config.sampler.get("n", batch), 0)
    vectors, scores = batch * each + shared, batch * (each + shared)
    return 4.0 * float(VECTOR_COPIES * vectors * config.model.get("dim", 64) + SCORE_COPIES * scores)
