"""Interactions: which files, and how they are split."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import polars as pl
import torch
from pydantic import BeforeValidator, Field, field_validator
from torch import Tensor

from rankwell.data import (
    Dataset,
    Interactions,
    ItemColumns,
    Split,
    read_dataset,
    read_items,
    read_users,
    split_balanced,
    split_cold_items,
    split_fold,
    split_global_time,
    split_leave_last,
    split_random,
    synthesise,
)
from rankwell.data.item_columns import Missing
from rankwell.data.keys import hash_ids, splitmix64
from rankwell.data.readers import Format, Unseen
from rankwell.errors import ConfigError, RunError, nearest
from rankwell.tasks.folds import Fold, numbered, refuse_fold
from rankwell.tasks.settings import Section, listed
from rankwell.tasks.task import Data
from rankwell.tasks.text_columns import with_vectors

__all__ = ["InteractionData", "columns_of", "ids_of", "load", "read", "trained_items"]

TEST_SPLIT, VALID_SPLIT = 1, 2
"""Keep the two splits' random numbers apart."""


class InteractionData(Section):
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
    users: str | None = None
    """A file of columns of users, such as regions: features of models."""
    users_id: str | None = None
    """Its column of user ids; None: called as in the interactions."""
    missing_users: Missing = "error"
    """Users that it does not tell about: an error, or nothing known of them."""
    texts: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    """Columns of either file that are texts, not categories: a text encoder makes vectors of them (extra ``text``)."""
    encoder: str = "minilm"
    """The text encoder: a folder, or a name of sentence-transformers."""
    cache: str | None = None
    """A folder that keeps the vectors of texts, so that none is encoded twice."""
    split: Literal["random", "leave_last", "time", "cold_items", "balanced"] = "random"
    """How to hold out test pairs, where the data come without; by ``cold_items`` a share of the items with all their pairs, by
    ``balanced`` as many pairs of every item."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    fold: Fold = None
    """Cross-validation: of each user's pairs the second of five parts is tested for ``2/5``,
    and ``test_fraction`` is not looked at."""
    valid_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of each user's training pairs that chooses the epoch; 0 trains for all epochs without choosing."""

    @field_validator("delimiter", mode="after")
    @classmethod
    def _tab(cls, value: str | None) -> str | None:
        return "\t" if value == r"\t" else value  # a shell passes the two characters on


def load(config: InteractionData, seed: int) -> tuple[Dataset, Tensor | None]:
    """The data that the configuration names, not yet split; and true preferences ``[users, items]``, where it is generated."""
    if config.path == "synthetic":
        made = synthesise(seed=seed)
        return _with_columns(config, Dataset(made.train, made.test)), torch.as_tensor(made.ideal)
    names = {"user": config.user, "item": config.item}
    dataset = read_dataset(
        Path(config.path),
        format=config.format,
        weight=config.weight,
        timestamp=config.timestamp,
        delimiter=config.delimiter,
        unseen=config.unseen,
        **{key: value for key, value in names.items() if value is not None},
    )
    return _with_columns(config, dataset), None


def _with_columns(config: InteractionData, dataset: Dataset) -> Dataset:
    """The data with columns of their items and users, where the configuration names files of them."""
    for what in ("items", "users"):
        if getattr(config, what) is None and getattr(config, f"{what}_id") is not None:
            raise ConfigError(f"data.{what}_id names a column of a file of {what}: give the file, --data.{what} FILE.")
    ids = dataset.train.item_ids, dataset.train.user_ids
    items = users = None
    if config.items is not None:
        items = read_items(config.items, ids[0], item=config.items_id or config.item, missing=config.missing_items)
    if config.users is not None:
        users = read_users(config.users, ids[1], user=config.users_id or config.user, missing=config.missing_users)
    both = [None if each is None else replace(each, frame=_with_texts(config, each.frame)) for each in (items, users)]
    columns = [name for each in both if each is not None for name in each.frame.columns]
    if lacking := [name for name in config.texts if name not in columns]:
        raise ConfigError(
            f"data.texts names columns of the files of items and users: there is no {lacking[0]!r}."
            f" {nearest(lacking[0], columns)}"
        )
    notes = [note for each in both if each is not None for note in each.notes]
    return replace(dataset, items=both[0], users=both[1], notes=(*dataset.notes, *notes))


def _with_texts(config: InteractionData, frame: pl.DataFrame) -> pl.DataFrame:
    return with_vectors(frame, config.texts, config.encoder, config.cache)


