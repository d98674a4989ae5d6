"""How often items come up as positives: counted beforehand, or estimated while they stream by."""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell.errors import InputError, UnknownName
from rankwell.samplers.popularity import count_items
from rankwell.types import Ragged

__all__ = ["Frequencies", "PositiveFrequencies"]

Frequencies: TypeAlias = Literal["counts", "streaming"]
"""Counted in the known pairs, or estimated as batches go by."""


class PositiveFrequencies(nn.Module):
    r"""The probability :math:`p_j` that a row's positive is item j.

    ``counts``: the share of known pairs that have item j, which is exact where training passes over those pairs.
    ``streaming``: for data that drift, or that nobody counted. At a batch with item j, c times, when t rows have gone by,

    .. math:: G_j \leftarrow (1 - \beta) G_j + \beta (t - t_j), \quad C_j \leftarrow (1 - \beta) C_j + \beta c, \quad
        t_j \leftarrow t, \qquad p_j = C_j / G_j

    from :math:`G_j = |I|`, :math:`C_j = 1` and :math:`t_j = 0` on: occurrences over the rows between them. Time O(b log b) a
    batch. Its state is in buffers, and so in checkpoints.

    Args:
        known: the pairs that are counted.
        num_items: :math:`|I|`.
        kind: ``counts`` or ``streaming``.
        rate: :math:`\beta`; the lower, the steadier and the slower.

    Raises:
        InputError: if ``rate`` is not above 0 and at most 1.

    >>> known = Ragged(torch.tensor([0, 2, 4]), torch.tensor([0, 1, 1, 2]))
    >>> PositiveFrequencies(known, 4, "counts")(torch.arange(4)).exp()
    tensor([0.2500, 0.5000, 0.2500, 0.0000])

    Source: :cite:`yi2019`, streaming frequency estimation (equation number unchecked): the mean number of batches between two
    that hold an item. Differs from it: an array, not hashes; gaps are measured in rows, and occurrences within a batch
    counted, so that batches may differ in size and items of nearly every batch are told apart.
    """

    def __init__(self, known: Ragged, num_items: int, kind: Frequencies, rate: float = 0.05) -> None:
        super().__init__()
        if kind not in ("counts", "streaming"):
            raise UnknownName("way to know frequencies", kind, ("counts", "streaming"))
        if not 0 < rate <= 1:
            raise InputError(f"rate must be above 0 and at most 1: got {rate}.")
        self.kind, self.rate = kind, rate
        device = known.values.device
        self.log_share: Tensor
        self.rows: Tensor
        self.last: Tensor
        self.gap: Tensor
        self.count: Tensor
        if kind == "counts":
            share = count_items(known, num_items).double() / max(len(known.values), 1)
            self.register_buffer("log_share", share.log().float(), persistent=False)
        else:
            self.register_buffer("rows", torch.zeros((), dtype=torch.int64, device=device))
            self.register_buffer("last", torch.zeros(num_items, dtype=torch.int64, device=device))
            self.register_buffer("gap", torch.full((num_items,), float(num_items), device=device))
            self.register_buffer("count", torch.ones(num_items, device=device))

    def forward(self, items: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Logarithms of the probabilities of these items."""
        return self.log_share[items] if self.kind == "counts" else (self.count[items] / self.gap[items]).log()

    @torch.no_grad()
    def update(self, positives: Int[Tensor, " b"]) -> None:
        """See the positives of one more batch; counts stay as they are."""
        if self.kind == "counts":
            return
        items, counts = torch.unique(positives, return_counts=True)
        self.rows += len(positives)
        gaps = (self.rows - self.last[items]).to(self.gap)
        self.gap[items] = self.gap[items].lerp(gaps, self.rate)
        self.count[items] = self.count[items].lerp(counts.to(self.count), self.rate)
        self.last[items] = self.rows
