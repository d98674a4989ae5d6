"""When a result that was kept is out of date."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

__all__ = ["state_of"]


def state_of(tensors: Iterable[Tensor]) -> list[tuple[Any, ...]]:
    """Equal as long as no tensor was changed.

    Every change in place counts a tensor's version up: a step of an optimiser, a state that is loaded. A tensor that takes
    another's place lies elsewhere. Not seen, for torch does not count it: what is written through ``.data`` in place, and the
    step of a fused optimiser. So models forget what they kept when they are trained, and the trainer counts its own steps.
    """
    return [(each._version, each.data_ptr(), each.device, each.dtype) for each in tensors]
