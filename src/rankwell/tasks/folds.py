"""Folds of cross-validation: which part of the data a run is tested on."""

import re
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from rankwell.errors import ConfigError

__all__ = ["Fold", "held_out", "numbered", "refuse_fold"]


def _checked(text: str | None) -> str | None:
    if text is not None:
        numbered(text)
    return text


def numbered(text: str) -> tuple[int, int]:
    """Which fold, from 1, of how many.

    >>> numbered("2/5")
    (2, 5)
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    number, folds = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (1 <= number <= folds and folds >= 2):
        raise ConfigError(f"fold must read 2/5, the second of five, of two or more: got {text!r}.")
    return number, folds


Fold = Annotated[str | None, AfterValidator(_checked)]
"""``2/5``: the test part is the second of five parts, which are disjoint and together everything; None: a random share."""


def held_out(count: int, share: float, fold: str | None, what: str) -> NDArray[np.bool_]:
    """Which of so many things in random order are held out: a share of them, one at least, or those of the fold.

    >>> held_out(5, 0.4, None, "queries"), held_out(5, 0.4, "1/2", "queries")
    (array([ True,  True, False, False, False]), array([ True, False,  True, False,  True]))
    """
    if fold is None:
        return np.arange(count) < max(1, round(share * count))
    number, folds = numbered(fold)
    if count < folds:
        raise ConfigError(f"{count} {what} cannot make {folds} folds: give more {what}, or fewer folds.")
    held: NDArray[np.bool_] = np.arange(count) % folds == number - 1
    return held


def refuse_fold(fold: str | None, path: str) -> None:
    """Raise :class:`ConfigError` for a fold of data that have a test part already."""
    if fold is not None:
        raise ConfigError(
            f"data.fold splits data that have no test part: {path} brings its own. Leave folds out; where folds were published"
            " as folders, take one folder after the other."
        )
