"""Several positives a row: which of a user's other items stand beside the row's own."""

from collections.abc import Callable
from typing import Annotated, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.lists import check_at_least, check_count
from rankwell.registry import Registry, Search
from rankwell.samplers.alias import TOTAL
from rankwell.samplers.collisions import KnownItems
from rankwell.types import Ragged, Scorer

__all__ = [
    "POSITIVES",
    "HardnessPositives",
    "OnePositive",
    "PositiveSampler",
    "Positives",
    "RarityPositives",
    "UniformPositives",
]

BESIDE = 41
"""Keeps the draws of positives apart from what else is keyed by seed and epoch."""


class Positives(NamedTuple):
    """The positives of rows: ``ids`` ``[b, m]``, the row's own one first, and ``where`` ``[b, m]``, true where there is one.

    One positive a row is ``ids`` ``[b]``, without ``where``. What is not there has the id of the row's own.
    """

    ids: Int[Tensor, "b *m"]
    where: Bool[Tensor, "b m"] | None


class PositiveSampler(Protocol):
    """Chooses the positives of rows.

    Built as ``PositiveSampler(known, num_items, *, seed, m, own parameters)``; m counts the row's own. The others are items
    that the row's query knows, none of them twice; where it knows fewer, they are masked, not repeated. Draws are keyed
    by (seed, epoch, sample).
    """

    def __call__(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],
        items: Int[Tensor, " b"],
        *,
        epoch: int,
        scorer: Scorer | None = None,
    ) -> Positives:
        """Positives for rows with these queries, numbers in the data and own items; ``scorer`` is the model."""
        ...


BUILT_FROM = ("known", "num_items", "seed")

POSITIVES: Registry[Callable[..., PositiveSampler]] = Registry("positive", {"static": BUILT_FROM, "model": BUILT_FROM})


@POSITIVES.register("static", name="one")
class OnePositive:
    """The row's own positive alone.

    >>> draw = OnePositive(Ragged(torch.tensor([0, 2]), torch.tensor([1, 4])), 5, seed=0)
    >>> draw(torch.tensor([0]), torch.tensor([0]), torch.tensor([4]), epoch=0)
    Positives(ids=tensor([4]), where=None)
    """

    def __init__(self, known: Ragged, num_items: int, *, seed: int) -> None:
        pass

    def __call__(
        self,
        queries: Int[Tensor, " b"],  # noqa: ARG002
        samples: Int[Tensor, " b"],  # noqa: ARG002
        items: Int[Tensor, " b"],
        *,
        epoch: int,  # noqa: ARG002
        scorer: Scorer | None = None,  # noqa: ARG002
    ) -> Positives:
        """The items as they are."""
        return Positives(items, None)


class _Weighted:
    """Known items drawn one after the other in proportion to whole weights, none twice."""

    def __init__(self, known: Ragged, num_items: int, *, seed: int, m: int, weights: Tensor | None = None) -> None:
        check_count(m, "m")
        self.m, self.seed, self._known = m, seed, KnownItems(known, num_items)
        of_pairs = torch.ones_like(known.values) if weights is None else weights[known.values]
        self._mass = torch.cat([of_pairs.new_zeros(1), of_pairs.cumsum(0)])

    def __call__(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],
        items: Int[Tensor, " b"],
        *,
        epoch: int,
        scorer: Scorer | None = None,  # noqa: ARG002
    ) -> Positives:
        """The rows' own positives, and m - 1 others."""
        return _behind(items, *self.others(queries, samples, items, self.m - 1, epoch))

    def others(
        self, queries: Tensor, samples: Tensor, items: Tensor, count: int, epoch: int
    ) -> tuple[Int[Tensor, "b count"], Bool[Tensor, "b count"]]:
        """``count`` other items of each query, and which of them are there.

        What is taken already is a gap in the mass: a number drawn below what is left is moved past the gaps before it.
        """
        if not count or not len(self._known.pairs):
            return items[:, None].expand(-1, count), items.new_zeros((len(items), count), dtype=torch.bool)
        offsets, values = self._known.known
        first, last = offsets[queries], offsets[queries + 1]
        start, end = self._mass[first], self._mass[last]
        own = (first + self._known.below(queries, items)).clamp(max=len(values) - 1)
        taken = (own < last) & (values[own] == items)
        gaps = [self._gap(own, start, taken)]
        left = end - start - gaps[0][1]
        ids, there = [], []
        for place in range(count):
            bits = keyed.words(keyed.mix(self.seed, epoch, BESIDE), samples, torch.full_like(samples, place))
            number = keyed.high(bits, left)
            begins, widths = (torch.stack(part, 1) for part in zip(*gaps, strict=True))
            begins, order = begins.sort(1)
            for begin, width in zip(begins.unbind(1), widths.gather(1, order).unbind(1), strict=True):
                number = number + torch.where(number >= begin, width, 0)
            at = (torch.searchsorted(self._mass, start + number, right=True) - 1).clamp(max=len(values) - 1)
            there.append(left > 0)
            ids.append(torch.where(there[-1], values[at], items))
            gaps.append(self._gap(at, start, there[-1]))
            left = left - gaps[-1][1]
        return torch.stack(ids, 1), torch.stack(there, 1)

    def _gap(self, at: Tensor, start: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Where the mass of a known pair begins, counted from its query's, and how much it is."""
        return self._mass[at] - start, torch.where(there, self._mass[at + 1] - self._mass[at], 0)


@POSITIVES.register("static", name="uniform", paper="tang2021")
class UniformPositives(_Weighted):
    r"""The row's own positive, and m − 1 others of the user, each as likely as any.

    Time O(m² + m log interactions) a row; memory O(interactions).

    Args:
        m: positives of a row, its own one among them.

    Raises:
        InputError: if ``m`` is below 1.

    >>> draw = UniformPositives(Ragged(torch.tensor([0, 2]), torch.tensor([1, 4])), 5, seed=0, m=3)
    >>> draw(torch.tensor([0]), torch.tensor([0]), torch.tensor([4]), epoch=0)
    Positives(ids=tensor([[4, 1, 4]]), where=tensor([[ True,  True, False]]))

    Source: :cite:`tang2021`, several positives a user, sampled from what it knows; equation number unchecked.
    """

    def __init__(self, known: Ragged, num_items: int, *, seed: int, m: Annotated[int, Search(2, 8)] = 2) -> None:
        super().__init__(known, num_items, seed=seed, m=m)


@POSITIVES.register("static", name="rarity", paper="liu2025")
class RarityPositives(_Weighted):
    r"""The row's own positive, and m − 1 others of the user, rare items rather than popular ones.

    .. math:: P(i) \propto c_i^{-\beta}

    one after the other among the user's items that are left, with :math:`c_i` the users that know item i. ``exponent=0`` is
    :class:`UniformPositives`. Weights are whole numbers, the largest such that no user's pass 2^31. Time O(m² + m log
    interactions) a row; memory O(interactions).

    Args:
        m: positives of a row, its own one among them.
        exponent: :math:`\beta`, how strongly rare items are preferred.

    Raises:
        InputError: if ``m`` is below 1 or ``exponent`` below 0.

    >>> known = Ragged(torch.tensor([0, 3, 4, 5]), torch.tensor([0, 1, 2, 1, 1]))  # item 1 is known three times
    >>> draw = RarityPositives(known, 3, seed=0, m=2, exponent=30.0)
    >>> draw(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]), epoch=0).ids
    tensor([[0, 2]])

    Source: the rarity prior of :cite:`liu2025`, as a way to draw; equation number unchecked. Differs from it: there rarity
    is one of three factors of a weight in the loss, and of log popularity.
    """

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        *,
        seed: int,
        m: Annotated[int, Search(2, 8)] = 2,
        exponent: Annotated[float, Search(0.1, 1.5)] = 0.5,
    ) -> None:
        check_at_least(exponent, "exponent")
        counts = torch.bincount(known.values, minlength=num_items).clamp(min=1).double()
        share = (counts / counts.min()) ** -exponent
        running = torch.cat([share.new_zeros(1), share[known.values].cumsum(0)])[known.offsets]
        most, longest = (float(x.max()) if len(x) else 0.0 for x in (running.diff(), known.offsets.diff().double()))
        room = (TOTAL - longest) / max(most, 1.0)
        super().__init__(known, num_items, seed=seed, m=m, weights=(share * room).long().clamp(min=1))


