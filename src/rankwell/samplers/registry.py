"""The names of samplers."""

from collections.abc import Callable
from typing import Any, Protocol

from jaxtyping import Int
from torch import Tensor

from rankwell.registry import Registry
from rankwell.types import Negatives

__all__ = ["SAMPLERS", "Sampler", "sampler"]


class Sampler(Protocol):
    """Chooses negatives before anything is scored."""

    def __call__(self, queries: Int[Tensor, " b"], samples: Int[Tensor, " b"], *, epoch: int, step: int) -> Negatives:
        """Negatives for the rows of a batch, keyed by seed, epoch, step and the rows' sample numbers."""
        ...


SAMPLERS: Registry[Callable[..., Sampler]] = Registry("sampler", {"static": ("known", "num_items", "seed")})


def sampler(*, name: str) -> Callable[[Any], Any]:
    """Register a sampler class, built from the known positives, the size of the catalogue and a seed."""
    return SAMPLERS.register("static", name=name)
