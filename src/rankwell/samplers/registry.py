"""The names of samplers, and the call that all of them answer to."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from rankwell.registry import Input, Registry
from rankwell.types import Negatives, Ragged, Scorer

__all__ = ["SAMPLERS", "Foresighted", "Sampler", "sampler"]


class Sampler(Protocol):
    """Chooses negatives before anything is scored.

    A sampler is built as ``Sampler(known, num_items, *, seed, n, shared, collisions, own parameters)``: the items that each
    query knows (ascending), the size of the catalogue, the seed of all draws, how many negatives a row or the pool gets,
    whether the batch shares one pool, and what to do with known positives
    (:data:`~rankwell.samplers.collisions.Collisions`). It leaves out what it cannot vary. Draws of a row are keyed by
    (seed, epoch, sample), those of a pool by (seed, epoch, step): not by batch, worker or process.

    One with state that later draws depend on is an ``nn.Module`` which holds it in buffers; checkpoints keep them.
    """

    def __call__(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],
        *,
        epoch: int,
        step: int,
        positives: Int[Tensor, "b *m"] | None = None,
        scorer: Scorer | None = None,
    ) -> Negatives:
        """Negatives for the rows of a batch.

        Args:
            queries: the rows' queries (users), which ``known`` lists.
            samples: the rows' numbers in the data, the key of their draws.
            epoch: the pass over the data.
            step: the batch within it.
            positives: the rows' positives, for samplers that need them (in the batch, by group).
            scorer: the model, for samplers that ask it.
        """
        ...


@runtime_checkable
class Foresighted(Protocol):
    """A sampler that looks up for several batches at once what it would for one, and hands out the same."""

    def expect(self, rows: Ragged, *, epoch: int, step: int) -> None:
        """The queries of the batches from this step on, a list for each."""
        ...


BUILT_FROM = ("known", "num_items", "seed")

SAMPLERS: Registry[Callable[..., Sampler]] = Registry(
    "sampler",
    {"static": BUILT_FROM, "model": BUILT_FROM},
    elsewhere=dict.fromkeys(("hnsw", "ivf", "ance", "faiss"), "nearest"),
)


def sampler(
    *,
    name: str,
    kind: Literal["static", "model"] = "static",
    paper: str | None = None,
    inputs: Mapping[str, Input] | None = None,
) -> Callable[[Any], Any]:
    """Register a sampler class, built from the known positives, the size of the catalogue and a seed.

    A sampler of kind ``model`` asks the scorer that it is called with. ``inputs`` are declared extra inputs of the
    constructor, which the data know (weights or groups of items).
    """
    return SAMPLERS.register(kind, name=name, paper=paper, inputs=inputs)
