"""Prompts, made of templates: parts in a TOML file, joined in order and filled in."""

import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from rankwell.errors import ConfigError, nearest
from rankwell.text.writer import Prompt

__all__ = ["Template", "load_template"]

PARTS = ("task", "definition", "attributes", "reflection", "output", "example")
"""What a template may say, in the order in which it is said."""

BLANKS = ("domain", "difficulty", "length", "query", "positive")
"""What a template may leave to be filled in."""


@dataclass(frozen=True)
class Template:
    """What to ask for a text: parts with blanks, and the values that some of the blanks take in turn.

    >>> ask = Template("You know {domain}.", "Length: {length}. Beside: {positive}", lengths=("short", "long"))
    >>> ask.prompt("u1", positive="Kettle", domain="kitchens", turn=1).user
    'Length: long. Beside: Kettle'
    """

    system: str
    user: str
    field: str = ""
    difficulties: tuple[str, ...] = ("high",)
    lengths: tuple[str, ...] = ("about 30 words",)

    def __post_init__(self) -> None:
        if not self.difficulties or not self.lengths:
            raise ConfigError("a template must have at least one of its difficulties and lengths: got none.")
        for text in (self.system, self.user):
            for name in _blanks(text):
                if name not in BLANKS:
                    raise ConfigError(
                        f"a template has the blank {{{name}}}, which nothing fills. {nearest(name, BLANKS)}"
                    )

    def prompt(
        self, key: str, *, positive: str, query: str = "", domain: str = "products", turn: int = 0, about: str = ""
    ) -> Prompt:
        """The prompt of one text; ``turn`` says which it is of several for the same query, which differ in their attributes."""
        filled = {
            "domain": domain,
            "query": query,
            "positive": positive,
            "difficulty": self.difficulties[turn % len(self.difficulties)],
            "length": self.lengths[turn // len(self.difficulties) % len(self.lengths)],
        }
        return Prompt(key, self.system.format(**filled), self.user.format(**filled), about, self.field)


def load_template(name: str) -> Template:
    """A template by name (``syneg``, ``hnlmrec``, ``user_profile``, ``item_profile``), or a TOML file of one's own."""
    folder = resources.files("rankwell.text") / "templates"
    known = sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))
    try:
        if name in known:
            raw = tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))
        elif Path(name).is_file():
            raw = tomllib.loads(Path(name).read_text(encoding="utf-8"))
        else:
            raise ConfigError(f"there is no template {name!r}, and no file of that name. {nearest(name, known)}")
        return _template(raw)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} is not TOML: {error}. Correct the file.") from error


def _template(raw: Mapping[str, Any]) -> Template:
    others = ("system", "field", "difficulties", "lengths")
    if unknown := [key for key in raw if key not in (*PARTS, *others)]:
        raise ConfigError(f"a template has no part {unknown[0]!r}. {nearest(unknown[0], (*PARTS, *others))}")
    parts = [str(raw[part]).strip() for part in PARTS if part in raw]
    if not parts:
        raise ConfigError(f"a template must have one of the parts {', '.join(PARTS)}: got none.")
    lists = {key: tuple(raw[key]) for key in ("difficulties", "lengths") if key in raw}
    return Template(str(raw.get("system", "")).strip(), "\n\n".join(parts), str(raw.get("field", "")), **lists)


def _blanks(text: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise ConfigError(
            f"a template must write braces that are no blanks twice: {error} in {text[:60]!r}."
        ) from error
