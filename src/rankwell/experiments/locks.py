"""Locks between processes, which the system gives back when their holder ends, however it ends."""

import errno
import time
from pathlib import Path
from typing import IO

from rankwell.errors import RunError

__all__ = ["FileLock", "JournalLock"]

NONE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
"""What a file system without locks says."""

PAUSE = 0.02
"""Seconds between two tries."""


class FileLock:
    """A lock on a file, for one holder at a time on all machines that see it (over NFS: version 4, or 3 with its locks)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def acquire(self, wait: bool = True) -> bool:
        """Take the lock; without ``wait``, false where another holds it."""
        try:
            import fcntl
        except ImportError as error:
            raise RunError(
                "processes are kept apart by locks of files, as Linux and macOS have them: this system has none."
            ) from error
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("ab")
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    file.close()
                    return False
                time.sleep(PAUSE)  # and not without an end in the system, where Ctrl-C may not be heard
            except OSError as error:
                file.close()
                if error.errno not in NONE:
                    raise
                raise RunError(
                    f"the file system of {self.path.parent} has no locks, which keep processes apart: give another --out."
                ) from error
            else:
                self._file = file
                return True

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "FileLock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class JournalLock(FileLock):
    """Guards a file of whole lines: what a killed process left of its last line goes first."""

    def __init__(self, journal: Path) -> None:
        super().__init__(journal.with_name(f"{journal.name}.lock"))
        self.journal = journal

    def acquire(self, wait: bool = True) -> bool:
        """Take the lock, and cut off half a line."""
        if not super().acquire(wait):
            return False
        with self.journal.open("rb+") as file:
            text = file.read()
            if text and not text.endswith(b"\n"):
                file.truncate(text.rfind(b"\n") + 1)
        return True
