"""Files of judged lists: svmlight with ``qid``, LightGBM's with a file of group sizes, CSV, TSV, Parquet."""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rankwell.data.judged import JudgedLists, joined
from rankwell.data.number_tables import Source, finite_numbers, frame_of, opened
from rankwell.data.text_files import read_text
from rankwell.errors import ConfigError, DataError, require

__all__ = ["JudgedFormat", "read_documents", "read_judged"]

JudgedFormat: TypeAlias = Literal["svmlight", "csv", "tsv", "parquet"]

_NUMBER = rb"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|nan|inf)"
_LINE = re.compile(rb"\s*%b(\s+qid:\d+)?(\s+\d+:%b)*\s*" % (_NUMBER, _NUMBER), re.IGNORECASE)

_DOCUMENT = re.compile(rb"#\s*docid\s*=\s*(\S+)")


def read_judged(
    paths: Sequence[str | Path],
    *,
    format: JudgedFormat | None = None,
    query: str = "query",
    label: str = "label",
    ignore: Sequence[str] = (),
    weight: str | None = None,
    labelled: bool = True,
) -> JudgedLists:
    """Read files as one, one behind the other: svmlight with ``qid`` or a ``.query`` file of group sizes, CSV, TSV, Parquet.

    A table has a column of queries, one of labels, and a feature in every other column but those to ``ignore``; files must
    have the same columns. Documents of a query must follow each other. Feature numbers of svmlight start where they start:
    at 0 or at 1, which makes no difference but an empty column. Its queries are whole numbers; those of tables stay text.
    A table whose features are called ``0``, ``1`` … in that order is as svmlight in this: they go by number.

    Weights of documents are the column ``weight`` of a table, where it has one; of svmlight, the file ``.weight`` beside it, a
    line a document, as LightGBM has it. Without ``labelled``, tables need no labels, and theirs are 0. Raises
    :class:`DataError` with the file and, of text, the line.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "train.txt"
    >>> _ = file.write_text("2 qid:7 1:0.5 # a note\\n0 qid:7 2:1\\n1 qid:9 1:1\\n")
    >>> read_judged([file])
    JudgedLists(3 documents of 2 queries, 3 features)
    """
    if not paths:
        raise ConfigError("judged lists need at least one file: got none.")
    parts = [_read(Path(path), format, query, label, ignore, weight, labelled) for path in paths]
    lists = joined(parts, [str(path) for path in paths])
    if (repeated := lists.query_ids.filter(lists.query_ids.is_duplicated())).len():
        raise DataError(
            f"the documents of a query must follow each other: query {repeated[0]!r} comes in {len(repeated)} places of"
            f" {', '.join(map(str, paths))}. Sort by query, or give queries of different files different ids."
        )
    return lists


def read_documents(
    paths: Sequence[str | Path],
    lists: JudgedLists,
    *,
    column: str | None = None,
    format: JudgedFormat | None = None,
) -> pl.Series:
    """Ids of the documents of the lists that these files hold: a column of tables, ``# docid = …`` behind lines of svmlight
    as LETOR has it, else the number of the document in its query, from 1.

    Raises :class:`DataError` where a query has an id twice.
    """
    sources = [opened(Path(path), format, "svmlight") for path in paths]
    found = [_documents(source, column) for source in sources]
    queries = np.repeat(np.arange(len(lists)), np.diff(lists.offsets))
    if any(ids is None for ids in found):
        return pl.Series((np.arange(len(queries)) - lists.offsets[queries] + 1).astype(str))
    ids = pl.concat([ids for ids in found if ids is not None])
    twice = pl.DataFrame({"query": queries, "document": ids}).is_duplicated().arg_true()
    if twice.len():
        row = int(twice[0])
        raise DataError(
            f"{', '.join(map(str, paths))}: a query must have each document once: {lists.query_ids[int(queries[row])]!r} has"
            f" {ids[row]!r} twice."
        )
    return ids


def _documents(source: Source, column: str | None) -> pl.Series | None:
    if source.kind == "svmlight":
        if column is not None:
            raise ConfigError(f"{source.path} has no columns: leave the column of documents out.")
        lines = [line for line in source.text.split(b"\n") if line.partition(b"#")[0].strip()]
        ids = [_DOCUMENT.search(line) for line in lines]
        return None if None in ids else pl.Series([match[1].decode() for match in ids if match])
    if column is None:
        return None
    return frame_of(source)[column].cast(pl.String).fill_null("")


def _read(
    path: Path,
    format: JudgedFormat | None,
    query: str,
    label: str,
    ignore: Sequence[str],
    weight: str | None,
    labelled: bool,
) -> JudgedLists:
    source = opened(path, format, "svmlight")
    if source.kind == "svmlight":
        return _weighted(source, _read_svmlight(source))
    frame = frame_of(source)
    for name in (query, *([label] if labelled else ()), *ignore):
        if name not in frame.columns:
            raise DataError(f"{path}: there is no column {name!r}: there are {', '.join(frame.columns[:20])}.")
    columns = [name for name in frame.columns if name not in (query, label, weight, *ignore)]
    if not columns or not len(frame):
        lacks = "column of features" if not columns else "document"
        raise DataError(f"{path}: there is no {lacks}. Give a file with at least one.")
    if (absent := frame[query].is_null().arg_true()).len():
        raise DataError(f"{source.at(int(absent[0]))}: column {query!r} must name the query: it is empty.")
    features = np.stack([finite_numbers(source, frame[name]) for name in columns], axis=1)
    labels = finite_numbers(source, frame[label]) if labelled else np.zeros(len(frame), dtype=np.float32)
    numbered = columns == [str(place) for place in range(len(columns))]
    names = () if numbered else tuple(columns)
    weights = finite_numbers(source, frame[weight]) if weight in frame.columns else None
    return _grouped(source, features, labels, frame[query].cast(pl.String), names, weights)


