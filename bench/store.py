"""What benchmarks keep: a run by its name, in a JSON file that the tables are made from."""

import datetime
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rankwell.atomic import write_text

Make = Callable[[], Any]


class Store:
    """Runs by name, written as they end. Several processes may share the file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.runs: dict[str, Any] = {}
        self._read()

    def get(self, name: str, make: Make) -> Any:
        """The run of that name, carried out where it is not there."""
        if name not in self.runs:
            made = make()
            self._read()  # another process may have added some
            self.runs[name] = made
            facts = {
                "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
                "torch": torch.__version__,
                "processor": processor(),
                "threads": torch.get_num_threads(),
            }
            lines = (f"{json.dumps(each)}: {json.dumps(run)}" for each, run in self.runs.items())
            write_text(self.file, json.dumps(facts)[:-1] + ', "runs": {\n' + ",\n".join(lines) + "\n}}\n")
            print(name, json.dumps(made)[:300], flush=True)
        return self.runs[name]

    def _read(self) -> None:
        if self.file.exists():
            self.runs |= json.loads(self.file.read_text())["runs"]


def timed(make: Make) -> Make:
    """A run that keeps its seconds, and those of the processor."""

    def run() -> dict[str, Any]:
        started, used = time.perf_counter(), time.process_time()
        made = make()
        return {**made, "seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - used}

    return run


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
