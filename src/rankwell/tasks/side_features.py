"""Columns of items and users as features of a model: those of a run, and those of what training did not see."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from rankwell.data import FeatureEncoder, Interactions, ItemColumns
from rankwell.data.item_columns import read_table
from rankwell.errors import ConfigError, DataError, nearest
from rankwell.models import MODELS
from rankwell.tasks.interaction_data import InteractionData
from rankwell.tasks.settings import Config
from rankwell.tasks.task import Data
from rankwell.tasks.text_columns import with_vectors
from rankwell.types import Features

__all__ = ["features_of", "new_rows"]


class _Side(NamedTuple):
    """Where the features of one side come from."""

    what: str
    """What a row of its file is."""
    columns: str
    """The model's parameter that names columns."""


SIDES = {"item_features": _Side("item", "columns"), "user_features": _Side("user", "user_columns")}
"""By the model's input."""


def features_of(config: Config, data: Data[Interactions]) -> dict[str, Features]:
    """What the model is to know of items and users beside their ids; nothing where it names no column."""
    inputs = MODELS[config.model["name"]].inputs
    found = {}
    for name, side in SIDES.items():
        if name in inputs and config.model.get(side.columns):
            encode, table = _encoder(config, data, side)
            found[name] = encode(table.frame)
    return found


def new_rows(config: Config, data: Data[Interactions], what: str, path: Path) -> tuple[pl.Series, Features]:
    """Ids and features of items or users of another file, which training did not see."""
    side = next(side for side in SIDES.values() if side.what == what)
    if not config.model.get(side.columns):
        raise ConfigError(
            f"{path}: this run knows {what}s by their ids alone, and new ones have none: train with"
            f" --data.{what}s FILE --model.{side.columns} NAMES, on a model that takes them, such as two_tower."
        )
    given = _given(config)
    encode, table = _encoder(config, data, side)
    ids, frame = read_table(path, what, getattr(given, f"{what}s_id") or getattr(given, what))
    kept = table.item_ids.cast(pl.String)
    if (again := ids.is_in(kept.implode())).any():
        named = ", ".join(map(repr, ids.filter(again).head(3)))
        raise DataError(
            f"{path}: new {what}s must not be in the training data: {int(again.sum()):,} are ({named}). Remove them."
        )
    lacking = [name for name in config.model[side.columns] if name not in frame.columns]
    if lacking:
        raise DataError(
            f"{path} has no column {lacking[0]!r}, as the run's {what}s have. {nearest(lacking[0], frame.columns)}"
        )
    try:
        wanted = frame.select(config.model[side.columns])
        texts = [name for name in given.texts if name in wanted and not _blank(wanted[name])]
        return ids, encode(with_vectors(wanted, texts, given.encoder, given.cache))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _encoder(config: Config, data: Data[Interactions], side: _Side) -> tuple[FeatureEncoder, ItemColumns]:
    """How the columns become features, as the rows that occur in training say; and the table of them all.

    A category that no row of training has would never be trained: it is left out. The epoch is chosen without the rows that
    validation holds out, so these do not count.
    """
    columns: Sequence[str] = config.model[side.columns]
    table: Any = getattr(data, f"{side.what}s")
    if table is None:
        raise ConfigError(
            f"model.{side.columns} names columns of {side.what}s: give their file, --data.{side.what}s FILE."
        )
    count = data.fit.popularity() if side.what == "item" else data.fit.activity()
    return FeatureEncoder.fit(table.frame.filter(pl.Series(count > 0)), columns, source=table.source), table


def _blank(column: pl.Series) -> bool:
    """Whether a column has no text: of new rows, which may be few."""
    return not column.dtype.is_nested() and bool((column.cast(pl.String).str.strip_chars().fill_null("") == "").all())


def _given(config: Config) -> InteractionData:
    assert isinstance(config.data, InteractionData)
    return config.data
