"""Lambda losses against double loops over pairs, in float64, written from the formulas; and what is known of them."""

import math
from dataclasses import replace
from functools import partial
from math import e, exp, log, log2

import pytest
import torch
from torch import tensor
from torch.nn import functional
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.kernels import lambda_pairs
from rankwell.lists import offsets_from_sizes
from rankwell.losses import (
    LOSSES,
    lambda_loss,
    lambda_rank_loss,
    logistic_loss,
    ndcg_loss1,
    ndcg_loss2,
    ndcg_loss2pp,
)
from rankwell.losses.laws import LAWS, peak_bytes
from rankwell.metrics import ndcg

METRICS = ["ndcg", "mrr", "map", "precision", "arp"]
ALL_PAIRS = {
    "ndcg_loss1": ndcg_loss1,
    "ndcg_loss2": ndcg_loss2,
    "ndcg_loss2pp": ndcg_loss2pp,
    "lambda_loss": lambda_loss,
    "lambda_rank": lambda_rank_loss,
}


# --------------------------------------------------------------------------------------------------------- double loops


def discount(rank):
    return 1 / log2(1 + rank)


def ranks_of(scores, labels):
    """Ranks from 1; of equal scores the lower label first, then the earlier item."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], labels[i], i))
    return {item: rank for rank, item in enumerate(order, 1)}


def gains_of(labels, k):
    best = sorted(labels, reverse=True)[:k]
    ideal = sum((2**y - 1) * discount(rank) for rank, y in enumerate(best, 1))
    return [(2**y - 1) / ideal if ideal else 0.0 for y in labels]


def relevant_ranks(labels, ranks):
    return sorted(ranks[i] for i, y in enumerate(labels) if y >= 1)


def binary_metric(name, labels, ranks, k):
    found = relevant_ranks(labels, ranks)
    if name == "mrr":
        return 1 / found[0] if found else 0.0
    if name == "map":
        return sum(hits / rank for hits, rank in enumerate(found, 1)) / max(len(found), 1)
    return sum(rank <= k for rank in found) / k


def change(metric, labels, ranks, i, j, k):
    """What the metric changes by when two items change places."""
    if metric == "arp":
        return labels[i] - labels[j]
    if metric == "ndcg":
        gains = gains_of(labels, k)
        return (gains[i] - gains[j]) * abs(discount(ranks[i]) - discount(ranks[j]))
    if (labels[i] >= 1) == (labels[j] >= 1):
        return 0.0
    swapped = {**ranks, i: ranks[j], j: ranks[i]}
    return abs(binary_metric(metric, labels, swapped, k) - binary_metric(metric, labels, ranks, k))


def pair_weight(loss, labels, ranks, i, j, k, metric, mu):
    """The weight of item i over item j; 0 where the pair does not count."""
    n = len(labels)
    gains = gains_of(labels, k or n)
    if loss == "ndcg_loss1":
        return gains[i] * discount(ranks[i])
    if labels[i] <= labels[j]:
        return 0.0
    if loss == "lambda_rank":
        return change(metric, labels, ranks, i, j, k or n) if min(ranks[i], ranks[j]) <= (k or n) else 0.0
    away, worse = abs(ranks[i] - ranks[j]), max(ranks[i], ranks[j])
    delta, rho = discount(away) - discount(away + 1), abs(discount(ranks[i]) - discount(ranks[j]))
    factor = {
        "ndcg_loss2": delta,
        "ndcg_loss2pp": rho + mu * delta,
        "lambda_loss": delta / (1 - discount(worse)) if worse > (k or n) else delta,
    }[loss]
    return factor * (gains[i] - gains[j])


def by_loops(loss, scores, labels, weights, k=None, metric="ndcg", temperature=1.0, mu=10.0):
    ranks, items = ranks_of(scores.tolist(), labels), range(len(labels))
    of_pairs = [
        [pair_weight(loss, labels, ranks, i, j, k, metric, mu) if i != j else 0.0 for j in items] for i in items
    ]
    costs = functional.softplus((scores - scores[:, None]) / temperature)
    total = (weights[:, None] * tensor(of_pairs, dtype=torch.double) * costs).sum()
    return total if loss == "lambda_rank" else total / log(2)


def draw(n, seed, levels=5, tied=False):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, dtype=torch.double, generator=generator) * 2
    labels = torch.randint(0, levels, (n,), generator=generator)
    weights = torch.rand(n, dtype=torch.double, generator=generator)
    return scores.round() if tied else scores, labels, weights


def with_slopes(loss, scores, weights):
    leaves = [scores.clone().requires_grad_(), weights.clone().requires_grad_()]
    value = loss(*leaves)
    return value.detach(), *torch.autograd.grad(value, leaves)


FORMS = [
    *((name, {}) for name in ("ndcg_loss1", "ndcg_loss2")),
    ("ndcg_loss2pp", {"mu": 3.0}),
    *(("lambda_loss", {"k": k}) for k in (None, 1, 3, 20)),
    *(("lambda_rank", {"k": k, "metric": metric}) for metric in METRICS for k in (1, 3, 20)),
    *(("lambda_rank", {"metric": metric}) for metric in METRICS if metric != "precision"),
]


@pytest.mark.parametrize(("name", "own"), FORMS, ids=str)
@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied"])
def test_equals_double_loop(name, own, tied):
    for seed, (n, levels) in enumerate([(1, 5), (2, 2), (7, 5), (9, 2), (8, 1), (6, 3)]):
        scores, labels, weights = draw(n, seed, levels, tied)
        own = {**own, "temperature": 0.7}
        ours = with_slopes(lambda s, w: ALL_PAIRS[name](s, labels, weights=w, **own), scores, weights)  # noqa: B023
        loops = with_slopes(lambda s, w: by_loops(name, s, labels.tolist(), w, **own), scores, weights)  # noqa: B023
        for one, other in zip(ours, loops, strict=True):
            assert_close(one, other)
        # Without weights there is less to compute.
        plain = ALL_PAIRS[name](scores, labels, **own)
        assert_close(plain, by_loops(name, scores, labels.tolist(), torch.ones(n), **own))


@pytest.mark.parametrize(("name", "own"), FORMS, ids=str)
def test_small_chunks_and_blocks_change_nothing(name, own, monkeypatch):
    sizes = tensor([30, 0, 1, 17, 29, 2, 30, 5, 24])
    scores, labels, weights = draw(int(sizes.sum()), 5, 3)
    scores, offsets = scores.float(), offsets_from_sizes(sizes)

    def all_of(s, w):
        return ALL_PAIRS[name](s, labels, weights=w, offsets=offsets, reduction="sum", **own)

    whole = with_slopes(all_of, scores, weights.float())
    monkeypatch.setattr(lambda_pairs, "CHUNK_PAIRS", 64)
    monkeypatch.setattr(lambda_pairs, "BLOCK_ITEMS", 40)
    for one, other in zip(with_slopes(all_of, scores, weights.float()), whole, strict=True):
        assert_close(one, other)
    lists = [ALL_PAIRS[name](s, y, weights=w, **own) for s, y, w in zip(
        *(x.split(sizes.tolist()) for x in (scores, labels, weights.float())), strict=True
    ) if len(s)]  # fmt: skip
    assert_close(whole[0], sum(lists))


@pytest.mark.parametrize(
    "own", [*({"metric": m, "k": 3} for m in METRICS[1:]), {"metric": "mrr"}, {"metric": "map"}], ids=str
)
def test_every_metric_keeps_the_laws(own):
    entry = replace(LOSSES["lambda_rank"], function=partial(lambda_rank_loss, **own))
    for law in LAWS.values():
        if law.binds(entry) and law.name not in ("compiles_to_the_same", "ragged_memory_is_linear"):
            law.check(entry)


# -------------------------------------------------------------------------------------------------------------- by hand

SCORES, LABELS = tensor([3.0, 2.0, 1.0]), tensor([0, 1, 2])
"""Ranks 1, 2, 3 in the worst order; gains 0, 1 and 3 over the best DCG of 3 + 1 / log2(3)."""
BEST = 3 + 1 / log2(3)


def lost(gap):
    """A pair that is so far the wrong way round."""
    return log(1 + exp(gap))


def test_lambda_rank():
    d = [1.0, 1 / log2(3), 0.5]
    expected = (1 * (d[0] - d[1]) * lost(1) + 3 * (d[0] - d[2]) * lost(2) + 2 * (d[1] - d[2]) * lost(1)) / BEST
    assert_close(lambda_rank_loss(SCORES, LABELS), tensor(expected))


def test_lambda_rank_is_cut_where_neither_item_is_on_top():
    """At 1 the best DCG is 3, and the pair of ranks 2 and 3 is out."""
    expected = (1 * (1 - 1 / log2(3)) * lost(1) + 3 * 0.5 * lost(2)) / 3
    assert_close(lambda_rank_loss(SCORES, LABELS, k=1), tensor(expected))


def test_mrr():
    """The first relevant item is second: with the first place it wins 1 - 1/2, and so does the third item."""
    assert_close(lambda_rank_loss(SCORES, LABELS, metric="mrr"), tensor(0.5 * lost(1) + 0.5 * lost(2)))
    # In the best order, the first item in the third place leaves 1/2 to the second one, which itself adds nothing.
    assert_close(lambda_rank_loss(-SCORES, LABELS, metric="mrr"), tensor((1 - 0.5) * lost(-2)))


def test_map():
    """Precisions 1/2 and 2/3 at ranks 2 and 3; 1 and 2/3 after the first change, 1 and 1 after the second."""
    expected = ((1 + 2 / 3) - (1 / 2 + 2 / 3)) / 2 * lost(1) + ((1 + 1) - (1 / 2 + 2 / 3)) / 2 * lost(2)
    assert_close(lambda_rank_loss(SCORES, LABELS, metric="map"), tensor(expected))


def test_precision():
    """At 2 the third item has a place to win from the first; the second one is inside already."""
    assert_close(lambda_rank_loss(SCORES, LABELS, metric="precision", k=2), tensor(lost(2) / 2))


def test_arp_is_the_example_of_rax():
    """Rax documents 1.89237 for its label differences, as the mean over three pairs."""
    value = lambda_rank_loss(tensor([1.2, 0.4, 1.9]), tensor([1.0, 2.0, 0.0]), metric="arp")
    assert_close(value, tensor(1 * lost(0.8) + 2 * lost(1.5) + 1 * lost(0.7)))
    assert_close(value, 3 * tensor(1.89237), rtol=1e-5, atol=0.0)


def test_ndcg_loss1():
    second, third = 1 / log2(3), 3 / 2
    expected = (second * (lost(1) + lost(-1)) + third * (lost(2) + lost(1))) / BEST / log(2)
    assert_close(ndcg_loss1(SCORES, LABELS), tensor(expected))


def test_ndcg_loss2():
    near, far = 1 - 1 / log2(3), 1 / log2(3) - 1 / 2
    expected = (1 * near * lost(1) + 3 * far * lost(2) + 2 * near * lost(1)) / BEST / log(2)
    assert_close(ndcg_loss2(SCORES, LABELS), tensor(expected))


def test_lambda_loss():
    """At 2 the pairs with the third item are weighed up by 1 / (1 - 1/2), and the best DCG is that of all."""
    near, far = 1 - 1 / log2(3), 1 / log2(3) - 1 / 2
    expected = (1 * near * lost(1) + 2 * 3 * far * lost(2) + 2 * 2 * near * lost(1)) / BEST / log(2)
    assert_close(lambda_loss(SCORES, LABELS, k=2), tensor(expected))


# ----------------------------------------------------------------------------------------------------------- identities

MANY = torch.randn(20, 12, generator=torch.Generator().manual_seed(0), dtype=torch.double) * 2
GRADES = torch.randint(0, 5, (20, 12), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mu", [0.0, 1.0, 10.0])
def test_loss2pp_is_lambda_rank_and_loss2(mu):
    parts = lambda_rank_loss(MANY, GRADES) / log(2) + mu * ndcg_loss2(MANY, GRADES)
    assert_close(ndcg_loss2pp(MANY, GRADES, mu=mu), parts)


def test_lambda_loss_of_the_whole_list_is_loss2():
    for k in (None, 12, 100):
        assert_close(lambda_loss(MANY, GRADES, k=k), ndcg_loss2(MANY, GRADES))


def test_arp_of_binary_labels_is_the_sum_of_ranknet():
    binary = (GRADES > 2).double()
    pairs = binary.sum(-1) * (1 - binary).sum(-1)
    values = lambda_rank_loss(MANY, binary, metric="arp", reduction="none")
    assert_close(values, pairs * logistic_loss(MANY, binary, reduction="none"))


def test_cut_at_the_length_is_no_cut():
    for metric in ("ndcg", "mrr", "map", "arp"):
        whole = lambda_rank_loss(MANY, GRADES, metric=metric)
        assert_close(lambda_rank_loss(MANY, GRADES, metric=metric, k=12), whole)


def test_cuts_of_precision_are_all_pairs_that_matter():
    """The cut leaves no pair out that would change the precision at k."""
    scores, labels = MANY[0].tolist(), (GRADES[0] > 2).long().tolist()
    ranks = ranks_of(scores, labels)
    pairs = [(i, j) for i in range(12) for j in range(12) if labels[i] > labels[j]]
    total = sum(change("precision", labels, ranks, i, j, 4) * lost(scores[j] - scores[i]) for i, j in pairs)
    assert_close(lambda_rank_loss(MANY[0], tensor(labels), metric="precision", k=4), tensor(total, dtype=torch.double))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_losses_bound_the_ndcg_that_is_lost(temperature):
    """The inequalities that the papers derive them from."""
    for scores, labels in zip(MANY, GRADES, strict=True):
        grades, ranks = labels.tolist(), ranks_of(scores.tolist(), labels.tolist())
        assert ndcg_loss1(scores, labels, temperature=temperature) >= 1 - ndcg(scores, labels)
        for k in (12, 5, 1):
            gains, constant = gains_of(grades, k), 0.0
            for i in range(12):
                for j in range(i):
                    away, worse = abs(ranks[i] - ranks[j]), max(ranks[i], ranks[j])
                    delta = discount(away) - discount(away + 1)
                    constant += min(gains[i], gains[j]) * (delta / (1 - discount(worse)) if worse > k else delta)
            # Of all gains, not of those of the best k, of which the DCG at k is lost.
            missed = sum(gains) - float(ndcg(scores, labels, k=k))
            assert lambda_loss(scores, labels, k=k, temperature=temperature) + constant >= missed - 1e-9


def test_temperature_divides_gaps():
    for loss in ALL_PAIRS.values():
        assert_close(loss(MANY, GRADES, temperature=0.5), loss(MANY * 2, GRADES))


def test_weights_carry_no_gradient():
    """The gradient is that of the logistic losses alone: it adds up to zero, and is a weight times a sigmoid."""
    scores = tensor([0.0, 1.0], requires_grad=True)
    lambda_rank_loss(scores, tensor([1.0, 0.0])).backward()
    force = (1 - 1 / log2(3)) / (1 + exp(-1.0))
    assert_close(scores.grad, tensor([-force, force]))


def test_norm_is_lightgbms():
    """Its loop: each pair over 0.01 plus its gap, then all times log2(1 + S) / S, S twice the sum of the forces."""
    scores, labels, weights = draw(8, 3)
    for k, temperature in ((3, 1.0), (8, 0.5)):
        forces, total = torch.zeros(8, dtype=torch.double), 0.0
        ranks = ranks_of(scores.tolist(), labels.tolist())
        for i in range(8):
            for j in range(8):
                if labels[i] <= labels[j] or min(ranks[i], ranks[j]) > k:
                    continue
                gap = scores[i] - scores[j]
                weight = change("ndcg", labels.tolist(), ranks, i, j, k) / (0.01 + gap.abs())
                force = weight / temperature / (1 + torch.exp(gap / temperature))
                forces[i] -= force * weights[i]
                forces[j] += force * weights[i]
                total += 2 * float(force)
        own = {"k": k, "temperature": temperature, "norm": True, "weights": weights}
        leaf = scores.clone().requires_grad_()
        (slope,) = torch.autograd.grad(lambda_rank_loss(leaf, labels, **own), leaf)
        assert_close(slope, forces * log2(1 + total) / total)
    # Where all scores are equal, gaps are left alone; where nothing pulls, the factor is 1.
    even = torch.zeros(2, requires_grad=True)
    lambda_rank_loss(even, tensor([1, 0]), norm=True).backward()
    force = (1 - 1 / log2(3)) / 2
    assert_close(even.grad, tensor([-1.0, 1.0]) * force * log2(1 + 2 * force) / (2 * force))
    assert lambda_rank_loss(even, tensor([1, 1]), norm=True) == 0


# ------------------------------------------------------------------------------------------------- ties, extremes, size


def test_scores_that_all_tie_count_as_the_worst_order():
    """At the start of training no order of the items is the right one: every relevant item is drawn up past the top."""
    labels = tensor([1] * 4 + [0] * 20)
    scores = torch.zeros(24, requires_grad=True)
    for loss in (
        *ALL_PAIRS.values(),
        partial(lambda_rank_loss, k=5),
        *(partial(lambda_rank_loss, metric=m, k=5) for m in METRICS),
    ):
        value = loss(scores, labels)
        (slope,) = torch.autograd.grad(value, scores)
        # Of NDCG-Loss1 alone, equally relevant items pull at each other too.
        assert (slope[:4] < 0).all() or (loss is ndcg_loss1 and slope[:4].sum() < 0)
        assert_close(loss(torch.zeros(24), labels.flip(0)), value.detach())


def test_truncated_top_is_the_less_relevant_of_equal_scores():
    scores, labels = torch.zeros(3), tensor([1, 0, 0])
    # The relevant item ranks third: 1 - 1/2 against the first item only.
    assert_close(lambda_rank_loss(scores, labels, k=1), tensor(0.5 * log(2)))


@pytest.mark.parametrize("loss", [*ALL_PAIRS.values(), partial(lambda_loss, k=1), partial(lambda_rank_loss, k=1)])
def test_large_gaps_keep_the_gradient(loss):
    """allRank's LambdaLoss clamps probabilities at 1e-10: no gradient at a gap of -30."""
    slopes = []
    for gap in (30.0, 1e4):
        scores = tensor([0.0, gap], requires_grad=True)
        loss(scores, tensor([1, 0])).backward()
        slopes.append(scores.grad)
    assert slopes[0][0] < -0.3
    assert_close(slopes[0], slopes[1])


