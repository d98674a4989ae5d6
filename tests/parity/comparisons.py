"""A comparison: one of our losses and the same of another library, on the same data, in value and gradient.

The modules ``*_comparisons.py`` list them, a module a library. The tests hold each to its tolerance, and
``bench/parity.py`` prints what they differ by, so that both speak of the same facts.
"""

import functools
import importlib
import importlib.metadata
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rankwell.losses import same_class

Data = dict[str, Tensor]
Loss = Callable[..., Any]

MODULES = {
    "torch": "torch_comparisons",
    "rax": "rax_comparisons",
    "pytorch_metric_learning": "metric_learning_comparisons",
    "sentence_transformers": "sentence_transformers_comparisons",
    "lightgbm": "lightgbm_comparisons",
    "torchsort": "torchsort_comparisons",
}
"""What has the comparisons with a library, by the name that the library is imported under."""


LEAVES = ("scores", "pos", "neg", "queries", "items", "vectors")
"""What gradients are taken by, where the data has it."""


Called = tuple[Tensor | None, list[Tensor]]


def in_torch(loss: Loss, data: Data, leaves: tuple[str, ...]) -> tuple[Tensor, list[Tensor]]:
    """Values of a loss, and the gradients of their sum."""
    data = {name: x.detach().clone().requires_grad_() if name in leaves else x for name, x in data.items()}
    values = loss(**data)
    return values.detach(), list(torch.autograd.grad(values.sum(), [data[name] for name in leaves]))


@dataclass(frozen=True)
class Comparison:
    """Ours and theirs, each a function of the data's tensors by name, which give one value or several."""

    loss: str
    """Our name."""
    theirs: str
    """Theirs."""
    data: Callable[[], Data]
    ours: Loss
    others: Loss
    reading: str
    """In words: with which parameters and in which reduction they are the same."""
    tolerance: float = 1e-9
    """Of values and gradients, beside the larger of 1 and the value. Float64, unless it says otherwise."""
    run: Callable[[Loss, Data, tuple[str, ...]], Called] = in_torch
    """How theirs is called. No values come of a library that has gradients alone."""

    def differences(self) -> tuple[float, float]:
        """The largest of values (NaN without) and of gradients."""
        data = self.data()
        leaves = tuple(name for name in LEAVES if name in data)
        values, gradients = in_torch(self.ours, data, leaves)
        their_values, their_gradients = self.run(self.others, data, leaves)
        assert gradients[0].any(), "a comparison without gradient says nothing"
        of_gradients = [_difference(a, b) for a, b in zip(gradients, their_gradients, strict=True)]
        of_values = math.nan if their_values is None else _difference(values, their_values)
        return of_values, max(of_gradients)

    def check(self) -> None:
        """Raise unless both differences are within the tolerance."""
        of_values, of_gradients = self.differences()
        assert not of_values > self.tolerance, f"{self.loss} and {self.theirs}: values differ by {of_values:.1e}"
        assert of_gradients <= self.tolerance, f"{self.loss} and {self.theirs}: gradients differ by {of_gradients:.1e}"

    def __str__(self) -> str:
        return f"{self.loss} = {self.theirs}"


def comparisons(library: str) -> list[Comparison]:
    """Those with a library. That is not imported before one of them runs."""
    listed: list[Comparison] = importlib.import_module(MODULES[library]).COMPARISONS
    return listed


def version(library: str) -> str | None:
    """That of the library, or None where it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape, f"shapes {tuple(ours.shape)} and {tuple(theirs.shape)}"
    return float((ours - theirs).abs().max() / max(1.0, float(theirs.abs().max())))


# Data. Scores have no ties: where they matter, each library has its own order of tied items.


def _lists(rows: int = 6, items: int = 9, dtype: torch.dtype = torch.double) -> tuple[torch.Generator, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return draw, torch.randn(rows, items, generator=draw, dtype=dtype) * 1.5


def graded() -> Data:
    """Grades 0 to 4, some of them tied."""
    draw, scores = _lists()
    labels = torch.randint(5, scores.shape, generator=draw).to(scores)
    labels[:, :2] = torch.tensor([2.0, 0.0])
    return {"scores": scores, "labels": labels}


def graded_single() -> Data:
    """Of float32, for a library that has no other."""
    return {name: x.float() for name, x in graded().items()}


def masked() -> Data:
    """Grades with a mask and a weight an item."""
    data = graded()
    draw = torch.Generator().manual_seed(1)
    where = torch.rand(data["scores"].shape, generator=draw) < 0.7
    where[:, :2] = True
    weights = torch.rand(where.shape, generator=draw, dtype=torch.double) + 0.1
    return {**data, "where": where, "weights": weights}


def masked_only() -> Data:
    """Grades with a mask."""
    data = masked()
    del data["weights"]
    return data


def ordered() -> Data:
    """All labels of a list distinct, with a mask."""
    data = masked_only()
    draw = torch.Generator().manual_seed(2)
    return {**data, "labels": torch.rand(data["scores"].shape, generator=draw, dtype=torch.double)}


def ordered_lists() -> Data:
    """All labels of a list distinct."""
    data = ordered()
    return {"scores": data["scores"], "labels": data["labels"]}


def ordered_single() -> Data:
    """All labels of a list distinct, of float32."""
    return {name: x.float() for name, x in ordered_lists().items()}


def one_relevant() -> Data:
    """One relevant item a list, under a mask."""
    data = masked_only()
    return {**data, "labels": torch.zeros_like(data["scores"]).index_fill_(1, torch.tensor([1]), 1.0)}


def binary() -> Data:
    """Relevant or not."""
    data = graded()
    return {**data, "labels": (data["labels"] >= 2).to(data["scores"])}


def binary_masked() -> Data:
    """Relevant or not, under a mask, with a weight an item."""
    data = masked()
    return {**data, "labels": (data["labels"] >= 2).to(data["scores"])}


def contrasted() -> Data:
    """One positive and five negatives a row."""
    _, scores = _lists(7, 6)
    return {"pos": scores[:, 0], "neg": scores[:, 1:]}


def pairs(dtype: torch.dtype = torch.double) -> Data:
    """Queries and as many items, the item of the same place a query's own."""
    draw = torch.Generator().manual_seed(3)
    queries, items = (torch.randn(7, 4, generator=draw, dtype=dtype) for _ in range(2))
    return {"queries": queries, "items": items}


def batch(size: int, of_class: int) -> Data:
    """Embeddings in classes of one size."""
    draw = torch.Generator().manual_seed(4)
    return {
        "vectors": torch.randn(size, 4, generator=draw, dtype=torch.double),
        "classes": torch.arange(size) // of_class,
    }


couples = functools.partial(batch, 12, 2)
fours = functools.partial(batch, 16, 4)


def wide_fours() -> Data:
    """Of lengths that put pairs on both sides of a margin of 2."""
    data = fours()
    return {**data, "vectors": data["vectors"] * 0.7}


def within(loss: Callable[..., Tensor], **own: Any) -> Loss:
    """An embedding loss of a batch with class labels."""

    def ours(vectors: Tensor, classes: Tensor) -> Tensor:
        positives, where = same_class(classes)
        return loss(vectors, vectors, positives=positives, where=where, **own)

    return ours
