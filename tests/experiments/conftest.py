"""Tiny data, generated, and runs without their picture."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from rankwell.data import synthesise


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "tiny"
    synthesise(40, 30, 10, clusters=3).write(folder)
    return folder


@pytest.fixture
def run_module() -> ModuleType:
    """The module, whose name the package gives to the function."""
    return importlib.import_module("rankwell.experiments.run")


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch, run_module: ModuleType) -> None:
    """Drawing takes longer than training."""
    monkeypatch.setattr(run_module, "draw_curve", lambda path, *_: path.write_bytes(b""))
    monkeypatch.setattr(run_module, "draw_negatives", lambda path, *_: path.write_bytes(b""))
