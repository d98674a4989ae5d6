"""Vectors by what they were made of, so that nothing is encoded twice."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rankwell.errors import DataError

__all__ = ["VectorStore"]

TABLE = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB)"

TOGETHER = 256
"""Vectors that are made before they are written: what an interruption loses at most."""


class VectorStore:
    """Keeps vectors in memory and, where a file is named, there too, for other processes and later ones.

    The file is a table of keys and float32 numbers in SQLite, which several processes may fill side by side.

    Args:
        dim: entries of a vector.
        file: is made, with its folder, when the first vector is kept; None keeps all in memory.

    >>> store = VectorStore(2)
    >>> store.take([b"a", b"b"], lambda places: torch.tensor([[1.0, 2.0]] * len(places)))
    tensor([[1., 2.],
            [1., 2.]])
    >>> store.take([b"a"], lambda places: torch.zeros(1, 2))
    tensor([[1., 2.]])
    """

    def __init__(self, dim: int, file: Path | None = None) -> None:
        self.dim, self.file = dim, file
        self._vectors: dict[bytes, Tensor] = {}

    def take(self, keys: Sequence[bytes], make: Callable[[list[int]], Float[Tensor, "k d"]]) -> Float[Tensor, "n d"]:
        """The vectors of the keys; ``make`` gives those of the places in ``keys`` that nobody has made yet.

        Raises:
            DataError: if the file is not what it should be, or cannot be written.
        """
        missing = self._missing(keys)
        if missing and self.file is not None:
            self._read(list(missing))
            missing = self._missing(keys)
        places = list(missing.values())
        for first in range(0, len(places), TOGETHER):
            part = places[first : first + TOGETHER]
            made = dict(zip((keys[place] for place in part), make(part).unbind(), strict=True))
            self._vectors |= made
            if self.file is not None:
                self._write(made)
        return torch.stack([self._vectors[key] for key in keys]) if keys else torch.empty(0, self.dim)

    def _missing(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        return {key: place for place, key in enumerate(keys) if key not in self._vectors}

    def _read(self, keys: list[bytes]) -> None:
        assert self.file is not None
        if not self.file.exists():
            return
        try:
            with closing(sqlite3.connect(self.file, timeout=60)) as table:
                table.execute(TABLE)  # another process may have made the file, and not yet the table
                for first in range(0, len(keys), TOGETHER):
                    part = keys[first : first + TOGETHER]
                    wanted = f"SELECT key, vector FROM vectors WHERE key IN ({', '.join('?' * len(part))})"
                    for key, stored in table.execute(wanted, part):
                        if len(stored) != 4 * self.dim:
                            found = len(stored) // 4
                            raise DataError(
                                f"{self.file}: vectors must have {self.dim} entries: one has {found}. Delete the file."
                            )
                        self._vectors[key] = torch.from_numpy(np.frombuffer(stored, dtype="<f4").astype(np.float32))
        except sqlite3.Error as error:
            raise DataError(
                f"{self.file} must hold kept vectors: {error}. Delete it, or name another folder."
            ) from error

    def _write(self, made: dict[bytes, Tensor]) -> None:
        assert self.file is not None
        rows = [(key, vector.numpy().astype("<f4").tobytes()) for key, vector in made.items()]
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.file, timeout=60)) as table, table:  # the second commits
                table.execute(TABLE)
                table.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"{self.file}: vectors cannot be kept: {error}. Make room, or name another folder."
            ) from error
