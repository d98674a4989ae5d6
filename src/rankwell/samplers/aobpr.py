"""Adaptive oversampling: items that stand high in a factor that matters to the user."""

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from rankwell import keyed
from rankwell.errors import UnknownName
from rankwell.lists import check_count, check_positive
from rankwell.registry import Search
from rankwell.samplers.alias import TOTAL, AliasTable, whole_weights
from rankwell.samplers.candidates import refuse_full
from rankwell.samplers.catalogue import AGAIN, ROWS
from rankwell.samplers.collisions import KnownItems, UnknownItems
from rankwell.samplers.held import HoldsModel, needed_scorer
from rankwell.samplers.registry import sampler
from rankwell.types import Negatives, Ragged, Scorer

__all__ = ["AOBPRSampler"]

FACTOR = 7
"""Keeps the choice of a factor apart from that of a rank."""

BLOCK = 1 << 21
"""Numbers that a block of rows may look at, so that what is made of them stays within tens of megabytes."""


@sampler(name="aobpr", kind="model", paper="rendle2014")
class AOBPRSampler(HoldsModel):
    r"""Negatives of a high rank in one factor of the model, the factor drawn by its weight for the user.

    .. math:: q_j = \sum_f p(f \mid u)\, P(r_f(j \mid u)), \qquad p(f \mid u) \propto |u_f|\, \sigma_f, \qquad
        P(r) \propto e^{-(r + 1) / \lambda}, \quad \lambda = \text{ratio} \cdot |I|

    with the rank :math:`r_f(j \mid u)`, from 0 on, of item j in factor f: in descending order where :math:`u_f > 0`, in
    ascending order otherwise, and the standard deviation :math:`\sigma_f` of the factor over items. So hard negatives come
    without a look at all scores: O(1) a draw beside the choice of the factor, O(dim) for ``log_q``.

    Known positives are drawn again until one is not, in effect: a second draw from what the row has left, factor and all, is
    exact and needs no loop (:class:`~rankwell.samplers.catalogue.CatalogueSampler`). ``log_q`` is then
    :math:`\log q_j - \log \sum_{k\,\text{unknown}} q_k`. Ranks are weighed by whole numbers, so that this holds exactly.

    Orders are those of the last refresh. They are kept in buffers, 4 bytes for each item and factor; beside them stand the
    probabilities of items, and what each user has left, by factor and direction: 8 bytes for each row of both and factor.
    A refresh takes O(dim (items log items + interactions)). A user without a vector draws from all factors alike.

    Args:
        n: negatives of a row.
        ratio: :math:`\lambda` as a share of the catalogue; the smaller, the harder the negatives.
        spread: what a factor weighs by: its standard ``deviation`` over items, or its ``variance``, as in LibRec.
        refresh: steps between two orders of items; 0 for every :math:`|I| \log |I|` rows.

    Raises:
        InputError: if there is no scorer, a row knows everything, ``n`` is below 1, ``ratio`` is not above 0, or ``refresh`` is
            below 0.

    >>> from rankwell.models import MatrixFactorisation
    >>> model = MatrixFactorisation(1, 3, dim=1, similarity="dot")
    >>> _ = model.users.data.fill_(-1), model.items.data.copy_(torch.tensor([[5.0], [3.0], [4.0]]))
    >>> draw = AOBPRSampler(Ragged(torch.tensor([0, 1]), torch.tensor([1])), 3, n=3, ratio=1 / 3, seed=0)
    >>> got = draw(torch.tensor([0]), torch.tensor([0]), epoch=0, step=0, scorer=model)
    >>> got.ids, got.log_q.exp()  # ranks 1 and 2 are left, of items 2 and 0: 1 / (1 + 1/e) and the rest
    (tensor([[2, 2, 0]]), tensor([[0.7311, 0.7311, 0.2689]]))

    Source: :cite:`rendle2014`; equation numbers unchecked. Differs from it: many draws a row; ranks come from a table of whole
    numbers (:class:`~rankwell.samplers.alias.AliasTable`), in which each rank keeps at least one part in 2^31, not from
    the inverse distribution function; a step is a batch, so that orders are refreshed by rows that went by; log q is stated.
    """

    ranking: Tensor
    """``[dim, items]``: items in descending order of each factor."""
    scale: Tensor
    clock: Tensor
    """Steps, or rows, since the last refresh."""

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        *,
        seed: int,
        n: Annotated[int, Search(10, 1000, log=True)] = 100,
        ratio: Annotated[float, Search(0.001, 0.5, log=True)] = 0.05,
        spread: Literal["deviation", "variance"] = "deviation",
        refresh: int = 0,
    ) -> None:
        super().__init__()
        check_count(n, "n")
        check_positive(ratio, "ratio")
        check_count(refresh, "refresh", least=0)
        refuse_full(known, num_items)
        if spread not in ("deviation", "variance"):
            raise UnknownName("spread", spread, ("deviation", "variance"))
        self.num_items, self.seed, self.n, self.spread, self.refresh = num_items, seed, n, spread, refresh
        device = known.values.device
        ranks = torch.arange(num_items, dtype=torch.float64, device=device)
        # Relative to rank 0. What rounds to 0 still gets a number: nothing that is unknown is out of reach.
        self._weights = whole_weights(torch.exp(-ranks / (ratio * num_items)).clamp(min=1e-300))
        self._table = AliasTable(self._weights)
        self._known = KnownItems(known, num_items)
        self.hold("ranking", 0, num_items, dtype=torch.int32, device=device)
        self.hold("scale", 0, dtype=torch.float64, device=device)
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64, device=device))
        self.forget()

    def forget(self) -> None:
        """Drop what the orders imply."""
        self._derived: tuple[Tensor, Tensor, Tensor] | None = None

    @torch.no_grad()
    def forward(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],
        *,
        epoch: int,
        step: int,  # noqa: ARG002
        positives: Int[Tensor, "b *m"] | None = None,  # noqa: ARG002
        scorer: Scorer | None = None,
    ) -> Negatives:
        """Negatives for the rows of a batch, by their users' vectors; positives are not looked at."""
        model = needed_scorer(scorer, "aobpr")
        _, chances, left = self._kept_up(model, len(queries))
        shares = self._shares(model.query_vectors(queries))
        places = torch.arange(self.n, device=samples.device)
        columns = _choose(shares, keyed.words(keyed.mix(self.seed, epoch, FACTOR), samples[:, None], places))
        ranks = self._table.draw(keyed.words(keyed.mix(self.seed, epoch, ROWS), samples[:, None], places))
        ids = self._items(columns, ranks)
        allowed = shares * left[queries]
        rows, of_row = self._known.contains(queries, ids).nonzero(as_tuple=True)
        again = keyed.words(keyed.mix(self.seed, epoch, AGAIN), samples[rows], of_row)
        for part in _blocks(self._known.sizes[queries[rows]] + shares.shape[1]):
            ids[rows[part], of_row[part]] = self._redrawn(queries[rows[part]], allowed[rows[part]], again[part])
        q = torch.cat(
            [
                torch.bmm(functional.embedding(ids[part], chances), shares[part, :, None].float()).squeeze(2)
                for part in _blocks(torch.full_like(queries, self.n * shares.shape[1]))
            ]
        )
        return Negatives(ids, (q / allowed.sum(1, keepdim=True).float()).log(), None)

    def _kept_up(self, model: Scorer, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Order the items anew where it is time to; what the orders imply."""
        until = self.refresh or self.num_items * math.log(self.num_items)
        if not len(self.scale) or int(self.clock) >= until:
            vectors = model.item_vectors().double()
            deviation = vectors.std(0, correction=0)
            self.scale = deviation if self.spread == "deviation" else deviation**2
            self.ranking = vectors.T.contiguous().argsort(dim=1, descending=True, stable=True).int()
            self.clock.zero_()
            self.forget()
        self.clock += 1 if self.refresh else rows
        if self._derived is None:
            self._derived = self._implied()
        return self._derived

    def _implied(self) -> tuple[Tensor, Tensor, Tensor]:
        """The rank of each item by factor; its probability, ``[items, 2 dim]``, and the share that users have left, likewise.

        The first dim columns are for descending orders, the others for ascending ones.
        """
        numbers = torch.arange(self.num_items, dtype=torch.int32, device=self.ranking.device)
        rank = torch.empty_like(self.ranking).scatter_(1, self.ranking.long(), numbers.expand_as(self.ranking))
        mass = self._weights.double()
        masses = torch.cat([mass[rank.long()], mass.flip(0)[rank.long()]]).T.contiguous()
        # Whole numbers below 2^53 add up exactly in float64, so that nothing left is 0 and anything left is not.
        offsets, values = self._known.known
        known = functional.embedding_bag(values, masses, offsets, mode="sum", include_last_offset=True)
        total = self._table.total
        return rank, (masses / total).float(), ((total - known) / total).float()

    def _shares(self, users: Float[Tensor, "b d"]) -> Float[Tensor, "b twice_d"]:
        """The probability of each factor in descending, then in ascending order."""
        weights = users.double() * self.scale
        both = torch.cat([weights.clamp(min=0), (-weights).clamp(min=0)], 1)
        total = both.sum(1, keepdim=True)
        return torch.where(total > 0, both / total, 1 / both.shape[1])

    def _redrawn(
        self, owners: Int[Tensor, " h"], shares: Float[Tensor, "h twice_d"], bits: Int[Tensor, " h"]
    ) -> Int[Tensor, " h"]:
        """One item for each owner among what it does not know: a factor by what it has left, and a rank from that."""
        columns = _choose(shares, bits[:, None]).squeeze(1)
        places, items = self._known.of(owners)
        ranks = self._ranks(columns[places], items)
        ordered = (places * self.num_items + ranks).sort().values - places * self.num_items
        offsets = torch.cat([owners.new_zeros(1), self._known.sizes[owners].cumsum(0)])
        unknown = UnknownItems(KnownItems(Ragged(offsets, ordered), self.num_items), self._weights)
        rows = torch.arange(len(owners), device=owners.device)
        return self._items(columns, unknown.find(rows, keyed.low(bits, unknown.left)))

    def _items(self, columns: Int[Tensor, "*k"], ranks: Int[Tensor, "*k"]) -> Int[Tensor, "*k"]:
        return self._looked_up(self.ranking, columns, self._turned(columns, ranks))

    def _ranks(self, columns: Int[Tensor, "*k"], items: Int[Tensor, "*k"]) -> Int[Tensor, "*k"]:
        assert self._derived is not None
        return self._turned(columns, self._looked_up(self._derived[0], columns, items))

    def _turned(self, columns: Tensor, ranks: Tensor) -> Tensor:
        """A rank of the descending order, for columns of ascending ones, and the other way round."""
        return torch.where(columns < len(self.scale), ranks, self.num_items - 1 - ranks)

    def _looked_up(self, table: Tensor, columns: Tensor, at: Tensor) -> Tensor:
        return table.take(columns % len(self.scale) * self.num_items + at).long()


def _choose(shares: Float[Tensor, "b c"], bits: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """A column for each 64 random bits, in proportion to the shares; none of share 0."""
    below = shares.cumsum(1)
    # Strictly below the sum: a part of TOTAL is at most 1 - 2^-31.
    at = keyed.high(bits, TOTAL).double() / TOTAL * below[:, -1:]
    return torch.searchsorted(below, at, right=True).clamp(max=shares.shape[1] - 1)


def _blocks(sizes: Int[Tensor, " k"]) -> Iterator[slice]:
    """Consecutive ranges of rows that hold about ``BLOCK`` numbers each."""
    ends = torch.unique_consecutive(torch.div(sizes.cumsum(0), BLOCK, rounding_mode="floor"), return_counts=True)[1]
    start = 0
    for count in ends.tolist():
        yield slice(start, start + count)
        start += count
