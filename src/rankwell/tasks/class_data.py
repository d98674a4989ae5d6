"""Examples with classes: which file, and how its classes are split."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from rankwell import keyed
from rankwell.data.example_files import ExampleFormat, read_examples
from rankwell.data.examples import Examples, synthesise_examples
from rankwell.errors import ConfigError
from rankwell.tasks.folds import Fold, held_out
from rankwell.tasks.settings import Section, listed
from rankwell.tasks.task import Data

__all__ = ["ClassData", "read"]

SPLIT = 1
"""Keeps the random numbers of the split apart from those drawn for other purposes with the same seed."""

LEAST = 2
"""Classes of a part: with one, every neighbour is right."""


class ClassData(Section):
    """What to read, and how to split its classes."""

    path: str = "synthetic"
    """A file: ``.npz`` with images or features, and labels; or a table. ``synthetic`` generates examples."""
    format: ExampleFormat | None = None
    label: str = "label"
    """Of a table: the column of classes. Of ``.npz``: the array, called labels where this is left alone."""
    ignore: Annotated[list[str], BeforeValidator(listed)] = Field(default_factory=list)
    """Of a table: columns that are no features."""
    test_classes: Annotated[list[str] | None, BeforeValidator(listed)] = None
    """Classes that are looked at once; None: a random share of them."""
    valid_classes: Annotated[list[str] | None, BeforeValidator(listed)] = None
    """Classes that choose the epoch; None: a random share of those that are left."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    fold: Fold = None
    """Cross-validation: the test classes are the second fifth for ``2/5``, and ``test_fraction`` is not looked at."""
    valid_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """0 trains without choosing."""


def read(given: ClassData, seed: int) -> Data[Examples]:
    """Read the file and split it by classes: none is in two parts. What is odd about them is in the notes."""
    truth = None
    if given.path == "synthetic":
        generated = synthesise_examples(seed=seed)
        whole, truth = generated.examples, generated.truth
    else:
        whole = read_examples(Path(given.path), format=given.format, label=given.label, ignore=given.ignore)
    if given.fold is not None and given.test_classes is not None:
        raise ConfigError("data.fold and data.test_classes both say which classes are tested: give one of the two.")
    test = _held(whole, np.unique(whole.classes), given.test_classes, given.test_fraction, seed, "test", given.fold)
    left = np.setdiff1d(np.unique(whole.classes), test)
    valid = test[:0]
    if given.valid_classes is not None or given.valid_fraction:
        valid = _held(whole, left, given.valid_classes, given.valid_fraction, seed, "valid")
    fit = np.setdiff1d(left, valid)
    if len(fit) < LEAST:
        raise ConfigError(
            f"training needs at least {LEAST} classes: {len(fit)} are left of {len(whole.sizes())}, with {len(test)} for the"
            f" test and {len(valid)} for validation. Give more classes, or set data.valid_fraction to 0."
        )
    parts = {"training": _of(whole, fit), "validation": _of(whole, valid), "test": _of(whole, test)}
    notes = [
        f"{alone:,} of {len(part.sizes()):,} {what} classes have one example: it has nothing to find, and is only confused with"
        for what, part in parts.items()
        if part is not None and (alone := int((part.sizes() == 1).sum()))
    ]
    for what, part in parts.items():
        if part is not None and part.sizes().max() < LEAST:
            raise ConfigError(f"no {what} class has two examples: nothing can be found. Split the classes otherwise.")
    trained, held_out, judged = parts.values()
    everything = _of(whole, left)
    assert trained is not None and judged is not None and everything is not None
    return Data(everything, trained, held_out, judged, tuple(notes), truth)


def _held(
    whole: Examples,
    among: NDArray[np.int64],
    named: list[str] | None,
    share: float,
    seed: int,
    part: str,
    fold: str | None = None,
) -> NDArray[np.int64]:
    """Codes of the classes of a part: those that are named, or a random share, or a fold."""
    if named is None:
        if len(among) < 2 * LEAST:
            raise ConfigError(
                f"classes are split, and each part needs at least {LEAST}: got {len(among)} to take {part} classes from. Give"
                f" more classes{', or set data.valid_fraction to 0' if part == 'valid' else ''}."
            )
        order = torch.randperm(len(among), generator=keyed.generator(seed, SPLIT, len(part))).numpy()
        if fold is None:
            return np.sort(among[order[: max(LEAST, round(share * len(among)))]])
        held = np.sort(among[order[held_out(len(among), share, fold, "classes")]])
        if len(held) < LEAST:
            raise ConfigError(f"fold {fold} of {len(among)} classes has {len(held)}: at least {LEAST} are needed.")
        return held
    codes = {name: code for code, name in enumerate(whole.class_ids.to_list()) if code in set(among.tolist())}
    for name in named:
        if name not in codes:
            said = ", ".join(list(codes)[:20])
            raise ConfigError(f"data.{part}_classes: there is no class {name!r} to take: there are {said}.")
    if len(set(named)) < LEAST:
        raise ConfigError(f"data.{part}_classes must name at least {LEAST} classes: got {', '.join(named)}.")
    return np.sort(np.array([codes[name] for name in dict.fromkeys(named)], dtype=np.int64))


def _of(whole: Examples, classes: NDArray[np.int64]) -> Examples | None:
    """The examples of these classes; None for none."""
    return whole.take(np.flatnonzero(np.isin(whole.classes, classes))) if len(classes) else None
