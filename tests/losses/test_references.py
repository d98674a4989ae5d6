import re
from pathlib import Path

import pytest

from rankwell.losses import LOSSES

ROOT = Path(__file__).parents[2]
KEYS = re.findall(r"^@\w+\{([^,\s]+),", (ROOT / "references.bib").read_text(), re.MULTILINE)


def test_keys_are_unique():
    assert sorted(set(KEYS)) == sorted(KEYS)


@pytest.mark.parametrize("entry", LOSSES, ids=LOSSES.names())
def test_paper_of_each_loss_is_listed_and_cited_in_its_docstring(entry):
    assert entry.paper in KEYS
    assert f":cite:`{entry.paper}`" in entry.function.__doc__


def test_citations_exist():
    for path in (ROOT / "src").rglob("*.py"):
        for keys in re.findall(r":cite:`([^`]+)`", path.read_text()):
            for key in keys.split(","):
                assert key.strip() in KEYS, f"{path.name} cites {key}, which references.bib does not list"
