"""What a run is made from beside its settings: the data, and the files that the settings name."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rankwell.tasks import Data, Task, task_of
from rankwell.tasks.settings import Config

__all__ = ["changes", "data_said", "facts_of", "named_files", "with_files"]

OF_FILE = re.compile(r"(.*\.py):[^:]+")
"""A loss, a measure or a model of one's own."""

LONGEST = 250
"""Longer texts are taken for no paths."""


def facts_of(config: Config, task: Task[Any], data: Data[Any]) -> dict[str, Any]:
    """Counts and a fingerprint of the data, and one of each file that the settings name: by these a run is known again."""
    return with_files(task.facts(data), config)


def with_files(facts: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The facts of the data and, where the settings name files, the ``files``."""
    files = named_files(config)
    return {**facts, "files": files} if files else dict(facts)


def data_said(task: str, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Data in words: the path, counts and fingerprint, and the settings that are not the default.

    >>> data_said("interactions", {"path": "log.csv", "user": "who", "split": "random"}, {"users": 1200, "fingerprint": "0a"})
    'log.csv: users 1,200, fingerprint 0a; user who'
    """
    default = task_of(task).settings().model_dump(mode="json")
    own = [f"{key} {value}" for key, value in settings.items() if key != "path" and value != default.get(key)]
    counts = [
        f"{key} {f'{value:,}' if isinstance(value, int) else value}" for key, value in facts.items() if key != "files"
    ]
    said = [", ".join(each) for each in (counts, own) if each]
    return f"{settings['path']}: {'; '.join(said)}"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two such facts differ in: the data, and files by their names.

    >>> changes({"users": 2, "files": {"own.py": "0a"}}, {"users": 2, "files": {"own.py": "0b"}})
    ['own.py']
    """
    said = ["the data"] if {**before, "files": {}} != {**now, "files": {}} else []
    files, others = before.get("files", {}), now.get("files", {})
    return said + sorted(path for path in files.keys() | others.keys() if files.get(path) != others.get(path))


def named_files(config: Config) -> dict[str, str]:
    """The first digits of the SHA-256 of each file that a setting names, but for the data's, by the name given.

    Of an encoder's folder each of its files.
    """
    own = {key: value for key, value in config.as_dict().items() if key != "data"}
    return {path: _digest(path) for path in sorted(set(_paths(own)))}


def _paths(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, str) and len(value) <= LONGEST:
        path = found[1] if (found := OF_FILE.fullmatch(value)) else value
        inside = Path(path).rglob("*") if key == "encoder" and value else ()
        yield from (str(each) for each in (path, *inside) if Path(each).is_file())
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _paths(inner, name)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _paths(inner)


def _digest(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
