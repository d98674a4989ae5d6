"""Rows with features and a set of labels each, as films with their genres and tags; generated ones, too."""

import hashlib
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from rankwell.data.features import FeatureEncoder
from rankwell.errors import ConfigError, DataError
from rankwell.lists import take_lists
from rankwell.types import Features, Ragged

__all__ = ["LabelledRows", "indicators", "synthesise_labelled", "take_features"]


@dataclass(frozen=True, eq=False, repr=False)
class LabelledRows:
    """Features of rows, and for each the codes of its labels, ascending, at least one, none twice.

    ``ids`` are those of the file, ``label_ids`` the labels by code; ``encoder`` is how columns became features.

    Raises :class:`DataError` where numbers of rows disagree, a row has no label or one twice, or a code is none of a label.

    >>> features = Features(torch.zeros(2, 1), Ragged(torch.zeros(3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)), 0)
    >>> labels = Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]))
    >>> LabelledRows(features, labels, pl.Series(["a", "b"]), pl.Series(["Comedy", "War"]), FeatureEncoder({"year": 1}, {}))
    LabelledRows(2 rows, 2 labels, 3 pairs)
    """

    features: Features
    labels: Ragged
    ids: pl.Series
    label_ids: pl.Series
    encoder: FeatureEncoder

    def __post_init__(self) -> None:
        rows, sizes = len(self.ids), self.labels.offsets.diff()
        if len(sizes) != rows or len(self.features.numbers) != rows:
            raise DataError(
                f"features and labels must be those of the {rows} ids: got {len(self.features.numbers)} and {len(sizes)} rows."
            )
        if bool((sizes < 1).any()):
            raise DataError(
                f"each row must have a label: {self.ids[int(sizes.argmin())]!r} has none. Leave it out, or label it."
            )
        codes = self.labels.values
        if len(codes) and (int(codes.min()) < 0 or int(codes.max()) >= len(self.label_ids)):
            raise DataError(f"codes of labels must be from 0 to {len(self.label_ids) - 1}: got {int(codes.max())}.")
        keys = torch.repeat_interleave(sizes) * len(self.label_ids) + codes
        if bool((keys.diff() <= 0).any()):
            raise DataError(
                "codes of a row's labels must ascend, none twice. Sort them, and leave out what is repeated."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"LabelledRows({len(self):,} rows, {len(self.label_ids):,} labels, {len(self.labels.values):,} pairs)"

    def take(self, rows: NDArray[np.int64]) -> "LabelledRows":
        """These rows, in that order."""
        places = torch.from_numpy(rows)
        return LabelledRows(
            take_features(self.features, places),
            take_lists(self.labels, places),
            self.ids[rows],
            self.label_ids,
            self.encoder,
        )

    def counts(self) -> Int[Tensor, " labels"]:
        """How many rows each label has."""
        return torch.bincount(self.labels.values, minlength=len(self.label_ids))

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of each figure as text, for a table."""
        sizes, counts = self.labels.offsets.diff().numpy(), self.counts()
        quantiles = [np.quantile(of, [0, 0.25, 0.5, 0.75, 1]) for of in (sizes, counts.numpy())]
        common = counts.argsort(descending=True, stable=True)[:5].tolist()
        said = [" ".join(f"{value:,.0f}" for value in of) for of in quantiles]
        return [
            ("rows", f"{len(self):,}"),
            ("labels", f"{len(self.label_ids):,}"),
            ("labels of a row (min 25 50 75 % max)", said[0]),
            ("rows of a label (min 25 50 75 % max)", said[1]),
            ("commonest labels", ", ".join(f"{self.label_ids[code]}: {int(counts[code]):,}" for code in common)),
            ("numbers", f"{self.features.numbers.shape[1]:,}"),
            ("categories", f"{self.features.num_categories:,}"),
        ]

    def fingerprint(self) -> str:
        """SHA-256, in hex, over everything in order."""
        digest = hashlib.sha256()
        for tensor in (self.features.numbers, *self.features.categories, *self.labels):
            array = tensor.contiguous().numpy()
            digest.update(f"{array.dtype.str} {array.shape};".encode())
            digest.update(array.data)
        for ids in (self.ids, self.label_ids):
            digest.update(pl.DataFrame({"id": ids}).write_json().encode())
        return digest.hexdigest()


def take_features(features: Features, rows: Int[Tensor, " n"]) -> Features:
    """Features of these rows, in that order."""
    return Features(features.numbers[rows], take_lists(features.categories, rows), features.num_categories)


def indicators(lists: Ragged, width: int) -> Float[Tensor, "rows width"]:
    """Ones where a list has a code, zeros elsewhere.

    >>> indicators(Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1])), 3)
    tensor([[1., 0., 1.],
            [0., 1., 0.]])
    """
    sizes = lists.offsets.diff()
    dense = torch.zeros(len(sizes), width, device=lists.values.device)
    dense[torch.repeat_interleave(sizes, output_size=len(lists.values)), lists.values] = 1
    return dense


def synthesise_labelled(
    num_rows: int = 1000, num_labels: int = 24, num_numbers: int = 6, num_kinds: int = 6, seed: int = 0
) -> tuple[pl.DataFrame, dict[str, NDArray[np.float32]]]:
    r"""A table of rows whose labels are known to come from their features, and what each feature adds to each label.

    .. math:: P(l \mid r) = \sigma(u_{rl}), \qquad u_{rl} = b_l + \sum_f w_{fl}\, x_{rf} + \sum_{c \in r} e_{cl}

    Numbers x are normal, each row has one or two kinds c, and labels have a long tail: b falls with the label's number. A row's
    labels are drawn independently, so that no order of them has a better expected precision at any k than that of u. The
    effects are ``[num_labels]`` each, by the name of the column or the kind, and ``""`` for b. Some rows have no label.

    >>> table, effects = synthesise_labelled(num_rows=10, num_labels=5)
    >>> table.columns, effects["x0"].shape
    (['id', 'x0', 'x1', 'x2', 'x3', 'x4', 'x5', 'kind', 'labels'], (5,))
    """
    if min(num_rows, num_labels) < 5 or min(num_numbers, num_kinds) < 1:
        raise ConfigError(
            "generated rows need 5 rows and labels, a number and a kind: got"
            f" {num_rows}, {num_labels}, {num_numbers} and {num_kinds}."
        )
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal((num_rows, num_numbers)).astype(np.float32)
    kinds = rng.integers(num_kinds, size=(num_rows, 2))  # the same twice is one kind
    of_kinds = np.zeros((num_rows, num_kinds), dtype=np.float32)
    of_kinds[np.arange(num_rows)[:, None], kinds] = 1
    bias = -0.5 - np.log1p(np.arange(num_labels))
    weights = rng.standard_normal((num_numbers, num_labels))
    adds = rng.standard_normal((num_kinds, num_labels))
    chances = 1 / (1 + np.exp(-(bias + numbers @ weights + of_kinds @ adds)))
    drawn = rng.random((num_rows, num_labels)) < chances
    width = len(str(num_labels - 1))
    names = np.array([f"label {number:0{width}d}" for number in range(num_labels)])
    table = pl.DataFrame(
        {
            "id": [f"row {number}" for number in range(num_rows)],
            **{f"x{place}": column for place, column in enumerate(numbers.T)},
            "kind": ["|".join(f"kind {kind}" for kind in np.flatnonzero(row)) for row in of_kinds],
            "labels": ["|".join(names[row]) for row in drawn],
        }
    )
    effects = {"": bias, **{f"x{place}": row for place, row in enumerate(weights)}}
    effects |= {f"kind {kind}": row for kind, row in enumerate(adds)}
    return table, {name: effect.astype(np.float32) for name, effect in effects.items()}
