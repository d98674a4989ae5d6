"""What every loss with state keeps to: the registry says which there are."""

import math
from dataclasses import replace
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from rankwell.laws import examine
from rankwell.losses import (
    LOSSES,
    LLPAUCVariables,
    SogCLRLoss,
    contrastive_margin_loss,
    decoupled_softmax_loss,
    info_nce_loss,
    llpauc_value,
)
from rankwell.losses.cases import cases
from rankwell.losses.state_laws import EXCEPTIONS, LATER, LAWS, OF_KINDS, built, choices, laws_of, new, viewed
from rankwell.registry import Input

ENTRIES = [entry for entry in LOSSES if entry.kind == "stateful"]
PAIRS = [(law, entry) for entry in ENTRIES for law in laws_of(entry)]
each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch's own tracer
@pytest.mark.parametrize(("law", "entry"), PAIRS, ids=[f"{law.name}-{entry.name}" for law, entry in PAIRS])
def test_law(law, entry):
    law.check(entry)


@each
def test_every_loss_with_state_has_laws_of_its_memory_and_of_its_kind(entry):
    bound = {law.name for law in laws_of(entry)}
    assert len(bound & set(LAWS)) >= 10 and len(bound & set(OF_KINDS)) >= 20


@pytest.mark.parametrize("table", [EXCEPTIONS, LATER])
def test_exceptions_are_of_losses_and_laws_that_exist(table):
    assert set(table) <= set(OF_KINDS)
    for known in table.values():
        assert set(known) <= {entry.name for entry in ENTRIES} and all(known.values())


def test_a_law_that_holds_at_the_first_step_alone_is_held_there():
    entry, law = LOSSES["sog_clr"], OF_KINDS["gradient_is_numerical"]
    assert law.binds(entry) and not law.strict
    assert [law.name for law in laws_of(entry)].count("gradient_is_numerical") == 1
    twice = replace(entry, function=lambda **given: Doubled(**given))  # the gradient of another value
    assert examine(law, twice) is not None


class Doubled(SogCLRLoss):
    """A value that its gradient does not belong to."""

    def forward(self, *args, **given):
        value = super().forward(*args, **given)
        return value + value.detach()


# ---------------------------------------------------------------------------------------------------- the first step

PLAIN = {
    "cross_batch_memory": lambda queries, items, ids, item_ids, **given: contrastive_margin_loss(
        queries, items, positives=ids[:, None] == item_ids, **given
    ),
    "sog_clr": lambda pos, neg, ids, where, **given: (  # noqa: ARG005
        decoupled_softmax_loss(pos, neg, where=where, temperature=0.1, **given)
        - _of_row(pos, given) * where.sum(-1).clamp(min=1).log()
    ),
    "learned_temperature": partial(info_nce_loss, temperature=0.07),
    "min_max_llpauc": lambda *args, **given: llpauc_value(
        *args, LLPAUCVariables(*map(torch.tensor, (1.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.0))), **given
    ),
}
WORKED_BY_HAND = {
    "song": "its first value is 1 less an NDCG of squared hinges, which no other loss has: tests/losses/test_song.py",
    "k_song": "likewise, of the top k",
}


def _of_row(pos, given):
    """What log n is multiplied by: the weights of the row's positives."""
    there = given["pos_where"].expand_as(pos)
    of_pos = torch.where(there, given["weights"].expand_as(pos), 0)
    return of_pos.reshape(len(pos), -1).sum(-1)


@each
def test_the_first_step_is_the_plain_loss(entry):
    """With nothing remembered."""
    assert (entry.name in PLAIN) != (entry.name in WORKED_BY_HAND), "say what the first step of this loss is"
    if entry.name in WORKED_BY_HAND:
        return
    module = new(entry, {})
    for case in cases(viewed(entry, module)):
        args = {**case.args, "reduction": "none"}
        given = {name: x for name, x in args.items() if name not in case.scores[:2]}
        assert_close(module(**args), PLAIN[entry.name](*(args[name] for name in case.scores[:2]), **given))


# ---------------------------------------------------------------------------------------------------------- careless ones


