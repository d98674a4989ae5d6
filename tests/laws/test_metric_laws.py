from dataclasses import replace

import pytest
import torch

from rankwell.laws import examine
from rankwell.metrics import METRICS, f1, precision, recall
from rankwell.metrics.laws import LAWS, adds, batch, choices
from rankwell.metrics.registry import RESULTS

ENTRIES = [entry for entry in METRICS if entry.kind not in RESULTS]
PAIRS = [(law, entry) for law in LAWS.values() for entry in ENTRIES if law.binds(entry)]
each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)

ADDITIVE = {"dcg", "err", "mrr", "precision", "hit_rate", "rbp"}
"""Double with their weights; the others are ratios, in which one weight for a whole list cancels."""


@pytest.mark.parametrize(("law", "entry"), PAIRS, ids=[f"{law.name}-{entry.name}" for law, entry in PAIRS])
def test_law(law, entry):
    law.check(entry)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_exceptions_are_of_metrics_that_exist(law):
    assert set(law.exceptions) <= {entry.name for entry in ENTRIES}
    assert all(law.exceptions.values())


@each
def test_every_metric_of_scores_has_laws(entry):
    assert sum(law.binds(entry) for law in LAWS.values()) > 15


@each
def test_measures_are_tried_with_every_parameter(entry):
    tried = [name for own in choices(entry.parameters) for name in own]
    assert tried == [*entry.parameters, "ties", "empty"]
    for own in choices(entry.parameters)[1:]:
        for name, value in own.items():
            assert name in ("ties", "empty") or value != entry.parameters[name].default


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.name != "f1"], ids=lambda entry: entry.name)
def test_weights_do_what_the_family_says(entry):
    assert adds(entry) == (entry.name in ADDITIVE)


@pytest.mark.parametrize("beyond", [7, 8, 70])
def test_precision_divides_by_a_cut_beyond_the_list(beyond):
    scores, labels = batch()
    found = precision(scores, labels, k=beyond, reduction="none")
    torch.testing.assert_close(found, precision(scores, labels, reduction="none") * 7 / beyond)
    # All that is relevant is found: the other half of f1 is as without a cut-off.
    found_all = recall(scores, labels, reduction="none")
    expected = 2 * found * found_all / (found + found_all)
    torch.testing.assert_close(f1(scores, labels, k=beyond, reduction="none"), expected)


@pytest.mark.parametrize("name", ["ap", "err", "ndcg", "recall"])
@pytest.mark.parametrize(
    ("ignored", "law"),
    [
        ("where", "masked_is_removed"),
        ("weights", "unequal_weights_count"),
        ("offsets", "ragged_is_dense_is_a_loop"),
        ("reduction", "one_value_a_list"),
        ("k", "beyond_the_cut_nothing_counts"),
        ("ties", "order_ranks_the_earlier_first"),
        ("ideal", "ideal_that_is_not_retrieved_is_missed"),
        ("empty", "lists_without_positives_follow_the_policy"),
    ],
)
def test_to_ignore_an_argument_breaks_a_law(name, ignored, law):
    entry = METRICS[name]

    def careless(*args, **given):
        return entry(*args, **{name: value for name, value in given.items() if name != ignored})

    assert examine(LAWS[law], entry) is None
    assert examine(LAWS[law], replace(entry, function=careless)) is not None


@pytest.mark.parametrize("law", ["ties_are_the_mean_over_all_orders", "item_order_is_irrelevant"])
@pytest.mark.parametrize("name", ["ap", "ndcg", "precision"])
def test_ties_that_the_input_order_decides_break_laws(name, law):
    entry = METRICS[name]

    def careless(*args, **given):
        return entry(*args, **{**given, "ties": "order"})

    assert examine(LAWS[law], replace(entry, function=careless)) is not None
