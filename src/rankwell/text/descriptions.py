"""From interactions and attributes of items to a table of described negatives: ask, write, encode."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from rankwell import keyed
from rankwell.errors import ConfigError, InputError
from rankwell.text.encoder import Progress, TextEncoder
from rankwell.text.items import Items
from rankwell.text.prompts import Template, load_template
from rankwell.text.table import Table
from rankwell.text.writer import Prompt, TextGenerator
from rankwell.types import Ragged

__all__ = ["DescribeSettings", "Watched", "describe"]

ABOUT = 64
"""Keeps the draw of the items that negatives are about apart from others with the same seed."""

Watched = Callable[[str, int, int], None]
"""Told what is being done, how many are done, and of how many."""


@dataclass(frozen=True)
class DescribeSettings:
    """What to describe."""

    per: Literal["user", "pair"] = "user"
    """Negatives of each user, which all rows of the user share; or of each pair of user and item."""
    k: int = 2
    """Descriptions of each."""
    history: int = 10
    """Items at most that a prompt tells of a user."""
    domain: str = "products"
    """What the items are, in a word or two."""
    profiles: bool = False
    """Whether profiles of items and users are written first, as HNLMRec does, and prompts tell these: for services alone."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.per not in ("user", "pair"):
            raise ConfigError(f"per must be user or pair: got {self.per!r}.")
        if self.k < 1 or self.history < 1:
            raise ConfigError(f"k and history must be at least 1: got k {self.k}, history {self.history}.")


@dataclass(frozen=True)
class _Asked:
    """Prompts, ``k`` behind one another for each user or pair, and whom they are for."""

    prompts: list[Prompt]
    users: list[str]
    items: list[str] | None


def describe(
    user_ids: Sequence[Any],
    item_ids: Sequence[Any],
    known: Ragged,
    items: Items,
    *,
    writer: TextGenerator,
    encoder: TextEncoder,
    template: Template,
    settings: DescribeSettings | None = None,
    watch: Watched | None = None,
) -> Table:
    """Describe hard negatives and encode them, and the items' own texts; see :class:`~rankwell.text.table.Table`.

    ``known`` are the items that each user chose in training: nothing else of the data is shown to the writer. Users without
    an item are left out. What a service writes is kept by it, so that the same call goes on where one was interrupted. A
    text is encoded once.
    """
    settings = settings or DescribeSettings()
    chosen = _chosen(user_ids, item_ids, known, settings.seed)
    if not chosen:
        raise InputError("there must be a user with an item: got none.")
    catalogue = [str(name) for name in item_ids]
    if settings.profiles:
        items = _with_profiles(items, catalogue, writer, settings, watch)
    tastes = {name: " / ".join(items.text(item) for item in of[: settings.history]) for name, of in chosen.items()}
    if settings.profiles:
        tastes = _profiles(tastes, "user_profile", "describe users", writer, settings, watch)
    asked = _asked(chosen, tastes, items, template, settings)
    texts = writer.write(asked.prompts, progress=_told(watch, "write negatives"))
    texts += [items.text(name) for name in catalogue]
    different = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    vectors = encoder.encode(list(different), progress=_told(watch, "encode"))[[different[text] for text in texts]]
    split = len(asked.prompts)
    negatives = vectors[:split].view(len(asked.users), settings.k, -1)
    return Table(negatives, asked.users, asked.items, catalogue, vectors[split:])


def _chosen(user_ids: Sequence[Any], item_ids: Sequence[Any], known: Ragged, seed: int) -> dict[str, list[str]]:
    """The items that each user chose, in an order keyed by seed and user code."""
    offsets, values = known.offsets.tolist(), known.values.tolist()
    chosen = {}
    for user, name in enumerate(map(str, user_ids)):
        of_user = [str(item_ids[item]) for item in values[offsets[user] : offsets[user + 1]]]
        Random(keyed.mix(seed, user, ABOUT)).shuffle(of_user)
        if of_user:
            chosen[name] = of_user
    return chosen


def _asked(
    chosen: Mapping[str, list[str]],
    tastes: Mapping[str, str],
    items: Items,
    template: Template,
    settings: DescribeSettings,
) -> _Asked:
    """The prompts. A user's negatives are about different items, while there are any; a pair's are all about its own."""
    asked = _Asked([], [], None if settings.per == "user" else [])
    for name, of_user in chosen.items():
        for abouts in [of_user] if settings.per == "user" else [[item] for item in of_user]:
            asked.users.append(name)
            if asked.items is not None:
                asked.items.append(abouts[0])
            for turn in range(settings.k):
                about = abouts[turn % len(abouts)]
                filled = {"positive": items.text(about), "query": tastes[name], "domain": settings.domain}
                asked.prompts.append(template.prompt(f"{name}/{about}/{turn}", **filled, turn=turn, about=about))
    return asked


def _with_profiles(
    items: Items, names: Sequence[str], writer: TextGenerator, settings: DescribeSettings, watch: Watched | None
) -> Items:
    """The items with a profile that the writer makes of their attributes."""
    texts = {name: items.text(name) for name in names}
    written = _profiles(texts, "item_profile", "describe items", writer, settings, watch)
    return Items({name: {**items.of(name), "profile": written[name]} for name in names})


def _profiles(
    texts: Mapping[str, str],
    template: str,
    what: str,
    writer: TextGenerator,
    settings: DescribeSettings,
    watch: Watched | None,
) -> dict[str, str]:
    """What the writer makes of each text."""
    asking = load_template(template)
    prompts = [
        asking.prompt(f"{template}/{name}", positive=text, domain=settings.domain) for name, text in texts.items()
    ]
    written = writer.write(prompts, progress=_told(watch, what))
    return {name: " ".join(text.split()) for name, text in zip(texts, written, strict=True)}


def _told(watch: Watched | None, what: str) -> Progress | None:
    return None if watch is None else lambda done, of: watch(what, done, of)
