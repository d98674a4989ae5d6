"""Who may import whom, and what ``import rankwell`` may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch

import rankwell
from rankwell.similarity import dot

SOURCE = Path(rankwell.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# Upwards; a row may import itself and every row below, but what stands in different sets of a row never each other.
LAYERS = [
    [{"errors", "types", "words"}],
    [{"registry", "laws", "lists", "similarity", "atomic", "keyed", "kernels"}],
    [{"losses", "metrics"}],
    [{"transforms", "samplers", "generators", "miners", "nn"}],
    [{"text"}],
    [{"models"}, {"data"}],
    [{"training"}, {"evaluation"}, {"mining"}],
    [{"tasks"}],
    [{"experiments", "serving", "config", "pictures"}],
    [{"cli"}],
]
PLACES = {
    name: (row, group) for row, groups in enumerate(LAYERS) for group, names in enumerate(groups) for name in names
}
OPTIONAL = ["polars", "pydantic", "typer", "rich", "tomli_w", "safetensors", "matplotlib", "scipy"]
OPTIONAL += ["httpx", "sentence_transformers", "faiss", "bm25s", "optuna", "tensorboard", "mlflow"]


def imported(file: Path) -> set[str]:
    """Parts of Rankwell that a file imports anywhere, by their first name below ``rankwell``."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the direction"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("rankwell.")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_point_downwards(file):
    name = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    if name in ("__init__", "__main__"):
        return
    row, group = PLACES[name]
    for other in imported(file) - {"__version__"}:
        other_row, other_group = PLACES[other]
        assert other_row < row or (other_row, other_group) == (row, group), f"{name} must not import {other}"


def test_files_are_named_for_an_idea():
    parts = {part.removesuffix(".py") for file in FILES for part in file.relative_to(SOURCE).parts}
    assert not parts & {"utils", "util", "helpers", "helper", "base", "common", "misc"}


def test_import_needs_nothing_optional():
    code = f"import sys, rankwell; print(*(name for name in {OPTIONAL!r} if name in sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == []


def test_shapes_in_signatures_are_checked():
    with pytest.raises(jaxtyping.TypeCheckError):
        dot(*torch.ones(2, 1, 3, dtype=torch.int64))
