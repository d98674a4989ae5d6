"""Evaluation of embeddings: each example asks for the others of its class among all other examples."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.errors import InputError
from rankwell.evaluation.full import Evaluation
from rankwell.evaluation.top import Progress
from rankwell.metrics import Measure, evaluate_measures
from rankwell.similarity import SIMILARITIES
from rankwell.types import Similarity

__all__ = ["Embedder", "embed", "evaluate_examples", "neighbours"]


class Embedder(Protocol):
    """What turns examples into embeddings, and says how these are compared."""

    similarity: Similarity

    def __call__(self, features: Float[Tensor, "n *shape"]) -> Float[Tensor, "n d"]:
        """Embeddings, a row an example."""
        ...


@torch.no_grad()
def embed(model: Embedder, features: Float[Tensor, "n *shape"], *, block: int = 1024) -> Float[Tensor, "n d"]:
    """Embeddings of all examples, ``block`` at a time. Raises :class:`InputError` where one is NaN."""
    vectors = torch.cat([model(part) for part in torch.split(features, block)])
    if bool(vectors.isnan().any()):
        raise InputError("embeddings must not be NaN: the model gave NaN. Did its training diverge?")
    return vectors


def evaluate_examples(
    model: Embedder,
    measures: Sequence[Measure],
    features: Float[Tensor, "n *shape"],
    classes: Int[Tensor, " n"],
    *,
    block: int = 256,
    progress: Progress | None = None,
) -> Evaluation:
    """Rank, for each example, all others by their similarity, and measure where those of its class stand.

    Exact, in blocks of ``block`` examples: memory O(block n + n d), time O(n^2 (d + log n)). An example is never found by
    itself. One whose class has no other has nothing to find, and does not count; to others it is one more to confuse. Of the
    measures ``hit_rate@1`` is what metric learning calls recall@1, and ``ap_at_r`` its MAP@R. ``users`` of the result number
    the examples that count.

    Raises :class:`InputError` where no class has two examples, two measures are the same, or an embedding is NaN.

    >>> from rankwell.models import RawFeatures
    >>> points, classes = torch.tensor([[0.0], [1.0], [3.0], [9.0]]), torch.tensor([0, 0, 1, 1])
    >>> measures = [Measure.parse("hit_rate@1"), Measure.parse("map@r")]
    >>> evaluate_examples(RawFeatures((1,)), measures, points, classes).values["hit_rate@1"]
    tensor([1., 1., 0., 1.])
    """
    if not measures or len({str(measure) for measure in measures}) < len(measures):
        raise InputError(f"measures must be at least one, each once: got {[str(measure) for measure in measures]}.")
    _, code, sizes = torch.unique(classes, return_inverse=True, return_counts=True)
    asking = (sizes[code] > 1).nonzero().squeeze(1)
    if not len(asking):
        raise InputError(
            f"a class must have at least two examples, so that one can be found: none of {len(sizes)} has."
        )
    vectors = embed(model, features)
    parts: list[dict[str, Tensor]] = []
    for rows, scores in _scored(vectors, vectors, asking, model.similarity, block):
        there = torch.ones_like(scores, dtype=torch.bool)
        there[torch.arange(len(rows), device=rows.device), rows] = False
        right = (classes[rows, None] == classes).float()
        parts.append(evaluate_measures(measures, scores, right, where=there, uncounted=torch.nan))
        if progress:
            progress(min(len(parts) * block, len(asking)), len(asking))
    values = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    return Evaluation(asking.cpu(), values, len(classes) - len(asking))


def neighbours(
    model: Embedder,
    asked: Float[Tensor, "q *shape"],
    among: Float[Tensor, "n *shape"],
    k: int,
    *,
    block: int = 256,
    progress: Progress | None = None,
) -> tuple[Int[Tensor, "q k"], Float[Tensor, "q k"]]:
    """The k most similar examples of ``among`` for each that is asked, best first, and how similar they are.

    >>> from rankwell.models import RawFeatures
    >>> neighbours(RawFeatures((1,)), torch.tensor([[2.0]]), torch.tensor([[0.0], [5.0], [3.0]]), 2)
    (tensor([[2, 0]]), tensor([[-1., -2.]]))
    """
    queries, items = embed(model, asked), embed(model, among)
    best = []
    for rows, scores in _scored(queries, items, torch.arange(len(queries)), model.similarity, block):
        best.append(scores.topk(min(k, len(items))))
        if progress:
            progress(int(rows[-1]) + 1, len(queries))
    return torch.cat([one.indices for one in best]), torch.cat([one.values for one in best])


def _scored(
    queries: Tensor, items: Tensor, rows: Tensor, similarity: Similarity, block: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of these rows of the queries, with their similarities to all items."""
    if block < 1:
        raise InputError(f"block must be at least 1: got {block}.")
    for some in torch.split(rows, block):
        yield some, SIMILARITIES[similarity](queries[some], items)
