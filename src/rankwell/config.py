"""Strict typed configuration: a TOML file, dotted options on top, and one resolved result.

The layers, later over earlier: the defaults below; what suits the task, and the loss; the TOML file; the
options of the command line. Names (of loss, model, sampler …) come with their own parameters, which the registries type.
"""

import tomllib
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from rankwell.errors import ConfigError, DataError, nearest, require

require("pydantic", "cli")

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError  # noqa: E402

from rankwell.data.batching import BATCHES  # noqa: E402
from rankwell.generators import GENERATORS  # noqa: E402
from rankwell.metrics import Measure  # noqa: E402
from rankwell.metrics.registry import RESULTS  # noqa: E402
from rankwell.miners import MINERS, is_one, parse  # noqa: E402
from rankwell.models import MODELS  # noqa: E402
from rankwell.registry import Entry, Parameter  # noqa: E402
from rankwell.samplers import POSITIVES, SAMPLERS  # noqa: E402
from rankwell.tasks import NAMED, Config, Section, Task, listed, task_of  # noqa: E402

__all__ = ["Config", "Section", "listed", "load_toml", "resolve", "typed", "with_column", "with_option"]


def load_toml(path: Path) -> dict[str, Any]:
    """Read a configuration file. ``loss = "bpr"`` is short for ``loss.name = "bpr"``, also for the other names."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration file {path}. Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}. Correct the file.") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    return raw | {section: {"name": raw[section]} for section in NAMED if isinstance(raw.get(section), str)}


def with_option(raw: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted option in a nested dictionary; ``loss`` alone means ``loss.name``.

    >>> raw = {}
    >>> with_option(raw, "loss", "hinge"); with_option(raw, "loss.margin", "2"); raw
    {'loss': {'name': 'hinge', 'margin': '2'}}
    """
    if path in NAMED:
        path += ".name"
    *sections, key = path.split(".")
    for section in sections:
        raw = raw.setdefault(section, {})
        if not isinstance(raw, dict):
            raise ConfigError(f"option {path!r}: {section} is not a section.")
    raw[key] = value


def resolve(raw: Mapping[str, Any], source: str = "configuration") -> Config:
    """Check a nested dictionary and fill in what it leaves open; ``source`` names it in errors."""
    task = task_of(_text(raw.get("task", Config.model_fields["task"].default), f"{source}: task"))
    _check_numbers(raw, Config, source, task)
    given = _valid(task, raw, source)
    names = _names(task, {name: getattr(given, name).get("name") for name in task.sections})
    recipe = _recipe(task, names)
    try:
        implied = task.implied(names, raw)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    filled = _valid(task, {**_merged(_merged(task.defaults, recipe), raw), **implied}, source)
    choices: dict[str, Any] = {
        name: CHOICES[name](task, str(section["name"]), section, f"{source}: {name}")
        for name in task.sections
        if (section := getattr(filled, name))
    }
    monitor, measures = filled.evaluation.monitor, filled.evaluation.measures
    for measure in (*measures, monitor):
        _checked(task, measure, f"{source}: evaluation.{'monitor' if measure == monitor else 'measures'}")
    if Measure.parse(monitor).kind in RESULTS:
        raise ConfigError(
            f"{source}: evaluation.monitor: {monitor} is of recommended items: higher is not always better. Choose the epoch"
            " by a measure of which it is, such as ndcg@10."
        )
    if monitor not in measures:
        choices["evaluation"] = filled.evaluation.model_copy(update={"measures": [*measures, monitor]})
    config = filled.model_copy(update=choices)
    if config.trainable:
        try:
            task.refuse(config)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
    return config


def _valid(task: Task[Any], raw: Mapping[str, Any], source: str) -> Config:
    """The configuration, each section typed; no section that the task has not."""
    for section in NAMED:
        if section in raw and section not in task.sections:
            raise ConfigError(
                f"{source}: {section}: task {task.name} has no {section}. It has {', '.join(task.sections)}."
            )
    try:
        data = task.settings.model_validate(raw.get("data", {}))
    except ValidationError as error:
        raise ConfigError(_sentence(error, source, task, "data")) from error
    try:
        return Config.model_validate({**raw, "data": data})
    except ValidationError as error:
        raise ConfigError(_sentence(error, source, task)) from error


def _checked(task: Task[Any], measure: str, where: str) -> None:
    try:
        task.check(Measure.parse(measure))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def with_column(entry: Entry[Any]) -> Entry[Any]:
    """The entry, with the parameter ``column`` where a column of items can fill what it has to know of them.

    >>> list(with_column(SAMPLERS["weighted"]).parameters), list(with_column(SAMPLERS["in_batch"]).inputs)
    (['n', 'shared', 'collisions', 'column'], [])
    """
    if not any(given.alignment == "catalogue" for given in entry.inputs.values()):
        return entry
    column = Parameter("column", str | None, None)
    return replace(entry, parameters={**entry.parameters, "column": column})


def _names(task: Task[Any], given: Mapping[str, Any]) -> dict[str, str]:
    """What each section chooses: as given, else as suits the model, else the task's default."""
    model = given["model"] or task.defaults["model"]["name"]
    suits = _merged(task.defaults, task.recipes.get(model, {}))
    return {name: str(given[name] or suits[name]["name"]) for name in task.sections}


