"""What a run will take, before it is run."""

from dataclasses import dataclass
from typing import Any

from rankwell.experiments.run import with_epochs
from rankwell.tasks import Config, Data, task_of

__all__ = ["Plan", "plan", "plan_of"]

BASE = 450e6
"""Bytes of Python, torch, Polars and their libraries before any data, measured on Linux."""


@dataclass(frozen=True)
class Plan:
    """The size of the work."""

    config: Config
    """With its number of epochs."""
    facts: dict[str, Any]
    """Counts of the data."""
    steps: int
    """Training steps an epoch; 0 for a model in closed form."""
    memory: dict[str, float]
    """Predicted bytes, by what holds them; their sum is the peak."""

    @property
    def peak(self) -> float:
        """Predicted bytes in all."""
        return sum(self.memory.values())

    def rows(self) -> list[tuple[str, str]]:
        """For printing."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.facts.items() if isinstance(count, int))
        parts = ", ".join(f"{name} {size / 1e6:,.0f}" for name, size in self.memory.items())
        epochs = self.config.training.epochs
        return [
            ("data", counts),
            ("work", f"{self.steps:,} steps an epoch, at most {epochs} epochs" if self.steps else "closed form"),
            ("peak memory", f"about {self.peak / 1e6:,.0f} MB ({parts})"),
        ]


def plan(config: Config) -> Plan:
    """Read the data and predict steps and peak memory."""
    return plan_of(config, task_of(config.task).read(config.splitting()))


def plan_of(config: Config, data: Data[Any]) -> Plan:
    """The same of data that are read."""
    task = task_of(config.task)
    config = with_epochs(config, task, data)
    steps = task.batches(config, data, data.fit).steps(0) if config.trainable else 0
    return Plan(config, task.facts(data), steps, {"library": BASE, **task.memory(config, data)})
