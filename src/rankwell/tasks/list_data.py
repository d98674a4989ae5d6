"""Judged lists: which files, and how they are split."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BeforeValidator, Field

from rankwell import keyed
from rankwell.data.judged import JudgedLists, aligned, joined, synthesise_judged
from rankwell.data.judged_files import JudgedFormat, read_judged
from rankwell.errors import ConfigError, DataError
from rankwell.tasks.folds import Fold, held_out, refuse_fold
from rankwell.tasks.settings import Section, listed
from rankwell.tasks.task import Data
from rankwell.words import many

__all__ = ["JudgedData", "is_judged", "read"]

NAMES = {"train": ("train", "training"), "valid": ("valid", "vali", "validation", "dev"), "test": ("test",)}
"""What files of a folder are called, before or behind the dot."""

BESIDE = frozenset({".query", ".weight", ".position", ".init", ".conf"})
"""Suffixes of what LightGBM has beside its data."""

READ = 256
"""Bytes at the beginning of a file that tell what it is."""

SPLIT = 1
"""Keeps the random numbers of the split apart from those drawn for other purposes with the same seed."""


class JudgedData(Section):
    """What to read, and how to split it."""

    path: str = "synthetic"
    """A folder with train, valid and test files, or one file; ``synthetic`` generates lists."""
    train: Annotated[list[str] | None, BeforeValidator(listed)] = None
    """Files of the folder to train on; None: the one called train."""
    valid: Annotated[list[str] | None, BeforeValidator(listed)] = None
    """Files that choose the epoch; None: the one called valid or vali, if there is one."""
    test: Annotated[list[str] | None, BeforeValidator(listed)] = None
    """Files that are looked at once; None: the one called test."""
    format: JudgedFormat | None = None
    query: str = "query"
    """Of a table: the column of queries."""
    label: str = "label"
    """Of a table: the column of labels."""
    ignore: Annotated[list[str], BeforeValidator(listed)] = Field(default_factory=list)
    """Of a table: columns that are no features."""
    weight: str | None = None
    """Of a table: the column of what each training document counts in the loss. Beside svmlight, the file .weight says so."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the queries to hold out, where there is no test file."""
    fold: Fold = None
    """Cross-validation: the test part is the second of five for ``2/5``, and ``test_fraction`` is not looked at."""
    valid_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the training queries that chooses the epoch, where there is no file for it; 0 trains without choosing."""


def read(given: JudgedData, seed: int) -> Data[JudgedLists]:
    """Read the files, or split one; what is odd about them is in the notes."""
    parts: tuple[JudgedLists, JudgedLists | None, JudgedLists]
    if given.path == "synthetic":
        refuse_fold(given.fold, given.path)
        parts = synthesise_judged(seed=seed)
    else:
        parts = _files(given, seed)
    train, valid, test = parts
    if given.weight is not None and train.weights is None:
        raise ConfigError(
            f"data.weight names a column of the training lists: there is no {given.weight!r}. Of svmlight, weights are read"
            " from the file .weight beside it."
        )
    named = [
        (what, part) for what, part in zip(("training", "validation", "test"), parts, strict=True) if part is not None
    ]
    if none := [what for what, part in named if part.without_relevant() == len(part)]:
        raise DataError(f"{given.path}: at least one {none[0]} query must have a relevant document: none has.")
    skip = {"training": "most losses learn nothing from them"}
    notes = [
        f"{without:,} of {len(part):,} {what} queries have no relevant document: {skip.get(what, 'measures skip them')}"
        for what, part in named
        if (without := part.without_relevant())
    ]
    notes += [
        f"{many(new, 'feature')} of {what} documents with 0 in all training documents: nothing is learned of that"
        for what, part in named[1:]
        if (new := int((part.features.any(0) & ~train.features.any(0)).sum()))
    ]
    notes += [
        f"{shared:,} of {len(part):,} {what} queries have an id of a training query: are they held out?"
        for what, part in named[1:]
        if (shared := int(part.query_ids.is_in(train.query_ids.to_list()).sum()))
    ]
    notes += [
        f"measures do not use the weights of {what} documents" for what, part in named[1:] if part.weights is not None
    ]
    whole = train if valid is None else joined([train, valid], ["training", "validation"])
    return Data(whole, train, valid, test, tuple(notes))


def is_judged(path: Path) -> bool:
    """Whether the file, or a file of the folder, says of which query its lines are."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return any(file.suffix == ".query" or _has_qid(file) for file in files)


def _has_qid(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return b" qid:" in opened.readline(READ)


def _files(given: JudgedData, seed: int) -> tuple[JudgedLists, JudgedLists | None, JudgedLists]:
    paths = {name: _paths(Path(given.path), name, getattr(given, name)) for name in NAMES}
    if not paths["train"]:
        raise ConfigError(f"{given.path} has no file called train: name the files by --data.train A,B.")
    how: dict[str, Any] = {name: getattr(given, name) for name in ("format", "query", "label", "ignore", "weight")}
    there = {name: files for name, files in paths.items() if files}
    lists = [read_judged(files, **how) for files in there.values()]
    parts = dict(zip(there, aligned(lists, [", ".join(map(str, files)) for files in there.values()]), strict=True))
    train, valid, test = parts["train"], parts.get("valid"), parts.get("test")
    if test is None:
        train, test = _split(train, given.test_fraction, seed, SPLIT, given.fold)
    else:
        refuse_fold(given.fold, given.path)
    if valid is None and given.valid_fraction:
        train, valid = _split(train, given.valid_fraction, seed, SPLIT + 1)
    return train, valid, test


def _paths(folder: Path, name: str, named: list[str] | None) -> list[Path]:
    """The files of a part: those that are named, or the one of the folder that is called so."""
    if named is not None:
        return [folder / file if folder.is_dir() else Path(file) for file in named]
    if folder.is_file() or not folder.exists():
        return [folder] if name == "train" else []  # a path that does not exist is an error when it is read
    found = [
        file
        for file in sorted(folder.iterdir())
        if file.suffix not in BESIDE and {file.stem.lower(), file.suffix[1:].lower()} & set(NAMES[name])
    ]
    if len(found) > 1:
        raise ConfigError(f"{folder} has {len(found)} files called {name}: name one by --data.{name} {found[0].name}.")
    return found


def _split(
    lists: JudgedLists, share: float, seed: int, purpose: int, fold: str | None = None
) -> tuple[JudgedLists, JudgedLists]:
    """The lists without a random share of the queries, or a fold of them, and these."""
    order = torch.randperm(len(lists), generator=keyed.generator(seed, purpose)).numpy()
    held = held_out(len(lists), share, fold, "queries")
    if held.all():
        raise ConfigError(
            f"holding out {held.sum()} of {len(lists)} queries leaves none to train on: give more queries, or files."
        )
    return lists.take(np.sort(order[~held])), lists.take(np.sort(order[held]))
