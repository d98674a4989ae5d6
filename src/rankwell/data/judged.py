"""Judged lists: for each query some documents, with features and a graded label each; and the files that hold them."""

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from rankwell.data.text_files import read_text, unreadable
from rankwell.errors import ConfigError, DataError, require

__all__ = ["JudgedFormat", "JudgedLists", "read_judged", "synthesise_judged", "with_width"]

JudgedFormat: TypeAlias = Literal["svmlight", "csv", "tsv", "parquet"]

_SUFFIXES: dict[str, JudgedFormat] = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".pq": "parquet"}

_LINE = re.compile(rb"\s*[-+.\w]+(\s+qid:\S+)?(\s+\d+:[-+.\w]+)*\s*(#.*)?")


@dataclass(frozen=True, eq=False, repr=False)
class JudgedLists:
    """Documents of query after query: features ``[n, f]``, labels ``[n]``, float32, and ``offsets`` ``[queries + 1]``.

    ``query_ids`` are those of the file. Labels are at least 0; higher is more relevant. A query may have no relevant document:
    measures then skip it, and so do the losses that need one.

    Raises :class:`DataError` where shapes disagree, a feature or label is not finite, or a label is below 0.

    >>> labels = np.array([1, 0, 2], dtype=np.float32)
    >>> JudgedLists(np.eye(3, dtype=np.float32), labels, np.array([0, 2, 3]), pl.Series(["a", "b"]))
    JudgedLists(3 documents of 2 queries, 3 features)
    """

    features: NDArray[np.float32]
    labels: NDArray[np.float32]
    offsets: NDArray[np.int64]
    query_ids: pl.Series

    def __post_init__(self) -> None:
        rows = len(self.labels)
        if self.features.shape[:1] != (rows,) or self.features.ndim != 2:
            raise DataError(f"features must be [{rows}, f], a row a label: got {self.features.shape}.")
        if len(self.offsets) != len(self.query_ids) + 1 or self.offsets[-1] != rows:
            raise DataError(
                f"offsets must be one more than the {len(self.query_ids)} queries and end at {rows}: got"
                f" {len(self.offsets)}, ending at {self.offsets[-1]}."
            )
        for name, values in (("features", self.features), ("labels", self.labels)):
            if not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values))[0][0])
                raise DataError(f"{name} must be finite numbers: document {row + 1} has another. Correct or remove it.")
        if rows and self.labels.min() < 0:
            row = int(self.labels.argmin())
            raise DataError(f"labels must be at least 0: document {row + 1} has {self.labels[row]:g}.")

    def __len__(self) -> int:
        return len(self.query_ids)

    def __repr__(self) -> str:
        return (
            f"JudgedLists({len(self.labels):,} documents of {len(self):,} queries, {self.features.shape[1]} features)"
        )

    def tensors(self) -> tuple[Float[Tensor, "n f"], Float[Tensor, " n"], Int[Tensor, " queries_plus_1"]]:
        """Features, labels and offsets, sharing memory with the arrays."""
        return torch.from_numpy(self.features), torch.from_numpy(self.labels), torch.from_numpy(self.offsets)

    def take(self, queries: NDArray[np.int64]) -> "JudgedLists":
        """The lists of these queries, in that order."""
        parts = [np.arange(self.offsets[query], self.offsets[query + 1]) for query in queries]
        rows = np.concatenate([*parts, np.zeros(0, dtype=np.int64)]).astype(np.int64)
        sizes = np.array([0, *(len(part) for part in parts)], dtype=np.int64)
        ids = self.query_ids[queries]
        return JudgedLists(self.features[rows], self.labels[rows], sizes.cumsum(), ids)

    def without_relevant(self) -> int:
        """How many queries have no document with a label above 0."""
        best = np.maximum.reduceat(self.labels, self.offsets[:-1]) if len(self.labels) else np.zeros(0)
        return int((best <= 0).sum())

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of each figure as text, for a table."""
        sizes, (grades, counts) = np.diff(self.offsets), np.unique(self.labels, return_counts=True)
        quantiles = np.quantile(sizes, [0, 0.25, 0.5, 0.75, 1]) if len(sizes) else np.zeros(5)
        said = ", ".join(f"{grade:g}: {count:,}" for grade, count in zip(grades[:12], counts, strict=False))
        return [
            ("queries", f"{len(self):,}"),
            ("documents", f"{len(self.labels):,}"),
            ("features", f"{self.features.shape[1]:,}"),
            ("documents of a query (min 25 50 75 % max)", " ".join(f"{value:,.0f}" for value in quantiles)),
            ("documents by label", said + (", …" if len(grades) > 12 else "")),
            ("queries without a relevant document", f"{self.without_relevant():,}"),
        ]

    def fingerprint(self) -> str:
        """SHA-256, in hex, over everything in order."""
        digest = hashlib.sha256()
        for array in (self.features, self.labels, self.offsets):
            digest.update(f"{array.dtype.str} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update(pl.DataFrame({"id": self.query_ids}).write_json().encode())
        return digest.hexdigest()


def read_judged(
    paths: Sequence[str | Path],
    *,
    format: JudgedFormat | None = None,
    query: str = "query",
    label: str = "label",
    ignore: Sequence[str] = (),
) -> JudgedLists:
    """Read files as one, one behind the other: svmlight with ``qid`` or a ``.query`` file of group sizes, CSV, TSV, Parquet.

    A table has a column of queries, one of labels, and a feature in every other column but those to ``ignore``. Documents of
    a query must follow each other. Feature numbers of svmlight start where they start: at 0 or at 1, which makes no difference
    but an empty column. Ids stay text. Raises :class:`DataError` with the file and, of text, the line.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "train.txt"
    >>> _ = file.write_text("2 qid:7 1:0.5 # a note\\n0 qid:7 2:1\\n1 qid:9 1:1\\n")
    >>> read_judged([file])
    JudgedLists(3 documents of 2 queries, 3 features)
    """
    if not paths:
        raise ConfigError("judged lists need at least one file: got none.")
    parts = [_read(Path(path), format, query, label, ignore) for path in paths]
    width = max(part.features.shape[1] for part in parts)
    if len({part.features.shape[1] for part in parts}) > 1:
        parts = [with_width(part, width, str(path)) for part, path in zip(parts, paths, strict=True)]
    ids = pl.concat([part.query_ids.cast(pl.String) for part in parts])
    if (repeated := ids.filter(ids.is_duplicated())).len():
        raise DataError(
            f"the documents of a query must follow each other: query {repeated[0]!r} comes in {len(repeated)} places of"
            f" {', '.join(map(str, paths))}. Sort by query, or give queries of different files different ids."
        )
    sizes = np.concatenate([np.zeros(1, dtype=np.int64), *(np.diff(part.offsets) for part in parts)])
    return JudgedLists(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        sizes.cumsum(),
        ids,
    )


def synthesise_judged(
    num_queries: int = 400,
    documents: int = 20,
    num_features: int = 12,
    noise: float = 0.5,
    seed: int = 0,
) -> tuple[JudgedLists, JudgedLists, JudgedLists]:
    r"""Training, validation and test lists (60, 20, 20 %) whose relevance is known to come from the features.

    .. math:: y = \text{grade}(u), \qquad u = w \cdot x + 2 x_0 x_1 + \varepsilon

    Features are normal, w falls off, ε has the deviation ``noise``; the best 10 % of all documents have the grade 2, the
    next 20 % the grade 1. The product of two features is what a linear model cannot see. Lists have half to one and a half
    times as many ``documents``.

    >>> [len(part) for part in synthesise_judged(num_queries=10)]
    [6, 2, 2]
    """
    if min(num_queries, documents) < 5 or num_features < 2:
        raise ConfigError(
            f"generated lists need 5 queries and documents and 2 features: got {num_queries}, {documents}, {num_features}."
        )
    rng = np.random.default_rng(seed)
    sizes = rng.integers(documents // 2, documents + documents // 2 + 1, num_queries)
    features = rng.standard_normal((int(sizes.sum()), num_features)).astype(np.float32)
    useful = features @ (1 / np.arange(1.0, num_features + 1)) + 2 * features[:, 0] * features[:, 1]
    useful += noise * rng.standard_normal(len(useful))
    labels = np.searchsorted(np.quantile(useful, [0.7, 0.9]), useful).astype(np.float32)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), sizes.cumsum(dtype=np.int64)])
    lists = JudgedLists(features, labels, offsets, pl.Series([f"q{number}" for number in range(num_queries)]))
    ends = [round(share * num_queries) for share in (0.6, 0.8)]
    train, valid, test = (lists.take(part) for part in np.split(np.arange(num_queries), ends))
    return train, valid, test


def with_width(lists: JudgedLists, width: int, what: str) -> JudgedLists:
    """The lists with empty columns up to the width, as sparse files leave out what is zero in all their rows.

    Raises :class:`DataError` where they have more features than that; ``what`` names them there.
    """
    rows, own = lists.features.shape
    if own > width:
        raise DataError(f"{what}: documents must have the {width} features of the training data: got {own}.")
    added = np.zeros((rows, width - own), dtype=np.float32)
    return replace(lists, features=np.concatenate([lists.features, added], axis=1))


def _read(path: Path, format: JudgedFormat | None, query: str, label: str, ignore: Sequence[str]) -> JudgedLists:
    kind = format or _SUFFIXES.get(path.suffix, "svmlight")
    if kind == "svmlight":
        return _read_svmlight(path)
    frame = _frame(path, kind)
    for name in (query, label, *ignore):
        if name not in frame.columns:
            raise DataError(f"{path}: there is no column {name!r}: there are {', '.join(frame.columns[:20])}.")
    features = frame.drop(query, label, *ignore)
    values = {name: _numbers(path, features[name]) for name in features.columns}
    matrix = np.stack(list(values.values()), axis=1) if values else np.zeros((len(frame), 0), dtype=np.float32)
    return _grouped(path, matrix, _numbers(path, frame[label]), frame[query].cast(pl.String))


def _frame(path: Path, kind: JudgedFormat) -> pl.DataFrame:
    try:
        if kind == "parquet":
            return pl.read_parquet(path)
        data = read_text(path)
        return pl.read_csv(data, separator="\t" if kind == "tsv" else ",", infer_schema=False)
    except OSError as error:
        raise unreadable(path, error) from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{path}: the file must be readable as {kind}: {reason}. Correct it, or name its format."
        ) from error


def _numbers(path: Path, column: pl.Series) -> NDArray[np.float32]:
    """A column as numbers; what is none is an error with its line."""
    numbers = column.cast(pl.Float32, strict=False)
    if (bad := (numbers.is_null() | ~numbers.is_finite().fill_null(False)).arg_true()).len():
        row = int(bad[0])
        raise DataError(
            f"{path}, line {row + 2}: column {column.name!r} must hold finite numbers: got {column[row]!r}."
            " Correct the line, or leave the column out by --data.ignore."
        )
    return numbers.to_numpy()


def _read_svmlight(path: Path) -> JudgedLists:
    datasets = require("sklearn.datasets", "ltr")
    data = read_text(path)
    sizes = path.with_name(path.name + ".query")
    try:
        matrix, labels, groups = datasets.load_svmlight_file(
            io.BytesIO(data), query_id=True, zero_based=True, dtype=np.float32
        )
    except ValueError as error:
        raise DataError(_fault(path, data, str(error))) from error
    features = matrix.toarray().astype(np.float32)
    if sizes.is_file():
        return _by_sizes(path, sizes, features, labels)
    if not len(groups) or b"qid:" not in data:
        raise DataError(
            f"{path}: each line must name its query by qid:, or {sizes.name} beside it hold the number of documents of each"
            " query, one a line: there is neither."
        )
    return _grouped(path, features, labels, pl.Series(groups).cast(pl.String))


def _fault(path: Path, data: bytes, reason: str) -> str:
    """The first line that is not of the format, else the reader's own words."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not _LINE.fullmatch(line):
            said = line[:60].decode(errors="replace")
            return (
                f"{path}, line {number}: a line must be 'label qid:query feature:value …' with features ascending: got"
                f" {said!r}. Correct or remove it."
            )
    return f"{path}: the file must be readable as svmlight: {reason}. Correct it, or name its format."


