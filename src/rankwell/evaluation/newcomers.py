"""Users and items that training did not see, for a model as it is: rankers whose queries number the users asked about."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.lists import take_lists
from rankwell.types import HistoryScorer, Ragged

__all__ = ["NewUsers", "VectorRanker"]


class NewUsers(nn.Module):
    """The model with the histories of users that training did not see: a :class:`~rankwell.types.FullRanker`.

    >>> from rankwell.models import EASE
    >>> model = EASE(2, 2, regularisation=1.0)
    >>> model.initialise(Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1])), seed=0)
    >>> NewUsers(model, Ragged(torch.tensor([0, 1]), torch.tensor([1]))).score_all(torch.tensor([0]))
    tensor([[0.3333, 0.0000]])
    """

    def __init__(self, model: HistoryScorer, histories: Ragged) -> None:
        super().__init__()
        self.model, self.histories, self.num_items = model, histories, model.num_items
        self.training = getattr(model, "training", False)  # of a module, so that evaluation leaves it as it was

    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each numbered history."""
        return self.model.score_history(take_lists(self.histories, queries), out)


class VectorRanker(nn.Module):
    """Vectors of users and items, of training or new: a :class:`~rankwell.types.FullRanker` by inner products."""

    def __init__(self, users: Float[Tensor, "q d"], items: Float[Tensor, "m d"]) -> None:
        super().__init__()
        if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
            raise InputError(
                f"vectors of users and items must be as long: got shapes {tuple(users.shape)} and {tuple(items.shape)}."
            )
        self.users, self.items, self.num_items = users, items, len(items)

    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each numbered user."""
        return torch.mm(self.users[queries], self.items.T, out=out)
