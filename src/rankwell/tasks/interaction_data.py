"""Interactions: which files, and how they are split."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
import torch
from pydantic import Field, field_validator
from torch import Tensor

from rankwell.data import (
    Dataset,
    Interactions,
    Split,
    read_dataset,
    read_items,
    split_global_time,
    split_leave_last,
    split_random,
    synthesise,
)
from rankwell.data.item_columns import Missing
from rankwell.data.readers import Format, Unseen
from rankwell.errors import ConfigError, RunError
from rankwell.tasks.settings import Section
from rankwell.tasks.task import Data

__all__ = ["InteractionData", "ids_of", "load", "read"]

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
    split: Literal["random", "leave_last", "time"] = "random"
    """How to hold out test pairs, where the data come without."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
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
        return _with_items(config, Dataset(made.train, made.test)), torch.as_tensor(made.ideal)
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
    return _with_items(config, dataset), None


def _with_items(config: InteractionData, dataset: Dataset) -> Dataset:
    """The data with columns of their items, where the configuration names a file of them."""
    if config.items is None:
        if config.items_id is not None:
            raise ConfigError("data.items_id names a column of a file of items: give the file, --data.items FILE.")
        return dataset
    key = config.items_id or config.item
    items = read_items(config.items, dataset.train.item_ids, item=key, missing=config.missing_items)
    return replace(dataset, items=items, notes=(*dataset.notes, *items.notes))


def read(config: InteractionData, seed: int) -> Data[Interactions]:
    """Read and split."""
    dataset, ideal = load(config, seed)
    if dataset.test is not None:
        data = _with_validation(config, seed, dataset.train, dataset.test, dataset.notes, ideal)
    else:
        split = _hold_out(config, dataset.train, config.test_fraction, seed, TEST_SPLIT)
        data = _with_validation(config, seed, split.train, split.held_out, (*dataset.notes, *split.notes))
    return replace(data, items=dataset.items)


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


def _hold_out(config: InteractionData, data: Interactions, fraction: float, seed: int, purpose: int) -> Split:
    """Hold out pairs in the way of the configuration: test pairs where no file gives them, and validation pairs."""
    if config.split == "leave_last":
        return split_leave_last(data)
    if config.split == "time":
        return split_global_time(data, fraction)
    return split_random(data, fraction, seed=2 * seed + purpose)


def ids_of(folder: Path, name: str) -> pl.Series:
    """The ids of codes that a run's folder keeps."""
    try:
        return pl.read_parquet(folder / f"{name}.parquet")["id"]
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise RunError(f"{folder / name}.parquet is corrupt or missing: {reason}. Train again.") from error
