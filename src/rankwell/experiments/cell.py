"""One cell of a comparison: a run in a process of its own, so that it can fail alone."""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass
from pathlib import Path

from rankwell.config import Config, load_toml, resolve
from rankwell.errors import RankwellError, RunError
from rankwell.experiments.facts import changes, named_files
from rankwell.experiments.folder import RunFolder, write_config
from rankwell.experiments.processes import end_with_parent, start, why_it_failed
from rankwell.experiments.run import run
from rankwell.experiments.seconds import tell_spent, with_epochs_for
from rankwell.experiments.tracking import tracked

__all__ = ["Outcome", "carry_out", "read_outcome"]

COUNTERS = "/sys/class/powercap"
"""Where Linux counts the energy of processor packages, in microjoules."""

PAUSE = 0.05
"""Seconds between two looks at a process."""


@dataclass(frozen=True)
class Outcome:
    """How a cell ended."""

    error: str = ""
    """Why it failed; empty where it did not."""
    processor_seconds: float = 0.0
    """Of the last process, where it was interrupted; 0 where the system does not tell."""
    peak_bytes: int = 0
    """The same."""
    joules: float | None = None
    """Of the processor packages while it ran alone; None where others ran beside it, or the system does not tell."""
    jobs: int = 1
    """How many cells there were at a time."""
    threads: int = 1


def read_outcome(folder: Path) -> Outcome | None:
    """How the cell in this folder ended; None where it has not, or was interrupted."""
    found = RunFolder(folder).read_json("outcome.json")
    try:
        return None if found is None else Outcome(**found)
    except TypeError as error:
        raise RunError(f"{folder / 'outcome.json'} is corrupt: {error}. Delete {folder}.") from error


def carry_out(
    config: Config,
    folder: Path,
    *,
    threads: int,
    files: Mapping[str, str] | None = None,
    seconds: float | None = None,
    first: Path | None = None,
    jobs: int = 1,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run a cell, or go on with it, in a process of its own; its run's folder is ``folder/run``.

    With ``seconds``, it trains for as many epochs as fit into them, by the time of one in the cell of the ``first`` seed. The
    outcome tells errors of the run, also that its process was killed, or that it did not begin: the fingerprints ``files`` of
    when it was planned are others by now. An interruption, or ``stop``, ends the process and leaves no outcome; the next call
    goes on from the last checkpoint. However this process ends, that of the cell ends with it.
    """
    if files and (edited := changes({"files": files}, {"files": named_files(config)})):
        return _ended(folder, Outcome(f"{' and '.join(edited)} changed since this run was planned: compare again."))
    write_config(folder / "config.toml", config)
    before = _joules() if jobs == 1 else None
    arguments = [str(folder), *([] if seconds is None else [str(seconds), str(first or folder)])]
    with start(__name__, arguments, folder / "said.txt", threads=threads) as process:
        try:
            processor, peak = _wait(process, stop or threading.Event())
        except BaseException:
            process.terminate()
            raise
    after = _joules() if jobs == 1 else None
    joules = (
        None if before is None or after is None or after < before else after - before
    )  # counters start again at some value
    error = why_it_failed(process.returncode, folder / "said.txt")
    return _ended(folder, Outcome(error, processor, peak, joules, jobs, threads))


def _ended(folder: Path, outcome: Outcome) -> Outcome:
    RunFolder(folder).write_json("outcome.json", asdict(outcome))
    return outcome


def _wait(process: "subprocess.Popen[bytes]", stop: threading.Event) -> tuple[float, int]:
    """Wait for the process; gives seconds of the processor, and bytes."""
    if not hasattr(os, "wait4"):
        while process.poll() is None:
            _pause(stop)
        return 0.0, 0
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        _pause(stop)
    _, status, used = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _pause(stop: threading.Event) -> None:
    if stop.wait(PAUSE):
        raise CancelledError


def _joules() -> float | None:
    """What the processor packages have used so far; None where nobody tells."""
    try:
        return sum(int(file.read_text()) for file in Path(COUNTERS).glob("intel-rapl:?/energy_uj")) / 1e6 or None
    except (OSError, ValueError):
        return None


def _main(folder: Path, seconds: float | None = None, first: Path | None = None) -> None:
    """What the process of a cell does."""
    config = resolve(load_toml(folder / "config.toml"), str(folder / "config.toml"))
    started = RunFolder(folder / "run")
    resume = (started.path / "config.toml").is_file()
    try:
        if resume:
            config = started.config()  # with the epochs that it was started with
        elif seconds is not None and config.trainable:
            config = with_epochs_for(seconds, config, folder, first or folder)
        with tracked(started, os.environ.get("RANKWELL_TRACK", "")) as reporter:
            run(config, started, resume=resume, reporter=reporter)
        tell_spent(folder)
    except RankwellError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    end_with_parent()
    path, *budget = sys.argv[1:]
    _main(Path(path), *((float(budget[0]), Path(budget[1])) if budget else ()))
