"""Collaborative filtering as a graph signal filter, in closed form: the baseline that trained models answer to."""

from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.models.history import HistoryModel
from rankwell.models.registry import MODELS
from rankwell.models.spectral import normalised_interactions, truncated_svd
from rankwell.registry import Search
from rankwell.types import Ragged

__all__ = ["GraphFilter"]

BLOCK_VALUES = 1 << 23
"""Numbers in each of the two dense blocks that scoring works in: up to 32 MB the allocator hands the same pages out again."""


@MODELS.register("interactions", name="graph_filter", paper="shen2021", complexity="interactions a query")
class GraphFilter(HistoryModel):
    r"""GF-CF: a linear filter on the graph of items, plus an ideal low-pass filter.

    .. math:: s_u = r_u \tilde R^\top \tilde R + \alpha\, r_u D_i^{-1/2} V V^\top D_i^{1/2},
        \qquad \tilde R = D_u^{-1/2} R\, D_i^{-1/2}

    with :math:`r_u` the user's row of zeros and ones, and V the ``rank`` first right singular vectors of :math:`\tilde R`
    (fewer where users or items are fewer). The first term counts paths item–user–item; the second keeps what varies slowly
    over the graph. It has no gradient and no item–item matrix: each block of queries is multiplied by :math:`\tilde R^\top`,
    by :math:`\tilde R`, and by V. Fit: one truncated SVD. Scoring: O(interactions + items · rank) a query, in blocks of two
    dense [items or users, block] buffers of at most 32 MB (eight queries at least). A user without interactions scores 0
    everywhere.

    Own parameters: ``rank``, singular vectors kept; ``alpha``, weight of the low-pass term (0 leaves the linear filter).

    >>> model = GraphFilter(3, 3, rank=2)
    >>> model.initialise(Ragged(torch.tensor([0, 2, 4, 5]), torch.tensor([0, 1, 0, 1, 2])), seed=0)
    >>> model.score_all(torch.tensor([0])).round(decimals=2).abs()
    tensor([[1.3000, 1.3000, 0.0000]])

    Source: :cite:`shen2021`, eq. 9 (its algorithm 1). Differs: none intended; V is found by subspace iteration.
    """

    item_vectors: Tensor
    rows: Tensor
    columns: Tensor
    item_degrees: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        rank: Annotated[int, Search(32, 1024, log=True)] = 256,
        alpha: Annotated[float, Search(0.0, 1.0)] = 0.3,
    ) -> None:
        super().__init__(num_users, num_items)
        if rank < 1:
            raise InputError(f"rank must be at least 1: got {rank}. For no low-pass term set alpha=0.")
        self.alpha = alpha
        self.rank = min(rank, num_users, num_items)
        self.register_buffer("item_vectors", torch.zeros(num_items, self.rank))
        for name in ("rows", "columns", "item_degrees"):
            self.register_buffer(name, None, persistent=False)
        self._rebuild()

    @torch.no_grad()
    def initialise(self, known: Ragged, *, seed: int) -> None:
        """Keep the histories and find the singular vectors."""
        self.remember(known)
        right = truncated_svd(known, self.num_items, self.rank, seed=seed)[2]
        self.item_vectors = right.mul_(self.item_degrees.sqrt()[:, None])

    @torch.no_grad()
    def score_history(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each list of item codes (no code twice in a list): users that training did not see."""
        offsets, items = history
        queries = offsets.numel() - 1
        if out is None:
            out = self.item_vectors.new_empty(queries, self.num_items)
        most = max(8, min(256, BLOCK_VALUES // max(self.num_items, self.num_users, 1)))
        block = -(-queries // -(-queries // most)) if queries else 1
        for first in range(0, queries, block):
            last = min(first + block, queries)
            start, stop = int(offsets[first]), int(offsets[last])
            self._score_block(offsets[first : last + 1] - start, items[start:stop], out[first:last])
        return out

    def _score_block(self, offsets: Tensor, items: Tensor, out: Tensor) -> None:
        # Items along the first axis throughout: compressed matrices multiply from the left. One transposed copy ends it.
        width = offsets.numel() - 1
        lists = torch.repeat_interleave(offsets.diff(), output_size=items.numel())
        block = self.item_vectors.new_zeros(self.num_items, width)
        block.view(-1)[items * width + lists] = 1
        shared = self.item_vectors.new_empty(self.num_users, width)
        torch.addmm(shared, self.rows, block, beta=0, out=shared)
        torch.addmm(block, self.columns, shared, beta=0, out=block)
        if self.alpha:
            # The vectors hold D^(1/2) V, so that D^(-1/2) V is 1/d times them, and no second copy is kept.
            weights = self.item_degrees[items].clamp_(min=1).reciprocal_()
            smooth = nn.functional.embedding_bag(
                items, self.item_vectors, offsets[:-1], mode="sum", per_sample_weights=weights
            )
            block.addmm_(self.item_vectors, smooth.T, alpha=self.alpha)
        out.copy_(block.T)

    def _rebuild(self) -> None:
        """Make what follows from the histories."""
        matrix = normalised_interactions(self.history(), self.num_items)
        self.rows, self.columns, self.item_degrees = matrix.rows, matrix.columns, matrix.item_degrees

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: without the compressed matrices, which torch cannot copy."""
        return self.__dict__ | {"_buffers": self._buffers | {"rows": None, "columns": None}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._rebuild()
