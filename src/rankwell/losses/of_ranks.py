"""Metrics as functions of ranks, so that soft ranks can stand in for hard ones: the forms of all metrics of scores and labels.

Each bears the name of its metric, and says only where it differs; towards temperatures of 0 it is the metric of scores without
ties.
"""

import torch
from torch import Tensor

from rankwell.errors import ConfigError, InputError
from rankwell.kernels.comparisons import average_ranks, places
from rankwell.kernels.gains import exponential_gains
from rankwell.kernels.pairs import pair_means
from rankwell.kernels.product_pairs import product_pairs
from rankwell.lists import Opened
from rankwell.losses.soft_ranks import Fraction, SoftRanks, rank_form
from rankwell.metrics import Gain
from rankwell.metrics.binary import Depth, Total
from rankwell.metrics.ideal import Discount
from rankwell.metrics.partial_auc import Scale
from rankwell.types import Mask

__all__ = [
    "ap",
    "ap_at_r",
    "auc",
    "bpref",
    "check_gain",
    "dcg",
    "discounts",
    "err",
    "f1",
    "gains",
    "hit_rate",
    "ideal_dcg",
    "kendall_tau",
    "mrr",
    "ndcg",
    "opa",
    "pauc",
    "precision",
    "r_precision",
    "rbp",
    "recall",
    "spearman",
]


# ----------------------------------------------------------------------------------------------------------------- gains


def gains(opened: Opened, gain: Gain, *, relative: bool = False) -> Tensor:
    """Weight times gain of each item, as the metrics have it; 0 where masked.

    ``relative``: exponential ones over a power of two of each list, for a ratio of them. No label makes those overflow.
    """
    check_gain(gain)
    labels = opened.labels.clamp(min=0)
    if gain == "linear":
        return opened.weights * labels
    top = opened.lists.spread(opened.lists.largest(labels).clamp(min=0)) if relative else None
    return opened.weights * exponential_gains(labels, top)


def check_gain(gain: Gain) -> None:
    """Raise unless it is one."""
    if gain not in ("exponential", "linear"):
        raise InputError(f"gain must be 'exponential' or 'linear': got {gain!r}.")


def discounts(ranks: Tensor, discount: Discount = "shifted") -> Tensor:
    """The logarithmic discount at ranks, counted from 1."""
    if discount not in ("shifted", "original"):
        raise InputError(f"discount must be 'shifted' or 'original': got {discount!r}.")
    return torch.log2(1 + ranks if discount == "shifted" else ranks.clamp(min=2)).reciprocal()


def ideal_dcg(opened: Opened, gained: Tensor, k: int | None, discount: Discount = "shifted") -> Tensor:
    """DCG of the best order of each list."""
    best = places(opened, gained)
    discounted = discounts(best.clamp(min=1), discount)
    return opened.lists.sum(gained * (discounted if k is None else torch.where(best <= k, discounted, 0)))


@rank_form()
def dcg(
    soft: SoftRanks, *, k: int | None = None, gain: Gain = "exponential", discount: Discount = "shifted"
) -> Fraction:
    """It has no best value: the loss is its negative."""
    return Fraction(_discounted(soft, gains(soft.opened, gain), k, discount), None)


@rank_form()
def ndcg(
    soft: SoftRanks, *, k: int | None = None, gain: Gain = "exponential", discount: Discount = "shifted"
) -> Fraction:
    """Over the DCG of the best order, whose ranks are hard."""
    gained = gains(soft.opened, gain, relative=True)
    return Fraction(_discounted(soft, gained, k, discount), ideal_dcg(soft.opened, gained, k, discount))


def _discounted(soft: SoftRanks, gained: Tensor, k: int | None, discount: Discount) -> Tensor:
    ranks = soft.ranks(soft.labels > 0)
    return soft.sum(gained * discounts(ranks, discount) * soft.within(ranks, k))


# ---------------------------------------------------------------------------------------------------------------- binary


