"""Replies of a service, kept on disk so that none is paid for twice."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankwell.errors import DataError, RunError

__all__ = ["Replies", "content_key"]


class Replies:
    """Texts by the hash of what was asked: a file of JSON lines, to which each reply is added at once.

    A line is written by one call to the system. What a killed process may leave is an unfinished last line, which the next
    one cuts off; any other line that cannot be read is a :class:`~rankwell.errors.DataError` with its number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._texts: dict[str, str] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes() if path.exists() else b""
            whole = data.rfind(b"\n") + 1
            for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
                self._read(number, line)
            if whole < len(data):
                os.truncate(path, whole)
        except OSError as error:
            raise RunError(f"the cache {path} cannot be read: {error.strerror}. Choose another place.") from error

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, key: str) -> str | None:
        """The text that was replied, if there is one."""
        return self._texts.get(key)

    def add(self, key: str, text: str, facts: Mapping[str, Any]) -> None:
        """Keep a reply; ``facts`` stand beside it for people who look into the file."""
        line = json.dumps({"key": key, **facts, "text": text}, ensure_ascii=False) + "\n"
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                written = os.write(file, line.encode())
            finally:
                os.close(file)
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror}. What it holds is kept.") from error
        if written < len(line.encode()):
            raise RunError(f"cannot write {self.path}: the disk is full. The next run goes on from what it holds.")
        self._texts[key] = text

    def _read(self, number: int, line: bytes) -> None:
        try:
            entry = json.loads(line)
            key, text = entry["key"], entry["text"]
            if not isinstance(key, str) or not isinstance(text, str):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.path}, line {number}: a line must be a JSON object with the texts key and text: got {line[:80]!r}."
                " Remove the line, and it is asked for again."
            ) from error
        self._texts[key] = text


def content_key(content: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of JSON: the same content, the same text.

    >>> content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
