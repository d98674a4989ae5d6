"""Random arguments for each kind of loss, and what the laws need to know of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rankwell.registry import Entry, Input

__all__ = ["Case", "cases", "scalars"]

WIDTH = 3
"""Length of embeddings."""


@dataclass(frozen=True)
class Case:
    """Arguments of one call. Axes count from the end, so that rows can be stacked in front."""

    args: dict[str, Tensor]
    scores: tuple[str, ...]
    """What gradients are taken by."""
    items: dict[str, dict[str, int]]
    """For each mask the tensors (itself among them) that lie along the same items, and the axis."""
    absent: dict[str, Tensor]
    """Where each tensor is masked."""
    valid: str
    """The mask that decides whether a row counts."""
    other_side: str
    """What is false or zero when there is nothing to compare with."""
    shared: tuple[str, ...] = ()
    """Tensors that all rows share."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.args[self.valid])

    def take(self, rows: Tensor) -> dict[str, Tensor]:
        """The arguments of some rows."""
        return {name: x if name in self.shared else x[rows] for name, x in self.args.items()}


def cases(
    entry: Entry[Any],
    *,
    rows: int = 4,
    items: int | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    inputs: bool = False,
) -> Iterator[Case]:
    """Small random arguments for the entry's kind, with masks and weights; ``inputs``: with those of its declared inputs
    too that it can do without.

    Unless ``items`` says how many, there are cases of seven items and of eight, which is counted in another way.
    """
    for size in (7, 8) if items is None else (items,):
        yield from _cases(entry, rows, size, torch.Generator().manual_seed(seed), dtype, inputs)


def _cases(
    entry: Entry[Any], rows: int, items: int, draw: torch.Generator, dtype: torch.dtype, inputs: bool
) -> Iterator[Case]:
    def scores(*shape: int) -> Tensor:
        # Beyond 1 on both sides, so that every piece of a margin loss is met.
        return torch.empty(shape, dtype=dtype).uniform_(-1.2, 1.2, generator=draw)

    def mask(*shape: int) -> Tensor:
        there = torch.rand(shape, generator=draw) < 0.7
        there[..., :2] = True
        return there

    for case in _KINDS[entry.kind](rows, items, scores, mask):
        for name, given in entry.inputs.items():
            if (inputs or given.required) and given.alignment != "scalar":
                case = _with(case, name, given, draw)
        yield case


def scalars(entry: Entry[Any]) -> dict[str, int]:
    """The numbers that an entry needs beside its tensors: ``dim`` is the length of embeddings."""
    needed = [name for name, given in entry.inputs.items() if given.alignment == "scalar" and given.required]
    return {name: WIDTH if name == "dim" else 1_000 for name in needed}


LIKE = {
    "list": {"item": "labels"},
    "contrast": {"item": "neg", "positive": "pos"},
    "embedding": {"pair": "positives"},
}
"""What an input of that alignment has the shape and the mask of, by kind."""


def _with(case: Case, name: str, given: Input, draw: torch.Generator) -> Case:
    """The case with an input that lies along rows or items, entered where it is masked."""
    kind = {"scores": "list", "pos": "contrast", "queries": "embedding", "hidden": "head"}[case.scores[0]]
    axes, absent, shared = case.items, case.absent, case.shared
    if given.alignment == "list":
        shape: tuple[int, ...] = (case.rows,)
    elif given.alignment == "catalogue":
        shape, shared = case.args["item_weight"].shape[:1], (*shared, name)
    elif (kind, given.alignment) == ("embedding", "item"):
        shape, shared = case.args["items"].shape[:-1], (*shared, name)
        axes = {mask: {**along, name: -1} for mask, along in axes.items()}
    else:
        like = LIKE[kind][given.alignment]
        shape = case.args[like].shape
        axes = {mask: {**along, name: along[like]} if like in along else along for mask, along in axes.items()}
        if like in absent and given.holds in ("number", "share"):
            absent = {**absent, name: absent[like]}
    value = _values(given, shape, case.args[case.scores[0]].dtype, draw)
    return replace(case, args={**case.args, name: value}, items=axes, absent=absent, shared=shared)


