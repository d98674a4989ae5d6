"""SONG and K-SONG, against sums over pairs and dictionaries of averages."""

import math
from functools import partial

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.lists import offsets_from_sizes
from rankwell.losses import KSONGLoss, SONGLoss


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def place(scores, i, margin):
    """Mean squared hinge of item i against all of its list."""
    return sum((margin - scores[i] + s).clamp(min=0) ** 2 for s in scores) / len(scores)


def estimate(scores, labels, ids, known, *, gamma, margin=1.0, n=None, inside=None):
    """Value and gradient of one list as the formulas have them; ``known`` are the averages before the step."""
    n = n or len(scores)
    ideal = sum((2 ** float(y) - 1) / math.log2(2 + r) for r, y in enumerate(sorted(labels.tolist(), reverse=True)))
    value, slope = 1.0, torch.zeros_like(scores)
    for i, y in enumerate(labels.tolist()):
        if y <= 0:
            continue
        g = place(scores, i, margin)
        now = g.item()
        u = (1 - gamma) * known[int(ids[i])] + gamma * now if int(ids[i]) in known else now
        share = 1.0 if inside is None else float(inside[i])
        gain = share * (2**y - 1) / ideal
        value -= gain / math.log2(1 + n * u)
        weight = gain * n / (math.log2(1 + n * u) ** 2 * (1 + n * u) * math.log(2))
        slope += weight * torch.autograd.grad(g, scores, retain_graph=True)[0]
    return value, slope


def enter(known, scores, labels, ids, gamma, margin=1.0):
    for i, y in enumerate(labels.tolist()):
        if y > 0:
            g, key = place(scores, i, margin).item(), int(ids[i])
            known[key] = (1 - gamma) * known[key] + gamma * g if key in known else g


LABELS = tensor([[2.0, 0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0, 1.0]])
IDS = tensor([[0, -1, 1, -1, -1], [-1, -1, 2, -1, 3]])


@pytest.mark.parametrize(("gamma", "margin", "n"), [(0.3, 1.0, None), (1.0, 0.7, None), (0.2, 1.0, 40)])
def test_song_by_hand_over_several_steps(gamma, margin, n):
    loss, known = SONGLoss(4, gamma=gamma, margin=margin).double(), {}
    for step in range(4):
        scores = drawn(2, 5, seed=step).double().requires_grad_()
        values = loss(scores, LABELS, ids=IDS, reduction="none", num_items=n)
        (slopes,) = torch.autograd.grad(values.sum(), scores)
        for row in range(2):
            alone = scores.detach()[row].requires_grad_()
            value, slope = estimate(alone, LABELS[row], IDS[row], known, gamma=gamma, margin=margin, n=n)
            assert values[row].item() == pytest.approx(value)
            assert_close(slopes[row], slope)
        loss.update(IDS, scores, LABELS)
        for row in range(2):
            enter(known, scores.detach()[row], LABELS[row], IDS[row], gamma, margin)


def test_pairs_that_are_met_twice_in_a_step_enter_by_their_mean():
    loss, scores, labels = SONGLoss(3, gamma=0.5), drawn(2, 4), tensor([[1.0, 0, 0, 0], [1.0, 0, 0, 0]])
    loss.update(tensor([[2, 0, 0, 0], [2, 0, 0, 0]]), scores, labels)
    expected = sum(place(row, 0, 1.0) for row in scores) / 2
    assert_close(loss.discount.places.logs[2].exp(), expected)
    assert loss.discount.places.seen.tolist() == [False, False, True]


def test_samples_stand_for_the_whole():
    """Half of the relevant items are in the sample; they count for all, over the ideal of the whole list."""
    scores, labels, ids = drawn(5), LABELS[0], IDS[0]
    loss = SONGLoss(4, gamma=1.0)
    dcg = sum(
        (2 ** float(labels[i]) - 1) / math.log2(1 + 100 * float(place(scores, i, 1.0))) for i in (0, 2)
    )  # fmt: skip
    ours = loss(scores, labels, ids=ids, num_items=100, num_relevant=tensor(4.0), ideal=tensor(6.0))
    assert ours.item() == pytest.approx(1 - 2 * dcg / 6, rel=1e-5)


def stepped(form, number, loss):
    scores = drawn(2, 5, seed=number)
    queries = tensor([0, number % 3])
    value = loss(scores, LABELS, ids=IDS, query_ids=queries, reduction="none")
    assert torch.equal(loss(scores, LABELS, ids=IDS, query_ids=queries, reduction="none"), value), form
    loss.update(IDS, scores, LABELS, query_ids=queries)
    return value