@pytest.mark.parametrize("loss", [partial(lambda_loss, k=2), partial(lambda_rank_loss, k=2)])
def test_relevant_item_outside_the_top_is_drawn_up(loss):
    """allRank cuts by both ranks: a relevant item beyond k has no gradient."""
    scores = tensor([5.0, 4.0, 3.0, 2.0, 1.0], requires_grad=True)
    loss(scores, tensor([0, 0, 0, 0, 1])).backward()
    assert scores.grad[4] < -0.1


@pytest.mark.parametrize("loss", ALL_PAIRS.values(), ids=ALL_PAIRS)
@pytest.mark.parametrize("label", [0, 2])
def test_labels_that_all_tie_are_finite(loss, label):
    """allRank: NaN."""
    scores = tensor([1.0, 2.0, 4.0], requires_grad=True)
    value = loss(scores, torch.full((3,), label))
    value.backward()
    assert value.isfinite() and scores.grad.isfinite().all()
    if loss is not ndcg_loss1 or label == 0:
        assert value == 0 and not scores.grad.any()


@pytest.mark.parametrize("loss", [lambda_rank_loss, ndcg_loss1, ndcg_loss2pp])
def test_the_top_weighs_more_than_the_bottom(loss):
    """ptranking multiplies by the inverse of the discount: the deeper, the more."""
    costs = []
    for place in (0, 8):
        labels = torch.zeros(10)
        labels[place + 1] = 1
        costs.append(loss(-torch.arange(10.0) * 1e-3, labels))
    assert costs[0] > costs[1]


