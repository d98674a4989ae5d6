"""Models of judged lists: a score for each document, from its features alone or in sight of the other documents of its list."""

import itertools
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.lists import check_count
from rankwell.models.registry import MODELS
from rankwell.registry import Search

__all__ = ["FeatureScaling", "MLPRanker", "SetTransformer"]

START = 2
"""Keeps the random numbers of the start apart from those drawn for other purposes with the same seed."""

WASTE = 1.3
"""How many times as long as the shortest the longest list of a padded group may be."""

SCALINGS = ("standard", "log", "none")
Scaling = Literal["standard", "log", "none"]


class FeatureScaling(nn.Module):
    r"""Features on one scale, as the training lists had them; what was constant there becomes 0.

    .. math:: x' = \frac{x - \mu}{\sigma}, \qquad \text{log: first } x \leftarrow \operatorname{sign}(x) \log(1 + |x|)

    ``log`` tames counts and lengths; ``none`` leaves features as they are. Mean and deviation are buffers: a saved model
    carries them.

    >>> scaling = FeatureScaling(1, "standard")
    >>> scaling.learn(torch.tensor([[1.0], [3.0]]))
    >>> scaling(torch.tensor([[5.0]]))
    tensor([[3.]])
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, num_features: int, kind: Scaling) -> None:
        super().__init__()
        if kind not in SCALINGS:
            raise UnknownName("scaling", kind, SCALINGS)
        self.kind = kind
        self.register_buffer("shift", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))

    @torch.no_grad()
    def learn(self, features: Float[Tensor, "n f"]) -> None:
        """Take mean and deviation of the training lists."""
        if self.kind == "none":
            return
        features = self._tamed(features).double()
        deviation = features.std(0, correction=0)
        self.shift.copy_(features.mean(0))
        self.scale.copy_(torch.where(deviation > 1e-9, 1 / deviation, 0.0))

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        """Scale."""
        return features if self.kind == "none" else (self._tamed(features) - self.shift) * self.scale

    def _tamed(self, features: Tensor) -> Tensor:
        return features.sign() * features.abs().log1p() if self.kind == "log" else features


class _Ranker(nn.Module):
    """What rankers of judged lists share: scaled features, a keyed start, and dropout that is keyed too."""

    trainable: ClassVar[bool] = True

    def __init__(self, num_features: int, dropout: float, scaling: Scaling) -> None:
        super().__init__()
        check_count(num_features, "num_features")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must be in [0, 1): got {dropout}.")
        self.num_features, self.dropout = num_features, dropout
        self.scaling = FeatureScaling(num_features, scaling)

    @torch.no_grad()
    def initialise(
        self,
        features: Float[Tensor, "n f"],
        labels: Float[Tensor, " n"],  # noqa: ARG002 - the contract's
        offsets: Int[Tensor, " lists_plus_1"],  # noqa: ARG002
        *,
        seed: int,
    ) -> None:
        """Scale as these features need it, and set the weights to their start."""
        self.scaling.learn(features)
        generator = keyed.generator(seed, START)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def _dropped(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training or not self.dropout or generator is None:
            return x
        kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.dropout
        return x * kept / (1 - self.dropout)


@MODELS.register("lists", name="mlp", complexity="documents · width²")
class MLPRanker(_Ranker):
    r"""Each document by itself: a multi-layer perceptron of its features.

    .. math:: s_i = w \cdot h_L(x_i), \qquad h_l(x) = \operatorname{relu}(W_l h_{l-1}(x) + b_l)

    The usual scorer of learning to rank; :class:`SetTransformer` sees the other documents, too.

    Args:
        widths: of the hidden layers; none makes the model linear.
        dropout: share of hidden numbers that training sets to zero.
        scaling: of features: ``standard``, ``log`` (for counts), ``none``.

    >>> model = MLPRanker(2, widths=(4,))
    >>> model.initialise(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1.0, 0.0]), torch.tensor([0, 2]), seed=0)
    >>> model(torch.zeros(3, 2), torch.tensor([0, 1, 3])).shape
    torch.Size([3])
    """

    def __init__(
        self,
        num_features: int,
        *,
        widths: tuple[int, ...] = (128, 64),
        dropout: Annotated[float, Search(0.0, 0.5)] = 0.1,
        scaling: Scaling = "standard",
    ) -> None:
        super().__init__(num_features, dropout, scaling)
        for width in widths:
            check_count(width, "widths")
        sizes = [num_features, *widths]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.out = nn.Linear(sizes[-1], 1)

    def forward(
        self,
        features: Float[Tensor, "n f"],
        offsets: Int[Tensor, " lists_plus_1"],  # noqa: ARG002 - the contract's; a document is scored by itself
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, " n"]:
        """Scores of documents; the generator drives dropout, which is off without one or outside training."""
        x = self.scaling(features)
        for layer in self.hidden:
            x = self._dropped(functional.relu(layer(x)), generator)
        scores: Tensor = self.out(x).squeeze(-1)
        return scores


@MODELS.register("lists", name="set_transformer", paper="pobrotyn2020", complexity="documents · (list + width) · width")
class SetTransformer(_Ranker):
    r"""Each document in sight of the others of its list: self-attention without positions, then a score.

    .. math:: H_0 = X W, \quad H_l = \operatorname{FF}(\operatorname{Attention}(H_{l-1})), \quad s = H_L w

    No order of documents matters: permuting a list permutes its scores. Lists are padded only within groups of about the same
    length (at most 1.3 times the shortest), so that one long list costs nothing to the others.

    Args:
        dim: width of the layers, a multiple of ``heads``.
        heads: of attention.
        layers: attention layers.
        dropout: share of numbers that training sets to zero, behind attention and feed-forward.
        scaling: of features: ``standard``, ``log`` (for counts), ``none``.

    Raises:
        InputError: if ``dim`` is no multiple of ``heads``.

    >>> model = SetTransformer(2, dim=8, heads=2, layers=1)
    >>> model.initialise(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1.0, 0.0]), torch.tensor([0, 2]), seed=0)
    >>> scores = model(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 2]))
    >>> swapped = model(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 2]))
    >>> torch.allclose(scores, swapped.flip(0))
    True

    Source: :cite:`pobrotyn2020`, section 3; without its positional encodings. Differs from it: layers normalise what goes in.
    """

    def __init__(
        self,
        num_features: int,
        *,
        dim: Annotated[int, Search(32, 256, log=True)] = 64,
        heads: int = 2,
        layers: Annotated[int, Search(1, 4)] = 2,
        dropout: Annotated[float, Search(0.0, 0.5)] = 0.1,
        scaling: Scaling = "standard",
    ) -> None:
        super().__init__(num_features, dropout, scaling)
        for name, value in (("dim", dim), ("heads", heads), ("layers", layers)):
            check_count(value, name)
        if dim % heads:
            raise InputError(f"dim must be a multiple of heads: got {dim} and {heads}.")
        self.heads = heads
        self.enter = nn.Linear(num_features, dim)
        self.layers = nn.ModuleList(_Layer(dim) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, 1)

    def forward(
        self,
        features: Float[Tensor, "n f"],
        offsets: Int[Tensor, " lists_plus_1"],
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, " n"]:
        """Scores of documents; the generator drives dropout, which is off without one or outside training."""
        x: Tensor = self.enter(self.scaling(features))
        scores = x.new_zeros(len(features))
        for rows, where in _groups(offsets):
            padded = x[rows.clamp(min=0)]
            for layer in self.layers:
                padded = self._attended(layer, padded, where, generator)
            of_group = self.out(self.norm(padded)).squeeze(-1)
            scores = scores.index_put((rows[where],), of_group[where])
        return scores

    def _attended(self, layer: nn.Module, x: Tensor, where: Tensor, generator: torch.Generator | None) -> Tensor:
        lists, longest, dim = x.shape
        parts = layer.parts(layer.before(x)).view(lists, longest, 3, self.heads, dim // self.heads)  # type: ignore[operator]
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=where[:, None, None, :])
        mixed: Tensor = layer.join(found.transpose(1, 2).reshape(lists, longest, dim))  # type: ignore[operator]
        x = x + self._dropped(mixed, generator)
        wide = functional.gelu(layer.widen(layer.between(x)))  # type: ignore[operator]
        narrow: Tensor = layer.narrow(wide)  # type: ignore[operator]
        return x + self._dropped(narrow, generator)


class _Layer(nn.Module):
    """The weights of one layer of attention and feed-forward."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.parts, self.join = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)


def _groups(offsets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Lists of about the same length as rows ``[lists, longest]`` of the flat layout, and where there is one."""
    sizes = offsets.diff()
    lengths, order = sizes.sort()
    ends = lengths.tolist()
    first = next((at for at, length in enumerate(ends) if length), len(ends))
    while first < len(ends):
        last = first
        while last < len(ends) and ends[last] <= WASTE * ends[first]:
            last += 1
        lists = order[first:last]
        places = torch.arange(ends[last - 1], device=offsets.device)
        where = places < sizes[lists, None]
        yield torch.where(where, offsets[:-1][lists, None] + places, -1), where
        first = last
