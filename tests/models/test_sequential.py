"""What all models of sequences promise; what is one model's own is in its own file."""

import copy
import itertools

import pytest
import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.models.gru4rec import GRU4Rec
from rankwell.models.item_mean import ItemMean
from rankwell.models.sasrec import SASRec
from rankwell.models.sequential import Groups, SequenceModel, last_events
from rankwell.types import Ragged

ITEMS, LENGTH = 12, 20
KINDS = {"sasrec": SASRec, "gru4rec": GRU4Rec, "item_mean": ItemMean}


def ragged(*lists: list[int]) -> Ragged:
    offsets = torch.tensor([0, *map(len, lists)]).cumsum(0)
    return Ragged(offsets, torch.tensor([item for own in lists for item in own], dtype=torch.int64))


HISTORIES = ragged(
    [3, 1, 4, 1, 5, 9], [2], [], [6, 5, 3, 5], [8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4], [11, 0], [1, 2, 3]
)


def built(kind: str, **own: object) -> SequenceModel:
    model = KINDS[kind](ITEMS, dim=8, max_length=LENGTH, **own)  # type: ignore[arg-type]
    model.initialise(seed=5)
    return model.double().eval()


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


def padded(histories: Ragged, width: int, left: bool) -> Tensor:
    rows = torch.full((len(histories.offsets) - 1, width), -1)
    for row, (start, end) in enumerate(zip(histories.offsets[:-1], histories.offsets[1:], strict=True)):
        own = histories.values[start:end]
        rows[row, width - len(own) :] = own if left and len(own) else rows[row, width - len(own) :]
        if not left:
            rows[row, : len(own)] = own
    return rows


def test_a_later_event_never_changes_an_earlier_state(kind):
    model = built(kind)
    states = model.states(HISTORIES)
    for cut in range(1, 13):
        lists = HISTORIES.values.clone()
        begin = int(HISTORIES.offsets[4])
        lists[begin + cut :] = 0  # another future, of this history and all behind it
        changed = model.states(HISTORIES._replace(values=lists))
        torch.testing.assert_close(changed[: begin + cut], states[: begin + cut], rtol=0, atol=0)
        assert not changed[begin + cut :].allclose(states[begin + cut :])
        short = ragged(HISTORIES.values[begin : begin + cut].tolist())
        torch.testing.assert_close(model.states(short), states[begin : begin + cut])


def test_a_later_event_has_no_gradient_from_an_earlier_state(kind):
    model = built(kind)
    history = ragged([0, 1, 2, 3, 4, 5])
    for place in range(6):
        (grad,) = torch.autograd.grad(model.states(history)[place].square().sum(), model.items)
        reached = grad.abs().sum(1) > 0
        assert reached[: place + 1].all() and not reached[place + 1 :].any()


def test_histories_do_not_meet(kind):
    model = built(kind)
    whole = model.states(HISTORIES)
    offsets = HISTORIES.offsets.tolist()
    for start, end in itertools.pairwise(offsets):
        alone = model.states(ragged(HISTORIES.values[start:end].tolist()))
        torch.testing.assert_close(alone, whole[start:end])


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("width", [13, 19])
def test_padding_changes_nothing(kind, left, width):
    model = built(kind)
    rows = padded(HISTORIES, width, left)
    states = model(rows)
    assert states.shape == (7, width, 8)
    torch.testing.assert_close(states[rows >= 0], model.states(HISTORIES))
    assert not states[rows < 0].any()


def test_scores_are_of_the_last_state(kind):
    model = built(kind)
    scores = model.score_next(HISTORIES)
    ends = (HISTORIES.offsets[1:] - 1).tolist()
    for row, end in enumerate(ends):
        wanted = torch.zeros(ITEMS).double() if row == 2 else model.items @ model.states(HISTORIES)[end]
        torch.testing.assert_close(scores[row], wanted)
    out = torch.full((7, ITEMS + 3), 7.0).double()
    assert model.score_next(HISTORIES, out[:, :ITEMS]).equal(scores) and out[:, :ITEMS].equal(scores)
    assert (out[:, ITEMS:] == 7).all()


def test_blocks_equal_the_whole(kind):
    model = built(kind)
    whole = model.score_next(HISTORIES)
    first = Ragged(HISTORIES.offsets[:4], HISTORIES.values[: int(HISTORIES.offsets[3])])
    rest = Ragged(HISTORIES.offsets[3:] - HISTORIES.offsets[3], HISTORIES.values[int(HISTORIES.offsets[3]) :])
    torch.testing.assert_close(torch.cat([model.score_next(first), model.score_next(rest)]), whole)


