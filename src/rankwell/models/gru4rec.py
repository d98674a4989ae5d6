"""GRU4Rec: a recurrent network over a history."""

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rankwell.lists import check_count
from rankwell.models.registry import MODELS
from rankwell.models.sequential import SequenceModel, places_of
from rankwell.registry import Search
from rankwell.types import Ragged

__all__ = ["GRU4Rec"]


@MODELS.register("sequences", name="gru4rec", paper="hidasi2016", complexity="events · width²")
class GRU4Rec(SequenceModel):
    r"""The next item by the state of gated recurrent units that read the history, event by event.

    .. math::
        z_t &= \sigma(W_z v_t + U_z h_{t-1} + b_z), \qquad r_t = \sigma(W_r v_t + U_r h_{t-1} + b_r) \\
        h_t &= (1 - z_t)\, \tanh(W v_t + b + r_t \odot (U h_{t-1} + b')) + z_t\, h_{t-1}, \qquad
        s_{tj} = \langle W_o h_t, v_j \rangle

    :class:`SASRec` sees all earlier events at once; this reads them in turn, which takes as many steps as the longest history
    has events, each of O(width²) a history still running. Histories are packed, not padded.

    Args:
        dim: of items.
        width: of the recurrent state.
        layers: units on top of each other.
        max_length: how many of the last events are looked at.
        dropout: share of numbers that training sets to zero: of embedded events, and of states.
        init_std: standard deviation of items at the start.

    Raises:
        InputError: if a count is below 1, or ``dropout`` is not in [0, 1).

    >>> model = GRU4Rec(5, dim=8)
    >>> model.initialise(seed=0)
    >>> model.score_next(Ragged(torch.tensor([0, 2, 6]), torch.tensor([0, 1, 4, 3, 2, 1]))).shape
    torch.Size([2, 5])

    Source: :cite:`hidasi2016`, section 3.1; equation numbers unchecked. Differs from it: events are embedded, and the same
    table scores, as in the authors' later code; a linear map leads from states to items; the reset gate acts behind the
    product with U, as in torch; histories are whole, where the paper carries states from batch to batch.
    """

    def __init__(
        self,
        num_items: int,
        *,
        dim: Annotated[int, Search(16, 256, log=True)] = 64,
        width: Annotated[int, Search(32, 512, log=True)] = 128,
        layers: Annotated[int, Search(1, 3)] = 1,
        max_length: int = 50,
        dropout: Annotated[float, Search(0.0, 0.7)] = 0.25,
        init_std: float = 0.1,
    ) -> None:
        super().__init__(num_items, dim, max_length, dropout, init_std)
        check_count(width, "width")
        check_count(layers, "layers")
        self.units = nn.GRU(dim, width, layers)
        self.out = nn.Linear(width, dim)

    def follow(self, x: Tensor, history: Ragged, generator: torch.Generator | None) -> Tensor:
        """States of events, from their vectors ``x``."""
        lengths = history.offsets.diff()
        # Packed: the first events of all histories, longest history first, then the second ones, and so on.
        ranks = torch.empty_like(lengths)
        ranks[lengths.argsort(descending=True, stable=True)] = torch.arange(len(lengths), device=x.device)
        places = places_of(history.offsets)
        order = (places * len(lengths) + torch.repeat_interleave(ranks, lengths)).argsort()
        running = torch.bincount(places).cpu()
        read = self.units(PackedSequence(self._dropped(x, generator)[order], running))[0].data
        states: Tensor = self.out(self._dropped(read, generator))
        return torch.empty_like(states).index_copy(0, order, states)
