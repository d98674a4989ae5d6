"""Hard negatives without a service: an item's attributes, some kept and some exchanged for those of other items."""

import hashlib
from collections.abc import Sequence
from random import Random

from rankwell import keyed
from rankwell.errors import DataError, InputError
from rankwell.text.encoder import Progress
from rankwell.text.items import Items, in_words
from rankwell.text.writer import Prompt

__all__ = ["OfflineWriter"]

PURPOSE = 61
"""Keeps the draws of writing apart from others with the same seed."""


class OfflineWriter:
    """Describes items that might be: of the item that a prompt is about, ``keep`` of its attributes, the rest of others.

    Attributes that tell items apart, such as titles, are always exchanged: with them kept, it would be the item itself. Of the
    others the share ``keep`` stays, rounded, and at least one attribute of all changes. A new value is drawn from those that
    the attribute has among the items, each alike, the item's own left out. What is described may by chance be another item.

    The same seed, prompt id and items give the same text, whatever else is asked. What the prompt says is not looked at.

    >>> items = Items({"a": {"title": "Kettle", "colour": "red"}, "b": {"title": "Pot", "colour": "blue"}})
    >>> OfflineWriter(items, seed=0).write([Prompt("1", "", "", about="a")])
    ['title: Pot. colour: blue.']
    """

    def __init__(self, items: Items, *, seed: int = 0, keep: float = 0.5) -> None:
        if not 0 <= keep <= 1:
            raise InputError(f"keep must be a share in [0, 1]: got {keep}.")
        self.items, self.seed, self.keep = items, seed, keep

    def write(self, prompts: Sequence[Prompt], *, progress: Progress | None = None) -> list[str]:
        """One description a prompt."""
        texts = [self._negative(prompt) for prompt in prompts]
        if progress:
            progress(len(texts), len(texts))
        return texts

    def _negative(self, prompt: Prompt) -> str:
        own = {name: value for name, value in self.items.of(prompt.about).items() if value}
        free = [name for name in own if len(self.items.values[name]) > 1]
        if not free:
            raise DataError(
                f"item {prompt.about!r} has no attribute of which other items have another value: nothing can be exchanged."
                " Give more attributes or items."
            )
        word = int.from_bytes(hashlib.sha256(prompt.id.encode()).digest()[:8])
        draw = Random(keyed.mix(self.seed, word, PURPOSE))
        may_stay = [name for name in free if name not in self.items.naming]
        count = min(int(self.keep * len(may_stay) + 0.5), len(free) - 1)
        stays = set(draw.sample(may_stay, count))
        changed = {name: self._other(name, own[name], draw) for name in free if name not in stays}
        return in_words(own | changed)

    def _other(self, name: str, value: str, draw: Random) -> str:
        """Any value of the attribute but this one."""
        values = self.items.values[name]
        place = draw.randrange(len(values) - 1)
        return values[place + (place >= self.items.places[name][value])]