def test_only_the_last_events_are_looked_at(kind):
    model = built(kind)
    long = [(7 * place) % ITEMS for place in range(LENGTH + 9)]
    cut = model.score_next(ragged(long, [3]))
    torch.testing.assert_close(cut, model.score_next(ragged(long[-LENGTH:], [3])))
    assert not cut[0].allclose(model.score_next(ragged(long[-LENGTH + 1 :]))[0])
    with pytest.raises(InputError, match="at most max_length = 20 events: got 29"):
        model.states(ragged(long))


@pytest.mark.parametrize("lists", [[], [[]], [[], []], [[5]]], ids=["none", "empty", "two-empty", "one"])
def test_nothing_to_follow(kind, lists):
    model = built(kind)
    histories = ragged(*lists)
    assert model.states(histories).shape == (sum(map(len, lists)), 8)
    scores = model.score_next(histories)
    assert scores.shape == (len(lists), ITEMS) and bool(scores.any()) == (lists == [[5]])
    model.states(histories).sum().backward()


def test_save_and_load(kind):
    model = built(kind)
    other = KINDS[kind](ITEMS, dim=8, max_length=LENGTH).double().eval()
    assert not other.score_next(HISTORIES).equal(model.score_next(HISTORIES))
    other.load_state_dict(model.state_dict())
    assert other.score_next(HISTORIES).equal(model.score_next(HISTORIES))


def test_the_start_is_keyed_by_the_seed(kind):
    model, other = built(kind), built(kind)
    assert all(a.equal(b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    other.initialise(seed=6)
    assert not other.items.equal(model.items)


def test_dropout_needs_training_and_a_generator(kind):
    model = built(kind, dropout=0.5)
    plain = model.states(HISTORIES)
    keyed = torch.Generator().manual_seed(0)
    assert model.states(HISTORIES, generator=keyed).equal(plain)
    model.train()
    assert model.states(HISTORIES).equal(plain)
    once, again, other = (model.states(HISTORIES, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert once.equal(again) and not once.equal(plain) and not once.equal(other)


def test_the_gradient_is_that_of_differences(kind):
    model = built(kind)
    history = ragged([3, 1, 3], [2])

    def value() -> Tensor:
        return (model.states(history) * torch.arange(32).view(4, 8)).sum()

    value().backward()
    for parameter in model.parameters():
        moved = copy.deepcopy(parameter.grad)
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        with torch.no_grad():
            parameter += 1e-6 * direction
            above = value()
            parameter -= 2e-6 * direction
            below = value()
            parameter += 1e-6 * direction
        assert float((above - below) / 2e-6) == pytest.approx(float((moved * direction).sum()), rel=1e-4, abs=1e-5)


def test_groups_have_every_event_once_and_little_padding():
    lengths = torch.tensor([1, 50, 0, 3, 2, 30, 49, 1, 20, 4])
    groups = Groups(torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
    assert groups.rows[groups.where].sort().values.equal(torch.arange(160))
    assert groups.rows[groups.back].equal(torch.arange(160)) and groups.where[groups.back].all()
    shapes = [lists * longest for lists, longest in groups.shapes]
    for (lists, longest), there in zip(groups.shapes, groups.where.split(shapes), strict=True):
        sizes = there.view(lists, longest).sum(1)
        assert int(sizes.max()) == longest <= 1.5 * int(sizes.min())


def test_what_goes_through_groups_comes_back_in_its_place():
    lengths = torch.tensor([1, 50, 0, 3, 2])
    groups = Groups(torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
    x = torch.randn(56, 3, generator=torch.Generator().manual_seed(0))
    assert groups.through(x, lambda padded: padded * 2).equal(x * 2)


def test_last_events():
    assert last_events(HISTORIES, 13) is HISTORIES
    cut = last_events(HISTORIES, 2)
    assert cut.offsets.tolist() == [0, 2, 3, 3, 5, 7, 9, 11]
    assert cut.values.tolist() == [5, 9, 2, 3, 5, 6, 4, 11, 0, 2, 3]


@pytest.mark.parametrize(
    "own", [{"dropout": 1.0}, {"init_std": -1.0}, {"dim": 0}, {"max_length": 0}], ids=lambda own: next(iter(own))
)
def test_arguments_that_cannot_be(kind, own):
    with pytest.raises(InputError, match=f"{next(iter(own))}"):
        KINDS[kind](ITEMS, **own)  # type: ignore[arg-type]
