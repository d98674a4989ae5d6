"""What every metric of recommended items keeps to."""

from dataclasses import replace

import pytest
import torch

from rankwell.laws import examine
from rankwell.metrics import METRICS
from rankwell.metrics.recommended_laws import LAWS
from rankwell.metrics.registry import RESULTS

ENTRIES = [entry for entry in METRICS if entry.kind in RESULTS]
PAIRS = [(law, entry) for law in LAWS.values() for entry in ENTRIES if law.binds(entry)]


@pytest.mark.parametrize(("law", "entry"), PAIRS, ids=[f"{law.name}-{entry.name}" for law, entry in PAIRS])
def test_law(law, entry):
    law.check(entry)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_exceptions_are_of_metrics_that_exist(law):
    assert set(law.exceptions) <= {entry.name for entry in ENTRIES}
    assert all(law.exceptions.values())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_one_has_laws(entry):
    assert sum(law.binds(entry) for law in LAWS.values()) >= 8


def counts_padding(items, *, num_items=None):
    """Coverage as NumPy's ``unique`` has it, where -1 is one more item."""
    return torch.tensor(len(items.unique()) / num_items)


def first_place(items, *, counts=None, num_users=None, reduction="mean"):
    """Novelty of the first item alone."""
    bits = -torch.log2(counts[items[:, 0]] / num_users)
    return bits if reduction == "none" else bits.mean() if reduction == "mean" else bits.sum()


@pytest.mark.parametrize(
    ("like", "careless", "laws"),
    [
        ("coverage", counts_padding, {"order_of_items_is_irrelevant", "nobody_and_nothing_give_zero"}),
        ("coverage", lambda **_: torch.zeros(()), set()),
        ("novelty", first_place, {"order_of_items_is_irrelevant", "nobody_and_nothing_give_zero"}),
        ("gini", lambda items, **_: items[0, 0].float(), {"order_of_users_is_irrelevant"}),
        ("gini", lambda items, **_: items.clamp(min=0).sum().float(), {"names_of_items_are_irrelevant"}),
    ],
)
def test_a_careless_metric_breaks_laws(like, careless, laws):
    entry = replace(METRICS[like], function=careless)
    broken = {law.name for law in LAWS.values() if law.binds(entry) and examine(law, entry)}
    assert laws | {"codes_beyond_the_catalogue_are_refused"} <= broken
    if not laws:
        assert broken == {"codes_beyond_the_catalogue_are_refused"}