@pytest.mark.parametrize("form", ["practical", "theoretical"])
def test_calls_change_nothing_and_the_state_dict_resumes(form):
    """LibAUC's thresholds and averages are ordinary attributes: they are lost when training is resumed."""
    loss, resumed = (KSONGLoss(4, 3, k=2, form=form, step_size=0.5) for _ in range(2))
    for number in range(3):
        stepped(form, number, loss)
    more = {"curvature.logs", "curvature.seen"} if form == "theoretical" else set()
    assert set(loss.state_dict()) == {"thresholds", "discount.places.logs", "discount.places.seen", *more}
    resumed.load_state_dict(loss.state_dict())
    for number in range(3, 7):
        assert torch.equal(stepped(form, number, loss), stepped(form, number, resumed))


def test_k_song_by_hand():
    """The practical form: shares of the top k are constants, thresholds go down their slope."""
    k, sharpness, eta, t1, t2, gamma = 2, 3.0, 0.4, 0.2, 0.05, 0.3
    loss = KSONGLoss(
        4, 3, k=k, gamma=gamma, sharpness=sharpness, step_size=eta, temperature=t1, pull=t2
    ).double()  # fmt: skip
    known, thresholds, queries = {}, [0.0, 0.0, 0.0], [2, 0]
    for step in range(4):
        scores = drawn(2, 5, seed=step).double().requires_grad_()
        values = loss(scores, LABELS, ids=IDS, query_ids=tensor(queries), reduction="none")
        (slopes,) = torch.autograd.grad(values.sum(), scores)
        loss.update(IDS, scores, LABELS, query_ids=tensor(queries))
        for row, query in enumerate(queries):
            alone = scores.detach()[row].requires_grad_()
            inside = torch.sigmoid(sharpness * (alone.detach() - thresholds[query]))
            value, slope = estimate(alone, LABELS[row], IDS[row], known, gamma=gamma, inside=inside)
            assert values[row].item() == pytest.approx(value)  # both lists have no more than k relevant items
            assert_close(slopes[row], slope)
            above = torch.sigmoid((alone.detach() - thresholds[query]) / t1).mean().item()
            thresholds[query] -= eta * (k / 5 + t2 * thresholds[query] - above)
        for row in range(2):
            enter(known, scores.detach()[row], LABELS[row], IDS[row], gamma)
        assert_close(loss.thresholds, tensor(thresholds).double())


def test_thresholds_settle_where_k_items_are_above():
    loss = KSONGLoss(2, 1, k=3, step_size=0.2, temperature=0.01, pull=1e-6)
    scores = torch.linspace(1.0, 2.0, 11)
    labels = torch.zeros(11)
    for _ in range(200):
        loss.update(torch.zeros(11, dtype=torch.int64), scores, labels, query_ids=tensor(0))
    assert 1.69 < float(loss.thresholds[0]) < 1.81


def test_a_query_met_twice_takes_one_step():
    scores, labels, ids = drawn(2, 5), LABELS, IDS
    one = [KSONGLoss(4, 1, k=1, step_size=1.0, temperature=0.5) for _ in range(3)]
    one[0].update(ids, scores, labels, query_ids=tensor([0, 0]))
    for loss, row in zip(one[1:], range(2), strict=True):
        loss.update(ids[row], scores[row], labels[row], query_ids=tensor(0))
    assert_close(one[0].thresholds, (one[1].thresholds + one[2].thresholds) / 2)


def test_the_theoretical_gradient_follows_the_threshold():
    """With one share of the new value, it is the gradient of the loss whose threshold solves its problem."""
    k, sharpness, t1, t2 = 2, 2.0, 0.3, 0.1
    scores, labels, ids = drawn(6).double(), tensor([1.0, 0.0, 1.0, 0.0, 0.0, 0.0]), tensor([0, 0, 1, 0, 0, 0])

    def solved(s):
        a = 0.0
        for _ in range(60):  # Newton
            soft = torch.sigmoid((s - a) / t1)
            slope = k / 6 + t2 * a - soft.mean()
            a = a - slope / (t2 + (soft * (1 - soft)).mean() / t1)
        return a

    def whole(s):
        dcg = sum(
            torch.sigmoid(sharpness * (s[i] - solved(s))) / torch.log2(1 + 6 * place(s, i, 1.0)) for i in (0, 2)
        )  # fmt: skip
        return 1 - dcg / (1 + 1 / math.log2(3))

    loss = KSONGLoss(
        2, 1, k=k, gamma=1.0, sharpness=sharpness, temperature=t1, pull=t2, form="theoretical", curvature_gamma=1.0
    ).double()  # fmt: skip
    loss.thresholds.fill_(float(solved(scores)))
    scores.requires_grad_()
    ours, expected = loss(scores, labels, ids=ids, query_ids=tensor(0)), whole(scores)
    assert_close(ours, expected)
    assert_close(torch.autograd.grad(ours, scores), torch.autograd.grad(expected, scores))


