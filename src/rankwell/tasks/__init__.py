"""Tasks: kinds of ranking problems, one file a task. Needs the extra ``rankwell[cli]``."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rankwell.errors import UnknownName
from rankwell.tasks.interactions import Recommendation
from rankwell.tasks.lists import LearningToRank
from rankwell.tasks.sequences import NextItem
from rankwell.tasks.settings import NAMED, Config, EvaluationConfig, Section, listed
from rankwell.tasks.task import Catalogue, Data, Description, Task

__all__ = [
    "NAMED",
    "TASKS",
    "Catalogue",
    "Config",
    "Data",
    "Description",
    "EvaluationConfig",
    "LearningToRank",
    "NextItem",
    "Recommendation",
    "Section",
    "Task",
    "listed",
    "task_of",
]

TASKS: Mapping[str, Task[Any]] = MappingProxyType(
    {task.name: task for task in (Recommendation(), LearningToRank(), NextItem())}
)
"""Every task by its name."""


def task_of(name: str) -> Task[Any]:
    """The task of that name; :class:`UnknownName` offers the nearest."""
    if name not in TASKS:
        raise UnknownName("task", name, list(TASKS))
    return TASKS[name]
