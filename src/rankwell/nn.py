"""Losses as modules: one generic wrapper."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

__all__ = ["Loss"]


class Loss(nn.Module):
    """A loss function and its configuration, as a module.

    >>> import torch
    >>> from rankwell.losses import hinge_loss
    >>> Loss(hinge_loss, margin=2.0)
    Loss(hinge_loss, margin=2.0)
    >>> Loss(hinge_loss, margin=2.0)(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]))
    tensor(1.)
    """

    def __init__(self, function: Callable[..., Tensor], **own: Any) -> None:
        super().__init__()
        self.function = function
        self.own = own

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Call the function with the configuration; what the call gives comes first."""
        return self.function(*args, **{**self.own, **kwargs})

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", repr(self.function))
        return f"Loss({', '.join([name, *(f'{key}={value!r}' for key, value in self.own.items())])})"
