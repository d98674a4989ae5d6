"""A step whose negatives are made of embeddings: looked up, made, scored, and with the log q that is left."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.errors import ConfigError
from rankwell.generators import Embedded, Generator, Made
from rankwell.similarity import by_row, normalise
from rankwell.types import Negatives, Scorer, VectorModel

__all__ = ["Scored", "check_vectors", "generated"]


class Scored(NamedTuple):
    """Scores of a step, before miner and loss."""

    pos: Float[Tensor, "b *m"]
    neg: Float[Tensor, "b n"]
    drawn: Negatives
    """What was sampled; with a generator, log q and collisions are those of all negatives, log q minus log n where none is
    stated, which corrects nothing."""
    n: int
    """How many negatives state a log q."""
    ids: Int[Tensor, "*b n"] | None
    """None for negatives that are no items."""
    seen: Embedded | None = None
    """What a generator saw and made, if there was one."""
    made: Made | None = None
    own: bool = False
    """Whether the negatives' scores are a product that nobody else keeps, so that the loss may write over them."""


def check_vectors(model: Any, needs: str) -> None:
    """Raise :class:`ConfigError` unless the model compares vectors by inner products; ``needs`` says who needs them."""
    if not isinstance(model, VectorModel):
        raise ConfigError(
            f"{needs} a model's vectors, and {type(model).__name__} hands out none."
            " Choose a model with vectors, as mf or lightgcn, or leave out what needs them."
        )
    if model.similarity not in ("dot", "cosine"):
        raise ConfigError(
            f"{needs} vectors of models that compare by inner products: got {model.similarity!r}."
            " Set model.similarity to dot or cosine."
        )


def generated(
    model: Any,
    generator: Generator,
    batch: Any,
    drawn: Negatives,
    *,
    epoch: int,
    step: int,
    dropout: torch.Generator | None = None,
) -> Scored:
    """Look up, make, and score by the model's similarity."""
    looked = model.contrast_vectors(batch.users, batch.items, drawn.ids, generator=dropout)
    several = looked.positives.ndim == 3
    unit = model.similarity == "cosine"
    seen = Embedded(
        looked.queries,
        looked.positives[:, 0] if several else looked.positives,
        looked.negatives,
        None if drawn.collisions is None else ~drawn.collisions,
        batch.users,
        batch.items[:, 0] if several else batch.items,
        drawn.ids,
        batch.index,
        epoch,
        step,
        unit,
        looked.hops,
        model if isinstance(model, Scorer) else None,
    )
    made = generator(seen)
    vectors = normalise(made.vectors) if unit else made.vectors
    parts = [(by_row(looked.queries, vectors), made.where, made.log_q)]
    if made.beside:
        parts.insert(0, (by_row(looked.queries, looked.negatives), seen.where, drawn.log_q))
    queries = looked.queries[:, None] if several else looked.queries
    pos, neg = (looked.positives * queries).sum(-1), torch.cat([scores for scores, _, _ in parts], 1)
    where, (log_q, n) = _where(parts), _log_q(parts)
    together = Negatives(drawn.ids, log_q, None if where is None else ~where)
    return Scored(pos, neg, together, n, None, seen, made)


def _where(parts: list[tuple[Tensor, Tensor | None, Tensor | None]]) -> Tensor | None:
    if all(where is None for _, where, _ in parts):
        return None
    ones = (torch.ones_like(scores, dtype=torch.bool) for scores, _, _ in parts)
    return torch.cat([one if where is None else where & one for one, (_, where, _) in zip(ones, parts, strict=True)], 1)


def _log_q(parts: list[tuple[Tensor, Tensor | None, Tensor | None]]) -> tuple[Tensor | None, int]:
    """Of all columns. Draws of both sides estimate one sum, so that n counts both; mixtures are not draws."""
    n = sum(scores.shape[1] for scores, _, log_q in parts if log_q is not None)
    if not n:
        return None, 0
    nothing = -torch.log(parts[0][0].new_tensor(n))
    wide = [(nothing if log_q is None else log_q).expand(scores.shape) for scores, _, log_q in parts]
    return torch.cat(wide, 1), n