@pytest.mark.parametrize("loss", ALL_PAIRS.values(), ids=ALL_PAIRS)
def test_large_labels_do_not_overflow(loss):
    """The exponential gain of 200 is no float32; the ratio of gains is one, and next to it the others gain nothing."""
    scores = tensor([1.0, 2.0, 3.0])
    assert_close(loss(scores, tensor([200.0, 0.0, 0.0])), loss(scores, tensor([1.0, 0.0, 0.0])))


def test_gains_of_small_labels_keep_their_digits():
    labels = tensor([1e-5, 3e-5, 0.0])
    assert_close(
        lambda_rank_loss(SCORES, labels),
        lambda_rank_loss(SCORES.double(), labels.double()).float(),
        rtol=1e-5,
        atol=0.0,
    )


def test_negative_zero_ties_with_zero():
    scores = tensor([0.0, -0.0])
    for labels in (tensor([1, 0]), tensor([0, 1])):
        assert_close(lambda_rank_loss(scores, labels, k=1), tensor((1 - 1 / log2(3)) * log(2)))


def test_long_lists_in_float32():
    """Steps of the discount cancel at long distances unless they are taken together."""
    n = 3_000
    labels = torch.zeros(n)
    labels[-1] = 1
    scores = -torch.arange(n) / n
    exact = ndcg_loss2(scores.double(), labels)
    step = discount(n - 1) - discount(n)
    assert exact > step * log2(1 + e)  # its farthest pair, and others
    assert_close(ndcg_loss2(scores, labels).double(), exact, rtol=1e-6, atol=0.0)