def read(config: InteractionData, seed: int) -> Data[Interactions]:
    """Read and split."""
    dataset, ideal = load(config, seed)
    if dataset.test is not None:
        refuse_fold(config.fold, config.path)
        data = _with_validation(config, seed, dataset.train, dataset.test, dataset.notes, ideal)
    else:
        split = _test_part(config, dataset.train, seed)
        data = _with_validation(config, seed, split.train, split.held_out, (*dataset.notes, *split.notes))
    data = replace(data, items=dataset.items, users=dataset.users, merged=dataset.merged)
    return _new_items_last(data) if config.split == "cold_items" else data


def _new_items_last(data: Data[Interactions]) -> Data[Interactions]:
    """Codes first of items that validation trains on, then of those that validation holds, then of those that the test holds.

    So a part's catalogue is the codes up to its last: see :func:`trained_items`. New items stand in the order of a hash of
    their ids: codes are given in the order of the file, where popular items come early, and lists show tied items by code.
    """
    new = data.fit.popularity() == 0
    drawn = np.where(new, splitmix64(hash_ids(data.train.item_ids)), 0)
    order = np.lexsort((drawn, new, data.train.popularity() == 0))
    parts = [None if part is None else part.with_items(order) for part in (data.train, data.fit, data.valid, data.test)]
    train, fit, valid, test = parts
    assert train is not None and fit is not None and test is not None
    items = None if data.items is None else data.items.in_order(order)
    ideal = None if data.ideal is None else data.ideal[:, order]
    fit = train if data.fit is data.train else fit
    return replace(data, train=train, fit=fit, valid=valid, test=test, items=items, ideal=ideal)


def trained_items(config: InteractionData, part: Interactions) -> int:
    """How many items, from the first code on, training on a part may know of: all, but for a split by items.

    There a held-out item is new: it does not exist yet, and is no negative either.
    """
    return int(part.items.max()) + 1 if config.split == "cold_items" else part.num_items


def _with_validation(
    config: InteractionData,
    seed: int,
    train: Interactions,
    test: Interactions,
    notes: tuple[str, ...],
    ideal: Tensor | None = None,
) -> Data[Interactions]:
    if not config.valid_fraction:
        return Data(train, train, None, test, notes, ideal)
    split = _hold_out(config, train, config.valid_fraction, seed, VALID_SPLIT)
    if not len(split.held_out):
        raise ConfigError(
            "no pair is left for validation: set data.valid_fraction to 0, or give users more than one pair."
        )
    return Data(train, split.train, split.held_out, test, notes, ideal)


def _test_part(config: InteractionData, data: Interactions, seed: int) -> Split:
    """Hold out test pairs: a share, or a fold."""
    if config.fold is None:
        return _hold_out(config, data, config.test_fraction, seed, TEST_SPLIT)
    if config.split != "random":
        raise ConfigError(
            f"folds are random parts of each user's pairs: data.fold goes with data.split random, not {config.split}."
        )
    return split_fold(data, *numbered(config.fold), seed=2 * seed + TEST_SPLIT)


def _hold_out(config: InteractionData, data: Interactions, fraction: float, seed: int, purpose: int) -> Split:
    """Hold out pairs in the way of the configuration: test pairs where no file gives them, and validation pairs."""
    if config.split == "leave_last":
        return split_leave_last(data)
    if config.split == "time":
        return split_global_time(data, fraction)
    if config.split == "cold_items":
        return split_cold_items(data, fraction, seed=2 * seed + purpose)
    if config.split == "balanced":
        return split_balanced(data, fraction, seed=2 * seed + purpose)
    return split_random(data, fraction, seed=2 * seed + purpose)


def ids_of(folder: Path, name: str) -> pl.Series:
    """The ids of codes that a run's folder keeps."""
    try:
        return pl.read_parquet(folder / f"{name}.parquet")["id"]
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise RunError(f"{folder / name}.parquet is corrupt or missing: {reason}. Train again.") from error


def columns_of(folder: Path, name: str, ids: pl.Series) -> ItemColumns | None:
    """The columns of items or users, as ``name`` says, that a run's folder keeps; None where it keeps none."""
    file = folder / f"{name}_columns.parquet"
    if not file.is_file():
        return None
    try:
        frame = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{file} is corrupt: {str(error).partition(chr(10))[0].rstrip('.')}. Train again.") from error
    if len(frame) != len(ids):
        raise RunError(f"{file} must have a row for each of {len(ids):,} ids: it has {len(frame):,}. Train again.")
    return ItemColumns(file.name, frame, ids, "default")
