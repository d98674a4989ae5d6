"""Encoders of examples: a network that turns features or images into embeddings; and features as they are, to compare with."""

import itertools
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.lists import check_count
from rankwell.models.dropout import dropped
from rankwell.models.rankers import FeatureScaling, Scaling
from rankwell.models.registry import MODELS
from rankwell.models.start import START
from rankwell.registry import Search
from rankwell.similarity import normalise

__all__ = ["Encoder", "RawFeatures"]

GRID = 4
"""Places along each side that an image is pooled to at most, before the last layer."""


@MODELS.register("examples", name="encoder", complexity="examples · weights")
class Encoder(nn.Module):
    r"""A small network from an example to its embedding: convolutions for images, a multi-layer perceptron for features.

    .. math:: e(x) = \frac{W h_L(x) + b}{\lVert \cdot \rVert}

    Each layer of an image's is a 3 × 3 convolution, ReLU, and the maximum of 2 × 2 places; each of a vector's is linear, with
    ReLU. Under ``cosine`` embeddings have length one; under ``dot`` they are what the last layer gives. An example's embedding
    depends on no other of its batch. Scales of features, or of channels, are those of the training examples.

    Args:
        shape: of one example: ``(features,)`` or ``(channels, height, width)``.
        dim: length of embeddings.
        widths: of the hidden layers: units, or channels; none makes the model linear.
        dropout: share of numbers before the last layer that training sets to zero.
        scaling: of features: ``standard``, ``log`` (for counts), ``none``.
        similarity: how embeddings are compared.

    Raises:
        InputError: if ``shape`` is neither, a width or ``dim`` is below 1, or ``dropout`` is not in [0, 1).

    >>> model = Encoder((1, 8, 8), dim=3)
    >>> images = torch.arange(128.0).view(2, 1, 8, 8)
    >>> model.initialise(images, torch.tensor([0, 1]), seed=0)
    >>> bool(model(images).square().sum(-1).allclose(torch.ones(2)))
    True
    """

    trainable: ClassVar[bool] = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        dim: Annotated[int, Search(8, 512, log=True)] = 64,
        widths: tuple[int, ...] = (32, 64),
        dropout: Annotated[float, Search(0.0, 0.5)] = 0.0,
        scaling: Scaling = "standard",
        similarity: Literal["cosine", "dot"] = "cosine",
    ) -> None:
        super().__init__()
        if len(shape) not in (1, 3):
            raise InputError(f"an example must be (features,) or (channels, height, width): got {shape}.")
        if similarity not in ("cosine", "dot"):
            raise UnknownName("similarity", similarity, ("cosine", "dot"))
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must be in [0, 1): got {dropout}.")
        for name, sizes in (("shape", shape), ("dim", (dim,)), ("widths", widths)):
            for size in sizes:
                check_count(size, name)
        self.shape, self.dim, self.dropout, self.similarity = tuple(shape), dim, dropout, similarity
        self.scaling = FeatureScaling(shape[0], scaling)
        sizes = (shape[0], *widths)
        pairs = itertools.pairwise(sizes)
        if len(shape) == 1:
            self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
            self.out = nn.Linear(sizes[-1], dim)
            return
        self.hidden = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs)
        height, width = (max(side // 2 ** len(widths), 1) for side in shape[1:])
        self.grid = (min(height, GRID), min(width, GRID))
        self.out = nn.Linear(sizes[-1] * self.grid[0] * self.grid[1], dim)

    @torch.no_grad()
    def initialise(
        self,
        features: Float[Tensor, "n *shape"],
        classes: Int[Tensor, " n"],  # noqa: ARG002 - the contract's
        *,
        seed: int,
    ) -> None:
        """Scale as these examples need it, and set the weights to their start."""
        self.scaling.learn(features if features.ndim == 2 else features.movedim(1, -1).flatten(0, -2))
        generator = keyed.generator(seed, START)
        for layer in (*self.hidden, self.out):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(
        self, features: Float[Tensor, "n *shape"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n d"]:
        """Embeddings; the generator drives dropout, which is off without one or outside training."""
        if tuple(features.shape[1:]) != self.shape:
            raise InputError(f"examples must be of shape {self.shape}: got {tuple(features.shape[1:])}.")
        x = self._images(features) if len(self.shape) == 3 else self._vectors(features)
        if self.training and self.dropout and generator is not None:
            x = dropped(x, self.dropout, generator)
        embedded: Tensor = self.out(x)
        return normalise(embedded) if self.similarity == "cosine" else embedded

    def _vectors(self, features: Tensor) -> Tensor:
        x: Tensor = self.scaling(features)
        for layer in self.hidden:
            x = functional.relu(layer(x))
        return x

    def _images(self, images: Tensor) -> Tensor:
        n, channels, height, width = images.shape
        scaled = self.scaling(images.movedim(1, -1).reshape(-1, channels))
        x = scaled.view(n, height, width, channels).movedim(-1, 1)
        for layer in self.hidden:
            x = functional.relu(layer(x))
            if min(x.shape[2:]) >= 2:
                x = functional.max_pool2d(x, 2)
        return functional.adaptive_max_pool2d(x, self.grid).flatten(1)


@MODELS.register("examples", name="raw_features", complexity="examples")
class RawFeatures(nn.Module):
    """Features, or pixels, as they are: what every embedding must beat.

    Args:
        shape: of one example.
        similarity: how they are compared.

    >>> RawFeatures((1, 2, 2))(torch.ones(1, 1, 2, 2))
    tensor([[1., 1., 1., 1.]])
    """

    trainable: ClassVar[bool] = False

    def __init__(
        self, shape: tuple[int, ...], *, similarity: Literal["euclidean", "cosine", "dot"] = "euclidean"
    ) -> None:
        super().__init__()
        if similarity not in ("euclidean", "cosine", "dot"):
            raise UnknownName("similarity", similarity, ("euclidean", "cosine", "dot"))
        self.shape, self.similarity = tuple(shape), similarity

    def initialise(self, features: Tensor, classes: Tensor, *, seed: int) -> None:
        """Nothing is learnt."""

    def forward(
        self,
        features: Float[Tensor, "n *shape"],
        *,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "n d"]:
        """The numbers of each example in a row."""
        return features.flatten(1)
