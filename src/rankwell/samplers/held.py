"""What samplers keep of the model that they ask: in buffers, so that checkpoints hold it and a resumed run goes on with it."""

from typing import Any

import torch
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.types import Scorer

__all__ = ["HoldsModel", "needed_scorer"]


class HoldsModel(nn.Module):
    """A module with buffers whose sizes the model tells, at the first call.

    :meth:`hold` registers one, with 0 for each size that is not known yet. Loading a state takes the saved sizes, and calls
    :meth:`forget`, which drops what is derived from buffers.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[str, tuple[int, ...]] = {}

    def hold(self, name: str, *sizes: int, dtype: torch.dtype, device: torch.device) -> None:
        """Register an empty buffer; a size of 0 is settled later."""
        self._sizes[name] = sizes
        self.register_buffer(name, torch.zeros(sizes, dtype=dtype, device=device))

    def forget(self) -> None:
        """Drop what is derived from buffers, as they have changed."""

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        for name, sizes in self._sizes.items():
            saved = state_dict.get(prefix + name)
            if saved is None or saved.ndim != len(sizes):
                continue
            if all(own in (0, theirs) for own, theirs in zip(sizes, saved.shape, strict=True)):
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.forget()


def needed_scorer(scorer: Scorer | None, name: str) -> Scorer:
    """The scorer, or an :class:`InputError` that says who needs it."""
    if scorer is None:
        raise InputError(
            f"{name} asks the model for its negatives: pass scorer, a model with vectors of queries and items."
        )
    return scorer
