"""Learned temperatures: as the loss at that temperature, with the gradient by it."""

import math
from functools import partial

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import ConfigError, InputError, UnknownName
from rankwell.losses import (
    LOSSES,
    LearnedTemperature,
    bsl_loss,
    contrast,
    in_batch,
    info_nce_loss,
    sigmoid_pairwise_loss,
    softmax_at_k_loss,
    softmax_loss,
    triplet_loss,
)
from rankwell.losses.cases import cases, scalars
from rankwell.losses.temperature import REFUSED
from rankwell.similarity import SIMILARITIES

KINDS = ("list", "contrast", "embedding")
WITH = [entry for entry in LOSSES if entry.kind in KINDS and "temperature" in entry.parameters]


@pytest.mark.parametrize("entry", [e for e in WITH if e.name not in REFUSED], ids=lambda entry: entry.name)
def test_it_is_the_loss_at_that_temperature_and_its_gradient_is_numerical(entry):
    """Whatever the loss: also a check that what divides no scores, but something else, is refused."""
    for case in cases(entry, dtype=torch.double, inputs=True):
        args = {**case.args, **scalars(entry), "reduction": "sum"}
        for t in (0.5, 2.0):
            loss = LearnedTemperature(loss=entry.name, temperature=t).double()
            loss.log_temperature.data.fill_(math.log(t))
            value = loss(**args)
            assert_close(value, entry(**args, temperature=t))
            (slope,) = torch.autograd.grad(value, loss.log_temperature)
            step = 1e-5
            there, back = (entry(**args, temperature=t * math.exp(by)) for by in (step, -step))
            assert_close(slope, (there - back) / (2 * step), rtol=1e-4, atol=1e-6)


def test_refusals_are_of_losses_that_exist():
    assert set(REFUSED) <= {entry.name for entry in WITH}
    for name, reason in REFUSED.items():
        with pytest.raises(ConfigError, match=f"{name}' cannot have a learned temperature: {reason}"):
            LearnedTemperature(loss=name)
    with pytest.raises(ConfigError, match="its threshold"):
        LearnedTemperature(loss=partial(softmax_at_k_loss, weight_temperature=0.5))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_every_similarity_is_divided(similarity):
    draw = torch.Generator().manual_seed(0)
    queries, items = torch.randn(3, 4, generator=draw).double(), torch.randn(3, 4, generator=draw).double()
    loss = LearnedTemperature(loss="info_nce", temperature=0.25).double()
    expected = info_nce_loss(queries, items, temperature=0.25, similarity=similarity)
    assert_close(loss(queries, items, similarity=similarity), expected, rtol=1e-6, atol=1e-6)
    loss = LearnedTemperature(loss=partial(info_nce_loss, similarity=similarity), temperature=0.25).double()
    assert_close(loss(queries, items), expected, rtol=1e-6, atol=1e-6)


def test_losses_without_one_get_one():
    scores, labels = tensor([0.3, -1.0, 2.0]), tensor([1.0, 0.0, 0.0])
    assert_close(
        LearnedTemperature(loss="softmax", temperature=0.5)(scores, labels), softmax_loss(scores / 0.5, labels)
    )
    pos, neg = tensor([0.3]), tensor([[0.1, 0.9]])
    own = LearnedTemperature(loss=contrast(softmax_loss), temperature=0.5)
    assert_close(own(pos, neg), contrast(softmax_loss, temperature=0.5)(pos, neg))
    x, y = torch.eye(2), tensor([[1.0, 0.2], [0.1, 1.0]])
    assert_close(
        LearnedTemperature(loss=partial(triplet_loss, similarity="dot"), temperature=0.5)(x, y),
        triplet_loss(2 * x, y, similarity="dot"),
    )


