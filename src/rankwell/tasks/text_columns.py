"""Columns of texts as vectors, by a text encoder."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import torch

from rankwell.errors import DataError
from rankwell.mining.embed import TextVectors
from rankwell.text.encoder import load_encoder

__all__ = ["with_vectors"]


def with_vectors(frame: pl.DataFrame, texts: Sequence[str], encoder: str, cache: str | None) -> pl.DataFrame:
    """The table, its columns of texts as vectors of the encoder; an empty text is no vector.

    Each distinct text of a column is encoded once, and none that the cache, a folder, holds. What is no text any more stays.
    """
    named = [name for name in texts if name in frame.columns and not frame[name].dtype.is_nested()]
    if not named:
        return frame
    vectors = TextVectors(encoder, lambda: load_encoder(encoder), cache=None if cache is None else Path(cache))
    return frame.with_columns(_encoded(vectors, frame[name]) for name in named)


def _encoded(vectors: TextVectors, column: pl.Series) -> pl.Series:
    texts = column.cast(pl.String).str.strip_chars()
    distinct = texts.filter((texts != "").fill_null(False)).unique(maintain_order=True)
    if not len(distinct):
        raise DataError(f"column {column.name!r} must hold texts: all are empty. Leave it out of data.texts.")
    made = torch.cat([torch.as_tensor(part) for part in vectors.encode(distinct.to_list())])
    places = pl.DataFrame({"text": distinct, "vector": pl.Series(made.numpy())})
    joined = pl.DataFrame({"text": texts}).join(places, on="text", how="left", maintain_order="left")
    return joined["vector"].alias(column.name)
