"""A tower: vectors of users or items, from an id of their own and from features."""

import itertools
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.lists import take_lists
from rankwell.models.registry import check_known
from rankwell.types import Features, Ragged

__all__ = ["Fusion", "Tower", "check_features"]

Fusion: TypeAlias = Literal["concat", "add", "multiply"]
FUSIONS = ("concat", "add", "multiply")


def check_features(features: Features, rows: int) -> None:
    """Raise :class:`InputError` unless there is a row of numbers and a list of category codes for each of ``rows``."""
    if features.numbers.ndim != 2 or len(features.numbers) != rows:
        raise InputError(
            f"numbers of features must be [{rows}, f], a row each: got shape {tuple(features.numbers.shape)}."
        )
    check_known(features.categories, rows, features.num_categories)


class Tower(nn.Module):
    """Look-up of ids, mean of categories' vectors and a projection of numbers, fused, then a perceptron.

    Where there are features, rows that do not occur in training have no id: what stood there would be left from the start.

    Built without features it takes those, and the shapes that follow from them, of the state that it loads. A part that is
    absent is a vector of zeros, which all fusions leave out.
    """

    numbers: Tensor
    offsets: Tensor
    codes: Tensor
    mean: Tensor
    scale: Tensor
    occurs: Tensor

    def __init__(self, rows: int, dim: int, features: Features | None, fusion: Fusion, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.fusion, self.open = fusion, features is None
        lists = Ragged(torch.zeros(rows + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
        features = features or Features(torch.zeros(rows, 0), lists, 0)
        check_features(features, rows)
        self.ids = nn.Parameter(torch.zeros(rows, dim))
        self.categories = nn.Parameter(torch.zeros(features.num_categories, dim))
        self.projection = nn.Parameter(torch.zeros(features.numbers.shape[1], dim))
        self.register_buffer("numbers", features.numbers.float())
        self.register_buffer("offsets", features.categories.offsets.long())
        self.register_buffer("codes", features.categories.values.long())
        self.register_buffer("occurs", torch.ones(rows, dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(features.numbers.shape[1]))
        self.register_buffer("scale", torch.ones(features.numbers.shape[1]))
        entering = dim * (1 + bool(features.num_categories) + bool(self.numbers.shape[1]) if fusion == "concat" else 1)
        sizes = (entering, *widths, dim)
        self.layers = nn.ModuleList(
            nn.Linear(a, b, bias=at < len(widths)) for at, (a, b) in enumerate(itertools.pairwise(sizes))
        )

    @property
    def featured(self) -> bool:
        """Whether there are features."""
        return bool(len(self.categories) or len(self.projection))

    @torch.no_grad()
    def start(self, occur: Bool[Tensor, " rows"], init_std: float, generator: torch.Generator) -> None:
        """Scale numbers by those of rows that ``occur`` in training, and set all weights but the ids'."""
        self.occurs.copy_(occur)
        seen = self.numbers[occur].double()
        there = seen.isfinite()
        counts = there.sum(0).clamp(min=1)
        mean = torch.where(there, seen, 0).sum(0) / counts
        spread = (torch.where(there, seen - mean, 0).square().sum(0) / counts).sqrt()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(spread > 0, spread, 1))
        # Numbers are about one each: however many there are, their sum starts with the deviation of a category's vector.
        for weights, deviation in (
            (self.categories, init_std),
            (self.projection, init_std / max(len(self.projection), 1) ** 0.5),
        ):
            weights.copy_(torch.empty(weights.shape).normal_(0, deviation, generator=generator))
        if len(self.layers) == 1:  # the sum of its parts
            weights = self.layers[0].weight  # type: ignore[assignment]
            weights.copy_(torch.eye(weights.shape[0]).repeat(1, weights.shape[1] // weights.shape[0]))
            return
        for name, weights in self.layers.named_parameters():
            if name.endswith("bias"):
                weights.zero_()
            else:
                weights.copy_(nn.init.xavier_uniform_(torch.empty(weights.shape), generator=generator))

    def forward(self, rows: Int[Tensor, " n"], kept: Bool[Tensor, " n"] | None = None) -> Float[Tensor, "n dim"]:
        """Vectors of these rows; without their ids where not ``kept``."""
        own = functional.embedding(rows, self.ids, sparse=True)
        if self.featured:
            there = self.occurs[rows]
            own = own * (there if kept is None else there & kept)[:, None]
        return self._fused(own, self.numbers[rows], take_lists(Ragged(self.offsets, self.codes), rows))

    def of_features(self, features: Features) -> Float[Tensor, "n dim"]:
        """Vectors of new rows, which have no id."""
        check_features(features, len(features.numbers))
        if (given := (features.numbers.shape[1], features.num_categories)) != (
            len(self.projection),
            len(self.categories),
        ):
            raise InputError(
                f"features must have {len(self.projection)} numbers and {len(self.categories)} categories, as in training: got"
                f" {given[0]} and {given[1]}. Encode them as those of training were."
            )
        own = self.ids.new_zeros(len(features.numbers), self.ids.shape[1])
        return self._fused(own, features.numbers.to(own.dtype), features.categories)

    def _fused(self, own: Tensor, numbers: Tensor, categories: Ragged) -> Tensor:
        parts = [own]
        if len(self.categories):
            # Of an empty list, zeros.
            bags = functional.embedding_bag(
                categories.values, self.categories, categories.offsets[:-1], mode="mean", sparse=True
            )
            parts.append(bags)
        if len(self.projection):
            parts.append(((numbers - self.mean) / self.scale).nan_to_num(0.0, 0.0, 0.0) @ self.projection)
        if self.fusion == "concat":
            x = torch.cat(parts, 1)
        else:
            together = torch.stack(parts)
            x = together.sum(0) if self.fusion == "add" else (1 + together).prod(0) - 1
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        fused: Tensor = self.layers[-1](x)
        return fused

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take the shapes that follow from features, if this was built without, and check what is loaded."""
        if self.open:
            for name, tensor in [*self.named_parameters(), *self.named_buffers()]:
                stored = state_dict.get(prefix + name)
                if name in ("ids", "offsets", "occurs") or stored is None or stored.shape == tensor.shape:
                    continue
                owner, _, leaf = name.rpartition(".")
                empty = tensor.detach().new_zeros(stored.shape)
                setattr(
                    self.get_submodule(owner), leaf, nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
                )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if not error_msgs and not any(key.startswith(prefix) for key in missing_keys):
            check_features(
                Features(self.numbers, Ragged(self.offsets, self.codes), len(self.categories)), len(self.ids)
            )