def test_own_parameters_pass_through():
    x, y = torch.eye(2), tensor([[1.0, 0.2], [0.1, 1.0]])
    loss = LearnedTemperature(loss=partial(sigmoid_pairwise_loss, bias=-1.0), temperature=0.5)
    assert_close(loss(x, y), sigmoid_pairwise_loss(x, y, bias=-1.0, temperature=0.5))
    pos, neg, ids = tensor([0.3, 0.1]), tensor([[0.1, 0.9], [0.2, 0.2]]), tensor([4, 4])
    loss = LearnedTemperature(loss="bsl", temperature=0.5)
    expected = bsl_loss(pos, neg, ratio=1.3, query_ids=ids, temperature=0.5)
    assert_close(loss(pos, neg, ratio=1.3, query_ids=ids), expected)


def test_what_is_masked_does_not_reach_the_temperature():
    nothing = tensor([[math.nan, math.inf, 1e30]])
    cells = torch.cat([tensor([[0.5, -0.2]]), nothing], -1)
    where = tensor([[True, True, False, False, False]])
    calls = {
        "softmax": ((cells, tensor([[1.0, 0, 0, 0, 0]])), {"where": where}),
        "sampled_softmax": ((cells, cells), {"where": where, "pos_where": where}),
        "info_nce": ((torch.ones(1, 1), cells.T), {"where": where, "positives": where}),
    }
    for name, (args, masks) in calls.items():
        loss = LearnedTemperature(loss=name, temperature=0.5)
        loss(*args, **masks).backward()
        assert loss.log_temperature.grad.isfinite() and loss.log_temperature.grad != 0, name


def test_it_learns_the_best_temperature():
    """Labels drawn from a softmax at temperature 0.4: there the cross-entropy is least."""
    scores = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.softmax(scores / 0.4, -1)
    loss = LearnedTemperature(loss="softmax", temperature=2.0)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.1)
    for _ in range(120):
        optimiser.zero_grad()
        loss(scores, labels).backward()
        optimiser.step()
        loss.update()
    assert loss.temperature.item() == pytest.approx(0.4, rel=0.01)


def test_the_range_holds_and_is_left_again():
    """Right pairs only: the colder the better."""
    loss = LearnedTemperature(loss="info_nce", temperature=0.011, least=0.01)
    with torch.no_grad():
        loss.log_temperature.fill_(math.log(0.001))
    x, y = torch.eye(2), tensor([[0.6, 0.8], [0.8, 0.6]])  # the wrong items are nearer
    value = loss(x, y)
    assert_close(value, info_nce_loss(x, y, temperature=0.01))
    value.backward()
    assert loss.log_temperature.grad < 0, "it wants to be warmer, and may"
    loss.update()
    assert_close(loss.log_temperature.exp(), tensor(0.01))
    with torch.no_grad():
        loss.log_temperature.fill_(1.0)
    loss.update()
    assert loss.log_temperature == 1


def test_state_and_parameters():
    loss = LearnedTemperature(loss="info_nce", temperature=0.2)
    assert list(loss.state_dict()) == [name for name, _ in loss.named_parameters()] == ["log_temperature"]
    other = LearnedTemperature(loss="info_nce")
    other.load_state_dict(loss.state_dict())
    assert_close(other.temperature, tensor(0.2))
    assert repr(loss) == "LearnedTemperature(loss=info_nce_loss, least=0.01)"
    assert loss.call == "embedding"


@pytest.mark.parametrize(
    ("own", "error", "said"),
    [
        ({"temperature": 0.0}, InputError, "temperature must be above 0"),
        ({"temperature": 0.001}, InputError, "must not start below its least, 0.01"),
        ({"loss": "contrastive_margin"}, ConfigError, "no similarity that can be chosen"),
        ({"loss": in_batch(softmax_loss)}, ConfigError, "no similarity that can be chosen"),
        ({"loss": "ordinal"}, ConfigError, "'ordinal' is of kind 'graded'"),
        ({"loss": "sog_clr"}, ConfigError, "'sog_clr' is of kind 'stateful'"),
        ({"loss": lambda x, y: x + y}, ConfigError, "is of kind None"),
        ({"loss": partial(info_nce_loss, temperature=0.1)}, ConfigError, "leave it out of the configured loss"),
        ({"loss": "info_nec"}, UnknownName, "Did you mean 'info_nce'"),
    ],
)
def test_bad_arguments(own, error, said):
    with pytest.raises(error, match=said):
        LearnedTemperature(**own)
