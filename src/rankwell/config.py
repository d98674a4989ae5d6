"""Strict typed configuration: a TOML file, dotted options on top, and one resolved result.

The layers, later over earlier: the defaults below; what is known to suit the loss (:data:`RECIPES`); the TOML file; the
options of the command line. Names (of loss, model, sampler, miner) come with their own parameters, which the registries type.
"""

import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from rankwell.errors import ConfigError, DataError, nearest, require

require("pydantic", "cli")

from pydantic import (  # noqa: E402
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from rankwell.data.batching import BATCHES  # noqa: E402
from rankwell.data.item_columns import Missing  # noqa: E402
from rankwell.data.readers import Format, Unseen  # noqa: E402
from rankwell.evaluation.full import check_binary  # noqa: E402
from rankwell.generators import GENERATORS  # noqa: E402
from rankwell.losses import LOSSES  # noqa: E402
from rankwell.losses.styles import as_contrast  # noqa: E402
from rankwell.metrics import Measure  # noqa: E402
from rankwell.miners import MINERS, is_one, parse  # noqa: E402
from rankwell.models import MODELS  # noqa: E402
from rankwell.registry import Entry, Parameter  # noqa: E402
from rankwell.samplers import POSITIVES, SAMPLERS  # noqa: E402
from rankwell.training import TrainingSettings  # noqa: E402

__all__ = [
    "RECIPES",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "Section",
    "listed",
    "load_toml",
    "resolve",
    "with_column",
    "with_option",
]

NAMED = ("loss", "model", "sampler", "miner", "generator", "batches", "positives")
"""Sections that hold a name and that name's own parameters."""

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "bpr": {"model": {"similarity": "dot"}},
    "ccl": {"training": {"learning_rate": 0.02}},
    "mml": {"training": {"learning_rate": 0.02}},
    "sampled_softmax": {"loss": {"temperature": 0.1}},
    "decoupled_softmax": {"loss": {"temperature": 0.1}},
}
"""Settings that suit a loss better than the defaults, by the loss's name. bench/LOG.md has what was compared on validation
pairs; CCL's rate is taken over from MML, and the decoupled softmax's temperature from the sampled one."""


def listed(value: Any) -> Any:
    """A comma-separated text, as the command line gives it, as a list; commas inside parentheses do not count.

    >>> listed("recall@20, ndcg(gain=linear,ties=order)@10")
    ['recall@20', 'ndcg(gain=linear,ties=order)@10']
    """
    return [part.strip() for part in re.split(r",(?![^(]*\))", value)] if isinstance(value, str) else value


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    """What to read, and how to split it."""

    path: str = "synthetic"
    """A file or folder; ``synthetic`` generates data whose ideal ranking is known."""
    format: Format | None = None
    user: str | None = None
    item: str | None = None
    weight: str | None = None
    timestamp: str | None = None
    delimiter: str | None = None
    unseen: Unseen = "error"
    """Test users or items that training does not know: an error, dropped, or kept (and missed)."""
    items: str | None = None
    """A file of columns of items, such as prices: what ``column`` of samplers and batches names."""
    items_id: str | None = None
    """Its column of item ids; None: called as in the interactions."""
    missing_items: Missing = "error"
    """Items that it does not tell about: an error, or 0 as a number and a group of their own as a text."""
    split: Literal["random", "leave_last", "time"] = "random"
    """How to hold out test pairs, where the data come without."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    valid_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of each user's training pairs that chooses the epoch; 0 trains for all epochs without choosing."""

    @field_validator("delimiter", mode="after")
    @classmethod
    def _tab(cls, value: str | None) -> str | None:
        return "\t" if value == r"\t" else value  # a shell passes the two characters on


class EvaluationConfig(Section):
    """What to measure."""

    measures: Annotated[list[str], BeforeValidator(listed)] = [
        "recall@20",
        "ndcg@20",
        "precision@20",
        "hit_rate@20",
        "mrr@20",
    ]
    monitor: str = "ndcg@20"
    """The measure of the validation pairs that chooses the epoch."""
    block: Annotated[int, Field(ge=1)] = 256
    """Users scored at a time."""

    @field_validator("measures", mode="after")
    @classmethod
    def _canonical(cls, values: list[str]) -> list[str]:
        return list(dict.fromkeys(str(check_binary(Measure.parse(value))) for value in values))

    @field_validator("monitor", mode="after")
    @classmethod
    def _canonical_monitor(cls, value: str) -> str:
        return str(check_binary(Measure.parse(value)))


class Config(Section):
    """Everything a run is made of. Sections without a type of their own hold a name and that name's own parameters."""

    data: DataConfig = DataConfig()
    model: dict[str, Any] = {"name": "mf"}
    loss: dict[str, Any] = {"name": "bsl"}
    sampler: dict[str, Any] = {"name": "uniform"}
    miner: dict[str, Any] = {"name": "none"}
    generator: dict[str, Any] = {"name": "none"}
    batches: dict[str, Any] = {"name": "shuffled"}
    positives: dict[str, Any] = {"name": "one"}
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads of the processor; 0 leaves it to torch."""

    def parameters(
        self, section: Literal["model", "loss", "sampler", "miner", "generator", "batches", "positives"]
    ) -> dict[str, Any]:
        """The own parameters of a chosen name."""
        return {key: value for key, value in getattr(self, section).items() if key != "name"}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a TOML file; what is None is left out."""
        plain: dict[str, Any] = _without_none(self.model_dump(mode="json"))
        return plain


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
    _check_numbers(raw, Config, source)
    try:
        raw = _without_sampling(raw, source)
        names = _names(Config.model_validate(raw))
        filled = Config.model_validate(_merged(_recipe(names), raw))
    except ValidationError as error:
        raise ConfigError(_sentence(error, source)) from error
    choices: dict[str, Any] = {
        "loss": _chosen(_as_trained(LOSSES[names["loss"]]), filled.loss, f"{source}: loss"),
        "model": _chosen(MODELS[names["model"]], filled.model, f"{source}: model"),
        "sampler": _chosen(with_column(SAMPLERS[names["sampler"]]), filled.sampler, f"{source}: sampler"),
        "miner": _miner(names["miner"], filled.miner, f"{source}: miner"),
        "batches": _chosen(with_column(BATCHES[names["batches"]]), filled.batches, f"{source}: batches"),
        "positives": _chosen(POSITIVES[names["positives"]], filled.positives, f"{source}: positives"),
        "generator": _generator(names["generator"], filled.generator, f"{source}: generator"),
    }
    monitor, measures = filled.evaluation.monitor, filled.evaluation.measures
    if monitor not in measures:
        choices["evaluation"] = filled.evaluation.model_copy(update={"measures": [*measures, monitor]})
    return filled.model_copy(update=choices)


