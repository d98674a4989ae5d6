"""What a picture shows a loss: one item whose score moves, and others that stand still."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rankwell.errors import ConfigError
from rankwell.losses.cases import LIKE
from rankwell.registry import Entry

__all__ = ["COSINES", "SCORES", "VECTORS", "Scene", "arguments", "declared", "remembered"]

NEUTRAL = {"number": 0.0, "share": 0.5, "id": 1, "count": 1, "flag": True}
"""What declared inputs are filled with, by what they hold."""


@dataclass(frozen=True)
class Scene:
    """Where items stand while the score of an irrelevant one moves, and how far it moves to either side of 0."""

    what: str
    span: float
    pos: float
    """The relevant item's score."""
    others: tuple[float, ...]
    """Those of further irrelevant items."""


# The gap of two scores is the one score, where the other is 0.
SCORES = Scene("score", 6.0, 0.0, (-2.0, 1.0))
# Not to the ends of the cosine: a distance has an infinite derivative by it there.
COSINES = Scene("cosine", 0.99, 0.5, (-0.2, 0.6))
# In a plane, where two vectors of length one can have any cosine.
VECTORS = Scene("cosine", 0.99, 0.5, ())


def arguments(kind: str, scene: Scene, x: Tensor) -> dict[str, Tensor]:
    """What a loss of the kind is called with, a row for each of the moving item's scores."""
    scores = torch.stack([torch.full_like(x, scene.pos), x, *(torch.full_like(x, other) for other in scene.others)], -1)
    return _CALLS[kind](scores)


def _list(scores: Tensor) -> dict[str, Tensor]:
    return {"scores": scores, "labels": (torch.arange(scores.shape[-1]) == 0).to(scores.dtype).expand_as(scores)}


def _graded(scores: Tensor) -> dict[str, Tensor]:
    """Two scores an item, the first of them 0."""
    return {**_list(scores), "scores": torch.stack([torch.zeros_like(scores), scores], -1)}


def _contrast(scores: Tensor) -> dict[str, Tensor]:
    return {"pos": scores[:, 0], "neg": scores[:, 1:]}


def _embedding(cosines: Tensor) -> dict[str, Tensor]:
    """Vectors of length one, a batch of its own for each row."""
    queries = cosines.new_tensor([1.0, 0.0]).expand(len(cosines), 1, 2)
    items = torch.stack([cosines, (1 - cosines.square()).sqrt()], -1)
    return {"queries": queries, "items": items, "positives": torch.arange(2).expand(len(cosines), 1, 2) == 0}


def _head(scores: Tensor) -> dict[str, Tensor]:
    """Hidden states (1, x): an item that stands still is (its score, 0), the moving one (0, 1)."""
    items = torch.stack([scores[0].detach(), torch.zeros_like(scores[0])], -1)
    items[1] = items.new_tensor([0.0, 1.0])
    hidden = torch.stack([torch.ones_like(scores[:, 1]), scores[:, 1]], -1)
    return {"hidden": hidden, "item_weight": items, "targets": torch.zeros(len(scores), dtype=torch.int64)}


_CALLS = {"list": _list, "graded": _graded, "contrast": _contrast, "embedding": _embedding, "head": _head}


def declared(entry: Entry[Any], kind: str, args: Mapping[str, Tensor]) -> dict[str, Any]:
    """Neutral values of the inputs that the loss cannot do without; a number for each item of a list is its label.

    Raises:
        ConfigError: if one is of the data alone.
    """
    filled: dict[str, Any] = {}
    for name, given in entry.inputs.items():
        like = LIKE.get(kind, {}).get(given.alignment)
        if not given.required:
            continue
        if given.alignment == "scalar" and given.holds == "count":
            filled[name] = 2 if name == "dim" else 1_000  # vectors lie in a plane
        elif given.alignment == "list":
            filled[name] = _neutral(given.holds, next(iter(args.values()))[..., 0])
        elif like is None:
            raise ConfigError(
                f"{entry.name} cannot be drawn: it needs {name}, one a {given.alignment}, which only data can tell."
            )
        elif (like, given.holds) == ("labels", "number"):
            filled[name] = args[like]
        else:
            filled[name] = _neutral(given.holds, args[like])
    return filled


def _neutral(holds: str, like: Tensor) -> Tensor:
    kinds = {"id": torch.int64, "count": torch.int64, "flag": torch.bool}
    return torch.full_like(like, NEUTRAL[holds], dtype=kinds.get(holds, like.dtype), requires_grad=False)


def remembered(entry: Entry[Any], module: nn.Module, args: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arguments as a loss that remembers takes them, with the ids that it knows rows and items by.

    Raises:
        ConfigError: if it needs something else.
    """
    takes = inspect.signature(module.forward).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    first = next(iter(args.values()))
    ids = torch.zeros(first.shape[:-1] if "queries" in args else first.shape, dtype=torch.int64)
    known = {"ids": ids, "query_ids": ids.new_zeros(len(ids))}
    if "positives" in args:
        known["item_ids"] = (~args["positives"]).long().squeeze(1)
    filled = {name: value for name, value in args.items() if name in takes or open_ended}
    filled |= {name: value for name, value in known.items() if name in takes}
    for name, parameter in takes.items():
        variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if name not in filled and parameter.default is parameter.empty and not variable:
            raise ConfigError(f"{entry.name} cannot be drawn: it needs {name}, which only data can tell.")
    return filled
