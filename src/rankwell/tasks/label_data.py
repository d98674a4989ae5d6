"""Labelled rows: which file, which columns, and how rows are split."""

from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field
from torch import Tensor

from rankwell import keyed
from rankwell.data.features import FeatureEncoder
from rankwell.data.label_files import LabelledTable, labelled_table, read_labelled
from rankwell.data.labelled_rows import LabelledRows, synthesise_labelled
from rankwell.errors import ConfigError, DataError
from rankwell.tasks.folds import Fold, held_out
from rankwell.tasks.settings import Section, listed
from rankwell.tasks.task import Data
from rankwell.types import Features, Ragged

__all__ = ["LabelData", "read", "read_rows"]

SPLIT = 1
"""Keeps the random numbers of the split apart from those drawn for other purposes with the same seed."""


class LabelData(Section):
    """What to read, and how to split it."""

    path: str = "synthetic"
    """A table of rows: CSV, TSV, Parquet; or a folder with one called rows. ``synthetic`` generates one."""
    id: str = "id"
    """The column of ids."""
    labels: str | None = None
    """The column of labels; None: the one called labels, if there is one."""
    separator: Annotated[str, Field(min_length=1)] = "|"
    """Between the labels of a row."""
    features: Annotated[list[str] | None, BeforeValidator(listed)] = None
    """Columns of features; None: every other one."""
    ignore: Annotated[list[str], BeforeValidator(listed)] = Field(default_factory=list)
    """Columns that are no features."""
    pairs: str | None = None
    """A second file, with a row's id and a label a line."""
    pairs_id: str | None = None
    """Its column of ids; None: called as in the table."""
    pairs_label: str = "label"
    """Its column of labels."""
    not_labels: Annotated[list[str], BeforeValidator(listed)] = Field(default_factory=list)
    """Texts that say that there is no label."""
    min_rows: Annotated[int, Field(ge=1)] = 1
    """Labels of fewer rows are left out. All rows count, before the split: this says which labels the task is about, as a
    k-core does for interactions, and every model is asked about the same."""
    rare_power: Annotated[float, Field(ge=0)] = 0.0
    """In training, labels weigh as their number of rows to minus this power, with the mean 1."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the rows to hold out."""
    fold: Fold = None
    """Cross-validation: the test part is the second of five for ``2/5``, and ``test_fraction`` is not looked at."""
    valid_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the training rows that chooses the epoch; 0 trains without choosing."""


def read(given: LabelData, seed: int) -> Data[LabelledRows]:
    """Read the rows with their labels, split them, and make features of columns as the training rows have them."""
    effects = None
    if given.path == "synthetic":
        frame, effects = synthesise_labelled(seed=seed)
        table = labelled_table(frame, "generated rows", lambda row: f"row {row + 1}")
    else:
        table = read_rows(given, _file(Path(given.path)))
    table, label_ids, notes = _frequent(table, given.min_rows)
    train, test = _split(np.arange(len(table.ids)), given.test_fraction, seed, SPLIT, given.fold)
    fit, valid = _split(train, given.valid_fraction, seed, SPLIT + 1) if given.valid_fraction else (train, None)
    encoder = FeatureEncoder.fit(table.features[train], table.features.columns, source=table.source)
    whole = _encoded(table, encoder, label_ids)
    learnt, held_out = whole.take(train), whole.take(test)
    notes += [*_of_columns(table, encoder, whole.features), *_unlearnt(learnt, held_out)]
    ideal = None if effects is None else _ideal(effects, encoder, label_ids)
    chosen_on = None if valid is None else whole.take(valid)
    return Data(learnt, whole.take(fit), chosen_on, held_out, tuple(notes), ideal)


def read_rows(given: LabelData, path: Path, *, labelled: bool = True) -> LabelledTable:
    """The table, as the settings say."""
    return read_labelled(
        path,
        id=given.id,
        labels=given.labels,
        separator=given.separator,
        features=given.features,
        ignore=given.ignore,
        pairs=given.pairs,
        pairs_id=given.pairs_id,
        pairs_label=given.pairs_label,
        not_labels=given.not_labels,
        labelled=labelled,
    )


def _file(path: Path) -> Path:
    """The file itself, or the one of the folder that is called rows."""
    found = sorted(path.glob("rows.*")) if path.is_dir() else [path]
    if len(found) != 1:
        raise ConfigError(f"{path} is a folder with {len(found)} files called rows: give the path of the table.")
    return found[0]


def _frequent(table: LabelledTable, least: int) -> tuple[LabelledTable, pl.Series, list[str]]:
    """The rows that have a label of at least so many rows, these labels in order, and what is left out."""
    notes = [*table.notes]
    counted = table.pairs.group_by("label").len()
    label_ids = counted.filter(pl.col("len") >= least)["label"].sort()
    if rare := len(counted) - len(label_ids):
        notes.append(f"{rare:,} of {len(counted):,} labels have fewer than {least} rows and are left out")
    if len(label_ids) < 2:
        raise DataError(
            f"{table.source}: there must be two labels of at least {least} rows: there are {len(label_ids)}."
            " Give a smaller --data.min_rows, or another column of labels."
        )
    codes = pl.col("label").replace_strict(label_ids, np.arange(len(label_ids)), default=None, return_dtype=pl.Int64)
    pairs = table.pairs.with_columns(codes.alias("label")).drop_nulls().sort("row", "label")
    rows = pairs["row"].unique().sort()
    if without := len(table.ids) - len(rows):
        notes.append(f"{without:,} of {len(table.ids):,} rows have no label: they train nothing, and are not measured")
    pairs = pairs.with_columns(pl.Series("row", np.searchsorted(rows.to_numpy(), pairs["row"].to_numpy())))
    kept = LabelledTable(table.source, table.ids[rows], table.features[rows], pairs)
    return kept, label_ids, notes


def _encoded(table: LabelledTable, encoder: FeatureEncoder, label_ids: pl.Series) -> LabelledRows:
    """All rows of the table, whose pairs are of codes and sorted."""
    sizes = torch.from_numpy(np.bincount(table.pairs["row"].to_numpy(), minlength=len(table.ids)))
    offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    labels = Ragged(offsets, torch.from_numpy(table.pairs["label"].to_numpy().copy()))
    return LabelledRows(encoder(table.features), labels, table.ids, label_ids, encoder)


def _split(
    rows: NDArray[np.int64], share: float, seed: int, purpose: int, fold: str | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows without a random share, or a fold of them, and these; each in order."""
    order = torch.randperm(len(rows), generator=keyed.generator(seed, purpose)).numpy()
    held = held_out(len(rows), share, fold, "labelled rows")
    if held.all():
        raise ConfigError(
            f"holding out {held.sum()} of {len(rows)} labelled rows leaves none to train on: give more rows."
        )
    return rows[np.sort(order[~held])], rows[np.sort(order[held])]