def _recipe(task: Task[Any], names: Mapping[str, str]) -> dict[str, Any]:
    """What suits the model and the loss, less the parameters of another sampler, or named model, than the chosen one.

    Where no model is named, any takes the parameters that it has.
    """
    recipe = _merged(task.recipes.get(names["model"], {}), task.recipes.get(names["loss"], {}))
    model, chosen = recipe.get("model", {}), MODELS.find(names["model"])
    if chosen is not None and "name" not in model:
        own = {key: value for key, value in model.items() if key in chosen.parameters}
        recipe["model"] = {"name": chosen.name, **own}
    default = {name: task.defaults[name]["name"] for name in task.sections} | {"loss": names["loss"]}
    return {
        section: values
        for section, values in recipe.items()
        if section not in NAMED or values.get("name", default[section]) == names[section]
    }


def _chosen(entry: Entry[Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The name, and all its own parameters, typed."""
    own = typed(entry, {key: value for key, value in given.items() if key != "name"}, where)
    defaults = {key: parameter.default for key, parameter in entry.parameters.items()}
    return {"name": str(given.get("name", entry.name)), **defaults, **own}


def typed(entry: Entry[Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The given parameters of an entry, each as its annotation says; ``where`` names them in errors."""
    for key in given:
        if key not in entry.parameters:
            raise ConfigError(f"{where}.{key}: {entry.name} has no such parameter. {nearest(key, entry.parameters)}")
    return {key: _typed(entry.parameters[key], value, f"{where}.{key}") for key, value in given.items()}


def _miner(name: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """One miner with its own parameters or, as a text with these in parentheses, several."""
    if is_one(name):
        return _chosen(MINERS[name], given, where)
    if extra := [f"{where}.{key}" for key in given if key != "name"]:
        raise ConfigError(f"{', '.join(extra)}: the parameters of {name!r} belong in its parentheses.")
    return {"name": str(parse(name))}


def _generator(name: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A generator with its own parameters, or none."""
    if name != "none":
        return _chosen(GENERATORS[name], given, where)
    if extra := [f"{where}.{key}" for key in given if key != "name"]:
        raise ConfigError(f"{', '.join(extra)}: the generator is none. Name one: --generator NAME.")
    return {"name": "none"}


def _model(task: Task[Any], name: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A model of the task's kind."""
    entry = MODELS[name]
    if entry.kind != task.models:
        known = ", ".join(sorted(each.name for each in MODELS if each.kind == task.models))
        raise ConfigError(f"{where}: {name} is a model of {entry.kind}; task {task.name} has {known}.")
    return _chosen(entry, given, where)


CHOICES: Mapping[str, Callable[[Task[Any], str, Mapping[str, Any], str], dict[str, Any]]] = {
    "loss": lambda task, name, given, where: _chosen(task.loss(name), given, where),
    "model": _model,
    "sampler": lambda _, name, given, where: _chosen(with_column(SAMPLERS[name]), given, where),
    "miner": lambda _, name, given, where: _miner(name, given, where),
    "batches": lambda _, name, given, where: _chosen(with_column(BATCHES[name]), given, where),
    "positives": lambda _, name, given, where: _chosen(POSITIVES[name], given, where),
    "generator": lambda _, name, given, where: _generator(name, given, where),
}
"""How a section with a name is filled in."""


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where}: Input should be a name: got {value!r}.")
    return value


def _typed(parameter: Parameter, value: Any, where: str) -> Any:
    """A parameter's value, as its annotation says."""
    if isinstance(value, bool) and _is_number(_bare(parameter.annotation)):
        raise ConfigError(f"{where}: Input should be a number: got {value}.")
    if isinstance(value, str) and typing.get_origin(_bare(parameter.annotation)) in (tuple, list):
        value = listed(inside) if (inside := value.strip("[]() ")) else []
    try:
        return TypeAdapter(parameter.annotation, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{where}: {error.errors()[0]['msg']}: got {value!r}.") from error


def _check_numbers(raw: Mapping[str, Any], section: Any, where: str, task: Task[Any]) -> None:
    """Raise :class:`ConfigError` for true and false where a number belongs: pydantic would read 1 and 0."""
    hints = typing.get_type_hints(section) | ({"data": task.settings} if section is Config else {})
    separator = ": " if section is Config else "."
    for key, value in raw.items():
        hint = hints.get(key)
        if isinstance(value, bool) and _is_number(hint):
            raise ConfigError(f"{where}{separator}{key}: Input should be a number: got {value}.")
        if isinstance(value, Mapping) and isinstance(hint, type) and key not in NAMED:
            _check_numbers(value, hint, f"{where}{separator}{key}", task)


def _is_number(annotation: Any) -> bool:
    kinds = [annotation, *typing.get_args(annotation)]
    return (int in kinds or float in kinds) and bool not in kinds


def _bare(annotation: Any) -> Any:
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation


def _sentence(error: ValidationError, source: str, task: Task[Any], *within: str) -> str:
    """The first fault in words."""
    fault = error.errors()[0]
    path = [*within, *(str(part) for part in fault["loc"])]
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{source}: unknown key {'.'.join(path)}. {nearest(path[-1], _keys(path[:-1], task))}"
    context = fault.get("ctx", {}).get("error")
    said = str(context) if isinstance(context, (ConfigError, DataError)) else f"{fault['msg']}: got {fault['input']!r}"
    return f"{source}: {'.'.join(path)}: {said.rstrip('.')}."


def _keys(path: Sequence[str], task: Task[Any]) -> list[str]:
    """The keys that a section may hold."""
    section: Any = Config
    for part in path:
        section = task.settings if part == "data" else section.model_fields[part].annotation
    if issubclass(section, BaseModel):
        return list(section.model_fields)
    return list(section.__dataclass_fields__)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries, the second over the first."""
    both = dict(under)
    for key, value in over.items():
        inner = both.get(key)
        both[key] = _merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return both
