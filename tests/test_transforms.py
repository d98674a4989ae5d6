"""Metrics made into losses, and losses of noisy scores."""

import math
from functools import partial

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import ConfigError, InputError, UnknownName
from rankwell.lists import offsets_from_sizes
from rankwell.losses import (
    LOSSES,
    approx_mrr_loss,
    approx_ndcg_loss,
    fast_soft_rank_loss,
    gumbel_approx_ndcg_loss,
    gumbel_neural_ndcg_loss,
    logistic_loss,
    neural_ndcg_loss,
    pirank_loss,
    smooth_ap_loss,
    soft_rank_loss,
    softmax_loss,
)
from rankwell.losses.laws import LAWS
from rankwell.losses.of_ranks import FORMS
from rankwell.metrics import METRICS, Measure, ap, auc, dcg, mrr, ndcg, recall
from rankwell.registry import Entry
from rankwell.transforms import approximate, bound, gumbel

MEASURES = ["dcg", "ndcg", "ndcg@3", "ndcg(gain=linear)@3", "mrr", "mrr@3", "ap", "ap@3", "recall@3", "precision@3"]
MEASURES += ["f1@3", "r_precision", "rbp", "rbp(p=0.5)@3"]


def example(rows=20, n=9, relevant=None):
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(rows, n, generator=draw, dtype=torch.double)
    labels = torch.randint(0, 3, (rows, n), generator=draw)
    labels[:, 0] = 1
    return scores, labels if relevant is None else (torch.arange(n) == relevant).long().expand(rows, n)


def sign(measure):
    return 0 if str(measure).startswith("dcg") else 1


# ------------------------------------------------------------------------------------------------------ metrics as losses


@pytest.mark.parametrize(
    ("metric", "loss"),
    [(ndcg, approx_ndcg_loss), (mrr, approx_mrr_loss), (ap, smooth_ap_loss)],
    ids=["ndcg", "mrr", "ap"],
)
def test_approximate_is_the_registered_loss(metric, loss):
    scores, labels = example()
    weights = scores.abs()
    for own in ({"temperature": 0.3}, {"temperature": 0.01}):
        expected = loss(scores, labels, weights=weights, reduction="none", **own)
        assert torch.equal(approximate(metric)(scores, labels, weights=weights, reduction="none", **own), expected)


@pytest.mark.parametrize("text", MEASURES)
def test_cold_approximation_is_the_metric(text):
    scores, labels = example(relevant=4 if "mrr" in text else None)
    value = approximate(text)(scores, labels, temperature=1e-4, cut_temperature=1e-3, reduction="none")
    metric = Measure.parse(text)(scores, labels, reduction="none")
    assert_close(value, sign(text) - metric)


@pytest.mark.parametrize("text", MEASURES)
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_bound_is_one(text, scale):
    """No scores have a lower loss than the bound says; it is met where the only relevant item is far above all others."""
    scores, labels = example()
    for values in (scale * scores, (scale * scores).round()):
        value = bound(text)(values, labels, reduction="none")
        metric = Measure.parse(text)(values, labels, reduction="none")
        assert (value >= sign(text) - metric - 1e-12).all()
    one = (torch.arange(9) == 4).long().expand(20, 9)
    metric = Measure.parse(text)(20.0 * one + scores, one)
    assert_close(bound(text)(20.0 * one + scores, one), sign(text) - metric)


def test_bound_keeps_its_pull_on_far_items():
    """The smooth rank of an item a hundred behind has no slope; its bound has."""
    scores = tensor([0.0, 100.0, 90.0], requires_grad=True)
    labels = tensor([1.0, 0.0, 0.0])
    assert torch.autograd.grad(approximate(ndcg)(scores, labels), scores)[0][0] == 0
    assert torch.autograd.grad(bound(ndcg)(scores, labels), scores)[0][0] < -1e-4


def test_what_may_be_given_as_a_metric():
    scores, labels = example()
    expected = approximate(ndcg)(scores, labels, k=3, gain="linear")
    for metric in ("NDCG(gain=linear)@3", Measure.parse("ndcg(gain=linear)@3"), partial(ndcg, k=3, gain="linear")):
        assert_close(approximate(metric)(scores, labels), expected)
    assert approximate(ndcg).__name__ == "approximate_ndcg"
    assert approximate(dcg)(scores, labels) < 0