@POSITIVES.register("model", name="hardness", paper="liu2025")
class HardnessPositives(_Weighted):
    r"""The row's own positive, and the m − 1 that the model scores lowest among some others of the user.

    .. math:: \text{bottom}_{m - 1} \{ s_{c_1}, \dots, s_{c_M} \}

    for M ``candidates``, drawn uniformly without replacement from what the user knows: what the model has not learned yet. Of a
    noisy item it says the same. Time O(M² + M d) a row, for vectors of length d.

    Args:
        m: positives of a row, its own one among them.
        candidates: M, the items that the model is asked about.

    Raises:
        InputError: if ``m`` is below 1, ``candidates`` below m − 1, or no scorer is passed.

    >>> from rankwell.models import MatrixFactorisation
    >>> model = MatrixFactorisation(1, 4, dim=1, similarity="dot")
    >>> model.load_state_dict({"users": torch.ones(1, 1), "items": torch.tensor([[0.3], [0.1], [0.2], [0.0]])})
    <All keys matched successfully>
    >>> draw = HardnessPositives(Ragged(torch.tensor([0, 3]), torch.tensor([0, 1, 2])), 4, seed=0)
    >>> draw(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]), epoch=0, scorer=model).ids
    tensor([[0, 1]])

    Source: the hardness of positives of :cite:`liu2025`, as a way to choose; equation number unchecked. Differs from it: there
    it is a factor of a weight in the loss, a softmax of scores.
    """

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        *,
        seed: int,
        m: Annotated[int, Search(2, 8)] = 2,
        candidates: Annotated[int, Search(2, 32, log=True)] = 8,
    ) -> None:
        super().__init__(known, num_items, seed=seed, m=m)
        check_count(candidates, "candidates", least=max(m - 1, 1))
        self.candidates = candidates

    @torch.no_grad()
    def __call__(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],
        items: Int[Tensor, " b"],
        *,
        epoch: int,
        scorer: Scorer | None = None,
    ) -> Positives:
        """The rows' own positives, and the lowest-scored of the candidates."""
        if scorer is None:
            raise InputError("hardness asks the model for scores: pass a scorer, or choose positives uniform.")
        ids, there = self.others(queries, samples, items, self.candidates, epoch)
        scores = scorer.score(queries, ids).masked_fill(~there, torch.inf)
        lowest = scores.topk(self.m - 1, largest=False).indices
        return _behind(items, ids.gather(1, lowest), there.gather(1, lowest))


def _behind(items: Tensor, ids: Tensor, there: Tensor) -> Positives:
    """The rows' own items, and these behind them."""
    own = there.new_ones((len(items), 1))
    return Positives(
        torch.cat([items[:, None], torch.where(there, ids, items[:, None])], 1), torch.cat([own, there], 1)
    )
