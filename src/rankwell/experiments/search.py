"""Where tuning looks: what losses and the rest register, and what a person adds or leaves out."""

import math
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from rankwell.config import Config
from rankwell.data.batching import BATCHES
from rankwell.errors import ConfigError, nearest
from rankwell.experiments.dimensions import Dimension, Space, applied
from rankwell.generators import GENERATORS
from rankwell.miners import MINERS
from rankwell.models import MODELS
from rankwell.registry import Parameter, Search
from rankwell.samplers import POSITIVES, SAMPLERS
from rankwell.tasks import NAMED, task_of
from rankwell.training import TrainingSettings

__all__ = ["space_of"]

REGISTRIES = {
    "model": MODELS,
    "sampler": SAMPLERS,
    "miner": MINERS,
    "generator": GENERATORS,
    "batches": BATCHES,
    "positives": POSITIVES,
}
"""Of sections with a name; that of losses is the task's."""

RANGE = re.compile(r"(?P<low>[^:]+):(?P<high>[^:]+)(?::(?P<log>log))?")
"""``0.1:1.0`` and ``1e-4:1:log``"""


def space_of(config: Config, search: Sequence[str] = (), keep: Sequence[str] = ()) -> Space:
    """What is searched: all that the loss registers, the learning rate, and the sampler's number of negatives.

    ``search`` adds or replaces: ``path=low:high``, ``path=low:high:log``, ``path=a,b,c``; ``path`` alone takes what the
    parameter registers, or all values of a choice; a section alone (``model``) all that is registered in it. ``keep`` leaves
    out. A model in closed form has no loss and no training: of it nothing is searched unless ``search`` names it.

    Raises:
        ConfigError: for unknown names, empty ranges, values that the parameter cannot have, or where nothing is left.
    """
    space: Space = {}
    if config.trainable:
        space |= _registered(config, "loss")
        space |= _registered(config, "training", ("learning_rate",))
        space |= _registered(config, "sampler", ("n",)) if config.sampler else {}
    for text in search:
        asked = _asked(config, text)
        paths = {each.path for each in asked.values()}
        space = {name: each for name, each in space.items() if each.path not in paths} | asked
    for path in keep:
        if all(each.path != path for each in space.values()):
            raise ConfigError(
                f"--keep {path}: it is not searched. {nearest(path, {each.path for each in space.values()})}"
            )
        space = {name: each for name, each in space.items() if each.path != path}
    return space


def _registered(config: Config, section: str, only: Sequence[str] = ()) -> Space:
    """What a section's parameters register."""
    space: Space = {}
    for key, parameter in _parameters(config, section).items():
        if parameter.search is not None and (not only or key in only):
            space |= _dimensions(config, f"{section}.{key}", parameter, parameter.search)
    return space


def _parameters(config: Config, section: str) -> Mapping[str, Parameter]:
    """Own parameters of the name that a section holds, or the settings of training."""
    if section == "training":
        hints = typing.get_type_hints(TrainingSettings, include_extras=True)
        return {
            key: Parameter(key, hints[key], getattr(config.training, key), _search(hints[key]))
            for key in TrainingSettings.__dataclass_fields__
        }
    chosen = getattr(config, section, {}).get("name")
    if chosen is None:
        return {}
    if section == "loss":
        return task_of(config.task).loss(chosen).parameters
    entry = REGISTRIES[section].find(chosen)  # type: ignore[attr-defined]
    return {} if entry is None else entry.parameters


def _search(hint: Any) -> Search | None:
    extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    return next((extra for extra in extras if isinstance(extra, Search)), None)


def _dimensions(config: Config, path: str, parameter: Parameter, search: Search) -> Space:
    """One, or one for each element of what is configured."""
    if math.isinf(search.low):
        return _choice(path, _values(parameter))
    section, _, key = path.partition(".")
    value = config.as_dict()[section].get(key)
    places: Sequence[int | None] = range(len(value)) if isinstance(value, list) else (None,)
    whole = int in _kinds(parameter) and float not in _kinds(parameter)
    made = [Dimension(path, place, search.low, search.high, search.log, whole, search.ascending) for place in places]
    return {each.name: each for each in made}


