"""What fills the declared inputs of losses of interactions: columns of items, and rivals."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from rankwell.data import Interactions, ItemColumns
from rankwell.errors import ConfigError
from rankwell.registry import Entry, Parameter
from rankwell.tasks.settings import Config
from rankwell.training.adversarial_objective import RIVALS, Rival
from rankwell.types import Contrast

__all__ = ["build_fills", "build_rival", "groups_of", "rival_of", "split_parameters", "with_inputs"]

Fills = Mapping[str, Callable[[Contrast], Tensor | None]]


def rival_of(entry: Entry[Any]) -> Entry[Any] | None:
    """The rival that fills an input which the loss cannot do without, if there is one."""
    needed = [name for name, given in entry.inputs.items() if given.required and name in RIVALS]
    return RIVALS[needed[0]] if needed else None


def with_inputs(entry: Entry[Any]) -> Entry[Any]:
    """The entry of a contrast loss, with parameters for what fills its inputs: the ``column`` of groups, those of a rival.

    >>> from rankwell.losses import LOSSES, as_contrast
    >>> list(with_inputs(as_contrast(LOSSES["hierarchical"])).parameters)
    ['within', 'among', 'among_weight', 'pool', 'temperature', 'column']
    """
    more: dict[str, Parameter] = {}
    if groups_of(entry):
        more["column"] = Parameter("column", str | None, None)
    if rival := rival_of(entry):
        more |= rival.parameters
    return replace(entry, parameters={**entry.parameters, **more})


def split_parameters(entry: Entry[Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The loss's own parameters, and those that :func:`with_inputs` added."""
    own = {name: value for name, value in given.items() if name in entry.parameters}
    return own, {name: value for name, value in given.items() if name not in own}


def build_fills(entry: Entry[Any], more: Mapping[str, Any], items: ItemColumns | None) -> Fills:
    """What fills the groups of positives and negatives, in this order, from the column."""
    groups, column = groups_of(entry), more.get("column")
    if not groups or column is None:
        return {}
    assert items is not None  # or the settings were refused
    codes = items.groups(column)
    return {name: lambda seen: _of_items(codes, seen) for name in groups}


def build_rival(entry: Entry[Any], config: Config, model: nn.Module, data: Interactions) -> Rival | None:
    """The rival of the model, with its own start."""
    chosen = rival_of(entry)
    if chosen is None:
        return None
    own = {name: value for name, value in config.parameters("loss").items() if name in chosen.parameters}
    temperature = config.loss.get("temperature", 1.0)
    made: Rival = chosen.function(model, data.known(), seed=config.seed, temperature=temperature, **own)
    return made


def groups_of(entry: Entry[Any]) -> list[str]:
    """The inputs that hold an id for each item: a column of items fills them."""
    return [name for name, given in entry.inputs.items() if (given.alignment, given.holds) == ("item", "id")]


def _of_items(codes: Int[Tensor, " m"], seen: Contrast) -> Int[Tensor, "b list"]:
    if seen.ids is None:
        raise ConfigError("made negatives are no items and have no groups: leave the generator out.")
    codes = codes.to(seen.users.device)
    pos, neg = codes[seen.positives].view(len(seen.users), -1), codes[seen.ids]
    return torch.cat([pos, neg.expand(len(pos), -1)], 1)
