import re
from pathlib import Path

import pytest

from rankwell.metrics import METRICS
from rankwell.metrics.registry import BODIES, RESULTS

KEYS = re.findall(r"^@\w+\{([^,\s]+),", (Path(__file__).parents[2] / "references.bib").read_text(), re.MULTILINE)


@pytest.mark.parametrize("entry", METRICS, ids=lambda entry: entry.name)
def test_paper_of_each_metric_is_listed_and_cited_in_its_docstring(entry):
    assert entry.paper in KEYS
    assert f":cite:`{entry.paper}`" in entry.function.__doc__


def test_every_metric_of_scores_and_labels_shares_a_ranking():
    assert set(BODIES) == {entry.name for entry in METRICS if entry.kind not in RESULTS}