def test_metrics_without_a_form():
    for transform in (approximate, bound):
        with pytest.raises(ConfigError, match=f"auc has no form.*Those that have: {', '.join(FORMS)}"):
            transform(auc)
        with pytest.raises(ConfigError, match=r"without a cut-off.*recall@10"):
            transform(recall)(*example())
        with pytest.raises(ConfigError, match="r_precision cuts at"):
            transform("r_precision")(*example(), k=3)
        with pytest.raises(InputError, match="p must be between 0 and 1: got 1"):
            transform("rbp")(*example(), p=1)
        with pytest.raises(ConfigError, match="no ties: leave it out of ndcg"):
            transform("ndcg(ties=order)")
        with pytest.raises(UnknownName):
            transform(softmax_loss)
    with pytest.raises(InputError, match="cut_temperature must be above 0"):
        approximate("ndcg@3")(*example(), cut_temperature=0.0)


def test_forms_are_of_metrics_that_exist():
    assert set(FORMS) <= set(METRICS.names())


SLOW = {"compiles_to_the_same", "ragged_memory_is_linear"}
"""Kept to by the registered losses that the same parts make."""

LISTED = [law for law in LAWS.values() if "list" in law.kinds and law.name not in SLOW]


@pytest.mark.parametrize("law", LISTED, ids=lambda law: law.name)
@pytest.mark.parametrize(
    "made", [approximate("recall@3"), bound("ndcg@3"), gumbel(softmax_loss, samples=2)], ids=lambda made: made.__name__
)
def test_made_losses_keep_the_laws(made, law):
    law.check(Entry(made.__name__, made, "list", {}))


def ndcg_losses():
    return [
        approx_ndcg_loss, neural_ndcg_loss, pirank_loss, soft_rank_loss, partial(soft_rank_loss, form="expected_rank"),
        partial(fast_soft_rank_loss, form="ndcg"), gumbel_approx_ndcg_loss, gumbel_neural_ndcg_loss,
        approximate("ndcg@3"), bound("ndcg"),
    ]  # fmt: skip


@pytest.mark.parametrize("loss", ndcg_losses())
def test_gains_of_large_labels_do_not_overflow(loss):
    """In float32 2^128 is infinite; that of float64 is not."""
    scores = torch.linspace(-1, 1, 12).sin().reshape(2, 6)
    labels = tensor([[0, 1, 200, 199, 150, 128], [0, 1, 127, 2, 3, 4]])
    both = []
    for x in (scores.clone(), scores.double()):
        value = loss(x.requires_grad_(), labels, reduction="none")
        ragged = loss(x.flatten(), labels.flatten(), offsets=tensor([0, 6, 12]), reduction="none")
        assert_close(ragged, value)
        both.append((value.detach().double(), torch.autograd.grad(value.sum(), x)[0].double()))
    for ours, exact in zip(*both, strict=True):
        assert_close(ours, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ndcg_losses())
def test_label_that_is_nan_spoils_its_own_list(loss):
    scores, labels = torch.zeros(2, 3), tensor([[1.0, math.nan, 0.0], [1.0, 0.0, 2.0]])
    values = loss(scores, labels, reduction="none")
    assert values[0].isnan()
    assert_close(values[1], loss(scores[1], labels[1]))


# ------------------------------------------------------------------------------------------------------------------ noise


def captured(scores, samples, **noise):
    """The noisy scores that the inner loss is called with."""
    seen = []

    def inner(scores, labels, *, reduction, **_):
        seen.append(scores)
        return softmax_loss(scores, labels, reduction=reduction)

    gumbel(inner, samples=samples)(scores, torch.zeros_like(scores), **noise)
    return seen[0]


@pytest.mark.parametrize("noise", [{"key": 3}, {"generator": 3}])
def test_orders_are_those_of_plackett_and_luce(noise):
    """An item comes first with its softmax probability."""
    if "generator" in noise:
        noise = {"generator": torch.Generator().manual_seed(3)}
    scores = tensor([0.5, -1.0, 1.0, 0.0])
    first = captured(scores, 40_000, **noise).argmax(-1)
    assert_close(first.bincount() / 40_000, torch.softmax(scores, 0), rtol=0.0, atol=0.01)


def test_noise_is_standard_gumbel():
    noise = captured(torch.zeros(2_000).double(), 50)
    assert_close(noise.mean(), tensor(0.5772).double(), rtol=0.0, atol=0.02)
    assert_close(noise.var(), tensor(math.pi**2 / 6).double(), rtol=0.03, atol=0.0)


