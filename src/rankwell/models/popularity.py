"""The baseline that knows no user: every item scores what its interactions count."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell.models.registry import MODELS, check_known
from rankwell.types import Ragged

__all__ = ["Popularity"]


@MODELS.register("interactions", name="popularity", complexity="items a query")
class Popularity(nn.Module):
    r"""Items by their number of training interactions, the same for everybody.

    .. math:: s_{ui} = |\{v : (v, i) \in \text{known}\}|

    What a personal model must beat. Fit O(interactions). Scores are float32, exact up to 2²⁴ interactions an item. Counts tie
    often: lists show the lower item code first, and measures take the mean over all orders.

    >>> model = Popularity(2, 3)
    >>> model.initialise(Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 2, 2])), seed=0)
    >>> model.score_all(torch.tensor([1]))
    tensor([[1., 0., 2.]])
    """

    trainable: ClassVar[bool] = False
    counts: Tensor

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__()
        self.num_users, self.num_items = num_users, num_items
        self.register_buffer("counts", torch.zeros(num_items))

    @torch.no_grad()
    def initialise(self, known: Ragged, *, seed: int) -> None:  # noqa: ARG002 - the contract's; counting needs no chance
        """Count the interactions of each item."""
        check_known(known, self.num_users, self.num_items)
        self.counts.copy_(torch.bincount(known.values, minlength=self.num_items))

    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """The counts, one row a query; without ``out`` the rows are views of one."""
        rows = self.counts.expand(queries.numel(), -1)
        return rows if out is None else out.copy_(rows)

    def score_history(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """The same for new users."""
        return self.score_all(history.offsets[1:], out)
