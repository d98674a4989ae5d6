"""CoSQA: queries of a web search and the Python functions that answer them, as retrieval data."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rankwell.data.retrieval import Retrieval, Texts, judgements
from rankwell.data.text_files import unreadable
from rankwell.errors import DataError

__all__ = ["CoSQA", "Described", "described", "read_cosqa"]

BASE, LABELLED = "code_idx_map.txt", "cosqa-dev.json"
VALID, TEST = "cosqa-retrieval-dev-500.json", "cosqa-retrieval-test-500.json"

_DOCSTRING = re.compile(r"[rRuUbB]{0,2}(\"\"\"|''')(.*?)\1", re.DOTALL)
_SENTENCE = re.compile(r"\n\s*\n|\n\s*[:@>-]|[.!?](?=\s|$)")


class CoSQA(NamedTuple):
    """Parts with the same queries and codes; codes are numbered as the file numbers them."""

    train: Retrieval
    valid: Retrieval
    test: Retrieval


def read_cosqa(folder: Path, *, apart: bool = True) -> CoSQA:
    """Read the four files of CoSQA's code search as they are published, without its large training file.

    Trained on is ``cosqa-dev.json``, whose labels become grades 1 and 0, validation and test have 500 queries of one code each,
    and documents are the whole code base. The published files overlap: queries of the labelled pairs that validation or test
    also ask are left out, and with ``apart`` every pair whose code answers one of theirs. The notes of ``train`` count both.

    Raises :class:`~rankwell.errors.DataError` where a file is missing, is no JSON of this form, or names a code that is not in
    the base.
    """
    base = _base(folder / BASE)
    rows = {name: _rows(folder / name, base) for name in (LABELLED, VALID, TEST)}
    numbers: dict[str, int] = {}
    for row in (row for of in rows.values() for row in of):
        numbers.setdefault(row["doc"], len(numbers))
    queries = Texts([f"q{number}" for number in range(len(numbers))], list(numbers))
    documents = Texts([str(number) for number in base.values()], list(base))
    held = rows[VALID] + rows[TEST]
    asked, answers = {row["doc"] for row in held}, {row["code"] for row in held}
    fresh = [row for row in rows[LABELLED] if row["doc"] not in asked]
    kept = [row for row in fresh if not (apart and row["code"] in answers)]
    notes = [
        f"{LABELLED}: {count} of {len(rows[LABELLED])} pairs left out, whose {what}"
        for count, what in (
            (len(rows[LABELLED]) - len(fresh), "query is one of validation or test"),
            (len(fresh) - len(kept), "code answers a query of validation or test"),
        )
        if count
    ]

    def part(of: Iterable[Mapping[str, Any]], notes: tuple[str, ...] = ()) -> Retrieval:
        lists: list[dict[int, float]] = [{} for _ in numbers]
        for row in of:
            lists[numbers[row["doc"]]][base[row["code"]]] = float(row["label"])
        return Retrieval(queries, documents, *judgements(lists), notes=notes)

    return CoSQA(part(kept, tuple(notes)), part(rows[VALID]), part(rows[TEST]))


class Described(NamedTuple):
    """A function in two halves."""

    says: str
    """The first sentence of its docstring."""
    does: str
    """The rest: the code without the docstring."""


def described(code: str) -> Described | None:
    """What a docstring says, and the code without it: a pair to train on that nobody has labelled. None without a docstring.

    >>> described('def up(s):\\n    \"\"\"Upper case. Not a copy.\"\"\"\\n    return s.upper()')
    Described(says='Upper case', does='def up(s):\\n    return s.upper()')
    """
    found = _DOCSTRING.search(code)
    if found is None:
        return None
    says = " ".join(_SENTENCE.split(found[2].strip(), maxsplit=1)[0].split())
    left = [line for line in (code[: found.start()] + code[found.end() :]).splitlines() if line.strip()]
    return Described(says, "\n".join(left)) if says and left else None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise DataError(f"{path}: the file must be JSON in UTF-8: {error}. Fetch it again.") from error


def _base(path: Path) -> dict[str, int]:
    """The codes with their numbers, by number."""
    read = _json(path)
    if not isinstance(read, dict) or sorted(map(str, read.values())) != sorted(map(str, range(len(read)))) or not read:
        raise DataError(f"{path}: the file must number its codes from 0, each once, as {{code: number}}.")
    return dict(sorted(read.items(), key=lambda item: int(item[1])))


def _rows(path: Path, base: Mapping[str, int]) -> list[dict[str, Any]]:
    rows = _json(path)
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path}: the file must be a list of pairs: got {type(rows).__name__}.")
    for number, row in enumerate(rows, start=1):
        texts = [row.get(name) for name in ("doc", "code")] if isinstance(row, dict) else []
        if len(texts) < 2 or not all(isinstance(text, str) and text.strip() for text in texts):
            raise DataError(f"{path}, pair {number}: doc and code must be texts that are not empty.")
        if row.get("label") not in (0, 1) or isinstance(row["label"], bool):
            raise DataError(f"{path}, pair {number}: label must be 0 or 1: got {row.get('label')!r}.")
        if row["code"] not in base:
            raise DataError(f"{path}, pair {number}: the code must be in {BASE}: {row['code'][:40]!r} … is not.")
    return rows