def _read_svmlight(source: Source) -> JudgedLists:
    datasets = require("sklearn.datasets", "ltr")
    sizes = source.path.with_name(source.path.name + ".query")
    try:
        matrix, labels, queries = datasets.load_svmlight_file(
            io.BytesIO(source.text), query_id=True, zero_based=True, dtype=np.float32
        )
        features = matrix.toarray()
    except (ValueError, OverflowError, MemoryError) as error:
        raise _fault(source, str(error)) from error
    if not len(labels):
        raise DataError(f"{source.path}: there is no document. Give a file with at least one.")
    if (odd := np.argwhere(~np.isfinite(features))).size:
        row, feature = odd[0]
        raise DataError(
            f"{source.at(int(row))}: feature {feature} must be a finite number. Correct or remove the line."
        )
    if sizes.is_file():
        return _by_sizes(source, sizes, features, labels)
    if len(queries) != len(labels):
        lines = [line.partition(b"#")[0] for line in source.text.split(b"\n")]
        line = next(number for number, line in enumerate(lines, start=1) if line.strip() and b"qid:" not in line)
        raise DataError(
            f"{source.path}, line {line}: each line must name its query by qid:, or {sizes.name} beside the file hold the"
            " number of documents of each query, one a line: there is neither."
        )
    return _grouped(source, features, labels, pl.Series(queries).cast(pl.String))


def _weighted(source: Source, lists: JudgedLists) -> JudgedLists:
    """The lists with the weights of the file beside theirs, if there is one."""
    file = source.path.with_name(source.path.name + ".weight")
    if not file.is_file():
        return lists
    weights = []
    for number, line in enumerate(read_text(file).split(b"\n"), start=1):
        try:
            weights.append(float(line))
        except ValueError:
            weights.append(math.nan)
        if not 0 <= weights[-1] < math.inf:
            said = line.decode(errors="replace")
            raise DataError(f"{file}, line {number}: a weight must be a finite number, at least 0: got {said!r}.")
    if len(weights) != len(lists.labels):
        raise DataError(
            f"{file}: there must be a weight for each of the {len(lists.labels)} documents of {source.path}: got"
            f" {len(weights)}."
        )
    return replace(lists, weights=np.array(weights, dtype=np.float32))


def _fault(source: Source, reason: str) -> DataError:
    """The first line that is not of the format, else the reader's own words."""
    for number, whole in enumerate(source.text.split(b"\n"), start=1):
        line = whole.partition(b"#")[0]
        places = [int(place) for place in re.findall(rb"\s(\d+):", line)]
        if line.strip() and (not _LINE.fullmatch(line) or places != sorted(set(places)) or places[-1:] > [2**31 - 2]):
            said = whole[:60].decode(errors="replace")
            return DataError(
                f"{source.path}, line {number}: a line must be 'label qid:query feature:value …', all numbers, with features"
                f" ascending: got {said!r}. Correct or remove it."
            )
    return DataError(f"{source.path}: the file must be readable as svmlight: {reason}. Correct it, or name its format.")


def _by_sizes(source: Source, file: Path, features: NDArray[np.float32], labels: NDArray[Any]) -> JudgedLists:
    """Queries by a file of group sizes, as LightGBM has it; they are numbered."""
    sizes = []
    for number, line in enumerate(read_text(file).split(b"\n"), start=1):
        if not line.strip().isdigit() or int(line) < 1:
            raise DataError(
                f"{file}, line {number}: a line must be a number of documents, 1 or more: got {line.decode()!r}."
            )
        sizes.append(int(line))
    if sum(sizes) != len(labels):
        raise DataError(
            f"{file}: the numbers must add up to the {len(labels)} documents of {source.path}: got {sum(sizes)}."
        )
    offsets = np.array([0, *sizes], dtype=np.int64).cumsum()
    ids = pl.Series([f"{source.path.stem}-{number}" for number in range(1, len(sizes) + 1)])
    return JudgedLists(features, _checked(source, labels), offsets, ids)


def _grouped(
    source: Source,
    features: NDArray[np.float32],
    labels: NDArray[Any],
    queries: pl.Series,
    names: tuple[str, ...] = (),
    weights: NDArray[np.float32] | None = None,
) -> JudgedLists:
    """Queries by an id a document; equal ids that follow each other are one."""
    runs = queries.rle().struct.unnest()
    ids = runs["value"]
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), runs["len"].cast(pl.Int64).to_numpy().cumsum()])
    if (again := (~ids.is_first_distinct()).arg_true()).len():
        raise DataError(
            f"{source.at(int(offsets[again[0]]))}: the documents of a query must follow each other: query {ids[again[0]]!r}"
            " comes again. Sort by query."
        )
    if weights is not None and (odd := np.flatnonzero(weights < 0)).size:
        row = int(odd[0])
        raise DataError(f"{source.at(row)}: weights must be at least 0: got {weights[row]:g}. Correct it.")
    return JudgedLists(features, _checked(source, labels), offsets, ids, names, weights)


def _checked(source: Source, labels: NDArray[Any]) -> NDArray[np.float32]:
    if (odd := np.flatnonzero(~(np.isfinite(labels) & (labels >= 0)))).size:
        row = int(odd[0])
        raise DataError(
            f"{source.at(row)}: labels must be finite numbers, at least 0: got {labels[row]:g}. Correct it."
        )
    return labels.astype(np.float32)
