"""Pictures of losses: value and gradient as one score moves past another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rankwell.atomic import write_atomically
from rankwell.errors import ConfigError, require
from rankwell.registry import Entry

__all__ = ["Curve", "draw_curves", "loss_curve"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, told apart by all eyes."""


@dataclass(frozen=True)
class Curve:
    """A loss along one score."""

    label: str
    axis: str
    """What moves."""
    x: Tensor
    value: Tensor
    slope: Tensor
    """The derivative of the value by ``x``."""


def loss_curve(entry: Entry[Any], *, cosine: bool = False, points: int = 241, **own: Any) -> Curve:
    """The loss as an irrelevant item's score rises past that of the relevant one.

    Scores run over [-6, 6] around a relevant item at 0, with two more irrelevant ones at -2 and 1; or, for cosines, over
    [-0.99, 0.99] with it at 0.5, the others at -0.2 and 0.6. Embeddings are unit vectors in the plane, without the others.
    Declared inputs that the loss needs are neutral: numbers 0, shares 1/2, one id for all.

    Raises:
        ConfigError: for kinds of losses that are not told by two items.
    """
    if entry.kind not in _CALLS:
        raise ConfigError(
            f"a loss of kind {entry.kind!r} has no picture: only list, contrast and embedding losses have."
        )
    cosine = cosine or entry.kind == "embedding"
    # Not to the ends of the cosine: a distance has an infinite derivative by it there.
    span, at, others = (0.99, 0.5, (-0.2, 0.6)) if cosine else (6.0, 0.0, (-2.0, 1.0))
    x = torch.linspace(-span, span, points, dtype=torch.double).requires_grad_()
    args = _CALLS[entry.kind](torch.full_like(x, at), torch.stack([x, *(torch.full_like(x, y) for y in others)], -1))
    args |= {name: _neutral(entry, name, args) for name, given in entry.inputs.items() if given.required}
    value = entry(**args, **own, reduction="none").reshape(points)
    (slope,) = torch.autograd.grad(value.sum(), x)
    said = ", ".join(f"{name}={setting}" for name, setting in own.items())
    what = "cosine" if cosine else "score"
    beside = "" if entry.kind == "embedding" else f", others: {others[0]:g}, {others[1]:g}"
    axis = f"{what} of an irrelevant item (relevant: {at:g}{beside})"
    return Curve(f"{entry.name}({said})" if said else entry.name, axis, x.detach(), value.detach(), slope)


def _list_call(pos: Tensor, neg: Tensor) -> dict[str, Any]:
    scores = torch.cat([pos[:, None], neg], -1)
    return {"scores": scores, "labels": (torch.arange(scores.shape[-1]) == 0).to(scores.dtype).expand_as(scores)}


def _contrast_call(pos: Tensor, neg: Tensor) -> dict[str, Any]:
    return {"pos": pos, "neg": neg}


def _embedding_call(pos: Tensor, neg: Tensor) -> dict[str, Any]:
    cosines = torch.stack([pos, neg[:, 0]], -1)
    items = torch.stack([cosines, (1 - cosines.square()).sqrt()], -1)
    queries = torch.tensor([1.0, 0.0], dtype=pos.dtype).expand(len(pos), 1, 2)
    return {"queries": queries, "items": items, "positives": torch.tensor([[True, False]]).expand(len(pos), 1, 2)}


_CALLS = {"list": _list_call, "contrast": _contrast_call, "embedding": _embedding_call}


def _neutral(entry: Entry[Any], name: str, args: Mapping[str, Tensor]) -> Any:
    given = entry.inputs[name]
    if given.alignment == "scalar":
        return 1_000
    first = next(iter(args.values()))
    like = {"item": {"list": "scores", "contrast": "neg"}, "positive": {"contrast": "pos"}}.get(given.alignment, {})
    shape = args[like[entry.kind]].shape if entry.kind in like else first.shape[:1]
    if given.holds in ("id", "count"):
        return torch.ones(shape, dtype=torch.int64)
    return torch.full(shape, 0.5 if given.holds == "share" else 0.0, dtype=first.dtype)


def draw_curves(path: Path, curves: Sequence[Curve], *, title: str = "") -> None:
    """Draw values beside gradients, into a file of the type that its name says (``.svg``, ``.png``)."""
    matplotlib = require("matplotlib.figure", "cli")
    figure = matplotlib.Figure(figsize=(7.2, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for curve, colour in zip(curves, COLOURS * len(curves), strict=False):
        left.plot(curve.x, curve.value, color=colour, label=curve.label)
        right.plot(curve.x, curve.slope, color=colour, label=curve.label)
    left.set(ylabel="value", title=title or "Value")
    right.set(ylabel="gradient by that score", title="Gradient")
    for axes in (left, right):
        axes.set_xlabel(curves[0].axis, fontsize="x-small")
        axes.spines[["top", "right"]].set_visible(False)
        axes.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    if len(curves) > 1:
        left.legend(frameon=False, fontsize="small")
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=130, format=path.suffix.removeprefix("."))
