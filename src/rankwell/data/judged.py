"""Judged lists: for each query some documents, with features and a graded label each."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from rankwell.errors import ConfigError, DataError

__all__ = ["JudgedLists", "aligned", "joined", "synthesise_judged", "with_features"]


@dataclass(frozen=True, eq=False, repr=False)
class JudgedLists:
    """Documents of query after query: features ``[n, f]``, labels ``[n]``, float32, and ``offsets`` ``[queries + 1]``.

    ``query_ids`` are those of the file, and ``names`` those of its columns of features, if they have names. Labels are at least
    0; higher is more relevant. A query may have no relevant document: measures then skip it, and so do the losses that
    need one. ``weights``, if there are any, are one a document: what it counts in the loss.

    Raises :class:`DataError` where shapes disagree, a query has no document, a feature, label or weight is not finite, or a
    label or weight is below 0.

    >>> labels = np.array([1, 0, 2], dtype=np.float32)
    >>> JudgedLists(np.eye(3, dtype=np.float32), labels, np.array([0, 2, 3]), pl.Series(["a", "b"]))
    JudgedLists(3 documents of 2 queries, 3 features)
    """

    features: NDArray[np.float32]
    labels: NDArray[np.float32]
    offsets: NDArray[np.int64]
    query_ids: pl.Series
    names: tuple[str, ...] = ()
    weights: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        rows = len(self.labels)
        if self.features.shape[:1] != (rows,) or self.features.ndim != 2:
            raise DataError(f"features must be [{rows}, f], a row a label: got {self.features.shape}.")
        if len(self.offsets) != len(self.query_ids) + 1 or self.offsets[-1] != rows:
            raise DataError(
                f"offsets must be one more than the {len(self.query_ids)} queries and end at {rows}: got"
                f" {len(self.offsets)}, ending at {self.offsets[-1]}."
            )
        if self.names and len(self.names) != self.features.shape[1]:
            raise DataError(f"names must be one a feature: got {len(self.names)} for {self.features.shape[1]}.")
        if (empty := np.flatnonzero(np.diff(self.offsets) < 1)).size:
            raise DataError(
                f"each query must have documents: {self.query_ids[int(empty[0])]!r} has none. Leave it out."
            )
        if self.weights is not None and self.weights.shape != (rows,):
            raise DataError(f"weights must be one a document, {rows}: got {self.weights.shape}.")
        for name, values in (("features", self.features), ("labels", self.labels), ("weights", self.weights)):
            if values is not None and not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values))[0][0])
                raise DataError(f"{name} must be finite numbers: document {row + 1} has another. Correct or remove it.")
        for name, values in (("labels", self.labels), ("weights", self.weights)):
            if values is not None and rows and values.min() < 0:
                row = int(values.argmin())
                raise DataError(f"{name} must be at least 0: document {row + 1} has {values[row]:g}.")

    def __len__(self) -> int:
        return len(self.query_ids)

    def __repr__(self) -> str:
        return (
            f"JudgedLists({len(self.labels):,} documents of {len(self):,} queries, {self.features.shape[1]} features)"
        )

    def tensors(self) -> tuple[Float[Tensor, "n f"], Float[Tensor, " n"], Int[Tensor, " queries_plus_1"]]:
        """Features, labels and offsets, sharing memory with the arrays."""
        return torch.from_numpy(self.features), torch.from_numpy(self.labels), torch.from_numpy(self.offsets)

    def weight_tensor(self) -> Float[Tensor, " n"] | None:
        """Weights likewise, if there are any."""
        return None if self.weights is None else torch.from_numpy(self.weights)

    def take(self, queries: NDArray[np.int64]) -> "JudgedLists":
        """The lists of these queries, in that order."""
        sizes = np.diff(self.offsets)[queries]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), sizes.cumsum(dtype=np.int64)])
        rows = np.repeat(self.offsets[queries] - offsets[:-1], sizes) + np.arange(offsets[-1])
        ids = self.query_ids[queries]
        weights = None if self.weights is None else self.weights[rows]
        return JudgedLists(self.features[rows], self.labels[rows], offsets, ids, self.names, weights)

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
        arrays = (self.features, self.labels, self.offsets, *(() if self.weights is None else (self.weights,)))
        for array in arrays:
            digest.update(f"{array.dtype.str} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update(pl.DataFrame({"id": self.query_ids}).write_json().encode())
        digest.update("\0".join(self.names).encode())
        return digest.hexdigest()


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


def joined(parts: Sequence[JudgedLists], what: Sequence[str]) -> JudgedLists:
    """The parts as one, one behind the other, with the same features: see :func:`aligned`. Where one has weights, documents of
    a part without weigh 1."""
    parts = aligned(parts, what)
    weighted = any(part.weights is not None for part in parts)
    weights = [np.ones_like(part.labels) if part.weights is None else part.weights for part in parts]
    sizes = np.concatenate([np.zeros(1, dtype=np.int64), *(np.diff(part.offsets) for part in parts)])
    return JudgedLists(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        sizes.cumsum(),
        pl.concat([part.query_ids for part in parts]),
        parts[0].names,
        np.concatenate(weights) if weighted else None,
    )


def aligned(parts: Sequence[JudgedLists], what: Sequence[str]) -> list[JudgedLists]:
    """The parts with the same features in the same order: columns by their names as the first part has them; features
    without names up to the widest part, as sparse files leave out what is zero in all their rows.

    Raises :class:`DataError` where columns are not the same; ``what`` names the parts there.
    """
    names, widths = parts[0].names, [part.features.shape[1] for part in parts]
    width = widths[0] if names else max(widths)
    return [
        with_features(part, width, names, f"{which}: documents must have the features of {what[0]}")
        for part, which in zip(parts, what, strict=True)
    ]


def with_features(lists: JudgedLists, width: int, names: tuple[str, ...], must: str) -> JudgedLists:
    """The lists with these columns in this order; without names, with empty columns up to the width.

    Raises :class:`DataError`, which begins by what must hold, where columns differ or there are more than that.
    """
    if lists.names != names:
        if odd := sorted(set(names) ^ set(lists.names), key=lambda name: (name.isdecimal(), name)):
            raise DataError(
                f"{must}: {odd[0]!r} is not among both. Give the same columns, or leave out by --data.ignore."
            )
        order = [lists.names.index(name) for name in names]
        return replace(lists, features=np.ascontiguousarray(lists.features[:, order]), names=names)
    own = lists.features.shape[1]
    if own > width:
        raise DataError(f"{must}: {width} at most, got {own}.")
    if own == width:
        return lists
    return replace(lists, features=np.pad(lists.features, ((0, 0), (0, width - own))))