class Careless(nn.Module):
    """A contrast loss that moves its scores by a running mean of them, as its subclasses get it wrong."""

    call = "contrast"
    inputs: ClassVar = {"ids": Input("list", "id", required=True)}

    def __init__(self, num_ids, *, gamma: float = 0.5):
        super().__init__()
        self.gamma = gamma
        self.register_buffer("mean", torch.zeros(num_ids))

    def forward(self, pos, neg, *, ids, pos_where=None, where=None, weights=None, reduction="mean"):
        moved = torch.nn.functional.softplus(self.mean[ids])
        rows = {"pos_where": pos_where, "where": where, "weights": weights, "reduction": "none"}
        value = LOSSES["bpr"](pos, neg, **rows) * (1 + moved).to(pos.dtype)
        there = pos_where is None or pos_where.reshape(len(pos), -1).any(-1)
        return value if reduction == "none" else value.sum() / (1 if reduction == "sum" else there.sum())

    def update(self, ids, neg, *, where=None):
        there = torch.ones_like(neg) if where is None else where
        mean = torch.where(there.bool(), neg, 0).sum(-1) / there.sum(-1).clamp(min=1)
        with torch.no_grad():
            self.enter(ids, mean)

    def enter(self, ids, mean):
        self.mean[ids] = (1 - self.gamma) * self.mean[ids] + self.gamma * mean


class WritesInCalls(Careless):
    def forward(self, pos, neg, *, ids, **given):
        self.mean += 0.01
        return super().forward(pos, neg, ids=ids, **given)


class ForgetsItsState(Careless):
    """As LibAUC's NDCG loss: the average is an ordinary attribute."""

    def __init__(self, num_ids, *, gamma: float = 0.5):
        super().__init__(num_ids, gamma=gamma)
        del self.mean
        self.mean = torch.zeros(num_ids)


class RemembersNothing(Careless):
    def enter(self, ids, mean):
        pass


class KeepsTheGraph(Careless):
    def update(self, ids, neg):
        self.mean = self.mean.index_copy(0, ids, neg.mean(-1).to(self.mean))


class ReadsTheMasked(Careless):
    def update(self, ids, neg):
        super().update(ids, neg)


class SharesItsState(Careless):
    shared = torch.zeros(1000)

    def __init__(self, num_ids, *, gamma: float = 0.5):
        super().__init__(num_ids, gamma=gamma)
        self._buffers["mean"] = self.shared

    def __deepcopy__(self, memo):
        return type(self)(1000)


class MovesAll(Careless):
    def enter(self, _, mean):
        self.mean += mean.mean()


class WaitsForTheDevice(Careless):
    def enter(self, ids, mean):
        for i, value in zip(ids.tolist(), mean, strict=True):
            self.mean[i] = value


class Overflows(Careless):
    def enter(self, ids, mean):
        self.mean[ids] = torch.where(mean != 0, mean.float().exp().exp(), self.mean[ids])


@pytest.mark.parametrize(
    ("careless", "law"),
    [
        (WritesInCalls, "calls_change_nothing"),
        (ForgetsItsState, "training_resumes_from_the_state"),
        (RemembersNothing, "what_is_remembered_counts"),
        (KeepsTheGraph, "past_steps_have_no_gradient"),
        (ReadsTheMasked, "masked_is_not_remembered"),
        (SharesItsState, "copies_are_apart"),
        (MovesAll, "unmet_ids_have_their_first_value"),
        (Careless, "row_with_nothing_valid_is_not_remembered"),
        (Careless, "order_of_rows_is_not_remembered"),  # of one id the last row wins
        (Overflows, "extreme_steps_leave_finite_values"),
        (WaitsForTheDevice, "state_moves_with_the_loss"),
    ],
)
def test_a_careless_loss_breaks_the_law(careless, law):
    entry = replace(LOSSES["sog_clr"], name="careless", function=careless, parameters={})
    found = examine(LAWS[law], entry)
    assert found is not None, law
    if law == "masked_is_not_remembered":
        assert found.what.startswith("nan behind the mask is remembered: got nan, expected ")
        assert found.call["num_ids"] == 1000 and torch.is_tensor(
            found.call["neg"]
        )  # how it was built, and the last call
    if careless is not Careless:
        plain = examine(LAWS[law], replace(entry, function=Careless))
        assert plain is None, plain.what


@each
def test_what_is_tried_says_how(entry):
    hows = [each.how for each in built(entry)]
    assert len(hows) == len(set(hows)) == 2 * len(choices(entry)) and hows[:2] == ["new", "later"]


def test_choices_of_one_of_ours():
    assert choices(LOSSES["song"]) == [{}]
    assert {"form": "theoretical"} in choices(LOSSES["k_song"]) and {"joined": True} in choices(
        LOSSES["cross_batch_memory"]
    )


def test_the_plain_form_of_sog_clr_by_hand():
    """Two negatives at 0, a positive at 0: log of their mean exponential, 0; a third at log 4: log 2."""
    loss, ids = SogCLRLoss(1, temperature=1.0), torch.tensor([0])
    assert_close(loss(torch.zeros(1), torch.zeros(1, 2), ids=ids), torch.tensor(0.0))
    assert_close(loss(torch.zeros(1), torch.tensor([[0.0, 0.0, math.log(4)]]), ids=ids), torch.tensor(math.log(2)))
