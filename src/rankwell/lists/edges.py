"""What all lists begin and end with: offsets, checked numbers, full precision, and the mean over what counts."""

# mypy: allow-untyped-calls

import math

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.types import Mask, Offsets, Reduction, Values

__all__ = [
    "check_at_least",
    "check_count",
    "check_finite",
    "check_positive",
    "check_types",
    "fits",
    "in_full_precision",
    "offsets_from_ids",
    "offsets_from_sizes",
    "reduce",
    "shape",
]


def offsets_from_sizes(sizes: Tensor) -> Offsets:
    """Offsets from the lengths of consecutive lists (LightGBM's and XGBoost's ``group``).

    >>> offsets_from_sizes(torch.tensor([2, 0, 3]))
    tensor([0, 2, 2, 5])
    """
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def offsets_from_ids(ids: Tensor) -> Offsets:
    """Offsets from query ids whose equal values stand together; an id that comes back later is an error.

    >>> offsets_from_ids(torch.tensor([7, 7, 3, 3, 3]))
    tensor([0, 2, 5])
    """
    values, sizes = torch.unique_consecutive(ids, return_counts=True)
    if values.unique().numel() != values.numel():
        raise InputError(
            "query ids must stand together: an id comes back after another one. Sort the rows by id first."
        )
    return offsets_from_sizes(sizes)


def reduce(values: Values, valid: Mask | None, reduction: Reduction, uncounted: float = 0.0) -> Values:
    """Values of lists to what ``reduction`` asks for; the mean is over valid lists (all, for None).

    With ``"none"`` lists that are not valid are ``uncounted``.
    """
    if valid is not None:
        values = torch.where(valid, values, uncounted if reduction == "none" else 0)
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    if reduction == "mean":
        if valid is None and values.numel():
            return values.mean()
        return values.sum() / (1 if valid is None else valid.sum().clamp(min=1))
    raise InputError(f"reduction must be 'none', 'mean' or 'sum': got {reduction!r}.")


def in_full_precision(tensor: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def check_positive(value: float, name: str) -> None:
    """Raise unless the number is above zero, and finite; NaN is not."""
    if not 0 < value < math.inf:
        raise InputError(f"{name} must be above 0{_and_finite(value)}: got {value}.")


def check_at_least(value: float, name: str, least: float = 0) -> None:
    """Raise unless the number is ``least`` or above, and finite; NaN is not."""
    if not least <= value < math.inf:
        raise InputError(f"{name} must be at least {least}{_and_finite(value)}: got {value}.")


def check_finite(value: float, name: str) -> None:
    """Raise if the number is infinite or NaN."""
    if not -math.inf < value < math.inf:
        raise InputError(f"{name} must be finite: got {value}.")


def _and_finite(value: float) -> str:
    return " and finite" if value == math.inf else ""


def check_count(value: int | None, name: str, *, least: int = 1, optional: bool = False) -> None:
    """Raise unless it is a whole number of at least ``least``, or None where that is ``optional``."""
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        or_none = ", or None" if optional else ""
        raise InputError(f"{name} must be a whole number of at least {least}{or_none}: got {value!r}.")


def check_types(scores: dict[str, Tensor], masks: dict[str, Mask | None]) -> None:
    """Raise unless scores are floating point and masks boolean."""
    for name, x in scores.items():
        if not x.is_floating_point():
            raise InputError(f"{name} must be floating point: got {x.dtype}. Convert by .float().")
    for name, mask in masks.items():
        if mask is not None and mask.dtype != torch.bool:
            raise InputError(f"{name} must be boolean, true where an item is there: got {mask.dtype}.")


def fits(tensor: Tensor, name: str, scores: Tensor) -> Tensor:
    """The tensor, if it broadcasts to the scores without making them larger."""
    padded = (1,) * (scores.ndim - tensor.ndim) + tuple(tensor.shape)
    if len(padded) != scores.ndim or any(a not in (1, b) for a, b in zip(padded, scores.shape, strict=True)):
        raise InputError(f"{name} must broadcast to scores {shape(scores)}: got {shape(tensor)}.")
    return tensor


def shape(tensor: Tensor) -> str:
    """The shape, for messages."""
    return str(tuple(tensor.shape))
