"""Columns of items or users as features: texts are categories, numbers are numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankwell.errors import ConfigError, DataError, nearest
from rankwell.types import Features, Ragged

__all__ = ["FeatureEncoder", "split_values"]

SEPARATOR = "|"
"""Between the values of a text that has several, such as genres."""


@dataclass(frozen=True)
class FeatureEncoder:
    """How columns become features, fixed by one table and good for others: those of new items, too.

    A column all of whose values are numbers is one number (a year, a price); one of lists or arrays of numbers is as many, such
    as a text's embedding; any other is a text, whose values, split at ``|``, are categories. What is missing is no category, or
    NaN, and so are numbers that are not finite. A category that the first table did not have is left out.

    >>> table = pl.DataFrame({"genres": ["Drama|War", "War"], "year": ["1995", ""]})
    >>> encode = FeatureEncoder.fit(table, ["genres", "year"])
    >>> encode(pl.DataFrame({"genres": ["War|Film-Noir"], "year": [None]}))
    Features(numbers=tensor([[nan]]), categories=Ragged(offsets=tensor([0, 1]), values=tensor([1])), num_categories=2)
    """

    numbers: Mapping[str, int]
    """Columns of numbers, and how many each holds."""
    categories: Mapping[str, Mapping[str, int]]
    """Columns of texts, and the codes of their values; no code twice."""

    @classmethod
    def fit(cls, table: pl.DataFrame, columns: Sequence[str], *, source: str = "the table") -> "FeatureEncoder":
        """From the columns of a table; ``source`` names it in errors. Time O(values)."""
        numbers: dict[str, int] = {}
        categories: dict[str, Mapping[str, int]] = {}
        count = 0
        for name in columns:
            if name not in table.columns:
                raise ConfigError(f"{source} has no column {name!r}. {nearest(name, table.columns)}")
            column = table[name]
            if column.dtype.is_nested():
                numbers[name] = _width(column, source)
            elif column.dtype.is_numeric() or (_readable(column).all() and _as_numbers(column).count()):
                numbers[name] = 1
            else:
                values = split_values(column).explode().drop_nulls().unique(maintain_order=True).to_list()
                categories[name] = {value: count + code for code, value in enumerate(values)}
                count += len(values)
        return cls(numbers, categories)

    def __call__(self, table: pl.DataFrame) -> Features:
        """A row of features for each row of the table."""
        for name in (*self.numbers, *self.categories):
            if name not in table.columns:
                raise DataError(
                    f"the table must have the column {name!r}, as the first one had. Add it; it may be empty."
                )
        blocks = [_block(table[name], width) for name, width in self.numbers.items()]
        together = np.concatenate([np.zeros((len(table), 0), dtype=np.float32), *blocks], axis=1)
        count = sum(map(len, self.categories.values()))
        return Features(torch.from_numpy(together), self._codes(table), count)

    def _codes(self, table: pl.DataFrame) -> Ragged:
        """The codes of each row's values, ascending, each once."""
        keys: list[Tensor] = [torch.zeros(0, dtype=torch.int64)]
        most = 1 + sum(map(len, self.categories.values()))
        for name, codes in self.categories.items():
            if table[name].dtype.is_nested():
                raise DataError(
                    f"column {name!r} must hold texts, as in training: got {table[name].dtype}. Correct it."
                )
            lists = (
                pl.DataFrame({"row": np.arange(len(table)), "value": split_values(table[name])})
                .explode("value")
                .drop_nulls()
            )
            found = lists["value"].replace_strict(codes, default=None, return_dtype=pl.Int64)
            known = lists.with_columns(found.alias("code")).drop_nulls()
            keys.append(torch.from_numpy((known["row"] * most + known["code"]).to_numpy().copy()))
        unique: Tensor = torch.cat(keys).unique()  # type: ignore[no-untyped-call]
        sizes = torch.bincount(unique // most, minlength=len(table))
        return Ragged(torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]), unique % most)


def split_values(column: pl.Series) -> pl.Series:
    """Lists of the values of a text, without empty ones; null for none."""
    lists = column.cast(pl.String).str.split(SEPARATOR).list.eval(pl.element().str.strip_chars())
    return lists.list.eval(pl.element().filter(pl.element() != ""))


def _as_numbers(column: pl.Series) -> pl.Series:
    """Finite numbers; null for others."""
    numbers = column if column.dtype.is_numeric() else column.cast(pl.String).str.strip_chars()
    floats = numbers.cast(pl.Float64, strict=False)
    return floats.set(floats.is_infinite() | floats.is_nan(), None)


def _readable(column: pl.Series) -> pl.Series:
    """Whether each is a number, finite or not, or empty: NaN in a column of numbers does not make it one of texts."""
    texts = column.cast(pl.String).str.strip_chars().fill_null("")
    return texts.cast(pl.Float64, strict=False).is_not_null() | (texts == "")


def _width(column: pl.Series, source: str) -> int:
    """How many numbers each list or array of the column holds."""
    inner = getattr(column.dtype, "inner", None)
    lists = column.cast(pl.List(inner)) if inner is not None and inner.is_numeric() else None
    widths = set() if lists is None else set(lists.list.len().drop_nulls().to_list())
    if len(widths) != 1:
        raise DataError(
            f"{source}: column {column.name!r} must hold texts, numbers, or lists of as many numbers each: got {column.dtype}"
            f"{f' of {min(widths)} to {max(widths)}' if widths else ''}. Name another column."
        )
    return int(widths.pop())


def _block(column: pl.Series, width: int) -> NDArray[np.float32]:
    """The numbers of a column, ``[rows, width]``."""
    if not column.dtype.is_nested():
        if (column.cast(pl.String).str.strip_chars().fill_null("") == "").all():
            return np.full((len(column), width), np.nan, dtype=np.float32)
        if width > 1:
            raise DataError(
                f"column {column.name!r} must hold lists of {width} numbers, as in training: got {column.dtype}."
            )
        if not column.dtype.is_numeric() and not (readable := _readable(column)).all():
            row = int((~readable).arg_true()[0])
            raise DataError(
                f"column {column.name!r} must hold numbers, as in training: row {row + 1} has {column[row]!r}. Correct it."
            )
        return _as_numbers(column).fill_null(float("nan")).to_numpy().astype(np.float32)[:, None]
    inner = getattr(column.dtype, "inner", None)
    if inner is None or not (inner.is_numeric() or inner == pl.Null):
        raise DataError(f"column {column.name!r} must hold numbers, as in training: got {column.dtype}. Correct it.")
    block = np.full((len(column), width), np.nan, dtype=np.float32)
    for row, values in enumerate(column.to_list()):
        if values is not None:
            if len(values) != width:
                raise DataError(
                    f"column {column.name!r} must hold {width} numbers a row, as in training: row {row + 1} has {len(values)}."
                )
            block[row] = [float("nan") if value is None else value for value in values]
    return block
