"""Rules of advice: which losses to try first on which data. The rules are data, in ``advice.toml`` beside this file."""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from importlib import resources
from typing import Annotated, Any

from pydantic import Field, model_validator

from rankwell.losses import LOSSES
from rankwell.tasks import TASKS, Profile, Section

__all__ = ["Choice", "Conditional", "Evidence", "Note", "Range", "Rule", "Rules", "load_rules"]

NAMED = 3
"""Choices that advice names."""

Texts = tuple[str, ...]


class Evidence(Section):
    """What a choice rests on: a stored table of ours, a section of bench/LOG.md, or a paper by its key in references.bib."""

    file: str | None = None
    log: str | None = None
    paper: str | None = None
    says: str
    seen: Texts = ()
    """Data sets whose results were known when the choice was written."""

    @model_validator(mode="after")
    def _one(self) -> "Evidence":
        if sum(place is not None for place in (self.file, self.log, self.paper)) != 1:
            raise ValueError("evidence must be one of file, log and paper")
        return self

    @property
    def place(self) -> str:
        """Where it stands."""
        return self.file or (f"bench/LOG.md, {self.log}" if self.log else str(self.paper))

    def told(self) -> str:
        """Where it stands, what it says, and whether the choice was written with it in sight."""
        seen = f" (the rule was written with this result of {', '.join(self.seen)} in sight)" if self.seen else ""
        return f"{self.place}: {self.says}{seen}"


class Choice(Section):
    """A loss with values to start from."""

    loss: str
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Sections of the configuration, beside the loss's name."""
    reason: str
    evidence: Annotated[tuple[Evidence, ...], Field(min_length=1)]
    changes: Annotated[Texts, Field(min_length=1)]
    """What would change the advice."""

    def sections(self) -> dict[str, dict[str, Any]]:
        """Everything as sections of a configuration."""
        return {**self.settings, "loss": {"name": self.loss, **self.settings.get("loss", {})}}


class Range(Section):
    """Numbers from ``least`` to below ``below``."""

    least: float | None = None
    below: float | None = None

    def holds(self, value: Any) -> bool:
        """Whether the value is among them; what is not known never is.

        >>> Range(least=2).holds(2), Range(below=2).holds(2), Range().holds(None)
        (True, False, False)
        """
        if value is None:
            return False
        return (self.least is None or value >= self.least) and (self.below is None or value < self.below)


class Conditional(Section):
    """What holds for some tasks and some data."""

    tasks: Texts = ()
    """None: no data call for it, only people."""
    when: dict[str, Range | Texts] = Field(default_factory=dict)
    """Fields of :class:`~rankwell.tasks.Profile`: a range of numbers, or names."""

    @model_validator(mode="after")
    def _known(self) -> "Conditional":
        for names, known in ((self.tasks, set(TASKS)), (self.when, {own.name for own in fields(Profile)})):
            if unknown := sorted(set(names) - known):
                raise ValueError(f"there is no {unknown[0]!r}: there are {', '.join(sorted(known))}")
        return self

    def applies(self, task: str, profile: Profile) -> bool:
        """Whether the task is one of its own, and all conditions hold."""
        facts = vars(profile)
        return task in self.tasks and all(
            condition.holds(facts[name]) if isinstance(condition, Range) else facts[name] in condition
            for name, condition in self.when.items()
        )


class Rule(Conditional):
    """Data and labels, and the choices for them in the order to try them."""

    data: str
    """In the words of a table for people."""
    label: str
    why: str
    choices: Annotated[Texts, Field(min_length=NAMED)]
    """Names of choices; those behind the third are for budgets that one before does not fit."""


class Note(Conditional):
    """What should be known beside the choices."""

    says: str
    evidence: tuple[Evidence, ...] = ()


class Rules(Section):
    """All of it. The first rule that applies is the advice; the last one of each task has no condition."""

    choice: dict[str, Choice]
    rule: tuple[Rule, ...]
    note: tuple[Note, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> "Rules":
        for rule in self.rule:
            if unknown := [name for name in rule.choices if name not in self.choice]:
                raise ValueError(f"{rule.data!r} names {unknown[0]!r}, which is no choice")
            if len(set(self.losses(rule))) < len(rule.choices):
                raise ValueError(f"the choices for {rule.data!r} must have different losses")
        for task in TASKS:
            if not any(task in rule.tasks and not rule.when for rule in self.rule):
                raise ValueError(f"task {task} must have a rule without a condition")
        for choice in self.choice.values():
            LOSSES[choice.loss]  # which raises for one that is not there
        return self

    def losses(self, rule: Rule) -> list[str]:
        """The losses of a rule, in order."""
        return [self.choice[name].loss for name in rule.choices]

    def for_data(self, task: str, profile: Profile) -> Rule:
        """The first rule that applies."""
        return next(rule for rule in self.rule if rule.applies(task, profile))

    def notes(self, task: str, profile: Profile) -> tuple[Note, ...]:
        """All notes that apply."""
        return tuple(note for note in self.note if note.applies(task, profile))


@functools.cache
def load_rules() -> Rules:
    """The rules that Rankwell comes with."""
    text = resources.files("rankwell.experiments").joinpath("advice.toml").read_text(encoding="utf-8")
    raw: Mapping[str, Any] = tomllib.loads(text)
    return Rules.model_validate(raw)
