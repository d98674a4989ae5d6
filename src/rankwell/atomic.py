"""Files that are either there whole or not at all."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rankwell.errors import RunError

__all__ = ["sweep", "write_atomically", "write_folder", "write_json", "write_text"]

PREFIX = ".partial-"
"""Of the folders that hold files being written."""


@contextmanager
def write_atomically(path: Path, *failures: type[Exception]) -> Iterator[Path]:
    """A temporary path to write to; it takes the place of ``path`` when the block ends without an error.

    The data is on the disk before the name changes, so that neither a killed process nor a power cut leaves half a file.
    An error of the disk (full, read-only) is a :class:`RunError`, and what stood at ``path`` is still there; ``failures``
    are the exceptions by which the library that writes reports such an error, where it is no OSError. A killed process
    leaves a hidden folder beside ``path`` (see :func:`sweep`).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder of its own, for libraries put temporary files of theirs beside what they write.
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=PREFIX))
    except OSError as error:
        raise _refused(path, error) from error
    temporary = folder / path.name
    refused: tuple[type[Exception], ...] = (OSError, *failures)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except refused as error:
        raise _refused(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to write into; it becomes ``path``, which must not exist, when the block ends without an error.

    As with :func:`write_atomically`, the data is on the disk before the name changes, and an error of the disk is a
    :class:`RunError`.
    """
    if path.exists():
        raise RunError(f"{path} exists. Name a folder that does not.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        outer = Path(tempfile.mkdtemp(dir=path.parent, prefix=PREFIX))
    except OSError as error:
        raise _refused(path, error) from error
    temporary = outer / path.name
    try:
        temporary.mkdir()
        yield temporary
        for written in temporary.rglob("*"):
            if written.is_file():
                with written.open("rb+") as file:
                    os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON that every reader takes, atomically: NaN and infinities, for which it has no word, as null."""
    write_text(path, json.dumps(_finite(content), indent=2) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def sweep(folder: Path) -> None:
    """Remove what killed processes left of files that they were writing into this folder."""
    for left in folder.glob(f"{PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


def _refused(path: Path, error: Exception) -> RunError:
    reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
    return RunError(f"cannot write {path}: {reason}. Nothing was changed: free space or choose another place.")
