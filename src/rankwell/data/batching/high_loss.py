"""Rows whose loss was high come more often."""

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell import keyed
from rankwell.data.batching.passes import BATCHES, Batch, PairBatches, in_blocks
from rankwell.errors import InputError
from rankwell.registry import Search
from rankwell.types import Ragged

__all__ = ["HighLossBatches"]

HARD, FIRST = 31, 32
"""Keep the draws, and the order of rows not seen yet, apart from what else is keyed by seed and epoch."""


@BATCHES.register("interactions", name="high_loss", paper="loshchilov2016")
class HighLossBatches(PairBatches):
    r"""Rows drawn the more often the higher their loss was, by its rank.

    .. math:: q_r = \frac{s^{-r/n}\, (1 - s^{-1/n})}{1 - s^{-1}}, \qquad
        \hat\ell \leftarrow \hat\ell + \rho\, (\ell - \hat\ell)

    where r is the row's rank among n, 0 for the highest running estimate :math:`\hat\ell` of its loss: the highest is drawn s
    times as often as the lowest, whatever the scale of the loss, and no row is forgotten, for :math:`q_r > \ln s / (n (s -
    1))`. A pass has n draws, with replacement, by the estimates as they were when it began. Rows without an estimate come
    first, each once, in random order, so that the first pass is a shuffled one. Equal estimates are ranked by row.

    ``unbiased`` weighs the value of a row by :math:`1/(n q_r)`, which makes the mean over batches that over all rows: hard
    rows are then seen often, and pulled at less.

    Time O(n log n) a pass, memory 24 bytes a row, of which checkpoints keep 8.

    Args:
        pressure: s, above 1: how many times as often the hardest row comes as the easiest.
        rate: :math:`\rho`, how fast the estimate follows; 1 keeps the last loss.
        unbiased: whether rows are weighed by the inverse of how likely they were.

    Raises:
        InputError: if ``pressure`` is not a finite number above 1, or ``rate`` not above 0 and at most 1.

    >>> draw = HighLossBatches((torch.tensor([0, 1]), torch.tensor([5, 6])), 2, seed=0, pressure=4.0)
    >>> draw.probabilities()  # (1 - 1/2) / (1 - 1/4), and half of it
    tensor([0.6667, 0.3333], dtype=torch.float64)

    Source: :cite:`loshchilov2016`, online batch selection by rank; equation number unchecked. Differs from it: ranks are by a
    running mean instead of the last loss, taken anew once a pass, and the pressure does not change as training goes on.
    """

    learns: ClassVar[bool] = True

    def __init__(
        self,
        pairs: tuple[Int[Tensor, " n"], Int[Tensor, " n"]],
        batch_size: int,
        *,
        seed: int,
        pressure: Annotated[float, Search(2.0, 1000.0, log=True)] = 10.0,
        rate: Annotated[float, Search(0.1, 1.0)] = 0.5,
        unbiased: bool = False,
    ) -> None:
        super().__init__(pairs, batch_size, seed=seed)
        if not 1 < pressure < math.inf:
            raise InputError(f"pressure must be a finite number above 1: got {pressure}. Shuffled batches have none.")
        if not 0 < rate <= 1:
            raise InputError(f"rate must be above 0 and at most 1: got {rate}.")
        self.pressure, self.rate, self.unbiased = pressure, rate, unbiased
        # Infinite: not seen yet, which ranks above every loss.
        unseen = torch.full((len(self),), math.inf, device=self.users.device)
        self.register_buffer("losses", unseen)
        self.register_buffer("at_start", unseen.clone())
        self._weights: Tensor | None = None

    losses: Float[Tensor, " n"]
    """The running estimates."""
    at_start: Float[Tensor, " n"]
    """What they were when the pass began: a pass that is resumed draws what it would have drawn."""

    def probabilities(self) -> Float[Tensor, " n"]:
        """How likely one draw is to be the row of each rank."""
        ranks = torch.arange(len(self), dtype=torch.float64, device=self.losses.device)
        step = math.log(self.pressure) / len(self)
        return torch.exp(-step * ranks) * (math.expm1(-step) / (1 / self.pressure - 1))

    def of_epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of a pass from step ``start`` on; from its beginning, by the estimates as they are now."""
        if start == 0:
            self.at_start.copy_(self.losses)
        return super().of_epoch(epoch, start)

    def rows(self, epoch: int) -> Ragged:
        """Rows not seen yet, then draws by rank."""
        ranked = self.at_start.argsort(descending=True, stable=True)
        unseen = int(self.at_start.isinf().sum())
        first = ranked[:unseen][self._words(epoch, FIRST, unseen).argsort()]
        u = ((self._words(epoch, HARD, len(self) - unseen) >> 11) & (2**53 - 1)).double() * 2.0**-53
        # The inverse of the distribution function, which is that of a geometric law cut off at n.
        ranks = torch.log1p(u * (1 / self.pressure - 1)) * (-len(self) / math.log(self.pressure))
        drawn = ranked[ranks.long().clamp(max=len(self) - 1)]
        if self.unbiased:
            weights = (1 / (len(self) * self.probabilities())).float()
            weights[:unseen] = 1
            self._weights = torch.empty_like(weights).index_copy_(0, ranked, weights)
        return in_blocks(torch.cat([first, drawn]), self.batch_size)

    def weights(self, index: Int[Tensor, " b"]) -> Float[Tensor, " b"] | None:
        """The inverse of n times each row's probability."""
        return None if self._weights is None else self._weights[index]

    @torch.no_grad()
    def learn(self, index: Int[Tensor, " b"], values: Float[Tensor, " b"]) -> None:
        """Move the estimates towards these losses; a row that stands here twice, towards their mean."""
        rows, of_row, counts = torch.unique(index, return_inverse=True, return_counts=True)
        means = values.new_zeros(len(rows)).index_add_(0, of_row, values).div_(counts).to(self.losses)
        before = self.losses[rows]
        self.losses[rows] = torch.where(before.isinf(), means, before + self.rate * (means - before))

    def _words(self, epoch: int, purpose: int, count: int) -> Tensor:
        places = torch.arange(count, device=self.users.device)
        return keyed.words(keyed.mix(self.seed, epoch, purpose), places, torch.zeros_like(places))
