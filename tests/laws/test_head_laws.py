"""What every head loss keeps to."""

from dataclasses import replace

import pytest
import torch

from rankwell.laws import examine
from rankwell.losses import LOSSES
from rankwell.losses.head_laws import LAWS, arguments

HEADS = [entry for entry in LOSSES if entry.kind == "head"]
PAIRS = [(law, entry) for law in LAWS.values() for entry in HEADS if law.binds(entry)]


@pytest.mark.parametrize(("law", "entry"), PAIRS, ids=[f"{law.name}-{entry.name}" for law, entry in PAIRS])
def test_law(law, entry):
    law.check(entry)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_exceptions_are_of_heads_that_exist(law):
    assert set(law.exceptions) <= {entry.name for entry in HEADS}
    assert all(law.exceptions.values())


@pytest.mark.parametrize("entry", HEADS, ids=lambda entry: entry.name)
def test_there_are_no_second_derivatives(entry):
    args = arguments(entry)
    hidden = args["hidden"].requires_grad_()
    (slope,) = torch.autograd.grad(entry(**args), hidden, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        slope.square().sum().backward()


@pytest.mark.parametrize(
    ("ignored", "law"),
    [
        ("known", "known_is_removed"),
        ("weights", "weights_are_additive"),
        ("reduction", "one_value_a_row"),
    ],
)
def test_to_ignore_an_argument_breaks_a_law(ignored, law):
    entry = LOSSES["linear_softmax"]

    def careless(*args, **given):
        return entry(*args, **{name: value for name, value in given.items() if name != ignored})

    assert examine(LAWS[law], replace(entry, function=careless)) is not None