def with_column(entry: Entry[Any]) -> Entry[Any]:
    """The entry, with the parameter ``column`` where a column of items can fill what it has to know of them.

    >>> list(with_column(SAMPLERS["weighted"]).parameters), list(with_column(SAMPLERS["in_batch"]).inputs)
    (['n', 'shared', 'collisions', 'column'], [])
    """
    if not any(given.alignment == "catalogue" for given in entry.inputs.values()):
        return entry
    column = Parameter("column", str | None, None)
    return replace(entry, parameters={**entry.parameters, "column": column})


def _as_trained(entry: Entry[Any]) -> Entry[Any]:
    """The loss as interactions train it: of embeddings as it is, others as contrast losses."""
    return entry if entry.kind == "embedding" else as_contrast(entry)


def _without_sampling(raw: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """With the sampler that losses of embeddings have: the batch. Naming another is an error."""
    loss = raw.get("loss", {})
    name = loss.get("name") if isinstance(loss, Mapping) else loss
    if not isinstance(name, str) or LOSSES[name].kind != "embedding":
        return raw
    batch = _chosen(SAMPLERS["in_batch"], {}, source)
    given = raw.get("sampler", {})
    if not isinstance(given, Mapping) or any(batch.get(key) != value for key, value in given.items()):
        raise ConfigError(
            f"{source}: sampler: {name} is a loss of embeddings, whose negatives are the batch's other items. Leave the"
            " sampler out."
        )
    return {**raw, "sampler": batch}


def _names(config: Config) -> dict[str, str]:
    """The chosen name of each section that has one."""
    return {name: str(getattr(config, name).get("name", Config.model_fields[name].default["name"])) for name in NAMED}


def _recipe(names: Mapping[str, str]) -> dict[str, Any]:
    """What suits the loss, less the parameters of another model or sampler than the chosen one."""
    recipe = RECIPES.get(names["loss"], {})
    default = {name: Config.model_fields[name].default["name"] for name in NAMED} | {"loss": names["loss"]}
    return {
        section: values
        for section, values in recipe.items()
        if section not in NAMED or values.get("name", default[section]) == names[section]
    }


def _chosen(entry: Entry[Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The name, and all its own parameters, typed."""
    values = {"name": str(given.get("name", entry.name))}
    for key in given:
        if key != "name" and key not in entry.parameters:
            raise ConfigError(f"{where}.{key}: {entry.name} has no such parameter. {nearest(key, entry.parameters)}")
    for key, parameter in entry.parameters.items():
        values[key] = _typed(parameter, given[key], f"{where}.{key}") if key in given else parameter.default
    return values


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


def _typed(parameter: Parameter, value: Any, where: str) -> Any:
    """A parameter's value, as its annotation says."""
    if isinstance(value, bool) and _is_number(_bare(parameter.annotation)):
        raise ConfigError(f"{where}: Input should be a number: got {value}.")
    if isinstance(value, str) and typing.get_origin(_bare(parameter.annotation)) in (tuple, list):
        value = listed(value.strip("[]() "))
    try:
        return TypeAdapter(parameter.annotation, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{where}: {error.errors()[0]['msg']}: got {value!r}.") from error


def _check_numbers(raw: Mapping[str, Any], section: Any, where: str) -> None:
    """Raise :class:`ConfigError` for true and false where a number belongs: pydantic would read 1 and 0."""
    hints = typing.get_type_hints(section)
    separator = ": " if section is Config else "."
    for key, value in raw.items():
        hint = hints.get(key)
        if isinstance(value, bool) and _is_number(hint):
            raise ConfigError(f"{where}{separator}{key}: Input should be a number: got {value}.")
        if isinstance(value, Mapping) and isinstance(hint, type) and key not in NAMED:
            _check_numbers(value, hint, f"{where}{separator}{key}")


def _is_number(annotation: Any) -> bool:
    kinds = [annotation, *typing.get_args(annotation)]
    return (int in kinds or float in kinds) and bool not in kinds


def _bare(annotation: Any) -> Any:
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation


def _sentence(error: ValidationError, source: str) -> str:
    """The first fault in words."""
    fault = error.errors()[0]
    path = [str(part) for part in fault["loc"]]
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{source}: unknown key {'.'.join(path)}. {nearest(path[-1], _keys(path[:-1]))}"
    context = fault.get("ctx", {}).get("error")
    said = str(context) if isinstance(context, (ConfigError, DataError)) else f"{fault['msg']}: got {fault['input']!r}"
    return f"{source}: {'.'.join(path)}: {said.rstrip('.')}."


def _keys(path: Sequence[str]) -> list[str]:
    """The keys that a section may hold."""
    section: Any = Config
    for part in path:
        section = section.model_fields[part].annotation
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


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return value
