"""What of the chosen names does not go together: said of the settings alone, before any data are read."""

from collections.abc import Collection
from typing import Any

from rankwell.data import BATCHES
from rankwell.errors import ConfigError
from rankwell.generators import GENERATORS
from rankwell.models import MODELS
from rankwell.registry import Entry
from rankwell.tasks.settings import Config

__all__ = [
    "refuse_column",
    "refuse_generator",
    "refuse_rows",
    "refuse_unfilled",
    "refuse_without_features",
    "refuse_without_vectors",
]


def refuse_unfilled(what: str, entry: Entry[Any], filled: Collection[str], data: str) -> None:
    """Raise :class:`ConfigError` where the entry cannot do without an input that nothing fills; ``data`` names these data."""
    if needed := [name for name, given in entry.inputs.items() if given.required and name not in filled]:
        raise ConfigError(
            f"{what} {entry.name} needs {', '.join(needed)}, which {data} do not tell. Choose another {what}."
        )


def refuse_column(config: Config, section: str, entry: Entry[Any], fillable: Collection[str]) -> None:
    """Raise :class:`ConfigError` where a column of items is needed and not named, or named without a file."""
    column = config.parameters(section).get("column")
    if column is not None and getattr(config.data, "items", None) is None:
        raise ConfigError(f"{section}.column names a column of items: give their file, --data.items FILE.")
    if column is None and (needed := [name for name in fillable if entry.inputs[name].required]):
        raise ConfigError(
            f"{section} {entry.name} needs {', '.join(needed)}, which interactions do not tell: give a file of items and"
            f" name its column, --data.items FILE --{section}.column NAME."
        )


def refuse_rows(config: Config) -> None:
    """Raise :class:`ConfigError` for what a loss of embeddings, of which rows are the batch, cannot have of them."""
    if config.positives["name"] != "one":
        raise ConfigError(
            f"positives {config.positives['name']}: {config.loss['name']} takes one a row, the row's own. Leave the positives"
            " out."
        )
    if getattr(BATCHES[config.batches["name"]].function, "learns", False):
        raise ConfigError(
            f"batches {config.batches['name']} learn from the loss of each row, which losses of embeddings do not tell."
            " Choose others."
        )


def refuse_generator(config: Config) -> None:
    """Raise :class:`ConfigError` for a generator that asks for what neither interactions nor a table tell."""
    chosen = GENERATORS[config.generator["name"]]
    filled = ["described"] if config.generator.get("table") else []
    needed = [name for name, given in chosen.inputs.items() if given.required and name not in filled]
    if "described" in needed:
        raise ConfigError(
            f"generator {chosen.name} needs a table of described negatives: make one by 'rankwell describe', and name it by"
            " --generator.table FILE."
        )
    if needed:
        raise ConfigError(
            f"generator {chosen.name} needs {', '.join(needed)}, which interactions do not tell. Build it in Python, or"
            " choose another."
        )


def refuse_without_vectors(config: Config, needs: str, instead: str) -> None:
    """Raise :class:`ConfigError` for a model that hands out no vectors; ``needs`` says who does what with them."""
    chosen = MODELS[config.model["name"]]
    if hasattr(chosen.function, "contrast_vectors"):
        return
    others = [each.name for each in MODELS if each.kind == chosen.kind and hasattr(each.function, "contrast_vectors")]
    raise ConfigError(
        f"{needs} vectors, and model {chosen.name} has none. Choose one that has some ({', '.join(sorted(others))}), {instead}."
    )


def refuse_without_features(config: Config) -> None:
    """Raise :class:`ConfigError` for a model in closed form that knows features and nothing else, and is given none."""
    chosen = MODELS[config.model["name"]]
    if "item_features" in chosen.inputs and not config.trainable and not config.parameters("model").get("columns"):
        raise ConfigError(
            f"model {chosen.name} needs features of items: name columns of their file, --data.items FILE --model.columns"
            " '[\"NAME\"]'."
        )