def test_noise_is_keyed():
    scores, labels = example()
    loss = gumbel(softmax_loss, samples=4)
    assert_close(loss(scores, labels, key=1), loss(scores, labels, key=tensor(1)))
    assert_close(loss(scores, labels), loss(scores, labels, key=0))
    assert loss(scores, labels, key=1) != loss(scores, labels, key=2)
    draws = [loss(scores, labels, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert draws[0] == draws[1] != draws[2]
    with pytest.raises(InputError, match="give one of them"):
        loss(scores, labels, key=1, generator=torch.Generator())


def test_keys_may_be_one_a_list():
    scores, labels = example()
    loss, keys = partial(gumbel_approx_ndcg_loss, samples=4, reduction="none"), torch.arange(20) // 2
    each = torch.stack([loss(*row, key=int(key)) for *row, key in zip(scores, labels, keys, strict=True)])
    assert_close(loss(scores, labels, key=keys), each)
    offsets = offsets_from_sizes(tensor([9] * 20))
    assert_close(loss(scores.flatten(), labels.flatten(), offsets=offsets, key=keys), each)
    with pytest.raises(InputError, match=r"one a list, \(20,\): got \(9,\)"):
        loss(scores, labels, key=keys[:9])


@pytest.mark.parametrize("loss", [gumbel_approx_ndcg_loss, gumbel_neural_ndcg_loss])
def test_registered_variants_draw_by_a_generator(loss):
    scores, labels = example()
    draw = torch.Generator().manual_seed(5)
    steps = [loss(scores, labels, generator=draw) for _ in range(2)]
    assert steps[0] != steps[1]
    assert steps[0] == loss(scores, labels, generator=draw.manual_seed(5))
    with pytest.raises(InputError, match="give one of them"):
        loss(scores, labels, key=1, generator=draw)


def test_value_is_the_mean_over_samples():
    scores, labels = example()
    weights = scores.abs()
    noisy = captured(scores, 3, key=9)
    each = torch.stack([approx_ndcg_loss(x, labels, weights=weights, reduction="none") for x in noisy])
    loss = partial(gumbel_approx_ndcg_loss, samples=3, key=9, reduction="none")
    assert_close(loss(scores, labels, weights=weights), each.mean(0))
    offsets = offsets_from_sizes(tensor([9] * 20))
    assert_close(loss(scores.flatten(), labels.flatten(), weights=weights.flatten(), offsets=offsets), each.mean(0))


def test_registered_variants_are_the_transform():
    scores, labels = example()
    assert_close(
        gumbel_neural_ndcg_loss(scores, labels, key=2, samples=3, k=4),
        gumbel(neural_ndcg_loss, samples=3, beta=0.1)(scores, labels, key=2, k=4),
    )
    assert LOSSES["gumbel_approx_ndcg"].parameters.keys() == {"temperature", "gain", "samples", "beta"}


def test_own_tensors_are_repeated():
    """Those that lie along items, as along lists."""

    def inner(scores, labels, *, shift, scale, **contract):
        return softmax_loss(scores * scale[..., None] + shift, labels, **contract)

    scores, labels = example()
    shift, scale = scores.flip(0), scores.abs().mean(-1)
    noisy = captured(scores, 2)
    each = [inner(x, labels, shift=shift, scale=scale) for x in noisy]
    value = gumbel(inner, samples=2)(scores, labels, shift=shift, scale=scale)
    assert_close(value, (each[0] + each[1]) / 2)


def test_any_list_loss_takes_noise():
    """Far from ties noise of no size changes nothing."""
    scores, labels = example()
    assert_close(gumbel(logistic_loss, beta=1e-9)(scores, labels), logistic_loss(scores, labels))
    for own in ({"samples": 0}, {"beta": 0.0}):
        with pytest.raises(InputError, match=r"must be (above 0|a whole number of at least 1)"):
            gumbel(softmax_loss, **own)


@pytest.mark.parametrize("transform", [approximate, bound])
@pytest.mark.parametrize("k", [0, -1, 1.5])
def test_cut_is_a_whole_number_from_one(transform, k):
    with pytest.raises(InputError, match="k must be a whole number of at least 1, or None"):
        transform(ndcg)(torch.zeros(3), tensor([1.0, 0.0, 0.0]), k=k)
