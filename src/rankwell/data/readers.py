"""Read interactions: adjacency text, CSV, TSV, RecBole's .inter and Parquet, told apart by suffix.

Ids of text files stay text, so that ``007`` stays ``007``; integer ids in Parquet keep their type. Bad input is one
:class:`~rankwell.errors.DataError` whose sentence names the file and the line, from 1 (for Parquet the row, from 1): a
missing or empty file, bytes that are not UTF-8, control characters, a wrong delimiter, a missing column, lines with more or
fewer fields than the header, empty ids, weights or timestamps that are no finite numbers, and weights below 0.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from rankwell.data.adjacency import read_adjacency
from rankwell.data.columns import Columns
from rankwell.data.encode import Raw, encode
from rankwell.data.item_columns import ItemColumns
from rankwell.data.schema import Interactions
from rankwell.data.tables import read_delimited, read_parquet
from rankwell.data.text_files import unreadable
from rankwell.errors import ConfigError, DataError, nearest
from rankwell.words import many

__all__ = ["Dataset", "Format", "Unseen", "read_dataset", "read_interactions", "read_raw"]

Format: TypeAlias = Literal["adjacency", "csv", "tsv", "parquet", "inter"]
Unseen: TypeAlias = Literal["error", "drop", "keep"]

_SUFFIXES: dict[str, Format] = {
    ".txt": "adjacency",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".inter": "inter",
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test interactions with shared vocabularies; ``test`` is None where there is no test file.

    ``notes`` are sentences on what reading changed; ``merged`` counts the duplicate training pairs among it.
    """

    train: Interactions
    test: Interactions | None
    notes: tuple[str, ...] = ()
    merged: int = 0
    items: ItemColumns | None = None
    """Columns of items, where a file tells them."""
    users: ItemColumns | None = None
    """Columns of users likewise."""


def read_interactions(
    path: str | Path,
    *,
    format: Format | None = None,
    user: str = "user",
    item: str = "item",
    weight: str | None = None,
    timestamp: str | None = None,
    delimiter: str | None = None,
) -> Interactions:
    r"""Read one file. Codes number users and items in the order of first appearance.

    ``user``, ``item``, ``weight`` and ``timestamp`` name columns of a table (``user_id`` and ``item_id`` by default in
    .inter); adjacency text has none. Of a pair that repeats, the earliest row stays; :func:`read_dataset` on a file counts
    them in its notes. Time O(n): a million rows take 0.2 s as adjacency text, 0.4 s as a table.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "views.csv").write_text("who,item\nann,007\nbo,7\n")
    >>> read_interactions(folder / "views.csv", user="who").item_ids.to_list()
    ['007', '7']
    """
    raw = read_raw(Path(path), format, Columns(user, item, weight, timestamp), delimiter)
    return encode([raw])[0][0]


def read_dataset(
    path: str | Path,
    *,
    format: Format | None = None,
    user: str = "user",
    item: str = "item",
    weight: str | None = None,
    timestamp: str | None = None,
    delimiter: str | None = None,
    unseen: Unseen = "error",
) -> Dataset:
    """Read a folder with ``train.*`` and perhaps ``test.*``, or one file, which is all training.

    Codes run in the order of first appearance, training first. Test pairs that are also in training are removed. ``unseen``
    says what becomes of test rows whose user or item has no training interaction: an error, removal (from the vocabularies
    too), or keeping them. Everything removed, merged or kept so is counted in the notes. Time as :func:`read_interactions`.
    """
    if unseen not in get_args(Unseen):
        raise ConfigError(
            f"--data.unseen must be error, drop or keep: got {unseen!r}. {nearest(unseen, get_args(Unseen))}"
        )
    train_path, test_path = _files(Path(path), format)
    columns = Columns(user, item, weight, timestamp)
    paths = [train_path] if test_path is None else [train_path, test_path]
    raws = [read_raw(file, format, columns, delimiter) for file in paths]
    coded, merged = encode(raws)
    notes = []
    for file, raw, count in zip(paths, raws, merged, strict=True):
        notes += [f"{file.name}: {note}" for note in raw.notes]
        if count:
            notes.append(f"{file.name}: {many(count, 'duplicate pair')} merged, the earliest row of each kept")
    train, test = coded[0], coded[1] if len(coded) > 1 else None
    if test is not None and test_path is not None:
        test = _without_train(train, test, notes)
        train, test = _settle_unseen(test_path, train, test, unseen, notes)
        if len(test) == 0:
            raise DataError(
                f"{test_path}: the test file must have something to rank: nothing is left. {'; '.join(notes)}."
            )
    return Dataset(train, test, tuple(notes), merged[0])