def test_ragged_updates_are_dense_updates():
    sizes, queries = tensor([3, 5, 0]), tensor([2, 0, 1])
    scores, there = drawn(3, 5), torch.arange(5) < sizes[:, None]
    labels, ids = (torch.cat([x, x[:1] * 0]) for x in (LABELS, IDS))
    dense, ragged = (KSONGLoss(4, 3, k=1, step_size=0.5, form="theoretical") for _ in range(2))
    for _ in range(2):
        dense.update(ids, scores, labels, query_ids=queries, where=there)
        flat = offsets_from_sizes(sizes)
        ragged.update(ids[there], scores[there], labels[there], query_ids=queries, offsets=flat)
        for name, value in dense.state_dict().items():
            assert_close(ragged.state_dict()[name], value)
    assert dense.thresholds[1] == 0 and not dense.curvature.seen[1], "an empty list moves nothing"


def test_weights_weigh_gains():
    loss, scores = SONGLoss(4), drawn(2, 5)
    weights = tensor([[3.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 2.0, 1.0, 1.0]])
    (ours,) = loss(scores[:1], LABELS[:1], ids=IDS[:1], weights=weights[:1], reduction="none")
    dcg, ideal = 0.0, 9 + 1 / math.log2(3)  # gains 3 * 3 and 1 * 1
    for i, gain in ((0, 9.0), (2, 1.0)):
        dcg += gain / math.log2(1 + 5 * float(place(scores[0], i, 1.0)))
    assert ours.item() == pytest.approx(1 - dcg / ideal, rel=1e-5)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"k": 0}, "k must be a whole number of at least 1"),
        ({"form": "theo"}, "form must be 'practical' or 'theoretical': got 'theo'"),
        ({"sharpness": 0.0}, "sharpness must be above 0"),
        ({"margin": -1.0}, "margin must be above 0"),
        ({"gamma": 0.0}, "gamma in"),
    ],
)
def test_bad_arguments(own, said):
    with pytest.raises(InputError, match=said):
        KSONGLoss(4, 2, **own)


def test_ids_that_do_not_fit():
    with pytest.raises(InputError, match="ids must be integers, one a value"):
        SONGLoss(4)(drawn(2, 5), LABELS, ids=IDS[0])
    with pytest.raises(InputError, match=r"query_ids must be integers, one a list, \(2,\): got \(5,\)"):
        KSONGLoss(4, 2)(drawn(2, 5), LABELS, ids=IDS, query_ids=torch.arange(5))
    assert "form='practical'" in repr(KSONGLoss(4, 2))


@pytest.mark.parametrize("bad", [-1, 4])
def test_ids_of_nobody(bad):
    """What stands at items without relevance is not looked at."""
    ids, queries, scores = torch.where(IDS == 2, bad, IDS), tensor([0, 1]), drawn(2, 5)
    losses = [(SONGLoss(4), {}), (KSONGLoss(4, 2), {"query_ids": queries})]
    for loss, own in losses:
        before = {name: x.clone() for name, x in loss.state_dict().items()}
        loss(scores, LABELS, ids=IDS, **own)
        with pytest.raises(InputError, match=f"^ids must be 0 to 3: got {bad}"):
            loss(scores, LABELS, ids=ids, **own)
        with pytest.raises(InputError, match=f"^ids must be 0 to 3: got {bad}"):
            loss.update(ids, scores, LABELS, **own)
        assert all(torch.equal(x, before[name]) for name, x in loss.state_dict().items())


@pytest.mark.parametrize("form", ["practical", "theoretical"])
def test_queries_of_nobody(form):
    loss, scores, queries = KSONGLoss(4, 2, form=form), drawn(2, 5), tensor([0, 7])
    for call in (lambda **own: loss(scores, LABELS, ids=IDS, **own), partial(loss.update, IDS, scores, LABELS)):
        call(query_ids=queries, where=tensor([[True], [False]]))
        for bad in (-1, 2):
            with pytest.raises(InputError, match=f"query_ids must be 0 to 1: got {bad}.*num_queries"):
                call(query_ids=tensor([0, bad]))
    assert loss.thresholds[1] == 0
