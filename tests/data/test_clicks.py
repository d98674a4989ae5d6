"""Simulated clicks: probabilities worked by hand, and frequencies that match them."""

import itertools

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import chi2

from rankwell.data import clicks as module
from rankwell.data.clicks import (
    CascadeModel,
    PositionModel,
    clicks_by_query,
    clicks_by_session,
    estimate_examination,
    inverse,
    simulate_clicks,
)
from rankwell.data.judged import JudgedLists
from rankwell.errors import ConfigError, DataError, InputError
from rankwell.losses import softmax_loss

LABELS = [2.0, 0.0, 1.0, 0.0, 1.0]  # a query of three documents and one of two
ATTRACTION = [1.0, 0.1, 0.1 + 0.9 / 3, 0.1, 0.4]  # (2^y - 1) / 3 of .9, and the noise
SCORES = torch.tensor([0.0, 2.0, 1.0, 0.5, 0.7])  # shows 1, 2, 0 and 4, 3
SHOWN = [[1, 2, 0], [4, 3]]


def lists(labels=LABELS, sizes=(3, 2)):
    features = np.arange(2.0 * len(labels), dtype=np.float32).reshape(-1, 2)
    ids = pl.Series([f"q{number}" for number in range(len(sizes))])
    return JudgedLists(features, np.array(labels, dtype=np.float32), np.array([0, *sizes]).cumsum(), ids)


def simulated(model, sessions=1_000, seed=0, shuffled=0.0, of=None, scores=SCORES):
    return list(simulate_clicks(of or lists(), scores, model, sessions, seed=seed, shuffled=shuffled))


def patterns(blocks, query):
    """How often each pattern of clicks occurred in sessions of the query."""
    found = {}
    for block in blocks:
        mine = block.clicks.int()[(block.queries == query).repeat_interleave(block.offsets.diff())]
        for row in mine.view(-1, len(SHOWN[query])).tolist():
            found[tuple(row)] = found.get(tuple(row), 0) + 1
    return found


def position_probability(pattern, query, eta, noise=0.1):
    """Independent positions."""
    total = 1.0
    for rank, (clicked, document) in enumerate(zip(pattern, SHOWN[query], strict=True), start=1):
        click = rank**-eta * ATTRACTION[document]
        total *= click if clicked else 1 - click
    return total


def cascade_probability(pattern, query, continuation):
    """Over every way to stop: going down, a click is followed by going on or by nothing."""

    def below(rest, documents):
        if not rest:
            return 1.0
        attraction = ATTRACTION[documents[0]]
        if not rest[0]:
            return (1 - attraction) * below(rest[1:], documents[1:])
        ends = (1 - continuation) * (not any(rest[1:]))
        return attraction * (ends + continuation * below(rest[1:], documents[1:]))

    return below(pattern, SHOWN[query])


@pytest.mark.parametrize(
    ("model", "probability"),
    [
        (PositionModel(eta=1.0), lambda pattern, query: position_probability(pattern, query, 1.0)),
        (PositionModel(eta=0.5), lambda pattern, query: position_probability(pattern, query, 0.5)),
        (CascadeModel(continuation=0.5), lambda pattern, query: cascade_probability(pattern, query, 0.5)),
        (CascadeModel(continuation=0.0), lambda pattern, query: cascade_probability(pattern, query, 0.0)),
    ],
    ids=["position", "position_half", "dependent", "cascade"],
)
def test_patterns_of_clicks_are_as_frequent_as_they_must_be(model, probability):
    blocks = simulated(model, 12_000)
    for query, length in enumerate((3, 2)):
        found = patterns(blocks, query)
        sessions = sum(found.values())
        expected = {p: probability(p, query) for p in itertools.product((0, 1), repeat=length)}
        assert sum(expected.values()) == pytest.approx(1)
        assert set(found) <= {p for p, share in expected.items() if share > 0}
        terms = [(found.get(p, 0) - sessions * e) ** 2 / (sessions * e) for p, e in expected.items() if e > 0]
        assert sum(terms) < chi2.isf(1e-4, len(terms) - 1)


def test_examination_by_hand():
    (block,) = simulated(PositionModel(eta=2.0), 50)
    assert torch.allclose(block.examination, block.positions.double() ** -2)
    (block,) = simulated(CascadeModel(continuation=0.5), 50)
    by_hand = {0: [1, 1 - 0.5 * 0.1, (1 - 0.5 * 0.1) * (1 - 0.5 * 0.4)], 1: [1, 1 - 0.5 * 0.4]}
    expected = [value for query in block.queries.tolist() for value in by_hand[query]]
    assert block.examination.tolist() == pytest.approx(expected)


