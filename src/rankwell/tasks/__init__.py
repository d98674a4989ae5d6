"""Tasks: kinds of ranking problems, one file a task. Needs the extra ``rankwell[cli]``."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rankwell.errors import UnknownName, require

require("pydantic", "cli")

from rankwell.tasks.classes import MetricLearning  # noqa: E402
from rankwell.tasks.interactions import Recommendation  # noqa: E402
from rankwell.tasks.labels import Labelling  # noqa: E402
from rankwell.tasks.lists import LearningToRank  # noqa: E402
from rankwell.tasks.profile import Profile  # noqa: E402
from rankwell.tasks.reranking import Reranking  # noqa: E402
from rankwell.tasks.retrieval import TextRetrieval  # noqa: E402
from rankwell.tasks.sequences import NextItem  # noqa: E402
from rankwell.tasks.settings import NAMED, Config, EvaluationConfig, Section, listed  # noqa: E402
from rankwell.tasks.task import Catalogue, Data, Description, Newcomers, Task  # noqa: E402

__all__ = [
    "NAMED",
    "TASKS",
    "Catalogue",
    "Config",
    "Data",
    "Description",
    "EvaluationConfig",
    "Labelling",
    "LearningToRank",
    "MetricLearning",
    "Newcomers",
    "NextItem",
    "Profile",
    "Recommendation",
    "Reranking",
    "Section",
    "Task",
    "TextRetrieval",
    "listed",
    "task_of",
]

KINDS = Recommendation, LearningToRank, NextItem, Labelling, MetricLearning, TextRetrieval, Reranking

TASKS: Mapping[str, Task[Any]] = MappingProxyType({kind.name: kind() for kind in KINDS})
"""Every task by its name."""


def task_of(name: str) -> Task[Any]:
    """The task of that name; :class:`UnknownName` offers the nearest."""
    if name not in TASKS:
        raise UnknownName("task", name, list(TASKS))
    return TASKS[name]
