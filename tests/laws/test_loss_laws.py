import pytest
from beartype import beartype
from jaxtyping import jaxtyped

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
