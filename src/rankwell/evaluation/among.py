"""A model that is asked about some items alone."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.types import FullRanker

__all__ = ["Among"]


class Among(nn.Module):
    """Scores of a model for some items; all others score -inf, which is not to be recommended.

    So the figures of new items among new items are :func:`~rankwell.evaluation.evaluate` of the model among these.

    >>> class Rising:
    ...     num_items = 3
    ...     def score_all(self, queries, out=None):
    ...         return torch.arange(3.0).expand(len(queries), 3)
    >>> Among(Rising(), torch.tensor([True, False, True])).score_all(torch.tensor([0]))
    tensor([[0., -inf, 2.]])
    """

    others: Tensor

    def __init__(self, model: FullRanker, items: Bool[Tensor, " m"]) -> None:
        super().__init__()
        if items.dtype != torch.bool or items.shape != (model.num_items,):
            raise InputError(
                f"items must be booleans [{model.num_items}], one an item: got {items.dtype} of shape {tuple(items.shape)}."
            )
        self.model, self.num_items = model, model.num_items
        self.register_buffer("others", ~items, persistent=False)
        self.training = getattr(model, "training", False)  # of a module, so that evaluation leaves it as it was

    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each user."""
        scores = self.model.score_all(queries, out=out)
        if out is None:
            return scores.masked_fill(self.others, -torch.inf)
        return out.copy_(scores).masked_fill_(self.others, -torch.inf)