def test_queries_are_drawn_alike_and_documents_shown_by_score():
    blocks = simulated(PositionModel(), 12_000)
    counts = torch.cat([block.queries for block in blocks]).bincount(minlength=2).double()
    assert float(((counts - 6_000) ** 2 / 6_000).sum()) < chi2.isf(1e-4, 1)
    block = blocks[0]
    for session, query in enumerate(block.queries[:20].tolist()):
        rows = slice(*block.offsets[session : session + 2].tolist())
        assert block.documents[rows].tolist() == SHOWN[query]
        assert block.positions[rows].tolist() == list(range(1, len(SHOWN[query]) + 1))


def test_shuffled_sessions_show_every_order_alike():
    blocks = simulated(PositionModel(), 6_000, shuffled=0.5)
    share = torch.cat([block.shuffled for block in blocks]).double().mean()
    assert float(share) == pytest.approx(0.5, abs=4 * (0.25 / 6_000) ** 0.5)
    found = {}
    for block in blocks:
        for session in range(len(block.queries)):
            shown = tuple(block.documents[slice(*block.offsets[session : session + 2].tolist())].tolist())
            if not block.shuffled[session]:
                assert list(shown) == SHOWN[block.queries[session]]
            elif block.queries[session] == 0:
                found[shown] = found.get(shown, 0) + 1
    expected = sum(found.values()) / 6
    assert len(found) == 6 and sum((n - expected) ** 2 / expected for n in found.values()) < chi2.isf(1e-4, 5)


@pytest.mark.parametrize("model", [PositionModel(), CascadeModel()], ids=["position", "cascade"])
def test_numbers_are_keyed_by_session(model, monkeypatch):
    whole = simulated(model, 300, shuffled=0.3)
    monkeypatch.setattr(module, "BLOCK", 7)
    parts = simulated(model, 200, shuffled=0.3)
    other = simulated(model, 200, shuffled=0.3, seed=1)
    for field in ("queries", "documents", "clicks", "examination", "shuffled"):
        joined = torch.cat([getattr(part, field) for part in parts])
        assert joined.equal(getattr(whole[0], field)[: len(joined)])
    assert not torch.cat([part.queries for part in other]).equal(torch.cat([part.queries for part in parts]))
    assert [part.first for part in parts][:3] == [0, 7, 14]


@pytest.mark.parametrize("model", [PositionModel(), CascadeModel()], ids=["position", "cascade"])
def test_weighted_clicks_estimate_attraction_and_naive_ones_do_not(model):
    """The mean of c / p over the sessions of a query, within four standard errors; a bias of the naive mean, beyond them."""
    blocks = simulated(model, 20_000)
    documents = torch.cat([block.documents for block in blocks])
    clicks = torch.cat([block.clicks for block in blocks]).double()
    weighted = clicks * torch.cat([inverse(block.examination) for block in blocks])
    for document in range(5):
        mine = documents == document
        error = 4 * float(weighted[mine].std()) / float(mine.sum()) ** 0.5 + 1e-9
        assert abs(float(weighted[mine].mean()) - ATTRACTION[document]) < error
    last = documents == 0  # shown third
    assert float(clicks[last].mean()) < 0.85 * ATTRACTION[0]


def test_estimated_examination_is_the_models():
    of = lists([1.0, 0.0, 0.0, 1.0] * 5 + [1.0, 0.0], (4,) * 5 + (2,))
    blocks = simulated(PositionModel(), 60_000, shuffled=0.5, of=of, scores=torch.arange(22.0))
    found = estimate_examination(blocks)
    assert len(found) == 4 and float(found[0]) == 1
    for position in (2, 3, 4):
        clicks = 60_000 / 2 * 0.55 / position * 5 / 6  # about
        assert float(found[position - 1]) == pytest.approx(1 / position, abs=5 * (1 / clicks) ** 0.5 / position)


def test_estimates_by_hand_and_of_positions_with_few_clicks():
    clicks, first = torch.tensor([10.0, 4.0, 1.0, 2.0, 1.0]), torch.tensor([10.0, 8.0, 6.0, 6.0, 2.0])
    assert module._pooled(clicks, first, 2).tolist() == pytest.approx([1, 4 / 8, *[4 / 14] * 3])
    assert module._pooled(clicks, first, 1).tolist() == pytest.approx([1, 4 / 8, 1 / 6, 2 / 6, 1 / 2])
    assert module._pooled(clicks, first, 5).tolist() == pytest.approx([1, *[8 / 22] * 4])


