"""Metrics made into losses, and losses of noisy scores."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import ConfigError, InputError, UnknownName
from rankwell.kernels import comparisons, product_pairs
from rankwell.lists import offsets_from_sizes
from rankwell.losses import (
    LOSSES,
    approx_mrr_loss,
    approx_ndcg_loss,
    fast_soft_rank_loss,
    gumbel_approx_ndcg_loss,
    gumbel_neural_ndcg_loss,
    hinge_loss,
    logistic_loss,
    neural_ndcg_loss,
    pirank_loss,
    smooth_ap_loss,
    soft_rank_loss,
    soft_zero_one_loss,
    softmax_loss,
)
from rankwell.losses.laws import LAWS
from rankwell.losses.soft_ranks import FORMS
from rankwell.metrics import METRICS, Measure, ap, coverage, dcg, mrr, ndcg
from rankwell.metrics.registry import RESULTS
from rankwell.metrics.registry import metric as enter_metric
from rankwell.registry import Entry
from rankwell.transforms import Fraction, SoftRanks, approximate, bound, gumbel, rank_form

MEASURES = ["dcg", "ndcg", "ndcg@3", "ndcg(gain=linear)@3", "mrr", "mrr@3", "ap", "ap@3", "recall@3", "precision@3"]
MEASURES += ["f1@3", "r_precision", "rbp", "rbp(p=0.5)@3", "ndcg(discount=original)@3", "ap(total=reachable)@3"]
MEASURES += ["precision(depth=reachable)@7", "ap_at_r", "hit_rate@2", "hit_rate(rel=2)@3", "err", "err(max_label=2)@3"]
MEASURES += ["auc", "auc(rel=2)", "pauc(max_fpr=0.4)", "pauc(max_fpr=0.5,scale=mcclish)", "bpref", "opa", "kendall_tau"]
MEASURES += ["spearman"]


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


def weighed(text):
    """Weights to try: MRR's form is a weighted mean over the relevant items, which the first one's reciprocal rank is not."""
    draw = torch.Generator().manual_seed(1)
    return [None] if "mrr" in text else [None, torch.rand(20, 9, generator=draw, dtype=torch.double)]


@pytest.mark.parametrize("text", MEASURES)
def test_cold_approximation_is_the_metric(text):
    scores, labels = example(relevant=4 if "mrr" in text else None)
    for weights in weighed(text):
        call = {"weights": weights, "reduction": "none"}
        value = approximate(text)(scores, labels, temperature=1e-6, cut_temperature=1e-8, **call)
        assert_close(value, sign(text) - Measure.parse(text)(scores, labels, empty="one", **call))


@pytest.mark.parametrize("text", MEASURES)
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_bound_is_one(text, scale):
    """No scores have a lower loss than the bound says; it is met where the only relevant item is far above all others."""
    scores, labels = example()
    tried = (scale * scores, (scale * scores).round(), torch.zeros_like(scores))
    for values, weights in itertools.product(tried, weighed(text)):
        value = bound(text)(values, labels, weights=weights, reduction="none")
        metric = Measure.parse(text)(values, labels, weights=weights, reduction="none", empty="one")
        assert (value >= sign(text) - metric - 1e-12).all()
    if text == "spearman":  # it looks at the ranks of the others too
        return
    one = 2 * (torch.arange(9) == 4).long().expand(20, 9)
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


def test_what_has_no_form():
    for transform in (approximate, bound):
        with pytest.raises(ConfigError, match="coverage looks at recommended items, not at scores"):
            transform(coverage)
        for text in ("recall", "hit_rate"):
            with pytest.raises(ConfigError, match=r"without a cut-off.*recall@10"):
                transform(text)(*example())
        with pytest.raises(ConfigError, match=r"a loss of r_precision has no k: leave it out\. It has rel\."):
            transform("r_precision")(*example(), k=3)
        with pytest.raises(ConfigError, match=r"a loss of opa has no rel: leave it out\. It has no parameters\."):
            transform("opa")(*example(), rel=2)
        with pytest.raises(ConfigError, match=r"a loss of ap has no at: leave it out\. It has k, rel, total\."):
            transform("ap(at=thresholds)")
        with pytest.raises(InputError, match="p must be between 0 and 1: got 1"):
            transform("rbp")(*example(), p=1)
        with pytest.raises(ConfigError, match="a loss of ndcg has no ties: leave it out"):
            transform("ndcg(ties=order)")
        for own, wrong in {
            "err": {"max_label": 0},
            "pauc": {"max_fpr": 0},
            "auc": {"rel": 0},
            "ndcg": {"discount": 1},
        }.items():
            with pytest.raises(InputError, match=f"{next(iter(wrong))} must be"):
                transform(own)(*example(), **wrong)
        with pytest.raises(UnknownName):
            transform(softmax_loss)
    with pytest.raises(InputError, match="cut_temperature must be above 0"):
        approximate("ndcg@3")(*example(), cut_temperature=0.0)


def test_every_metric_of_scores_and_labels_has_a_form():
    ours = [entry for entry in METRICS if entry.function.__module__.startswith("rankwell.metrics")]
    assert {form.name for form in FORMS if form.family == "of_ranks"} == {x.name for x in ours if x.kind not in RESULTS}


# ------------------------------------------------------------------------------------------------------------ by hand

SCORES, GRADES, SHARES = [0.3, -0.5, 1.1, 0.2, 0.9, -0.1], [2, 0, 1, -1, 0, 4], [0.5, 1.0, 2.0, 1.5, 0.25, 0.75]
"""Two grades of relevant items, three others of which one is not judged."""

WARMTH, CUT = 0.7, 0.4
ITEMS = range(len(SCORES))
RELEVANT, OTHERS = [0, 2, 5], [1, 3, 4]
WEIGHT = sum(SHARES[i] for i in RELEVANT)


class Logistic:
    """Soft comparisons and cut-offs as plain numbers."""

    transform = staticmethod(approximate)
    call = {"temperature": WARMTH, "cut_temperature": CUT}  # noqa: RUF012

    @staticmethod
    def above(j, i):
        return 1 / (1 + math.exp((SCORES[i] - SCORES[j]) / WARMTH))

    @staticmethod
    def any_within(ranks, k):
        return 1 - math.prod(1 - 1 / (1 + math.exp((rank - k - 0.5) / CUT)) for rank in ranks)

    @staticmethod
    def left(count, most):
        return math.log1p(math.exp((most - count) / CUT)) / math.log1p(math.exp(most / CUT))


class Hinge:
    """Hinges in their place."""

    transform = staticmethod(bound)
    call = {}  # noqa: RUF012

    @staticmethod
    def above(j, i):
        return max(0.0, 1 + SCORES[j] - SCORES[i])

    @staticmethod
    def any_within(ranks, k):
        return max(min(1, k + 1 - rank) for rank in ranks)

    @staticmethod
    def left(count, most):
        return 1 - count / most


def counted(style, i, others):
    return sum(style.above(j, i) for j in others if j != i)


def hit_rate_by_hand(style):
    """Item 2 has the highest score among the relevant ones."""
    return SHARES[2] * style.any_within([1 + counted(style, i, OTHERS) for i in RELEVANT], 2)


def err_by_hand(style):
    stops = [(2 ** max(y, 0) - 1) / 16 for y in GRADES]
    return sum(
        SHARES[i] * stops[i] / (1 + counted(style, i, ITEMS))
        * math.prod((1 - stops[j]) ** style.above(j, i) for j in ITEMS if j != i)
        for i in ITEMS
    )  # fmt: skip


def auc_by_hand(style):
    return sum(SHARES[i] * (1 - counted(style, i, OTHERS) / 3) for i in RELEVANT) / WEIGHT


def pauc_by_hand(style):
    return sum(SHARES[i] * style.left(counted(style, i, OTHERS), 0.5 * 3) for i in RELEVANT) / WEIGHT


def bpref_by_hand(style):
    """Two irrelevant items are judged, less than the relevant ones."""
    return sum(SHARES[i] * style.left(counted(style, i, [1, 4]), 2) for i in RELEVANT) / WEIGHT


def pairs():
    return [(i, j) for i in ITEMS for j in ITEMS if GRADES[i] > GRADES[j]]


def opa_by_hand(style):
    return sum(SHARES[i] * (1 - style.above(j, i)) for i, j in pairs()) / sum(SHARES[i] for i, _ in pairs())


def kendall_tau_by_hand(style):
    all_pairs = sum(SHARES[i] * SHARES[j] for i in ITEMS for j in ITEMS if i < j)
    apart = sum(SHARES[i] * SHARES[j] for i, j in pairs())
    return sum(SHARES[i] * SHARES[j] * (1 - 2 * style.above(j, i)) for i, j in pairs()) / math.sqrt(all_pairs * apart)


def spearman_by_hand(style):
    by_label, by_score = [2, 4.5, 3, 6, 4.5, 1], [3, 6, 1, 4, 2, 5]

    def centred(ranks):
        return [rank - sum(w * r for w, r in zip(SHARES, ranks, strict=True)) / sum(SHARES) for rank in ranks]

    good = centred(by_label)
    high = [1 + counted(style, i, ITEMS) for i in ITEMS]
    low = [6 - sum(style.above(i, j) for j in ITEMS if j != i) for i in ITEMS]
    bounded = [high[i] if good[i] < 0 else low[i] for i in ITEMS]
    spread = math.prod(
        math.sqrt(sum(w * r * r for w, r in zip(SHARES, ranks, strict=True))) for ranks in (good, centred(by_score))
    )
    return sum(w * one * other for w, one, other in zip(SHARES, good, bounded, strict=True)) / spread


BY_HAND = {"hit_rate@2": hit_rate_by_hand, "err": err_by_hand, "auc": auc_by_hand, "pauc(max_fpr=0.5)": pauc_by_hand}
BY_HAND |= {
    "bpref": bpref_by_hand,
    "opa": opa_by_hand,
    "kendall_tau": kendall_tau_by_hand,
    "spearman": spearman_by_hand,
}


@pytest.mark.parametrize("style", [Logistic, Hinge])
@pytest.mark.parametrize("text", BY_HAND)
def test_forms_by_hand(text, style):
    lists = [tensor(x, dtype=torch.double) for x in (SCORES, GRADES, SHARES)]
    value = style.transform(text)(*lists[:2], weights=lists[2], **style.call)
    assert_close(value, tensor(1 - BY_HAND[text](style)).double())


def test_losses_of_pairs_are_the_registered_ones():
    scores, labels = example()
    for loss, registered in (
        (partial(approximate("opa"), temperature=1.0), soft_zero_one_loss),
        (bound("opa"), partial(hinge_loss, margin=1.0)),
    ):
        assert_close(loss(scores, labels), registered(scores, labels))
    binary = (labels > 0).long()
    for transform in (approximate, bound):
        assert_close(transform("auc")(scores, labels), transform("opa")(scores, binary))
        apart = torch.rand(20, 9, generator=torch.Generator().manual_seed(3)).double()  # tau is 2 opa - 1
        assert_close(transform("kendall_tau")(scores, apart), 2 * transform("opa")(scores, apart))


@pytest.mark.parametrize("text", MEASURES)
def test_bound_never_pushes_the_best_item_down(text):
    """However far the only relevant item is behind: discounts that fade must not make far better than near."""
    scores = torch.zeros(12, 9).index_fill_(1, tensor([4]), 1.0) * -torch.arange(12)[:, None].float()
    scores.requires_grad_()
    slope = torch.autograd.grad(bound(text)(scores, tensor([0, 0, 0, 0, 2, 0, 0, 0, 0]).expand(12, 9)), scores)[0]
    assert (slope[:, 4] <= 0).all()


def test_relevant_items_do_not_hold_each_other_out():
    """A hit needs one: the gradient pulls all of them, and pushes none."""
    scores = tensor([0.0, 0.1, 0.2, 3.0, 2.0], requires_grad=True)
    slope = torch.autograd.grad(approximate("hit_rate@1")(scores, tensor([1, 1, 1, 0, 0]), temperature=1.0), scores)[0]
    assert (slope[:3] < 0).all() and (slope[3:] > 0).all()


def test_all_scores_tied_have_a_gradient():
    """A model that begins with equal scores learns; no denominator is 0."""
    for text, transform in itertools.product(MEASURES, (approximate, bound)):
        scores = torch.zeros(9, requires_grad=True)
        slope = torch.autograd.grad(transform(text)(scores, tensor([0, 2, 2, 0, 0, 0, 0, 0, 0])), scores)[0]
        assert slope.isfinite().all() and (slope[1:3] < 0).all(), text


@pytest.mark.parametrize("text", ["kendall_tau", "err", "spearman"])
def test_chunks_are_the_whole(text, monkeypatch):
    scores, labels = example(rows=3, n=40)
    results = []
    for size in (1 << 17, 50):
        for module in (comparisons, product_pairs):
            monkeypatch.setattr(module, "CHUNK_PAIRS", size)
        x = scores.clone().requires_grad_()
        value = approximate(text)(x, labels)
        results.append((value, *torch.autograd.grad(value, x)))
    assert_close(results[1], results[0])


# ------------------------------------------------------------------------------------------------------- forms of one's own


@rank_form()
def own_decay(soft: SoftRanks, *, k: int | None = None, patience: float = 5.0) -> Fraction:
    relevant = soft.relevant(1.0)
    weights, ranks = soft.weights * relevant, soft.ranks(relevant)
    found = soft.cut(torch.exp((1 - ranks) / patience), ranks, k, beyond=0.1)
    return Fraction(soft.sum(weights * found), soft.sum(weights))


def test_form_of_ones_own():
    scores, labels = torch.zeros(4), tensor([1.0, 0.0, 0.0, 0.0])
    assert_close(approximate(own_decay)(scores, labels, patience=2.0), tensor(1 - math.exp(-1.5 / 2)))
    assert_close(approximate(partial(own_decay, patience=2.0))(scores, labels), tensor(1 - math.exp(-1.5 / 2)))
    assert_close(bound(own_decay)(scores, labels, k=5), tensor(1 - math.exp(-3 / 5)))
    assert_close(bound(own_decay)(scores, labels, k=1), tensor(1 + 0.1 * 2))  # the bound of the rank is 4
    assert bound(own_decay).__name__ == "bound_own_decay"
    with pytest.raises(ConfigError, match=r"a loss of own_decay has no speed: leave it out\. It has k, patience\."):
        approximate(own_decay)(scores, labels, speed=1)


def own_first(
    scores,
    labels,
    *,
    where=None,
    weights=None,
    offsets=None,
    reduction="mean",
    k=None,
    ties="expected",
    ideal=None,
    empty="skip",
):
    return mrr(scores, labels, where=where, weights=weights, offsets=offsets, reduction=reduction, k=k, empty=empty)


def test_form_of_a_metric_of_ones_own(monkeypatch):
    for registry in (METRICS, FORMS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    enter_metric()(own_first)
    with pytest.raises(ConfigError, match=r"own_first has no form.*@rank_form\(own_first\)"):
        approximate(own_first)

    @rank_form(own_first)
    def reciprocal(soft: SoftRanks):  # a plain pair, on ragged lists too
        relevant = soft.relevant(1.0)
        return soft.sum(relevant / soft.ranks(relevant)), soft.count(relevant)

    scores, labels = example()
    expected = approximate(mrr)(scores, labels)
    for given in (own_first, "own_first", reciprocal):
        assert_close(approximate(given)(scores, labels), expected)
    offsets = offsets_from_sizes(tensor([9] * 20))
    assert_close(approximate(reciprocal)(scores.flatten(), labels.flatten(), offsets=offsets), expected)


def test_forms_are_checked():
    with pytest.raises(ConfigError, match="form 'ndcg' is registered already"):
        rank_form(ndcg)(lambda soft: (soft, soft))
    with pytest.raises(ConfigError, match="must take soft"):
        rank_form()(lambda ranks: (ranks, ranks))
    with pytest.raises(ConfigError, match="own parameter 'k' must be keyword-only, typed and have a default"):
        rank_form()(lambda soft, k: (soft, k))
    with pytest.raises(UnknownName):
        rank_form(softmax_loss)


# -------------------------------------------------------------------------------------------------------------------- laws

SLOW = {"compiles_to_the_same", "ragged_memory_is_linear"}
"""Kept to by the registered losses that the same parts make; tested of the parts that make none."""

UNSCALED = {"hit_rate", "err"}
"""One less what weights multiply: twice the weights neither double nor keep it."""

LISTED = [law for law in LAWS.values() if "list" in law.kinds and law.name not in SLOW]
OF_RANKS = ["hit_rate@3", "err@3", "pauc(max_fpr=0.5)", "bpref", "opa", "kendall_tau", "spearman"]
MADE = [approximate("recall@3"), bound("ndcg@3"), gumbel(softmax_loss, samples=2), approximate(own_decay)]
MADE += [transform(text) for transform in (approximate, bound) for text in OF_RANKS]


@pytest.mark.parametrize("law", LISTED, ids=lambda law: law.name)
@pytest.mark.parametrize("made", MADE, ids=lambda made: made.__name__)
def test_made_losses_keep_the_laws(made, law):
    if law.name == "weights_double_the_value_or_cancel" and made.__name__.partition("_")[2] in UNSCALED:
        return
    law.check(Entry(made.__name__, made, "list", {}))


@pytest.mark.parametrize("law", sorted(SLOW))
def test_products_of_pairs_keep_the_slow_laws(law):
    LAWS[law].check(Entry("bound_kendall_tau", bound("kendall_tau"), "list", {}))


@pytest.mark.parametrize("loss", [logistic_loss, approximate("opa")])
def test_compiles_without_a_gradient(loss):
    scores, labels = example()
    torch._dynamo.reset()
    assert_close(torch.compile(loss, fullgraph=True, backend="aot_eager")(scores, labels), loss(scores, labels))
    torch._dynamo.reset()


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
