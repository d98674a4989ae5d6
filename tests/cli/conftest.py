"""The command line as a person meets it: words in, exit code and two streams out."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from rankwell.cli import main
from rankwell.data import synthesise

SMALL = ["--model.dim", "4", "--sampler.n", "8", "--training.batch_size", "64", "--training.epochs", "2"]


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What was said in refusal, checked to be one line, and nothing beside it."""
        lines = self.err.strip().splitlines()
        assert self.code == 2 and self.out == "", (self.code, self.out, self.err)
        assert len(lines) == 1 and lines[0].startswith("error: "), self.err
        assert lines[0][-1] in ".?" and "Traceback" not in self.err
        return lines[0].removeprefix("error: ")


@pytest.fixture
def rankwell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    threads = torch.get_num_threads()

    def call(*words: object) -> Said:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["rankwell", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        torch.set_num_threads(threads)
        captured = capsys.readouterr()
        return Said(ended.value.code or 0, captured.out, captured.err)  # type: ignore[arg-type]

    return call


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training."""
    module = sys.modules["rankwell.experiments.run"]
    for name in ("draw_curve", "draw_negatives"):
        monkeypatch.setattr(module, name, lambda path, *_: path.write_bytes(b""))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "tiny"
    synthesise(40, 30, 10, clusters=3).write(folder)
    return folder
