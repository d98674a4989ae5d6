"""SASRec: causal self-attention over a history."""

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.lists import check_count
from rankwell.models.registry import MODELS
from rankwell.models.sequential import Groups, SequenceModel, places_of
from rankwell.registry import Search
from rankwell.types import Ragged

__all__ = ["SASRec"]


@MODELS.register("sequences", name="sasrec", paper="kang2018", complexity="events · (length + width) · width")
class SASRec(SequenceModel):
    r"""The next item by attention to all that came before, as far back as ``max_length`` events.

    .. math::
        x_t &= \sqrt{d}\, v_{i_t} + p_t, \qquad s_{t j} = \langle h_t, v_j \rangle \\
        x &\leftarrow x + \operatorname{drop}(\operatorname{Attention}_{\le t}(\operatorname{norm}(x))), \qquad
        x \leftarrow x + \operatorname{drop}(W_2 \operatorname{relu}(W_1 \operatorname{norm}(x)))

    for each layer, and h = norm(x) behind the last. Layers are normalised in front, so that the sum runs through untouched.
    Positions count from the oldest event in sight: what a state is does not depend on how long the history will be, and a
    state is the same in training and when its event is the last.

    All but attention works on the events alone, without padding; attention on groups of histories of about the same
    length, by torch's fused kernel. Time O(length · d + d²) an event and layer, memory O(d) an event.

    Args:
        dim: of items and states, a multiple of ``heads``.
        layers: blocks of attention and feed-forward.
        heads: of attention.
        max_length: how many of the last events are looked at.
        dropout: share of numbers that training sets to zero: of embedded events, and of what each block adds.
        init_std: standard deviation of items and positions at the start.

    Raises:
        InputError: if ``dim`` is no multiple of ``heads``, a count is below 1, or ``dropout`` is not in [0, 1).

    >>> model = SASRec(5, dim=8, max_length=3)
    >>> model.initialise(seed=0)
    >>> history = Ragged(torch.tensor([0, 2, 6]), torch.tensor([0, 1, 4, 3, 2, 1]))
    >>> model.score_next(history).shape
    torch.Size([2, 5])

    Source: :cite:`kang2018`, section III; equation numbers unchecked. Differs from it: positions count from the oldest event,
    not back from the newest; the attention weights themselves are not dropped; a norm stands behind the last block, as in
    its published code.
    """

    def __init__(
        self,
        num_items: int,
        *,
        dim: Annotated[int, Search(16, 256, log=True)] = 64,
        layers: Annotated[int, Search(1, 4)] = 2,
        heads: int = 1,
        max_length: int = 50,
        dropout: Annotated[float, Search(0.0, 0.7)] = 0.5,
        init_std: float = 0.02,
    ) -> None:
        super().__init__(num_items, dim, max_length, dropout, init_std)
        check_count(layers, "layers")
        check_count(heads, "heads")
        if dim % heads:
            raise InputError(f"dim must be a multiple of heads: got {dim} and {heads}.")
        self.heads = heads
        self.positions = nn.Parameter(torch.zeros(max_length, dim))
        self.layers = nn.ModuleList(_Layer(dim) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def follow(self, x: Tensor, history: Ragged, generator: torch.Generator | None) -> Tensor:
        """States of events, from their vectors ``x``."""
        groups = Groups(history.offsets)
        positions = functional.embedding(places_of(history.offsets), self.positions)
        x = self._dropped(x * self.dim**0.5 + positions, generator)
        for layer in self.layers:
            parts = layer.parts(layer.before(x))  # type: ignore[operator]
            mixed: Tensor = layer.join(groups.through(parts, self._attended))  # type: ignore[operator]
            x = x + self._dropped(mixed, generator)
            wide = functional.relu(layer.widen(layer.between(x)))  # type: ignore[operator]
            narrow: Tensor = layer.narrow(wide)  # type: ignore[operator]
            x = x + self._dropped(narrow, generator)
        states: Tensor = self.norm(x)
        return states

    def _attended(self, parts: Tensor) -> Tensor:
        """Each event's mixture of those up to it: ``[lists, longest, 3 d]`` to ``[lists, longest, d]``."""
        lists, longest, _ = parts.shape
        split = parts.view(lists, longest, 3, self.heads, self.dim // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return found.transpose(1, 2).reshape(lists, longest, self.dim)


class _Layer(nn.Module):
    """The weights of one block."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.parts, self.join = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, dim), nn.Linear(dim, dim)
