"""Files of examples: NumPy's ``.npz`` for images and features, and tables with a column a feature."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rankwell.data.examples import Examples
from rankwell.data.number_tables import Source, finite_numbers, frame_of, opened
from rankwell.data.text_files import unreadable
from rankwell.errors import DataError

__all__ = ["ExampleFormat", "read_examples"]

ExampleFormat: TypeAlias = Literal["npz", "csv", "tsv", "parquet"]

CHANNELS = 4
"""Of an image at most: what has more in its last place is not an image."""


def read_examples(
    path: str | Path,
    *,
    format: ExampleFormat | None = None,
    label: str = "label",
    ignore: Sequence[str] = (),
    labelled: bool = True,
) -> Examples:
    """Read a file: ``.npz`` with the arrays ``images`` or ``features``, and ``labels``; or a table, Parquet, CSV, TSV.

    Images are ``[n, height, width]`` or ``[n, height, width, channels]``. Labels are whole numbers or texts. Of a table every
    column but that of labels and those to ``ignore`` is a feature. Nothing is unpickled. Without ``labelled`` labels need not
    be there. Raises :class:`DataError` with the file and, of text, the line.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "digits.npz"
    >>> np.savez(file, images=np.zeros((2, 8, 8)), labels=np.array([3, 7]))
    >>> read_examples(file)
    Examples(2 of 2 classes, images of 8 x 8)
    """
    source = opened(Path(path), format, "npz")
    features, labels, names = (_of_arrays if source.kind == "npz" else _of_table)(source, label, ignore, labelled)
    class_ids = labels.unique().sort()
    codes = labels.replace_strict(class_ids, np.arange(len(class_ids)), return_dtype=pl.Int64).to_numpy(writable=True)
    try:
        return Examples(features, codes, class_ids, np.arange(1, len(codes) + 1), names)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


Read: TypeAlias = tuple[NDArray[np.float32], pl.Series, tuple[str, ...]]
"""Features, labels as text, names of columns."""


def _of_arrays(source: Source, label: str, ignore: Sequence[str], labelled: bool) -> Read:  # noqa: ARG001
    path = source.path
    name = "labels" if label == "label" else label
    try:
        opened_file = np.load(path, allow_pickle=False)
        if not isinstance(opened_file, np.lib.npyio.NpzFile):
            raise DataError(f"{path} must hold several arrays by name: save it by numpy.savez.")
        with opened_file as arrays:
            found = [kind for kind in ("images", "features") if kind in arrays.files]
            if len(found) != 1 or (labelled and name not in arrays.files):
                raise DataError(
                    f"{path} must hold the array images or the array features, and {name}: it holds"
                    f" {', '.join(arrays.files) or 'nothing'}."
                )
            features, labels = arrays[found[0]], arrays[name] if labelled else None
    except OSError as error:
        raise unreadable(path, error) from error
    except DataError:
        raise
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            f"{path} must be readable as .npz, with arrays of numbers of one shape ({error}). Save it by numpy.savez."
        ) from error
    return _numbers(path, found[0], features), _texts(path, name, labels, len(features)), ()


def _numbers(path: Path, kind: str, array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype.kind not in "buif":
        raise DataError(f"{path}: {kind} must be numbers: got {array.dtype}.")
    if kind == "features":
        if array.ndim != 2:
            raise DataError(f"{path}: features must be [examples, features]: got {array.shape}. Call pictures images.")
        return array.astype(np.float32)
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] > CHANNELS):
        raise DataError(
            f"{path}: images must be [n, height, width], or [n, height, width, channels] with at most {CHANNELS} channels:"
            f" got {array.shape}."
        )
    channels_last = array[..., None] if array.ndim == 3 else array
    return np.ascontiguousarray(np.moveaxis(channels_last, -1, 1), dtype=np.float32)


def _texts(path: Path, name: str, labels: NDArray[Any] | None, count: int) -> pl.Series:
    """Labels as text; an empty one each, where there are none."""
    if labels is None:
        return pl.Series([""] * count, dtype=pl.String)
    if labels.shape != (count,) or labels.dtype.kind not in "iuU":
        raise DataError(
            f"{path}: {name} must be one whole number or text an example, ({count},): got {labels.shape} of {labels.dtype}."
        )
    return pl.Series(labels.astype(str).tolist(), dtype=pl.String)


def _of_table(source: Source, label: str, ignore: Sequence[str], labelled: bool) -> Read:
    path, frame = source.path, frame_of(source)
    for name in (*([label] if labelled else ()), *ignore):
        if name not in frame.columns:
            raise DataError(f"{path}: there is no column {name!r}: there are {', '.join(frame.columns[:20])}.")
    names = tuple(name for name in frame.columns if name not in (label, *ignore))
    if not names or not len(frame):
        raise DataError(f"{path}: there is no {'example' if names else 'column of features'}. Give a file with one.")
    labels = frame[label].cast(pl.String) if labelled else pl.Series([""] * len(frame))
    if labelled and (absent := (labels.is_null() | (labels == "")).arg_true()).len():
        raise DataError(f"{source.at(int(absent[0]))}: column {label!r} must name the class: it is empty.")
    return np.stack([finite_numbers(source, frame[name]) for name in names], axis=1), labels, names