def _weighed(soft: SoftRanks, rel: float) -> tuple[Mask, Tensor, Tensor]:
    """Which items are relevant, their weights, and the sum of these."""
    relevant = soft.relevant(rel)
    weights = torch.where(relevant, soft.weights, 0)
    return relevant, weights, soft.sum(weights)


def _some(weight: Tensor) -> Tensor:
    """1 where a list has something relevant, else 0: the denominator of metrics that have none."""
    return (weight > 0).to(weight.dtype)


def _cut(k: int | None) -> int:
    if k is None:
        raise ConfigError(
            "without a cut-off recall, precision, F1 and hit rate do not depend on the scores: name one, as recall@10."
        )
    return k


@rank_form()
def mrr(soft: SoftRanks, *, k: int | None = None, rel: float = 1.0) -> Fraction:
    """Of several relevant items the mean, not the first: none is given up."""
    relevant, weights, every = _weighed(soft, rel)
    ranks = soft.ranks(relevant)
    return Fraction(soft.sum(weights / ranks * soft.within(ranks, k)), every)


@rank_form()
def ap(soft: SoftRanks, *, k: int | None = None, rel: float = 1.0, total: Total = "relevant") -> Fraction:
    """Relevant items above count softly too; in a bound by their hard ranks, without gradient."""
    if total not in ("relevant", "reachable"):
        raise InputError(f"total must be 'relevant' or 'reachable': got {total!r}.")
    relevant, _, every = _weighed(soft, rel)
    if total == "reachable" and k is not None:
        number = soft.count(relevant)
        every = every * number.clamp(max=k) / number.clamp(min=1)
    return Fraction(_precisions(soft, rel, k), every)


@rank_form()
def ap_at_r(soft: SoftRanks, *, rel: float = 1.0) -> Fraction:
    """As :func:`ap`, cut at the number of relevant items."""
    relevant, _, every = _weighed(soft, rel)
    return Fraction(_precisions(soft, rel, soft.spread(soft.count(relevant))), every)


def _precisions(soft: SoftRanks, rel: float, k: int | Tensor | None) -> Tensor:
    relevant, weights, _ = _weighed(soft, rel)
    ranks, among = soft.both(relevant)
    return soft.sum(weights * among / ranks * soft.within(ranks, k))


def _found(soft: SoftRanks, rel: float, k: int | Tensor) -> tuple[Tensor, Tensor]:
    """Weight of the relevant items within k, and of all."""
    relevant, weights, every = _weighed(soft, rel)
    return soft.sum(weights * soft.within(soft.ranks(relevant), k)), every


@rank_form()
def recall(soft: SoftRanks, *, k: int | None = None, rel: float = 1.0) -> Fraction:
    """At a cut-off only."""
    return Fraction(*_found(soft, rel, _cut(k)))


@rank_form()
def precision(soft: SoftRanks, *, k: int | None = None, rel: float = 1.0, depth: Depth = "k") -> Fraction:
    """At a cut-off only."""
    if depth not in ("k", "reachable"):
        raise InputError(f"depth must be 'k' or 'reachable': got {depth!r}.")
    found, every = _found(soft, rel, _cut(k))
    deep = soft.count(soft.relevant(rel)).clamp(min=1, max=k) if depth == "reachable" else _cut(k)
    return Fraction(found / deep, _some(every))


@rank_form()
def f1(soft: SoftRanks, *, k: int | None = None, rel: float = 1.0) -> Fraction:
    """At a cut-off only."""
    found, every = _found(soft, rel, _cut(k))
    return Fraction(2 * found / (_cut(k) + every), _some(every))


@rank_form()
def r_precision(soft: SoftRanks, *, rel: float = 1.0) -> Fraction:
    """Cut at the number of relevant items."""
    return Fraction(*_found(soft, rel, soft.spread(soft.count(soft.relevant(rel)))))


