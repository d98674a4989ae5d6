"""Dimensions of a search, and the configurations that their values make."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rankwell.config import Config, resolve, with_option

__all__ = ["Dimension", "Space", "applied", "configured", "settings", "values_of"]


@dataclass(frozen=True)
class Dimension:
    """One number or choice that is searched."""

    path: str
    """The option that it belongs to: ``loss.margin``."""
    place: int | None = None
    """Which element, where the option is a list."""
    low: float = -math.inf
    high: float = math.inf
    log: bool = False
    whole: bool = False
    ascending: bool = False
    choices: tuple[Any, ...] = ()
    """Values to choose from, instead of a range."""

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Dimension":
        """From plain values, as JSON gives them back."""
        return cls(**{**plain, "choices": tuple(plain["choices"])})

    @property
    def name(self) -> str:
        """``loss.margins[0]``"""
        return self.path if self.place is None else f"{self.path}[{self.place}]"

    def __contains__(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        if self.choices:
            return ", ".join(map(str, self.choices))
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"


Space = dict[str, Dimension]
"""By its name."""


def configured(config: Config, space: Space) -> dict[str, Any]:
    """What the configuration itself says, as far as the space holds it."""
    plain = config.as_dict()
    found = {}
    for name, each in space.items():
        section, _, key = each.path.partition(".")
        value = plain.get(section, {}).get(key)
        value = value[each.place] if each.place is not None else value
        if value in each:
            found[name] = value
    return found


def values_of(space: Space, options: Mapping[str, Any]) -> dict[str, Any]:
    """Values that options say, of every dimension: those of lists in the order that :func:`settings` put them in."""
    return {
        name: options[each.path] if each.place is None else options[each.path][each.place]
        for name, each in space.items()
    }


def settings(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Options of values: elements together as lists, put in order where the order says nothing."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        each = space[name]
        if each.place is None:
            found[each.path] = value
        else:
            found.setdefault(each.path, []).append(value)
            if each.ascending:
                found[each.path].sort()
    return found


def applied(config: Config, options: Mapping[str, Any]) -> Config:
    """The configuration with these options; :class:`ConfigError` where they do not go together."""
    raw = config.as_dict()
    for path, value in options.items():
        with_option(raw, path, value)
    return resolve(raw, "this combination")
