"""Examples with a class each, as images of digits: what embeddings are learnt from, so that the like are near each other."""

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

__all__ = ["Examples", "Generated", "joined_examples", "like", "synthesise_examples"]


@dataclass(frozen=True, eq=False, repr=False)
class Examples:
    """Features ``[n, f]``, or images ``[n, channels, height, width]``, float32, and the code of each one's class, int64.

    ``class_ids`` are the classes by code, ``rows`` where in its file each example stands, from 1, and ``names`` the columns of
    features, if they have names.

    Raises :class:`DataError` where shapes disagree, there is no example, a number is not finite, or a code is none of a class.

    >>> Examples(np.zeros((3, 2), dtype=np.float32), np.array([0, 1, 1]), pl.Series(["cat", "dog"]), np.arange(1, 4))
    Examples(3 of 2 classes, 2 features)
    """

    features: NDArray[np.float32]
    classes: NDArray[np.int64]
    class_ids: pl.Series
    rows: NDArray[np.int64]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.classes)
        if self.features.shape[:1] != (n,) or self.features.ndim not in (2, 4) or self.rows.shape != (n,):
            raise DataError(
                f"examples must be features [{n}, f] or images [{n}, channels, height, width], one a class: got"
                f" {self.features.shape}."
            )
        if not n or 0 in self.features.shape:
            raise DataError(f"there must be an example, and a feature: got {self.features.shape}.")
        if not np.isfinite(self.features).all():
            bad = int(np.argwhere(~np.isfinite(self.features))[0][0])
            raise DataError(f"example {self.rows[bad]}: features must be finite numbers. Correct or remove it.")
        if self.classes.min() < 0 or self.classes.max() >= len(self.class_ids):
            raise DataError(
                f"classes must be codes from 0 to {len(self.class_ids) - 1}: got {self.classes.min()} to {self.classes.max()}."
            )
        if self.names and len(self.names) != self.features.shape[1]:
            raise DataError(f"names must be one a feature: got {len(self.names)} for {self.features.shape[1]}.")

    def __len__(self) -> int:
        return len(self.classes)

    def __repr__(self) -> str:
        return f"Examples({len(self):,} of {len(np.unique(self.classes)):,} classes, {self.said})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.features.shape[1:]

    @property
    def said(self) -> str:
        """What one example is, in words."""
        if self.features.ndim == 2:
            return f"{self.shape[0]} features"
        channels, height, width = self.shape
        return f"images of {height} x {width}" + (f" with {channels} channels" if channels > 1 else "")

    def tensors(self) -> tuple[Float[Tensor, "n *shape"], Int[Tensor, " n"]]:
        """Features and codes of classes, sharing memory with the arrays."""
        return torch.from_numpy(self.features), torch.from_numpy(self.classes)

    def take(self, places: NDArray[np.int64]) -> "Examples":
        """These examples, in that order; codes stay what they are."""
        return replace(self, features=self.features[places], classes=self.classes[places], rows=self.rows[places])

    def sizes(self) -> NDArray[np.int64]:
        """How many examples each class has that has any."""
        counts = np.bincount(self.classes, minlength=len(self.class_ids))
        return counts[counts > 0]

    def described(self) -> list[tuple[str, str]]:
        """Name and value of each figure as text, for a table."""
        quantiles = np.quantile(self.sizes(), [0, 0.25, 0.5, 0.75, 1])
        return [
            ("examples", f"{len(self):,}"),
            ("each", self.said),
            ("classes", f"{len(self.sizes()):,}"),
            ("examples of a class (min 25 50 75 % max)", " ".join(f"{value:,.0f}" for value in quantiles)),
            ("classes of one example", f"{int((self.sizes() == 1).sum()):,}"),
        ]

    def fingerprint(self) -> str:
        """SHA-256, in hex, over everything in order."""
        digest = hashlib.sha256()
        for array in (self.features, self.classes):
            digest.update(f"{array.dtype.str} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update("\0".join([*self.class_ids.to_list(), "", *self.names]).encode())
        return digest.hexdigest()


def like(examples: Examples, shape: tuple[int, ...], names: tuple[str, ...], source: str) -> Examples:
    """The examples with these columns in this order; :class:`DataError` where they have others, or another size.

    >>> one = Examples(np.ones((1, 1, 8, 8), dtype=np.float32), np.zeros(1, dtype=np.int64), pl.Series(["a"]), np.ones(1))
    >>> like(one, (1, 9, 9), (), "new.npz")
    Traceback (most recent call last):
    rankwell.errors.DataError: new.npz: examples must be what the model was trained on, (1, 9, 9): got images of 8 x 8.
    """
    if examples.names != names and (odd := sorted(set(names) ^ set(examples.names))):
        raise DataError(f"{source}: columns must be those of the training data: {odd[0]!r} is not among both.")
    if examples.shape != shape:
        raise DataError(f"{source}: examples must be what the model was trained on, {shape}: got {examples.said}.")
    if examples.names == names:
        return examples
    order = [examples.names.index(name) for name in names]
    return replace(examples, features=np.ascontiguousarray(examples.features[:, order]), names=names)


def joined_examples(parts: Sequence[Examples]) -> Examples:
    """Parts of the same data as one, one behind the other."""
    features, classes, rows = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "classes", "rows")
    )
    return replace(parts[0], features=features, classes=classes, rows=rows)


@dataclass(frozen=True, eq=False)
class Generated:
    """Generated examples, and the map that undoes what hides their classes."""

    examples: Examples
    truth: Float[Tensor, "f d"]
    """``features @ truth`` are the coordinates that tell classes apart: between these, distances are the best there are."""


def synthesise_examples(
    num_classes: int = 60,
    per_class: int = 20,
    num_features: int = 32,
    useful: int = 6,
    spread: float = 4.0,
    noise: float = 3.0,
    seed: int = 0,
) -> Generated:
    r"""Classes as Gaussian blobs in a few directions, hidden among others that say nothing by a random rotation.

    .. math:: x = Q \begin{bmatrix} \mu_c + \varepsilon \\ \sigma\, \eta \end{bmatrix}, \qquad \mu_c \sim N(0, s^2)

    with normal :math:`\varepsilon` and :math:`\eta`, ``spread`` s and ``noise`` :math:`\sigma`. Distances of x are mostly
    noise; of the first ``useful`` coordinates of :math:`Q^T x`, which ``truth`` gives, they are those of the blobs.

    >>> synthesise_examples(num_classes=8, per_class=5).examples
    Examples(40 of 8 classes, 32 features)
    """
    if num_classes < 4 or per_class < 2 or not 0 < useful < num_features:
        raise ConfigError(
            "generated examples need 4 classes of 2 examples, and fewer useful directions than features: got"
            f" {num_classes}, {per_class}, {useful} of {num_features}."
        )
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((num_features, num_features)))
    classes = np.repeat(np.arange(num_classes), per_class)
    hidden = rng.standard_normal((len(classes), num_features))
    hidden[:, useful:] *= noise
    hidden[:, :useful] += spread * rng.standard_normal((num_classes, useful))[classes]
    features = (hidden @ rotation.T).astype(np.float32)
    ids = pl.Series([f"c{code:03d}" for code in range(num_classes)])
    truth = torch.from_numpy(rotation[:, :useful].astype(np.float32))
    return Generated(Examples(features, classes, ids, np.arange(1, len(classes) + 1)), truth)