@rank_form()
def hit_rate(soft: SoftRanks, *, k: int | None = None, rel: float = 1.0) -> Fraction:
    r"""At a cut-off only. With :math:`n_i` the irrelevant items above item i,

    .. math:: w_f \Big(1 - \prod_{y_i \ge rel} \big(1 - [1 + n_i \le k]\big)\Big),

    so that relevant items do not push each other down; in a bound the best of them alone. The weight is that of the relevant
    item with the highest score.
    """
    cut, (relevant, weights, every) = _cut(k), _weighed(soft, rel)
    first = soft.sum(soft.best(soft.opened.scores, relevant) * weights)
    ranks = 1 + soft.above(relevant, ~relevant)
    return Fraction(first * soft.any_within(ranks, relevant, cut), _some(every))


# --------------------------------------------------------------------------------------------------------------- cascade


@rank_form()
def err(soft: SoftRanks, *, k: int | None = None, max_label: float = 4.0) -> Fraction:
    r"""The chance to pass an item that is softly above is a power of the chance to pass it,

    .. math:: \sum_i \frac{w_i R_i}{\hat\pi_i} \prod_{j \ne i} (1 - R_j)^{P_{ji}}, \qquad P_{ji} \approx [\pi_j < \pi_i],

    not :math:`1 - R_j P_{ji}`: the logarithm is then a sum like that of the ranks, and a bound stays above 0.
    """
    if not max_label > 0:
        raise InputError(f"max_label must be above 0: got {max_label}.")
    gained, least = soft.labels > 0, 2.0**-max_label
    share = torch.exp2(soft.labels.clamp(0, max_label) - max_label)
    passed = ((1 - share) + least).clamp(min=torch.finfo(share.dtype).tiny)  # in this order exact for the highest label
    ranks, log_reached = soft.ranks_and_above(gained, passed.log())
    weights = torch.where(gained, soft.weights, 0)
    stopped = soft.cut(log_reached.exp() / ranks, ranks, k, beyond=1 / (1 + (k or 0)))
    return Fraction(soft.sum(weights * (share - least) * stopped), _some(soft.sum(weights)))


@rank_form()
def rbp(soft: SoftRanks, *, k: int | None = None, rel: float = 1.0, p: float = 0.8) -> Fraction:
    """The discount at soft ranks; in a bound that of the first position beyond k goes on, so that the pull stays."""
    if not 0 < p < 1:
        raise InputError(f"p must be between 0 and 1: got {p}.")
    relevant, weights, every = _weighed(soft, rel)
    ranks = soft.ranks(relevant)
    found = soft.cut(p ** (ranks - 1), ranks, k, beyond=p ** (k or 0))
    return Fraction((1 - p) * soft.sum(weights * found), _some(every))


# ----------------------------------------------------------------------------------------------------------------- pairs


@rank_form()
def auc(soft: SoftRanks, *, rel: float = 1.0) -> Fraction:
    """The mean of the comparisons of relevant with irrelevant items; in a bound that of hinges."""
    relevant, weights, every = _weighed(soft, rel)
    number = soft.count(~relevant)
    lost = soft.sum(weights * soft.above(relevant, ~relevant)) / number.clamp(min=1)
    return Fraction(every - lost, every * (number > 0))


@rank_form()
def pauc(soft: SoftRanks, *, rel: float = 1.0, max_fpr: float = 0.1, scale: Scale = "plain") -> Fraction:
    r"""A relevant item below :math:`n_i` of the N irrelevant ones has :math:`(f N - n_i)_+ / (f N)` of the area.

    The hinge is softened over the positions of a cut-off.
    """
    if not 0 < max_fpr <= 1:
        raise InputError(f"max_fpr must be above 0 and at most 1: got {max_fpr}.")
    if scale not in ("plain", "mcclish"):
        raise InputError(f"scale must be 'plain' or 'mcclish': got {scale!r}.")
    relevant, _, every = _weighed(soft, rel)
    number = soft.count(~relevant)
    kept = _kept(soft, rel, ~relevant, max_fpr * number)
    if scale == "mcclish":
        # Of the part, f times the value; half of f squared is that of a random order.
        kept = (every + (kept - every * max_fpr / 2) / (1 - max_fpr / 2)) / 2
    return Fraction(kept, every * (number > 0))