def test_estimates_need_clicks_in_random_order():
    with pytest.raises(DataError, match=r"needs 100 clicks on the first position .* got 0 and 0"):
        estimate_examination(simulated(PositionModel(), 1_000))
    with pytest.raises(DataError, match="Simulate more sessions"):
        estimate_examination(simulated(PositionModel(), 20, shuffled=1.0))


def test_inverse_and_its_clip():
    given = torch.tensor([1.0, 0.5, 0.01])
    assert inverse(given).tolist() == pytest.approx([1, 2, 100])
    assert inverse(given, clip=0.25).tolist() == pytest.approx([1, 2, 4])
    with pytest.raises(ConfigError, match=r"clip must be in \[0, 1\]"):
        inverse(given, clip=1.5)


@pytest.mark.parametrize("shuffled", [0.0, 0.4])
def test_a_list_a_query_trains_as_a_list_a_session(shuffled):
    """The loss of aggregated clicks is the mean over sessions, and so is its gradient."""
    of, blocks = lists(), simulated(PositionModel(), 400, shuffled=shuffled)
    values, gradients = [], []
    for made in (f(of, blocks, lambda b: inverse(b.examination)) for f in (clicks_by_query, clicks_by_session)):
        direction = torch.tensor([0.3, -0.2], requires_grad=True)
        features, labels, offsets = made.tensors()
        value = softmax_loss((features @ direction).double(), labels, weights=made.weight_tensor(), offsets=offsets)
        values.append(float(value.detach()))
        gradients.append(torch.autograd.grad(value, direction)[0].tolist())
    assert values[0] == pytest.approx(values[1], rel=1e-5) and gradients[0] == pytest.approx(gradients[1], rel=1e-4)


def test_lists_of_clicks_by_hand():
    of, blocks = lists(), simulated(PositionModel(), 60)
    made = clicks_by_query(of, blocks, lambda block: block.positions.double())
    counts = np.zeros(5)
    for block in blocks:
        np.add.at(counts, block.documents[block.clicks].numpy(), 1)
    assert made.labels.tolist() == pytest.approx((counts * 2 / 60).tolist())
    ranks = {document: rank for shown in SHOWN for rank, document in enumerate(shown, start=1)}
    assert made.weights.tolist() == [ranks[d] if counts[d] else 1 for d in range(5)]
    assert made.query_ids.to_list() == ["q0", "q1"] and np.array_equal(made.features, of.features)
    sessions = clicks_by_session(of, blocks, lambda block: block.positions.double())
    queries = blocks[0].queries.tolist()
    assert sessions.query_ids.to_list() == [f"q{query}#{number}" for number, query in enumerate(queries)]
    assert sessions.labels.sum() == counts.sum() and len(sessions) == 60
    assert np.array_equal(sessions.features[: len(SHOWN[queries[0]])], of.features[SHOWN[queries[0]]])
    assert set(sessions.weights[sessions.labels == 0]) == {1}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PositionModel(eta=-1), "eta must be"),
        (lambda: PositionModel(eta=float("nan")), "eta must be"),
        (lambda: PositionModel(noise=1), r"noise must be in \[0, 1\)"),
        (lambda: CascadeModel(noise=-0.1), r"noise must be in \[0, 1\)"),
        (lambda: CascadeModel(continuation=1.1), r"continuation must be in \[0, 1\]"),
    ],
    ids=["eta", "nan", "noise", "negative", "continuation"],
)
def test_models_that_make_no_sense(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_what_cannot_be_simulated():
    model = PositionModel()
    with pytest.raises(InputError, match="scores must be a finite number a document, 5"):
        simulated(model, scores=SCORES[:4])
    with pytest.raises(InputError, match="scores must be a finite number"):
        simulated(model, scores=SCORES / 0)
    with pytest.raises(InputError, match="sessions must be at least 1"):
        simulated(model, sessions=0)
    with pytest.raises(InputError, match=r"shuffled in \[0, 1\]"):
        simulated(model, shuffled=2.0)
    with pytest.raises(DataError, match="no document has a label above 0"):
        simulated(model, of=lists([0.0] * 5))


def test_lists_of_one_document():
    (block,) = simulated(CascadeModel(), 10, of=lists([1.0], (1,)), scores=torch.zeros(1), shuffled=0.5)
    assert block.positions.tolist() == [1] * 10 and block.clicks.all()  # the highest grade is always attractive