def _choice(path: str, values: Sequence[Any]) -> Space:
    return {path: Dimension(path, choices=tuple(values))}


def _kinds(parameter: Parameter) -> tuple[Any, ...]:
    """The types of its values: of a union, or of the elements of a list, each."""
    hint = parameter.annotation
    hint = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    return hint, *typing.get_args(hint)


def _values(parameter: Parameter) -> tuple[Any, ...]:
    """All values of a choice; none for another parameter."""
    kind, *_ = _kinds(parameter)
    if kind is bool:
        return (False, True)
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def _asked(config: Config, text: str) -> Space:
    """What one ``--search`` says."""
    path, equals, said = (part.strip() for part in text.partition("="))
    section, _, key = path.partition(".")
    _check_section(config, text, section)
    if not key:
        if equals or not (space := _registered(config, section)):
            raise ConfigError(
                f"--search {text}: nothing in {section} registers a range. Name one: {section}.KEY=LOW:HIGH."
            )
        return space
    parameters = _parameters(config, section)
    if key not in parameters:
        raise ConfigError(f"--search {text}: there is no {path}. {nearest(key, parameters)}")
    parameter = parameters[key]
    if not equals:
        if parameter.search is not None:
            return _dimensions(config, path, parameter, parameter.search)
        if values := _values(parameter):
            return _choice(path, values)
        raise ConfigError(f"--search {text}: {path} registers no range. Give one: {path}=LOW:HIGH, or {path}=A,B,C.")
    if found := RANGE.fullmatch(said):
        return _range(config, text, path, parameter, found)
    options = [part.strip() for part in said.split(",") if part.strip()]
    if len(options) < 2:
        raise ConfigError(f"--search {text}: give a range, LOW:HIGH or LOW:HIGH:log, or two values or more, A,B.")
    return _choice(path, list(dict.fromkeys(_typed(config, text, path, option) for option in options)))


def _check_section(config: Config, text: str, section: str) -> None:
    """Only what changes the training can be searched: figures of other data, measures or seeds cannot be compared."""
    known = [name for name in (*NAMED, "training") if name == "training" or getattr(config, name)]
    if section in type(config).model_fields and section not in NAMED and section != "training":
        raise ConfigError(f"--search {text}: {section} decides what is measured, and cannot be searched.")
    if section not in known:
        raise ConfigError(f"--search {text}: there is no section {section!r}. {nearest(section, known)}")


def _range(config: Config, text: str, path: str, parameter: Parameter, found: "re.Match[str]") -> Space:
    try:
        low, high = float(found["low"]), float(found["high"])
    except ValueError as error:
        raise ConfigError(f"--search {text}: the ends of a range must be numbers.") from error
    if not low < high < math.inf:
        raise ConfigError(f"--search {text}: an empty range. Give finite ends, the lower first.")
    if found["log"] and low <= 0:
        raise ConfigError(f"--search {text}: a range on a logarithmic scale must begin above 0.")
    if not {int, float} & set(_kinds(parameter)):
        raise ConfigError(f"--search {text}: {path} is no number. Give values: {path}=A,B.")
    ascending = parameter.search is not None and parameter.search.ascending
    space = _dimensions(config, path, parameter, Search(low, high, bool(found["log"]), ascending))
    for each in space.values():
        for end in (low, high):
            if each.whole and end != int(end):
                raise ConfigError(f"--search {text}: {path} takes whole numbers: got {end:g}.")
        if each.place is None:
            for end in (low, high):
                _typed(config, text, path, int(end) if each.whole else end)
    return space


def _typed(config: Config, text: str, path: str, value: Any) -> Any:
    """The value as the configuration holds it."""
    section, _, key = path.partition(".")
    try:
        return applied(config, {path: value}).as_dict()[section].get(key)
    except ConfigError as error:
        raise ConfigError(f"--search {text}: {str(error).removeprefix('this combination: ')}") from error