def _values(given: Input, shape: tuple[int, ...], dtype: torch.dtype, draw: torch.Generator) -> Tensor:
    if given.holds == "id":
        return torch.randint(max(shape[-1] // 2, 1), shape, generator=draw)
    if given.holds == "count":
        return torch.randint(1, 100, shape, generator=draw)
    low, high = (0.1, 1.0) if given.holds == "share" else (-1.2, 1.2)
    return torch.empty(shape, dtype=dtype).uniform_(low, high, generator=draw)


Draw = Callable[..., Tensor]


def _lists(rows: int, items: int, scores: Draw, mask: Draw) -> Iterator[Case]:
    labels = (scores(rows, items).abs() * 2.5).floor() / 3
    labels[:, 0] = 1
    where = mask(rows, items)
    args = {"scores": scores(rows, items), "labels": labels, "where": where, "weights": scores(rows, items).abs()}
    yield Case(
        args, ("scores",), {"where": dict.fromkeys(args, -1)}, dict.fromkeys(("scores", "labels", "weights"), ~where),
        valid="where", other_side="labels",
    )  # fmt: skip


def _graded(rows: int, items: int, scores: Draw, mask: Draw) -> Iterator[Case]:
    """Three scores an item, for grades 0 to 2."""
    labels = (scores(rows, items).abs() * 2.4).floor()
    labels[:, 0] = 1
    where = mask(rows, items)
    args = {"scores": scores(rows, items, 3), "labels": labels, "where": where, "weights": scores(rows, items).abs()}
    yield Case(
        args, ("scores",), {"where": dict.fromkeys(args, -1) | {"scores": -2}},
        {"scores": ~where[..., None], "labels": ~where, "weights": ~where}, valid="where", other_side="labels",
    )  # fmt: skip


def _rows(rows: int, items: int, scores: Draw, mask: Draw) -> Iterator[Case]:
    """Several positives, and one."""
    where, pos_where = mask(rows, items), mask(rows, 3)
    args = {
        "pos": scores(rows, 3), "neg": scores(rows, items), "pos_where": pos_where, "where": where,
        "weights": scores(rows, 3).abs() + 0.1,
    }  # fmt: skip
    of_neg = {"where": {"neg": -1, "where": -1}}
    of_pos = {"pos_where": {"pos": -1, "pos_where": -1, "weights": -1}}
    absent = {"pos": ~pos_where, "weights": ~pos_where, "neg": ~where}
    yield Case(args, ("pos", "neg"), of_neg | of_pos, absent, valid="pos_where", other_side="where")
    single = args | {name: args[name][:, 0] for name in ("pos", "pos_where", "weights")}
    yield Case(single, ("pos", "neg"), of_neg, {"neg": ~where}, valid="pos_where", other_side="where")


def _embeddings(rows: int, items: int, scores: Draw, mask: Draw) -> Iterator[Case]:
    where, positives = mask(rows, items), scores(rows, items) > 0.6
    where[:, -1] = False
    positives[:, 0], positives[:, 1] = True, False
    args = {
        "queries": scores(rows, WIDTH), "items": scores(items, WIDTH), "positives": positives, "where": where,
        "weights": scores(rows, items).abs(),
    }  # fmt: skip
    axes = {"items": -2, "positives": -1, "where": -1, "weights": -1}
    absent = {"items": ~where.any(0)[:, None], "positives": ~where, "weights": ~where}
    yield Case(
        args, ("queries", "items"), {"where": axes}, absent, valid="where", other_side="positives", shared=("items",)
    )  # fmt: skip


def _classes(rows: int, items: int, scores: Draw, mask: Draw) -> Iterator[Case]:
    """Embeddings whose ids say which of them are positives, 1 to 3; weights are one a query."""
    (case,) = _embeddings(rows, items, scores, mask)
    ids, item_ids = ((scores(size).abs() * 2.4).long() + 1 for size in (rows, items))
    args = {name: case.args[name] for name in ("queries", "items", "where")}
    args |= {"ids": ids, "item_ids": item_ids, "weights": scores(rows, 1).abs() + 0.1}
    axes = {"where": {"items": -2, "item_ids": -1, "where": -1}}
    yield replace(
        case, args=args, items=axes, absent={"items": case.absent["items"]}, other_side="item_ids", shared=("items", "item_ids")
    )  # fmt: skip


def _heads(rows: int, items: int, scores: Draw, mask: Draw) -> Iterator[Case]:
    """Rows with a target each; item 0 is nobody's."""
    args = {
        "hidden": scores(rows, WIDTH), "item_weight": scores(items, WIDTH),
        "targets": 1 + mask(rows, items - 1).long().argmin(-1), "weights": scores(rows).abs() + 0.1,
    }  # fmt: skip
    yield Case(
        args, ("hidden", "item_weight"), {}, {}, valid="targets", other_side="targets", shared=("item_weight",)
    )  # fmt: skip


_KINDS: dict[str, Callable[[int, int, Draw, Draw], Iterator[Case]]] = {
    "list": _lists,
    "graded": _graded,
    "contrast": _rows,
    "embedding": _embeddings,
    "classes": _classes,
    "head": _heads,
}
