"""Advice on one data set: what it is like, which rule applies, and three configurations that fit the limits."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rankwell.atomic import write_folder, write_text
from rankwell.config import Config, resolve
from rankwell.errors import ConfigError, DataError, RunError, require
from rankwell.experiments.advice import NAMED, Choice, Note, Rule, load_rules
from rankwell.experiments.limits import Fitted, Limits, within
from rankwell.tasks import TASKS, Data, Profile, task_of

__all__ = ["Advice", "Named", "advise", "as_options", "check_new", "find_task", "write_choices"]

TAKEN = frozenset({"task", "data", "seed", "split_seed", "threads", "evaluation"})
"""Sections that are the user's to give; the others are what advice is about."""


@dataclass(frozen=True)
class Named:
    """A choice that is named, as it fits the limits."""

    choice: Choice
    fitted: Fitted

    @property
    def config(self) -> Config:
        """Its configuration."""
        return self.fitted.config

    def options(self) -> str:
        """The values to start from, as options of ``rankwell train``."""
        told: dict[str, dict[str, Any]] = {"loss": {}} | {
            section: dict(own) for section, own in self.choice.sections().items()
        }
        for change in self.fitted.changes:
            told.setdefault(change.section, {})[change.key] = change.after
        return as_options(told)


@dataclass(frozen=True)
class Advice:
    """What the data are like, and what to try first."""

    task: str
    profile: Profile
    notes: tuple[Note, ...]
    read: tuple[str, ...]
    """What reading said."""
    rule: Rule
    limits: Limits
    choices: tuple[Named, ...]
    passed: tuple[Named, ...] = ()
    """Choices that would have been named, and do not fit the limits."""

    def plain(self) -> dict[str, Any]:
        """Everything as JSON knows it."""
        return {
            "task": self.task,
            "facts": asdict(self.profile),
            "limits": asdict(self.limits),
            "notes": [note.model_dump(exclude_none=True, exclude={"tasks", "when"}) for note in self.notes],
            "read": list(self.read),
            "rule": self.rule.data,
            "passed": {named.choice.loss: named.fitted.problem for named in self.passed},
            "choices": [
                {
                    **named.choice.model_dump(mode="json", exclude_none=True, exclude={"settings"}),
                    "options": named.options(),
                    "adapted": [asdict(change) for change in named.fitted.changes],
                    "problem": named.fitted.problem,
                    "memory": named.fitted.plan.peak,
                    "minutes": named.fitted.minutes,
                    "config": named.config.as_dict(),
                }
                for named in self.choices
            ],
        }


def as_options(sections: Mapping[str, Any]) -> str:
    """Sections of a configuration as options of a command.

    >>> as_options({"task": "ltr", "loss": {"name": "hinge", "margin": 2.0}})
    '--task ltr --loss hinge --loss.margin 2.0'
    """
    words = []
    for section, given in sections.items():
        for key, value in (given if isinstance(given, Mapping) else {"name": given}).items():
            words += [f"--{section}" if key == "name" else f"--{section}.{key}", _text(value)]
    return shlex.join(words)


def find_task(path: str) -> str | None:
    """The first task that recognises the files as its own; None where none does."""
    return next((name for name, task in TASKS.items() if task.recognises(Path(path))), None)


def advise(raw: Mapping[str, Any], limits: Limits) -> Advice:
    """Read the data that the configuration names and choose for them.

    The first rule that applies has its choices tried in order, until three fit the limits; where fewer do, those that do not
    come last. Every choice's memory is predicted; with ``limits.minutes`` a few steps of each are timed.

    Raises :class:`ConfigError` for sections that advice is about, and :class:`DataError` for data of a single query.
    """
    if given := sorted(raw.keys() - TAKEN):
        raise ConfigError(f"{given[0]} is what advice is about: give options of data, evaluation and seed alone.")
    rules = load_rules()
    first = resolve(raw, "options")
    task = task_of(first.task)
    data = task.read(first.splitting())
    profile = task.profile(data)
    if profile.queries < 2 or not profile.pairs:
        raise DataError(
            f"advice needs at least two {task.units} and a positive pair: there {'is' if profile.queries == 1 else 'are'}"
            f" {profile.queries:,} with {profile.pairs:,} in {raw.get('data', {}).get('path', 'the data')}. Give more data."
        )
    rule = rules.for_data(first.task, profile)

    def fitted(name: str) -> Named:
        config = resolve(_over(rules.choice[name].sections(), raw), f"choice {name}")
        return Named(rules.choice[name], within(config, _read(first, config, data), limits))

    named, passed = _named(rule, fitted)
    return Advice(first.task, profile, rules.notes(first.task, profile), data.notes, rule, limits, named, passed)


def check_new(out: Path) -> None:
    """Raise :class:`RunError` where something is there already."""
    if out.exists():
        raise RunError(f"{out} exists. Name a file or folder that does not.")


def write_choices(advice: Advice, out: Path) -> list[Path]:
    """Write the first choice to a ``.toml`` file, or all of them into a folder, which must be new; gives the files."""
    check_new(out)
    texts = [_toml(advice, place) for place in range(len(advice.choices))]
    if out.suffix == ".toml":
        write_text(out, texts[0])
        return [out]
    files = [f"{place}-{each.choice.loss}.toml" for place, each in enumerate(advice.choices, start=1)]
    with write_folder(out) as folder:
        for name, text in zip(files, texts, strict=True):
            (folder / name).write_text(text, encoding="utf-8")
    return [out / name for name in files]


def _named(rule: Rule, fitted: Callable[[str], Named]) -> tuple[tuple[Named, ...], tuple[Named, ...]]:
    """The first three that fit, and then those that do not; and those that are too many then."""
    fitting: list[Named] = []
    others: list[Named] = []
    for name in rule.choices:
        if len(fitting) == NAMED:
            break
        named = fitted(name)
        (others if named.fitted.problem else fitting).append(named)
    ordered = (*fitting, *others)
    return ordered[:NAMED], ordered[NAMED:]


def _over(choice: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """The user's options over those of the choice; both have sections one level deep."""
    both = {**choice, **raw}
    for section in choice.keys() & raw.keys():
        both[section] = {**choice[section], **raw[section]}
    return both


def _read(first: Config, config: Config, data: Data[Any]) -> Data[Any]:
    """The data again, where the choice has them read otherwise."""
    return data if config.data == first.data else task_of(config.task).read(config.splitting())


def _toml(advice: Advice, place: int) -> str:
    named = advice.choices[place]
    said = [
        f"rankwell advise, choice {place + 1} of {len(advice.choices)}: {named.choice.reason}",
        *(each.told() for each in named.choice.evidence),
        *(f"what would change this: {each}" for each in named.choice.changes),
        *(f"adapted: {each}" for each in named.fitted.changes),
    ]
    comments = "".join(f"# {' '.join(line.split())}\n" for line in said)
    text: str = require("tomli_w", "cli").dumps(named.config.as_dict())
    return f"{comments}\n{text}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
