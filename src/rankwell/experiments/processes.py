"""Processes that work for this one: how many threads they have, how they end with it, and why one has ended."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

__all__ = ["cores", "end_with_parent", "start", "why_it_failed"]

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
"""How libraries learn how many threads they may use."""

KILLED = 9
"""The signal that a system without memory sends."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start(module: str, arguments: Sequence[str], said: Path, *, threads: int) -> "subprocess.Popen[bytes]":
    """Start a module's process; what it says goes to a file.

    It ends when this process does, by the pipe that :func:`end_with_parent` waits for. Ctrl-C does not reach it.
    """
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    command = [sys.executable, "-m", module, *arguments]
    with said.open("wb") as file:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment, start_new_session=True
        )


def end_with_parent() -> None:
    """Have this process end, from now on, when the one that started it does: it holds the other end of standard input."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    os.read(0, 1)
    os._exit(1)


def why_it_failed(code: int, said: Path) -> str:
    """Why a process failed, by its exit code and the last that it said; empty where it did not."""
    if code == 0:
        return ""
    if code == -KILLED:
        return "its process was killed, as by a system without memory. Take a smaller batch, or fewer jobs at a time."
    lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"its process ended with code {code}, and said nothing."
