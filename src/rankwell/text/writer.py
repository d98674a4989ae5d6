"""What writes texts, and what it is asked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rankwell.errors import DataError
from rankwell.text.encoder import Progress

__all__ = ["Prompt", "TextGenerator", "answer"]


@dataclass(frozen=True)
class Prompt:
    """One text to be written."""

    id: str
    """What the text is for: it stands in errors, and keys the draws of writers that draw. No two of a call share it."""
    system: str
    """Who writes, and the rules."""
    user: str
    """The task."""
    about: str = ""
    """The item that the text is to be a negative beside, for writers that look items up."""
    field: str = ""
    """The field of a JSON object in which the text is to come, beside reflections for instance; the whole reply without."""


class TextGenerator(Protocol):
    """What writes texts: a service (:mod:`rankwell.text.service`), or templates (:mod:`rankwell.text.offline`)."""

    def write(self, prompts: Sequence[Prompt], *, progress: Progress | None = None) -> list[str]:
        """One text a prompt, in their order."""
        ...


def answer(reply: str, field: str) -> str:
    r"""The text in a reply: all of it or, where a field is named, that field of the JSON object in it.

    Models frame JSON in fences and sentences: what counts is from the first brace to the last.

    >>> answer('Sure:\n```json\n{"why": "close", "text": " A red kettle. "}\n```', "text")
    'A red kettle.'
    """
    if not field:
        text = reply.strip()
    else:
        start, end = reply.find("{"), reply.rfind("}")
        try:
            found = json.loads(reply[start : end + 1])[field]
        except (ValueError, KeyError) as error:
            raise DataError(
                f"the reply must hold a JSON object with the field {field!r}: got {reply[:200]!r}."
            ) from error
        text = found.strip() if isinstance(found, str) else ""
    if not text:
        raise DataError(
            f"the reply must hold a text{f' in its field {field!r}' if field else ''}: got {reply[:200]!r}."
        )
    return text
