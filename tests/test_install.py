"""What an installation brings, and what it says where something is missing."""

import importlib.metadata
import importlib.resources
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rankwell
from rankwell.errors import MissingExtra, RankwellError, require

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_missing_extra_is_named():
    with pytest.raises(
        MissingExtra, match=r"^no_such_module is needed here .* pip install 'rankwell\[cli\]'\.$"
    ) as caught:
        require("no_such_module.part", "cli")
    assert isinstance(caught.value, ImportError) and isinstance(caught.value, RankwellError)


def test_what_is_installed_is_imported():
    assert require("json.decoder", "cli").__name__ == "json.decoder"


@pytest.mark.parametrize(
    ("module", "missing", "extra"), [("data", "polars", "data"), ("cli", "typer", "cli"), ("config", "pydantic", "cli")]
)
def test_a_part_without_its_extra_says_so(module, missing, extra):
    code = f"import sys; sys.modules[{missing!r}] = None; import rankwell.{module}"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert shown.returncode == 1
    assert f"{missing} is needed here and is not installed: pip install 'rankwell[{extra}]'." in shown.stderr


def test_one_version():
    assert PROJECT["version"] == rankwell.__version__ == importlib.metadata.version("rankwell")


def test_types_are_announced():
    assert importlib.resources.files("rankwell").joinpath("py.typed").is_file()


def test_console_script_starts():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="rankwell")
    assert script.value == PROJECT["scripts"]["rankwell"]
    assert callable(script.load())


def test_constraints_pin_every_dependency():
    root = Path(__file__).parents[1]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    wanted = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    names = {one.partition(">=")[0] for one in wanted if not one.startswith("rankwell[")}
    assert names <= pinned