def test_memory_does_not_grow_with_the_pairs():
    n = 2_000
    scores, labels = torch.linspace(-1, 1, n).sin().requires_grad_(), torch.arange(n) % 5
    for loss in (lambda_loss, ndcg_loss1, partial(lambda_rank_loss, k=1_000)):
        assert peak_bytes(lambda loss=loss: loss(scores, labels).backward()) < n * n  # a quarter of one n x n tensor


# ------------------------------------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize("loss", ALL_PAIRS.values(), ids=ALL_PAIRS)
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperature_is_above_zero(loss, temperature):
    with pytest.raises(InputError, match="temperature must be above 0"):
        loss(SCORES, LABELS, temperature=temperature)


def test_own_arguments_are_checked():
    for loss in (lambda_loss, lambda_rank_loss):
        with pytest.raises(InputError, match="k must be a whole number of at least 1, or None: got 0"):
            loss(SCORES, LABELS, k=0)
    with pytest.raises(InputError, match="metric must be one of ndcg, mrr, map, precision, arp: got 'auc'"):
        lambda_rank_loss(SCORES, LABELS, metric="auc")
    with pytest.raises(InputError, match="metric 'precision' needs k"):
        lambda_rank_loss(SCORES, LABELS, metric="precision")
    with pytest.raises(InputError, match="mu must be at least 0: got -1"):
        ndcg_loss2pp(SCORES, LABELS, mu=-1)


@pytest.mark.parametrize("n", [20, 300])
@pytest.mark.parametrize("loss", [*ALL_PAIRS.values(), *(partial(lambda_rank_loss, metric=m, k=5) for m in METRICS)])
def test_label_that_is_nan_spoils_its_own_list(loss, n):
    draw = torch.Generator().manual_seed(n)
    scores, labels = torch.randn(3, n, generator=draw), torch.randint(0, 3, (3, n), generator=draw).float()
    expected = loss(scores, labels, reduction="none")
    labels[1, 2] = math.nan
    values = loss(scores, labels, reduction="none")
    assert values[1].isnan()
    assert_close(values[::2], expected[::2])
