from dataclasses import replace

import pytest
from beartype import beartype
from jaxtyping import jaxtyped

from rankwell.laws import examine
from rankwell.losses import LOSSES
from rankwell.losses.laws import LAWS, arguments

PAIRS = [(law, entry) for law in LAWS.values() for entry in LOSSES if law.binds(entry)]


@pytest.mark.parametrize(("law", "entry"), PAIRS, ids=[f"{law.name}-{entry.name}" for law, entry in PAIRS])
def test_law(law, entry):
    law.check(entry)


FUNCTIONS = [entry for entry in LOSSES if entry.kind != "stateful"]


@pytest.mark.parametrize("entry", FUNCTIONS, ids=lambda entry: entry.name)
def test_annotated_shapes_hold(entry):
    checked = jaxtyped(typechecker=beartype)(entry.function)
    for args in arguments(entry):
        checked(**args, reduction="none")


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_exceptions_are_of_losses_that_exist(law):
    assert set(law.exceptions) <= set(LOSSES.names())
    assert all(law.exceptions.values())


@pytest.mark.parametrize("name", ["hinge", "approx_ndcg", "bpr", "info_nce"])
def test_to_ignore_weights_breaks_a_law(name):
    entry = LOSSES[name]

    def careless(*args, weights=None, **given):
        return entry(*args, **given)

    assert examine(LAWS["unequal_weights_count"], entry) is None
    assert examine(LAWS["unequal_weights_count"], replace(entry, function=careless)) is not None


@pytest.mark.parametrize("name", ["bpr", "sampled_softmax"])
def test_to_count_padding_among_the_negatives_breaks_a_law(name):
    entry = LOSSES[name]

    def careless(pos, neg, **given):
        return entry(pos, neg, **given) * (neg.shape[-1] + 1) / neg.shape[-1]

    law = LAWS["negatives_are_summed_or_averaged"]
    assert examine(law, entry) is None
    assert examine(law, replace(entry, function=careless)) is not None
