"""The baseline of sequence models: a mean of the history's items."""

from typing import Annotated

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.models.registry import MODELS
from rankwell.models.sequential import Groups, SequenceModel
from rankwell.registry import Search
from rankwell.types import Ragged

__all__ = ["ItemMean"]


@MODELS.register("sequences", name="item_mean", complexity="events · length · width")
class ItemMean(SequenceModel):
    r"""The next item by its likeness to a mean of the items so far, the newest weighing most.

    .. math:: h_t = \frac{\sum_{k \le t} \gamma^{t - k} v_{i_k}}{\sum_{k \le t} \gamma^{t - k}}, \qquad
        s_{tj} = \langle h_t, v_j \rangle

    Nothing is learned but the items' vectors. With ``decay=1`` the order of the history does not matter: what
    :class:`SASRec` and :class:`GRU4Rec` have above it is what they make of the order; with ``decay=0`` only the last item
    counts, which is a factorised Markov chain, and a symmetric one.

    Args:
        dim: of items.
        decay: γ, what an event weighs for each later one, from 0 to 1.
        max_length: how many of the last events are looked at.
        dropout: share of a state's numbers that training sets to zero.
        init_std: standard deviation of items at the start.

    Raises:
        InputError: if ``decay`` is not in [0, 1], a count is below 1, or ``dropout`` is not in [0, 1).

    >>> model = ItemMean(2, dim=1, decay=0.5)
    >>> model.load_state_dict({"items": torch.tensor([[3.0], [6.0]])})
    <All keys matched successfully>
    >>> model.query_vectors(Ragged(torch.tensor([0, 2]), torch.tensor([0, 1])))  # (3 / 2 + 6) / (1 / 2 + 1)
    tensor([[5.]])
    """

    def __init__(
        self,
        num_items: int,
        *,
        dim: Annotated[int, Search(16, 256, log=True)] = 64,
        decay: Annotated[float, Search(0.0, 1.0)] = 0.8,
        max_length: int = 50,
        dropout: Annotated[float, Search(0.0, 0.5)] = 0.1,
        init_std: float = 0.1,
    ) -> None:
        super().__init__(num_items, dim, max_length, dropout, init_std)
        if not 0 <= decay <= 1:
            raise InputError(f"decay must be in [0, 1]: got {decay}.")
        self.decay = decay

    def follow(self, x: Tensor, history: Ragged, generator: torch.Generator | None) -> Tensor:
        """States of events, from their vectors ``x``."""
        return self._dropped(Groups(history.offsets).through(x, self._means), generator)

    def _means(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        ages = places[:, None] - places
        weights = torch.where(
            ages >= 0, torch.tensor(self.decay, dtype=x.dtype, device=x.device) ** ages.clamp(min=0), 0
        )
        return (weights / weights.sum(1, keepdim=True)) @ x
