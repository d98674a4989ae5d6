"""Vectors of texts: made once and kept on the disk, or read from a file that somebody else has made."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rankwell.atomic import write_atomically
from rankwell.data.text_files import unreadable
from rankwell.errors import DataError, require
from rankwell.mining.search import Progress
from rankwell.text.encoder import TextEncoder, folder_state

__all__ = ["CHUNK", "TextVectors", "read_vectors"]

CHUNK = 1024
"""Texts of one file in the cache: what an interrupted run loses at most."""


@dataclass(frozen=True)
class TextVectors:
    """Encodes texts chunk by chunk. Each chunk's file is named for what it is made of: model, prompt and texts.

    So a run that was interrupted goes on with the next chunk, other rules or another output encode nothing again, and changed
    texts are encoded anew. The model is loaded when it has something to do.

    Args:
        name: of the model; of a folder, its files' sizes and times count as well.
        load: gives the model.
        unit: whether vectors get the length one.
        cache: the folder; None keeps all in memory.
        batch_size: texts encoded at a time.
    """

    name: str
    load: Callable[[], TextEncoder]
    unit: bool = True
    cache: Path | None = None
    batch_size: int = 64

    def encode(self, texts: Sequence[str], prompt: str = "", progress: Progress | None = None) -> list[Tensor]:
        """Vectors of all texts, a tensor a chunk, mapped into memory where there is a cache. ``prompt`` precedes each."""
        parts = []
        for first in range(0, len(texts), CHUNK):
            chunk = [prompt + text for text in texts[first : first + CHUNK]]
            file = None if self.cache is None else self.cache / f"{self._key(chunk)}.npy"
            vectors = None if file is None else _mapped(file, len(chunk))
            if vectors is None:
                done = _shifted(progress, first, len(texts))
                vectors = self.load().encode(chunk, batch_size=self.batch_size, normalise=self.unit, progress=done)
                if file is not None:
                    with write_atomically(file) as temporary, temporary.open("wb") as opened:
                        np.save(opened, vectors.numpy(), allow_pickle=False)
                    vectors = _mapped(file, len(chunk))
                    assert vectors is not None
            parts.append(vectors)
            if progress is not None:
                progress(first + len(chunk), len(texts))
        return parts

    def missing(self, texts: Sequence[str], prompt: str = "") -> int:
        """How many texts are still to be encoded."""
        if self.cache is None:
            return len(texts)
        chunks = ([prompt + text for text in texts[first : first + CHUNK]] for first in range(0, len(texts), CHUNK))
        return sum(len(chunk) for chunk in chunks if not (self.cache / f"{self._key(chunk)}.npy").is_file())

    def _key(self, texts: Sequence[str]) -> str:
        made_of = hashlib.sha256(repr((self.name, folder_state(self.name), self.unit)).encode())
        for text in texts:
            coded = text.encode("utf-8", "surrogatepass")
            made_of.update(len(coded).to_bytes(8, "little") + coded)
        return made_of.hexdigest()[:32]


def read_vectors(path: Path, rows: int, what: str) -> Tensor:
    """Vectors that were made elsewhere: a .npy file, mapped into memory, or the one tensor of a .safetensors file.

    Raises :class:`~rankwell.errors.DataError` unless it can be read and holds ``rows`` rows, as the file of texts does.
    """
    if not path.is_file():
        raise unreadable(path, FileNotFoundError())
    if path.suffix == ".npy":
        vectors = _read_numpy(path)
    elif path.suffix == ".safetensors":
        vectors = _read_safetensors(path)
    else:
        raise DataError(
            f"{path}: embeddings must be in a .npy or a .safetensors file: got {path.suffix or 'no suffix'!r}."
        )
    if vectors.ndim != 2 or len(vectors) != rows:
        raise DataError(
            f"{path}: there must be a row for each of the {rows:,} {what} of the file, in its order:"
            f" the shape is {tuple(vectors.shape)}."
        )
    if not vectors.is_floating_point():
        raise DataError(f"{path}: embeddings must be floating-point numbers: got {vectors.dtype}.")
    return vectors


def _read_numpy(path: Path) -> Tensor:
    try:
        # Copied where it is written to, which nobody does: torch does not take an array that cannot be written.
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise DataError(f"{path}: the file must be an array of numpy: {error}. Write it by numpy.save.") from error


def _read_safetensors(path: Path) -> Tensor:
    safetensors = require("safetensors.torch", "cli")
    try:
        tensors: dict[str, Tensor] = safetensors.load_file(path)
    except Exception as error:  # its own exception has moved between versions
        raise DataError(f"{path}: the file must be readable as safetensors: {error}. Write it again.") from error
    if len(tensors) != 1:
        raise DataError(f"{path}: there must be one tensor: there are {', '.join(tensors) or 'none'}. Write it alone.")
    return next(iter(tensors.values()))


def _mapped(file: Path, rows: int) -> Tensor | None:
    """A chunk of the cache; None where it is not there, or is not what it should be."""
    try:
        return read_vectors(file, rows, "texts")
    except DataError:
        return None


def _shifted(progress: Progress | None, first: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(first + done, total)
