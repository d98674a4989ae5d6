"""Item-based neighbours: the oldest baseline that still has to be beaten."""

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import check_count, take_lists
from rankwell.models.history import HistoryModel, co_occurrences
from rankwell.models.registry import MODELS
from rankwell.registry import Search
from rankwell.types import Ragged

__all__ = ["ItemKNN"]


@MODELS.register("interactions", name="item_knn", paper="deshpande2004", complexity="k · history a query")
class ItemKNN(HistoryModel):
    r"""Items by their likeness to what the user knows.

    .. math:: s_{uj} = \sum_{i \in H_u \cap N_k(j)} c_{ij}, \qquad
        c_{ij} = \frac{|U_i \cap U_j|}{\sqrt{|U_i|\,|U_j|} + \text{shrinkage}}

    :math:`U_i` are the users who know item i, :math:`N_k(j)` the ``k`` items most like j; ties by the lower code. Fit:
    blocks of items against all, O(interactions · items) additions; the model keeps items · k likenesses. Scoring adds up
    the neighbours of a user's history.

    Args:
        k: neighbours of an item.
        shrinkage: added to the denominator: likeness by few common users counts less.

    Raises:
        InputError: if ``k`` is below 1 or ``shrinkage`` below 0.

    >>> model = ItemKNN(3, 3, k=1)
    >>> model.initialise(Ragged(torch.tensor([0, 2, 4, 5]), torch.tensor([0, 1, 0, 1, 2])), seed=0)
    >>> model.score_history(Ragged(torch.tensor([0, 1]), torch.tensor([0])))  # the same two users know 0 and 1
    tensor([[0., 1., 0.]])

    Source: :cite:`deshpande2004`, section 4.2, the cosine form; equation number unchecked. Differs from it: shrinkage, and
    neighbours are kept of the item to be scored.
    """

    neighbour_offsets: Tensor
    neighbour_items: Tensor
    likeness: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        k: Annotated[int, Search(10, 500, log=True)] = 100,
        shrinkage: Annotated[float, Search(0.0, 100.0)] = 0.0,
    ) -> None:
        super().__init__(num_users, num_items)
        check_count(k, "k")
        if not shrinkage >= 0:
            raise InputError(f"shrinkage must be at least 0: got {shrinkage}.")
        self.k, self.shrinkage = k, shrinkage
        self.register_buffer("neighbour_offsets", torch.zeros(num_items + 1, dtype=torch.int64))
        self.register_buffer("neighbour_items", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("likeness", torch.zeros(0))

    @torch.no_grad()
    def initialise(self, known: Ragged, *, seed: int) -> None:  # noqa: ARG002 - the contract's; nothing is drawn
        """Find each item's neighbours."""
        self.remember(known)
        degrees = torch.bincount(known.values, minlength=self.num_items).to(self.likeness)
        found = [self._neighbours(*block, degrees) for block in co_occurrences(known, self.num_items)]
        of, items, values = (torch.cat(parts) for parts in zip(*found, strict=True))
        # By the item of the history, so that scoring takes rows: entry (i, j) says how much i speaks for j.
        order = items.argsort(stable=True)
        counts = torch.bincount(items, minlength=self.num_items)
        self.neighbour_offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        self.neighbour_items, self.likeness = of[order], values[order]

    def _neighbours(self, first: int, together: Tensor, degrees: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For a block of items: the item, its neighbour, and their likeness."""
        last = first + together.shape[1]
        together.div_((torch.outer(degrees, degrees[first:last]).sqrt_() + self.shrinkage).clamp_(min=1e-12))
        together[torch.arange(first, last), torch.arange(last - first)] = 0
        # The bits of numbers above zero are in their order. With the code below them no two are equal: ties go to the lower.
        codes = torch.arange(self.num_items, device=together.device)
        keys = (together.T.contiguous().view(torch.int32).long() << 32) + (self.num_items - 1 - codes)
        items = keys.topk(min(self.k, self.num_items), sorted=False).indices.sort().values
        values = together.T.gather(1, items)
        kept = values > 0
        of = torch.arange(first, last, device=items.device)[:, None].expand_as(items)
        return of[kept], items[kept], values[kept]

    def score_history(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each list of item codes (no code twice in a list)."""
        queries = len(history.offsets) - 1
        out = self.likeness.new_empty(queries, self.num_items) if out is None else out
        places = Ragged(self.neighbour_offsets, torch.arange(len(self.likeness), device=self.likeness.device))
        reached = take_lists(places, history.values)
        lists = torch.repeat_interleave(history.offsets.diff(), output_size=len(history.values))
        rows = torch.repeat_interleave(lists, reached.offsets.diff(), output_size=len(reached.values))
        out.zero_().index_put_(
            (rows, self.neighbour_items[reached.values]), self.likeness[reached.values], accumulate=True
        )
        return out

    def _of_any_length(self) -> tuple[str, ...]:
        return ("history_items", "neighbour_items", "likeness")
