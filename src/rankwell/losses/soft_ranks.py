r"""Lists whose ranks are differentiable, and the registry of metrics that are written in them.

A form is written once, for every layout and both styles: ``form(soft, **own)`` takes a :class:`SoftRanks`, as the body of a
metric takes lists in score order, and gives a :class:`Fraction`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias, TypeVar, final

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.kernels.comparisons import Step, compared_ranks, compared_sums
from rankwell.kernels.pairs import pair_means
from rankwell.kernels.product_pairs import product_pairs
from rankwell.lists import Opened
from rankwell.metrics import METRICS
from rankwell.registry import Registry
from rankwell.types import Mask, Reduction

__all__ = ["FORMS", "Form", "Fraction", "Hinged", "Smooth", "SoftRanks", "one_less", "rank_form", "ranked_loss"]


class Fraction(NamedTuple):
    """A metric of each list before division: where the denominator is 0 nothing is relevant, and the loss is 0."""

    numerator: Tensor
    denominator: Tensor | None
    """None where the metric has no best value, as DCG: its loss is its negative, not one less."""


Form: TypeAlias = Callable[..., tuple[Tensor, Tensor | None]]
"""A metric in terms of ranks: ``form(soft, **own)``."""

F = TypeVar("F", bound=Form)

FORMS: Registry[Form] = Registry("form", {"ranks": ("soft",)})
"""Forms by the name of their metric."""


def rank_form(metric: Callable[..., Tensor] | None = None) -> Callable[[F], F]:
    """Enter a form: of a registered ``metric``, or of what has no metric here and goes by the function's own name.

    The function takes a :class:`SoftRanks` named ``soft``, and parameters of its own: keyword-only, annotated, with a default;
    ``k`` is one of them where there is a cut-off. It gives numerator and denominator of each list, as a :class:`Fraction` or a
    plain pair. :func:`~rankwell.transforms.approximate` and :func:`~rankwell.transforms.bound` then take the metric, its text
    (``"my_metric@10"``) or the form itself. For a true bound it must not rise in any rank.

    Raises:
        ConfigError: if the metric has a form already, or a parameter is not as above.
        UnknownName: if ``metric`` is not registered.

    >>> import torch
    >>> from rankwell.transforms import Fraction, SoftRanks, approximate, rank_form
    >>> @rank_form()
    ... def found_early(soft: SoftRanks, *, patience: float = 10.0) -> Fraction:
    ...     relevant = soft.relevant(1.0)
    ...     weights, ranks = soft.weights * relevant, soft.ranks(relevant)
    ...     return Fraction(soft.sum(weights * torch.exp((1 - ranks) / patience)), soft.sum(weights))
    >>> approximate(found_early)(torch.zeros(3), torch.tensor([1.0, 0.0, 0.0]))  # rank 2: 1 - exp(-1 / 10)
    tensor(0.0952)
    """

    register = FORMS.register("ranks", name=None if metric is None else METRICS.of(metric).name)

    def enter(form: F) -> F:
        register(form)
        return form

    return enter


# ----------------------------------------------------------------------------------------------------------------- ranks


@dataclass(frozen=True)
class SoftRanks(ABC):
    """Lists with differentiable ranks, counted from 1.

    Masks of ``rows``, labels, weights and ranks have one number an item, in the layout of the scores; sums one a list.
    """

    opened: Opened
    """Checked and cleaned arguments of the loss."""
    temperature: float = 1.0
    """The gap of scores that comparisons are measured in."""

    step: ClassVar[Step]
    """The soft comparison of two items: what stands for 1 where the one is above the other."""
    pair: ClassVar[str]
    """The same as a loss of a pair, by its name in :mod:`rankwell.kernels.pairs`."""

    @property
    def labels(self) -> Tensor:
        """Labels; 0 where masked."""
        return self.opened.labels

    @property
    def weights(self) -> Tensor:
        """Weights, 0 where masked; or one number for all."""
        return self.opened.weights

    def sum(self, x: Tensor) -> Tensor:
        """Sums over the valid items of each list."""
        return self.opened.lists.sum(x)

    def spread(self, v: Tensor) -> Tensor:
        """One number a list, to its items."""
        return self.opened.lists.spread(v)

    def count(self, of: Mask) -> Tensor:
        """How many valid items of each list are ``of`` these."""
        return self.sum(of.to(self.labels.dtype))

    def relevant(self, rel: float) -> Mask:
        """Which items have a label of at least ``rel``."""
        if not rel > 0:
            raise InputError(f"rel must be above 0, the label of padding: got {rel}.")
        return self.labels >= rel

    def best(self, x: Tensor, of: Mask) -> Tensor:
        """1 for the item ``of`` these whose ``x`` is the highest of its list; several share it."""
        low = torch.where(of, x.detach(), torch.finfo(x.dtype).min)
        top = of & (low == self.spread(self.opened.lists.largest(low)))
        return top / self.spread(self.count(top).clamp(min=1))

    def ranks(self, rows: Mask) -> Tensor:
        """Ranks of the rows, not below their hard ones in :func:`~rankwell.transforms.bound`; 1 elsewhere."""
        return compared_ranks(self.opened, rows, self.step, self.temperature)[0]

    def ranks_from_below(self, rows: Mask) -> Tensor:
        """Ranks of the rows, not above their hard ones in :func:`~rankwell.transforms.bound`."""
        turned = self.opened._replace(scores=-self.opened.scores)
        count = self.spread(self.opened.lists.count())
        return count + 1 - compared_ranks(turned, rows, self.step, self.temperature)[0]

    def ranks_and_above(self, rows: Mask, loads: Tensor) -> tuple[Tensor, Tensor]:
        """Ranks of the rows, and the sums of the loads of the items above them; 1 and 0 elsewhere. Loads have no gradient."""
        return compared_sums(self.opened, rows, loads, self.step, self.temperature)

    def above(self, rows: Mask, among: Mask) -> Tensor:
        """How many of the items ``among`` these stand above each of the rows."""
        return self.ranks_and_above(rows, among)[1]

    def both(self, rows: Mask) -> tuple[Tensor, Tensor]:
        """Ranks of the rows, and their ranks among themselves."""
        return compared_ranks(self.opened, rows, self.step, self.temperature)

    def misplaced(self) -> Tensor:
        """Mean over the pairs with different labels of whether the worse item is above, times the weight of the better one."""
        return pair_means(self.opened._replace(scores=self.opened.scores / self.temperature), self.pair, 1.0)

    def misplaced_products(self) -> Tensor:
        """The sum over these pairs, times the weights of both items."""
        return product_pairs(self.opened, self.step, self.temperature)

    def within(self, ranks: Tensor, k: int | Tensor | None) -> Tensor | float:
        """Share of each rank that is within the first k; 1 without a cut-off.

        In a bound it is below 0 beyond k. What it multiplies must not fall faster than 1 over the rank: else take :meth:`cut`.
        """
        return 1.0 if k is None else self._within(ranks, k)

    def cut(self, credit: Tensor, ranks: Tensor, k: int | None, beyond: Tensor | float) -> Tensor:
        """Credit of ranks within the first k, that of others lost; in a bound these owe ``beyond`` for each position."""
        return credit if k is None else self._cut(credit, self._within(ranks, k), beyond)

    @abstractmethod
    def _cut(self, credit: Tensor, within: Tensor, beyond: Tensor | float) -> Tensor: ...

    @abstractmethod
    def _within(self, ranks: Tensor, k: int | Tensor) -> Tensor: ...

    @abstractmethod
    def any_within(self, ranks: Tensor, rows: Mask, k: int) -> Tensor:
        """Whether any of the rows is within the first k, of each list."""
        ...

    @abstractmethod
    def left(self, counts: Tensor, most: Tensor) -> Tensor:
        """Share of ``most``, a number above 0, that counts leave; 0 where they are more."""
        ...


@final
@dataclass(frozen=True)
class Smooth(SoftRanks):
    """Logistic comparisons, and logistic cut-offs."""

    cut_temperature: float = 1.0
    """The positions over which a cut-off lets go."""

    step = "logistic"
    pair = "soft_zero_one"

    def _within(self, ranks: Tensor, k: int | Tensor) -> Tensor:
        return torch.sigmoid((k + 0.5 - ranks) / self.cut_temperature)

    def _cut(self, credit: Tensor, within: Tensor, beyond: Tensor | float) -> Tensor:  # noqa: ARG002
        return credit * within

    def any_within(self, ranks: Tensor, rows: Mask, k: int) -> Tensor:
        """One less the chance that all are outside, each for itself."""
        outside = -functional.softplus((k + 0.5 - ranks) / self.cut_temperature)
        return -torch.expm1(self.sum(torch.where(rows, outside, 0)))

    def left(self, counts: Tensor, most: Tensor) -> Tensor:
        """The hinge softened, and scaled to 1 where nothing is counted."""
        short, whole = (functional.softplus(x / self.cut_temperature) for x in (most - counts, most))
        return short / whole


@final
@dataclass(frozen=True)
class Hinged(SoftRanks):
    """Hinges in the place of comparisons, which they bound from above: every share is bounded from below."""

    step = "hinge"
    pair = "hinge"

    def both(self, rows: Mask) -> tuple[Tensor, Tensor]:
        """Ranks, and hard ranks among the rows."""
        return self.ranks(rows), compared_ranks(self.opened, rows, "above")[1]

    def _within(self, ranks: Tensor, k: int | Tensor) -> Tensor:
        return (k + 1 - ranks).clamp(max=1)

    def _cut(self, credit: Tensor, within: Tensor, beyond: Tensor | float) -> Tensor:
        # A credit that fades would make a far rank below 0 better than a near one.
        return credit * within.clamp(min=0) + beyond * within.clamp(max=0)

    def any_within(self, ranks: Tensor, rows: Mask, k: int) -> Tensor:
        """Whether the best one is."""
        return self.sum(self.best(-ranks, rows) * self._within(ranks, k))

    def left(self, counts: Tensor, most: Tensor) -> Tensor:
        """Below 0 where counts are more, so that the pull stays."""
        return 1 - counts / most


# ------------------------------------------------------------------------------------------------------------------ losses


def one_less(opened: Opened, fraction: Fraction, reduction: Reduction) -> Tensor:
    """One less the metric, 0 for lists without anything relevant; without a denominator the metric with its sign turned."""
    if fraction.denominator is None:
        return opened.reduce(-fraction.numerator, reduction)
    nothing = fraction.denominator <= 0  # false of NaN, which stays
    metric = fraction.numerator / torch.where(nothing, 1, fraction.denominator)
    return opened.reduce(torch.where(nothing, 0, 1 - metric), reduction)


def ranked_loss(form: Form, soft: SoftRanks, reduction: Reduction, **own: object) -> Tensor:
    """One less the metric of the soft ranks."""
    return one_less(soft.opened, Fraction(*form(soft, **own)), reduction)
