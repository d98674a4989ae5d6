r"""Metrics as functions of ranks, so that soft ranks can stand in for hard ones.

Each form gives numerator and denominator of one list; where the denominator is 0 nothing is relevant, and the loss is 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rankwell.errors import ConfigError, InputError
from rankwell.kernels.comparisons import Step, compared_ranks, places
from rankwell.kernels.gains import exponential_gains
from rankwell.lists import Opened
from rankwell.metrics import Gain
from rankwell.types import Mask, Reduction

__all__ = ["FORMS", "Form", "Fraction", "Ranker", "discounts", "gains", "ideal_dcg", "one_less", "ranked_loss"]


class Fraction(NamedTuple):
    """A metric of each list before division."""

    numerator: Tensor
    denominator: Tensor


@dataclass(frozen=True)
class Ranker:
    """How ranks, and whether they are within a cut-off, are made differentiable."""

    step: Step
    temperature: float
    within: Callable[[Tensor, int | Tensor], Tensor]
    """Share of each rank that is within the first k."""
    among: Step | None = None
    """How ranks of relevant items among themselves are made, where differently."""

    def ranks(self, opened: Opened, rows: Mask) -> Tensor:
        """Ranks of the rows."""
        return compared_ranks(opened, rows, self.step, self.temperature)[0]

    def both(self, opened: Opened, rows: Mask) -> tuple[Tensor, Tensor]:
        """Ranks of the rows, and their ranks among themselves."""
        ranks, among = compared_ranks(opened, rows, self.step, self.temperature)
        return ranks, among if self.among is None else compared_ranks(opened, rows, self.among)[1]

    def cut(self, ranks: Tensor, k: int | Tensor | None) -> Tensor | float:
        """1 without a cut-off."""
        return 1.0 if k is None else self.within(ranks, k)


Form: TypeAlias = Callable[..., Fraction]
"""A metric in terms of ranks: ``form(opened, ranker, k, **own)``."""


# ----------------------------------------------------------------------------------------------------------------- gains


def gains(opened: Opened, gain: Gain, *, relative: bool = False) -> Tensor:
    """Weight times gain of each item, as the metrics have it; 0 where masked.

    ``relative``: exponential ones over a power of two of each list, for a ratio of them. No label makes those overflow.
    """
    labels = opened.labels.clamp(min=0)
    if gain == "exponential":
        top = opened.lists.spread(opened.lists.largest(labels).clamp(min=0)) if relative else None
        return opened.weights * exponential_gains(labels, top)
    if gain == "linear":
        return opened.weights * labels
    raise InputError(f"gain must be 'exponential' or 'linear': got {gain!r}.")


def discounts(ranks: Tensor) -> Tensor:
    """The logarithmic discount at ranks, counted from 1."""
    return torch.log2(1 + ranks).reciprocal()


def ideal_dcg(opened: Opened, gained: Tensor, k: int | None) -> Tensor:
    """DCG of the best order of each list."""
    best = places(opened, gained)
    discount = discounts(best.clamp(min=1))
    return opened.lists.sum(gained * (discount if k is None else torch.where(best <= k, discount, 0)))


def one_less(opened: Opened, fraction: Fraction, reduction: Reduction) -> Tensor:
    """One less the metric; 0 for lists without anything relevant."""
    nothing = fraction.denominator <= 0  # false of NaN, which stays
    metric = fraction.numerator / torch.where(nothing, 1, fraction.denominator)
    return opened.reduce(torch.where(nothing, 0, 1 - metric), reduction)


# ----------------------------------------------------------------------------------------------------------------- forms


def _dcg(opened: Opened, ranker: Ranker, k: int | None, gain: Gain = "exponential") -> Fraction:
    dcg = _discounted(opened, ranker, k, gains(opened, gain))
    return Fraction(dcg, torch.ones_like(dcg))


def _ndcg(opened: Opened, ranker: Ranker, k: int | None, gain: Gain = "exponential") -> Fraction:
    gained = gains(opened, gain, relative=True)
    return Fraction(_discounted(opened, ranker, k, gained), ideal_dcg(opened, gained, k))


def _discounted(opened: Opened, ranker: Ranker, k: int | None, gained: Tensor) -> Tensor:
    ranks = ranker.ranks(opened, opened.labels > 0)
    return opened.lists.sum(gained * discounts(ranks) * ranker.cut(ranks, k))


def _relevant(opened: Opened, rel: float) -> tuple[Mask, Tensor]:
    """Which items are relevant, and their weights."""
    if not rel > 0:
        raise InputError(f"rel must be above 0, the label of padding: got {rel}.")
    relevant = opened.labels >= rel
    return relevant, torch.where(relevant, opened.weights, 0)


def _mrr(opened: Opened, ranker: Ranker, k: int | None, rel: float = 1.0) -> Fraction:
    relevant, weights = _relevant(opened, rel)
    ranks = ranker.ranks(opened, relevant)
    return Fraction(opened.lists.sum(weights / ranks * ranker.cut(ranks, k)), opened.lists.sum(weights))


def _ap(opened: Opened, ranker: Ranker, k: int | None, rel: float = 1.0) -> Fraction:
    relevant, weights = _relevant(opened, rel)
    ranks, among = ranker.both(opened, relevant)
    return Fraction(opened.lists.sum(weights * among / ranks * ranker.cut(ranks, k)), opened.lists.sum(weights))


def _recall(opened: Opened, ranker: Ranker, k: int | None, rel: float = 1.0) -> Fraction:
    if k is None:
        raise ConfigError(
            "without a cut-off recall, precision and F1 do not depend on the scores: name one, as recall@10."
        )
    relevant, weights = _relevant(opened, rel)
    ranks = ranker.ranks(opened, relevant)
    return Fraction(opened.lists.sum(weights * ranker.cut(ranks, k)), opened.lists.sum(weights))


def _precision(opened: Opened, ranker: Ranker, k: int | None, rel: float = 1.0) -> Fraction:
    found, positives = _recall(opened, ranker, k, rel)
    assert k is not None
    return Fraction(found / k, (positives > 0).to(found.dtype))


def _f1(opened: Opened, ranker: Ranker, k: int | None, rel: float = 1.0) -> Fraction:
    found, positives = _recall(opened, ranker, k, rel)
    assert k is not None
    return Fraction(2 * found / (k + positives), (positives > 0).to(found.dtype))


def _r_precision(opened: Opened, ranker: Ranker, k: int | None, rel: float = 1.0) -> Fraction:
    if k is not None:
        raise ConfigError("r_precision cuts at the number of relevant items: leave k out.")
    relevant, weights = _relevant(opened, rel)
    count = opened.lists.spread(opened.lists.sum(relevant.to(opened.scores.dtype)))
    ranks = ranker.ranks(opened, relevant)
    return Fraction(opened.lists.sum(weights * ranker.cut(ranks, count)), opened.lists.sum(weights))


def _rbp(opened: Opened, ranker: Ranker, k: int | None, rel: float = 1.0, p: float = 0.8) -> Fraction:
    if not 0 < p < 1:
        raise InputError(f"p must be between 0 and 1: got {p}.")
    relevant, weights = _relevant(opened, rel)
    ranks = ranker.ranks(opened, relevant)
    value = (1 - p) * opened.lists.sum(weights * p ** (ranks - 1) * ranker.cut(ranks, k))
    return Fraction(value, (opened.lists.sum(weights) > 0).to(value.dtype))


FORMS: dict[str, Form] = {
    "dcg": _dcg,
    "ndcg": _ndcg,
    "mrr": _mrr,
    "ap": _ap,
    "recall": _recall,
    "precision": _precision,
    "f1": _f1,
    "r_precision": _r_precision,
    "rbp": _rbp,
}
"""Metrics that admit soft ranks, by name."""


def ranked_loss(
    form: Form, opened: Opened, ranker: Ranker, reduction: Reduction, k: int | None = None, **own: Any
) -> Tensor:
    """One less the metric of the soft ranks; DCG, which has no bound, only with its sign turned."""
    fraction = form(opened, ranker, k, **own)
    if form is _dcg:
        return opened.reduce(-fraction.numerator, reduction)
    return one_less(opened, fraction, reduction)
