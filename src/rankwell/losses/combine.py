"""Several losses as one: weights that are fixed, follow a schedule, or are learned."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from rankwell.errors import ConfigError, InputError
from rankwell.losses.registry import LOSSES

__all__ = ["Combined", "Schedule", "Weight", "combine", "cosine_schedule", "linear_schedule"]

Schedule: TypeAlias = Callable[[Tensor], Tensor]
"""A weight as a function of the number of steps taken (a scalar tensor, so that nothing waits for the device)."""

Weight: TypeAlias = float | Schedule | Literal["learned"]


def linear_schedule(start: float, end: float, steps: int) -> Schedule:
    """From one weight to another in so many steps, and constant from then on.

    >>> linear_schedule(0.0, 1.0, steps=4)(torch.tensor(1))
    tensor(0.2500)
    """
    _check_steps(steps)
    return lambda step: start + (end - start) * (step / steps).clamp(max=1)


def cosine_schedule(start: float, end: float, steps: int) -> Schedule:
    """As :func:`linear_schedule`, slow at both ends.

    >>> cosine_schedule(0.0, 1.0, steps=4)(torch.tensor(2))
    tensor(0.5000)
    """
    _check_steps(steps)
    return lambda step: start + (end - start) * (1 - torch.cos(math.pi * (step / steps).clamp(max=1))) / 2


def combine(parts: Mapping[str | Callable[..., Tensor], Weight]) -> "Combined":
    """The weighted sum of losses of one kind, called as each of them is.

    >>> combine({"mse": 1.0, "hinge": 0.5})(torch.tensor([2.0, 1.0]), torch.tensor([0.0, 1.0]))  # 4/2 + [1 - (1 - 2)] / 2
    tensor(3.)
    """
    return Combined(parts)


class Combined(nn.Module):
    r"""A weighted sum of losses of one kind, with the call of that kind.

    .. math:: \ell = \sum_k w_k\, \ell_k
        \qquad\text{or, learned,}\qquad \ell = \sum_k \tfrac12 e^{-a_k}\, \ell_k + \tfrac12 a_k

    Keys are names of losses or functions (a configured one is a ``functools.partial``), values are weights: a number; a
    schedule of the step (:func:`linear_schedule`); or ``"learned"``, by the uncertainty :math:`a_k = \log \sigma_k^2` of the
    part, a parameter that the optimiser must be given. The term :math:`a_k / 2` is one number for the call: it joins the mean
    and the sum, not single values. A declared input of one part (``teacher``) goes to the parts that take it.

    :meth:`update` counts a step of training; the count is a buffer and so in ``state_dict``. ``forward`` changes nothing.
    A loss with state is a part as a module: its state is in this ``state_dict``, its own ``update`` is still to be called.

    Raises:
        InputError: if there is no part, a weight is not finite, or a part's argument is unknown to all.
        ConfigError: if parts are of different kinds.

    Source: :cite:`kendall2018`, eq. 7 with regression's factor 1/2, for the learned weights. A loss without a lower bound
    (``decoupled_softmax``, ``bsl``) drives its learned weight to infinity: give it a fixed one.
    """

    step: Tensor

    def __init__(self, parts: Mapping[str | Callable[..., Tensor], Weight]) -> None:
        super().__init__()
        if not parts:
            raise InputError("combine needs at least one loss: got none.")
        _check_kinds(parts)
        for weight in parts.values():
            if isinstance(weight, float | int) and not math.isfinite(weight):
                raise InputError(f"weights must be finite: got {weight}.")
            if isinstance(weight, str) and weight != "learned":
                raise InputError(f"a weight must be a number, a schedule or 'learned': got {weight!r}.")
        self.parts = [(LOSSES[part].function if isinstance(part, str) else part, w) for part, w in parts.items()]
        self.stateful = nn.ModuleList(part for part in parts if isinstance(part, nn.Module))  # for their state
        learned = sum(weight == "learned" for _, weight in self.parts)
        self.log_variances = nn.Parameter(torch.zeros(learned)) if learned else None
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, *args: Any, reduction: Literal["none", "mean", "sum"] = "mean", **named: Any) -> Tensor:
        """The weighted sum, reduced."""
        named.pop("overwrite", None)  # the parts share the scores
        takes = [inspect.signature(loss).parameters for loss, _ in self.parts]
        unknown = [name for name in named if not any(_takes(signature, name) for signature in takes)]
        if unknown:
            raise InputError(f"no part of the combination takes {', '.join(unknown)}.")
        values = []
        of_learned = iter(() if self.log_variances is None else self.log_variances)
        for (loss, weight), signature in zip(self.parts, takes, strict=True):
            own = {name: value for name, value in named.items() if _takes(signature, name)}
            value = loss(*args, **own, reduction=reduction)
            if isinstance(weight, str):
                a = next(of_learned)
                values.append(value * (-a).exp() / 2 + (0 if reduction == "none" else a / 2))
            else:
                values.append(value * (weight(self.step) if callable(weight) else weight))
        return torch.stack(values).sum(0)

    def update(self) -> None:
        """Count one step of training."""
        self.step += 1


def _takes(signature: Mapping[str, inspect.Parameter], name: str) -> bool:
    return name in signature or any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.values())


def _check_kinds(parts: Iterable[str | Callable[..., Tensor]]) -> None:
    """Raise where registered losses are of different kinds; a function from outside is taken as it is."""
    kinds = {}
    for part in parts:
        name = part if isinstance(part, str) else _registered(part)
        if name is not None:
            kinds[name] = LOSSES[name].kind
            if isinstance(part, str) and kinds[name] == "stateful":
                raise ConfigError("a loss with state is built first: give its module, not its name.")
    if len(set(kinds.values())) > 1:
        said = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise ConfigError(
            f"losses of different kinds do not combine: {said}. Take one kind, or contrast() and in_batch()."
        )


def _registered(part: Callable[..., Tensor]) -> str | None:
    while isinstance(part, partial):
        part = part.func
    return next((entry.name for entry in LOSSES if entry.function is part), None)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise InputError(f"a schedule needs at least one step: got {steps}.")
