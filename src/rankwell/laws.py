"""Laws: what every entry of a registry keeps to, and the examination of one's own entry by them."""

# mypy: allow-untyped-calls

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from rankwell.registry import Entry

__all__ = ["Check", "Finding", "Law", "Laws", "agree", "examine", "shown"]

FEW = 6
"""Numbers of a tensor that a sentence shows."""

Check = Callable[[Entry[Any]], None]
"""Raises AssertionError where the entry breaks the law."""


@dataclass(frozen=True)
class Law:
    """A law, the kinds of entries that it is for, and the entries that it does not hold for, each with a reason.

    Where it is not ``strict``, an entry that breaks it may be as right as those.
    """

    name: str
    check: Check
    kinds: tuple[str, ...]
    exceptions: Mapping[str, str] = field(default_factory=dict)
    strict: bool = True

    @property
    def reasons(self) -> list[str]:
        """Why it does not hold for some entries, each reason once."""
        return list(dict.fromkeys(self.exceptions.values()))

    @property
    def sentence(self) -> str:
        """What it says: the first line of the docstring."""
        return (inspect.getdoc(self.check) or "").partition("\n")[0]

    def binds(self, entry: Entry[Any]) -> bool:
        """Whether the entry has to keep to it."""
        return entry.kind in self.kinds and entry.name not in self.exceptions


class Laws(dict[str, Law]):
    """The laws of one registry, by name. ``kinds`` are those that a law is for unless it names its own.

    ``prepare`` fills in what every call of an entry needs.
    """

    def __init__(self, *kinds: str, prepare: Callable[[Entry[Any]], Entry[Any]] | None = None) -> None:
        super().__init__()
        self._kinds, self._prepare = kinds, prepare

    def law(self, *kinds: str, **exceptions: str) -> Callable[[Check], Check]:
        """Decorate a check to enter it; ``exceptions`` are names of entries and reasons."""
        return self._enter(kinds, exceptions, strict=True)

    def usual(self, *kinds: str, **exceptions: str) -> Callable[[Check], Check]:
        """Decorate a check that entries beside the exceptions, for reasons like theirs, may fail to keep."""
        return self._enter(kinds, exceptions, strict=False)

    def _enter(
        self, kinds: tuple[str, ...], exceptions: Mapping[str, str], *, strict: bool
    ) -> Callable[[Check], Check]:
        def enter(check: Check) -> Check:
            @functools.wraps(check)
            def prepared(entry: Entry[Any]) -> None:
                check(entry if self._prepare is None else self._prepare(entry))

            self[check.__name__] = Law(check.__name__, prepared, kinds or self._kinds, exceptions, strict)
            return check

        return enter


def agree(got: Tensor | float, expected: Tensor | float, *, rtol: float, atol: float) -> None:
    """Raise AssertionError, with both values where they differ most, unless all are close. NaN is close to nothing."""
    got, expected = torch.as_tensor(got), torch.as_tensor(expected)
    assert got.shape == expected.shape, f"got shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    try:
        assert_close(got, expected, rtol=rtol, atol=atol)
    except AssertionError as error:
        if not got.numel() or got.dtype != expected.dtype:
            raise
        off = ((got - expected).abs() - atol - rtol * expected.abs()).double()
        off = torch.where(got == expected, -torch.inf, off.nan_to_num(nan=torch.inf))
        worst = torch.unravel_index(off.argmax(), off.shape)
        place = f" at {[int(i) for i in worst]}" if worst else ""
        raise AssertionError(
            f"got {float(got[worst]):.6g}, expected {float(expected[worst]):.6g}{place};"
            f" {int((off > 0).sum())} of {off.numel()} numbers differ"
        ) from error


def shown(x: Tensor) -> str:
    """A tensor in a sentence: its first numbers and, where that is not all, its shape.

    >>> shown(torch.tensor([1.0, 2.5])), shown(torch.ones(3, 4))
    ('[1 2.5]', '[1 1 1 1 1 1 …] of shape (3, 4)')
    """
    numbers = " ".join(f"{number:.4g}" for number in x.detach().flatten()[:FEW].tolist())
    if not x.ndim:
        return numbers
    return f"[{numbers}]" if x.ndim == 1 and len(x) <= FEW else f"[{numbers} …] of shape {tuple(x.shape)}"


@dataclass(frozen=True)
class Finding:
    """A law that an entry breaks."""

    law: Law
    what: str
    """The two values, or what was raised."""
    call: Mapping[str, Any]
    """The arguments of the last call before."""
    raised: bool = False
    """Whether the entry did not come to a value."""


def examine(law: Law, entry: Entry[Any]) -> Finding | None:
    """What the entry breaks of the law; None where it keeps to it."""
    broken = _broken(law, entry)
    if broken is None:
        return None
    call: dict[str, Any] = {}
    signature = inspect.signature(entry.function)

    @functools.wraps(entry.function)
    def recording(*args: Any, **kwargs: Any) -> Any:
        call.clear()
        call.update(signature.bind(*args, **kwargs).arguments)
        made = entry.function(*args, **kwargs)
        if isinstance(made, nn.Module):  # a loss with state: how it was built, and the calls from now on
            _record_calls(made, call, dict(call))
        return made

    # A second time for the arguments: torch.compile could not trace the recording, and need not.
    _broken(law, replace(entry, function=recording))
    what, raised = broken
    return Finding(law, what, call, raised)


def _record_calls(module: nn.Module, call: dict[str, Any], built: Mapping[str, Any]) -> None:
    signature = inspect.signature(module.forward)

    def record(_: nn.Module, args: Any, kwargs: Any) -> None:
        call.clear()
        call.update({**built, **signature.bind(*args, **kwargs).arguments})

    module.register_forward_pre_hook(record, with_kwargs=True)


def _broken(law: Law, entry: Entry[Any]) -> tuple[str, bool] | None:
    """What is wrong, and whether it was raised by the entry."""
    try:
        law.check(entry)
    except AssertionError as error:
        return str(error) or "the values differ", False
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}", True
    return None