@rank_form()
def bpref(soft: SoftRanks, *, rel: float = 1.0) -> Fraction:
    """As :func:`pauc`, of the judged irrelevant items, and with as many of them as there are relevant ones, at most."""
    relevant, _, every = _weighed(soft, rel)
    judged = ~relevant & (soft.labels >= 0)
    return Fraction(_kept(soft, rel, judged, torch.minimum(soft.count(judged), soft.count(relevant))), every)


def _kept(soft: SoftRanks, rel: float, others: Mask, most: Tensor) -> Tensor:
    """Weight of the relevant items, each times the share of ``most`` that the others above it leave."""
    relevant, weights, _ = _weighed(soft, rel)
    most = soft.spread(torch.where(most > 0, most, 1))
    return soft.sum(weights * soft.left(soft.above(relevant, others), most))


@rank_form()
def opa(soft: SoftRanks) -> Fraction:
    """The mean of the comparisons of items with different labels; in a bound that of hinges."""
    flat = soft.opened._replace(scores=torch.zeros_like(soft.opened.scores))
    every = pair_means(flat, "hinge", 1.0)  # 1 where there is no gap: the mean weight
    return Fraction(every - soft.misplaced(), every)


@rank_form()
def kendall_tau(soft: SoftRanks) -> Fraction:
    """Which scores are tied, and leave the denominator, is no matter of softness; where all are, none leaves it."""
    scores = soft.opened.scores.detach()
    flat = soft.opened._replace(scores=torch.zeros_like(scores))
    by_label, by_score = (product_pairs(flat._replace(labels=x), "hinge") for x in (soft.labels, scores))
    some = by_label > 0
    apart = torch.where(some, by_label * torch.where(by_score > 0, by_score, by_label), 1).sqrt()
    return Fraction(by_label - 2 * soft.misplaced_products(), torch.where(some, apart, 0))


# ----------------------------------------------------------------------------------------------------------------- ranks


@rank_form()
def spearman(soft: SoftRanks) -> Fraction:
    """The covariance of soft ranks with the labels' ranks, over the deviations of hard ones; where all scores are tied, over
    the variance of the labels' ranks. In a bound the ranks of good items are bounded from above, those of bad ones from below.
    """
    opened = soft.opened
    labels, scores = (_centred(soft, average_ranks(opened, x)) for x in (opened.labels, opened.scores))
    moments = soft.weights * labels
    ranks = torch.where(moments < 0, soft.ranks(moments < 0), soft.ranks_from_below(moments > 0))
    middle = soft.spread((1 + opened.lists.count()) / 2)
    of_labels, of_scores = (soft.sum(soft.weights * x.square()) for x in (labels, scores))
    of_scores = torch.where(_apart(opened, opened.scores) & (of_scores > 0), of_scores, of_labels)
    some = _apart(opened, opened.labels) & (of_labels > 0)
    deviations = torch.where(some, of_labels * of_scores, 1).sqrt()
    return Fraction(soft.sum(moments * (ranks - middle)), torch.where(some, deviations, 0))


def _centred(soft: SoftRanks, ranks: Tensor) -> Tensor:
    """Ranks less their weighted mean."""
    total = soft.sum(torch.broadcast_to(soft.weights, ranks.shape))
    return ranks - soft.spread(soft.sum(soft.weights * ranks) / torch.where(total > 0, total, 1))


def _apart(opened: Opened, x: Tensor) -> Tensor:
    """Whether the valid items of each list are not all equal: exactly, where rounding would leave a variance."""
    return opened.lists.largest(x) > -opened.lists.largest(-x)