def _of_columns(table: LabelledTable, encoder: FeatureEncoder, features: Features) -> list[str]:
    """What is missing, and columns that are taken for texts although most of their values are numbers."""
    notes = []
    if missing := int((~features.numbers.isfinite()).sum()):
        notes.append(
            f"{missing:,} of {features.numbers.numel():,} numbers are missing: the mean of the training rows stands for them"
        )
    for name in encoder.categories:
        texts = table.features[name].cast(pl.String).drop_nulls()
        odd = texts.filter(texts.str.strip_chars().cast(pl.Float64, strict=False).is_null())
        if 0 < len(odd) < len(texts) / 2:
            notes.append(
                f"column {name} is taken for categories: {len(odd):,} of its {len(texts):,} values are no numbers"
                f" (first: {odd[0]!r})"
            )
    return notes


def _unlearnt(train: LabelledRows, test: LabelledRows) -> list[str]:
    only = (train.counts() == 0) & (test.counts() > 0)
    if not bool(only.any()):
        return []
    return [
        f"{int(only.sum()):,} of {len(only):,} labels occur in test rows only: nothing can be learnt of them, and they count"
        f" as missed (first: {test.label_ids[int(only.nonzero()[0])]!r})"
    ]


def _ideal(
    effects: dict[str, NDArray[np.float32]], encoder: FeatureEncoder, label_ids: pl.Series
) -> Float[Tensor, "effects labels"]:
    """The bias, then what each number and each category adds, for the labels that there are."""
    drawn = label_ids.str.extract(r"(\d+)").cast(pl.Int64).to_numpy()
    kinds = [kind for codes in encoder.categories.values() for kind in codes]  # in the order of their codes
    return torch.from_numpy(np.stack([effects[name] for name in ("", *encoder.numbers, *kinds)])[:, drawn])