def _files(path: Path, format: Format | None) -> tuple[Path, Path | None]:
    if not path.is_dir():
        return path, None
    found = {name: _file_named(path, name, format) for name in ("train", "test")}
    if found["train"] is None:
        there = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
        raise DataError(
            f"{path}: the folder must have a train file, such as train.txt or train.csv: it has {there}. "
            "Rename the file, or give its path instead of the folder's."
        )
    return found["train"], found["test"]


def _file_named(folder: Path, name: str, format: Format | None) -> Path | None:
    files = sorted(
        entry
        for entry in folder.glob(f"{name}.*")
        if entry.is_file() and (format is not None or entry.suffix.lower() in _SUFFIXES)
    )
    if format is not None and len(files) > 1:
        files = [file for file in files if _SUFFIXES.get(file.suffix.lower()) == format] or files
    if len(files) > 1:
        raise DataError(
            f"{folder}: there must be one {name} file: found {', '.join(file.name for file in files)}. "
            "Remove all but one, or choose with --data.format."
        )
    return files[0] if files else None


def read_raw(path: Path, format: Format | None, columns: Columns, delimiter: str | None) -> Raw:
    """One file as it is, by the format that its suffix or the caller names."""
    if format is not None and format not in get_args(Format):
        raise ConfigError(f"--data.format is unknown: got {format!r}. {nearest(format, get_args(Format))}")
    if not path.exists():
        raise unreadable(path, FileNotFoundError())
    if path.is_dir():
        raise DataError(f"{path}: a file is needed here: this is a folder. Give the path of a file in it.")
    form = format or _SUFFIXES.get(path.suffix.lower())
    if form is None:
        raise DataError(
            f"{path}: the suffix must tell the format: {path.suffix or 'none'!r} is not one of {', '.join(_SUFFIXES)}. "
            f"Name it: --data.format {', '.join(get_args(Format))}."
        )
    if form == "adjacency":
        _refuse_columns(path, columns)
        return read_adjacency(path, delimiter)
    if form == "parquet":
        return read_parquet(path, columns)
    default = "," if form == "csv" else "\t"
    return read_delimited(path, columns, delimiter=delimiter or default, typed_header=form == "inter")


def _refuse_columns(path: Path, columns: Columns) -> None:
    for role in ("weight", "timestamp"):
        if role in columns.wanted():
            raise ConfigError(
                f"{path}: adjacency text has no columns: --data.{role} {columns.wanted()[role]} cannot be read. "
                "Leave it out, or name the format of a table with --data.format."
            )


def _without_train(train: Interactions, test: Interactions, notes: list[str]) -> Interactions:
    """Test without the pairs that training has."""
    # A search in the sorted keys, for numpy's isin takes half a second a million pairs.
    at = np.searchsorted(train.sorted_keys, test.keys)
    both = train.sorted_keys[np.minimum(at, len(train) - 1)] == test.keys
    if not both.any():
        return test
    notes.append(f"{many(int(both.sum()), 'pair')} in both train and test removed from test")
    return test.take(~both)


def _settle_unseen(
    path: Path, train: Interactions, test: Interactions, unseen: Unseen, notes: list[str]
) -> tuple[Interactions, Interactions]:
    new_user = train.activity()[test.users] == 0
    new_item = train.popularity()[test.items] == 0
    affected = new_user | new_item
    if not affected.any():
        return train, test
    users = test.user_ids.gather(np.unique(test.users[new_user])).to_list()
    items = test.item_ids.gather(np.unique(test.items[new_item])).to_list()
    which = " and ".join(
        f"{many(len(ids), what)} ({', '.join(map(repr, ids[:3]))}{', …' if len(ids) > 3 else ''})"
        for what, ids in (("user", users), ("item", items))
        if ids
    )
    rows = many(int(affected.sum()), "test interaction")
    if unseen == "error":
        raise DataError(
            f"{path}: every test user and item must have a training interaction: {which} have none, in {rows}. "
            "Remove them with --data.unseen drop, or rank them untrained with --data.unseen keep."
        )
    notes.append(f"{rows} with {which} without training {'removed from test' if unseen == 'drop' else 'kept'}")
    if unseen == "keep":
        return train, test
    return _trim(train, train), _trim(test.take(~affected), train)


def _trim(data: Interactions, train: Interactions) -> Interactions:
    """Vocabularies of training alone; its codes come first, so that cutting the end keeps all codes."""
    user_ids = data.user_ids.head(int(train.users.max()) + 1)
    item_ids = data.item_ids.head(int(train.items.max()) + 1)
    return Interactions(data.users, data.items, user_ids, item_ids, data.weights, data.timestamps)
