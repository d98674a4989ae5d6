"""A loss along one score: its values, and the gradients that training would get of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rankwell.losses import LOSSES
from rankwell.pictures.scenes import COSINES, SCORES, VECTORS, Scene, arguments, declared, remembered
from rankwell.registry import Entry

__all__ = ["Curve", "curves_beside", "loss_curve"]

POINTS = 961
"""Enough for a kink to look like a kink, and a jump like a jump."""

FEW = 121
"""For losses that take a millisecond or more a row."""

SLOW = {"gumbel_neural_ndcg", "loop", "scalable_cross_entropy", "reduced_cross_entropy"}

COSINE = {
    "bsl", "ccl", "debiased_contrastive", "hard_contrastive", "llpauc", "min_max_llpauc", "mml", "multi_sample_contrastive",
    "psl", "sog_clr", "softmax_at_k",
}  # fmt: skip
"""Contrast losses whose defaults are meant for cosines."""

BESIDE = {
    "list": ("softmax", "logistic"),
    "graded": ("sigmoid", "softmax"),
    "head": ("softmax", "logistic"),
    "contrast": ("ccl", "sampled_softmax"),
    "embedding": ("info_nce", "triplet"),
}
"""What a loss of each kind is held against."""

OF_COSINES: Mapping[str, Mapping[str, Any]] = {"sampled_softmax": {"temperature": 0.1}}
"""Parameters that these need where scores are cosines."""


@dataclass(frozen=True)
class Curve:
    """A loss along one score."""

    entry: Entry[Any]
    own: Mapping[str, Any]
    """The parameters that were set."""
    kind: str
    """What it is called as."""
    scene: Scene
    x: Tensor
    value: Tensor
    slope: Tensor
    """The derivative of the value by ``x``."""


def loss_curve(entry: Entry[Any], *, cosine: bool | None = None, points: int | None = None, **own: Any) -> Curve:
    """The loss as an irrelevant item rises past the relevant one; the gradient is autograd's, in float64.

    Scores run over [-6, 6] around the relevant item at 0, so that they are the gap of the two, with two more irrelevant items
    at -2 and 1. For losses meant for cosines (or where ``cosine`` says so) they run over [-0.99, 0.99] with it at 0.5, the
    others at -0.2 and 0.6. Embeddings are unit vectors in a plane, without the others. An item that has several scores has
    two, the first of them 0. Losses that remember are as they are when built.

    What a loss needs besides is neutral: a number for each item of a list is its label, other numbers are 0, shares 1/2,
    counts 1, or 1,000 of the whole, and ids are equal.

    Raises:
        ConfigError: if the loss needs what only data can tell.
    """
    loss, kind = _called(entry, own)
    scene = SCORES
    if kind == "embedding":
        scene = VECTORS
    elif entry.name in COSINE if cosine is None else cosine:
        scene = COSINES
    points = points or (FEW if entry.name in SLOW else POINTS)
    x = torch.linspace(-scene.span, scene.span, points, dtype=torch.double).requires_grad_()
    args: dict[str, Any] = arguments(kind, scene, x)
    args = remembered(entry, loss, args) if isinstance(loss, nn.Module) else args | declared(entry, kind, args)
    value = torch.cat([loss(**part, reduction="none").reshape(-1) for part in _parts(entry, args)])
    (slope,) = torch.autograd.grad(value.sum() + 0 * x.sum(), x)  # 0 of it for losses that it does not reach
    return Curve(entry, own, kind, scene, x.detach(), value.detach(), slope)


def curves_beside(curve: Curve) -> list[Curve]:
    """Curves of well-known losses over the same scores."""
    cosine = curve.scene is COSINES
    return [
        loss_curve(LOSSES[name], cosine=cosine, **(OF_COSINES.get(name, {}) if cosine else {}))
        for name in BESIDE[curve.kind]
        if name != curve.entry.name
    ]


def _called(entry: Entry[Any], own: Mapping[str, Any]) -> tuple[Callable[..., Tensor], str]:
    """The loss with its parameters, and the kind that it is called as."""
    if entry.kind != "stateful":
        return partial(entry.function, **own), entry.kind
    module: Any = entry.function(**declared(entry, "stateful", {}), **own)
    return module.double(), module.call


def _parts(entry: Entry[Any], args: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The rows; one by one for head losses that draw, which choose a row's items by the rows beside it."""
    if entry.kind != "head" or "generator" not in entry.inputs:
        yield args
        return
    for hidden, targets in zip(args["hidden"].split(1), args["targets"].split(1), strict=True):
        yield {**args, "hidden": hidden, "targets": targets}