def _by_sizes(path: Path, file: Path, features: NDArray[np.float32], labels: NDArray[Any]) -> JudgedLists:
    """Queries by a file of group sizes, as LightGBM has it; they are numbered."""
    sizes = []
    for number, line in enumerate(read_text(file).split(b"\n"), start=1):
        if not line.strip().isdigit() or int(line) < 1:
            raise DataError(
                f"{file}, line {number}: a line must be a number of documents, 1 or more: got {line.decode()!r}."
            )
        sizes.append(int(line))
    if sum(sizes) != len(labels):
        raise DataError(f"{file}: the numbers must add up to the {len(labels)} documents of {path}: got {sum(sizes)}.")
    offsets = np.array([0, *sizes], dtype=np.int64).cumsum()
    ids = pl.Series([f"{path.stem}-{number}" for number in range(1, len(sizes) + 1)])
    return JudgedLists(features, labels.astype(np.float32), offsets, ids)


def _grouped(path: Path, features: NDArray[np.float32], labels: NDArray[Any], queries: pl.Series) -> JudgedLists:
    """Queries by an id a document; equal ids that follow each other are one."""
    runs = queries.rle().struct.unnest()
    ids = runs["value"]
    if (repeated := ids.filter(ids.is_duplicated())).len():
        raise DataError(
            f"{path}: the documents of a query must follow each other: query {repeated[0]!r} comes twice. Sort by query."
        )
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), runs["len"].cast(pl.Int64).to_numpy().cumsum()])
    return JudgedLists(features, labels.astype(np.float32), offsets, ids)
