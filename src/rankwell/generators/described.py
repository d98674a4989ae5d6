"""Vectors of texts as the data of generators: descriptions of hard negatives, aligned with the rows of training."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.generators.generator import MADE, Embedded
from rankwell.registry import Input

__all__ = ["TEXTS", "Described", "DescribedNegatives"]

TEXTS = {"described": Input("list", required=True)}
"""The declared input of generators that take descriptions."""


class Described(NamedTuple):
    """Text vectors of described hard negatives, and which of them each row of the training data has.

    Rows of a user may share theirs: ``rows`` names them. So a table of pairs and one of users look alike here.
    """

    vectors: Float[Tensor, "m k t"]
    """``k`` descriptions each, as vectors of a text encoder."""
    rows: Int[Tensor, " n"]
    """For each row of the training data, where in ``vectors`` its descriptions are; −1 for none."""
    items: Float[Tensor, "items t"] | None = None
    """Text vectors of the catalogue's items by the same encoder, for generators that learn from them what texts mean."""


class DescribedNegatives(nn.Module):
    """What generators share that put text vectors among ``k`` negatives of a row. The vectors are data: checkpoints leave them.

    The negatives are those of ``k`` places of what was sampled, ``n // k`` apart from a start that is drawn for the row, so
    that each is as likely as the others, and a pool, which is sorted, gives different ones.
    """

    def __init__(self, described: Described | None, name: str, num_items: int, *, seed: int, k: int) -> None:
        super().__init__()
        if described is None:
            raise InputError(
                f"{name} takes described negatives: got none. Name a table of them, as 'rankwell describe' writes it, by"
                " --generator.table, or pass described."
            )
        vectors, rows, items = described
        if vectors.ndim != 3 or not vectors.shape[1] or not vectors.is_floating_point() or not vectors.isfinite().all():
            raise InputError(
                f"the vectors described must be finite numbers of shape [m, k, t]: got {tuple(vectors.shape)}."
            )
        if rows.ndim != 1 or (len(rows) and not -1 <= int(rows.min()) <= int(rows.max()) < len(vectors)):
            raise InputError(
                f"the rows described must be numbers below {len(vectors)}, how many have descriptions, or -1: got"
                f" {int(rows.min())} … {int(rows.max())}."
                if rows.ndim == 1
                else f"the rows described must be one number for each row of the data: got shape {tuple(rows.shape)}."
            )
        if items is not None and items.shape != (num_items, vectors.shape[2]):
            raise InputError(
                f"text vectors of items must be one for each of {num_items} items, of length {vectors.shape[2]}:"
                f" got {tuple(items.shape)}."
            )
        self.seed, self.k = seed, k
        for what, tensor in (("vectors", vectors), ("rows", rows), ("items", items)):
            self.register_buffer(what, tensor, persistent=False)
        self.vectors: Tensor
        self.rows: Tensor
        self.items: Tensor | None

    @staticmethod
    def size(k: int, **_: Any) -> tuple[int, int]:
        """Vectors made a row, and for all rows."""
        return k, 0

    def described(self, seen: Embedded) -> tuple[Float[Tensor, "b k t"], Bool[Tensor, "b 1"]]:
        """A description for each of a row's ``k`` negatives, drawn from those that it has, and whether it has any."""
        where = self.rows[seen.samples]
        which = keyed.low(self._bits(seen), self.vectors.shape[1])
        if not len(self.vectors):
            return self.vectors.new_zeros(*which.shape, self.vectors.shape[2]), torch.zeros_like(
                where, dtype=torch.bool
            )[:, None]
        return self.vectors[where.clamp(min=0)[:, None], which], (where >= 0)[:, None]

    def places(self, seen: Embedded) -> Int[Tensor, "b k"]:
        """Which of the sampled negatives a row goes on with."""
        n = seen.negatives.shape[-2]
        if n < self.k:
            raise InputError(f"k = {self.k} negatives are made of at least as many sampled ones: got {n}. Sample more.")
        start = keyed.high(self._bits(seen, purpose=1)[:, :1], n)
        return (start + torch.arange(self.k, device=start.device) * (n // self.k)) % n

    def valid(self, seen: Embedded, places: Int[Tensor, "b k"]) -> Bool[Tensor, "b k"]:
        """Which of them are no known positives."""
        return torch.ones_like(places, dtype=torch.bool) if seen.where is None else seen.where.gather(1, places)

    def coins(self, seen: Embedded, share: float) -> Bool[Tensor, "b k"]:
        """True with this probability, for each row and place."""
        return keyed.high(self._bits(seen), 1 << 24) < share * (1 << 24)

    def _bits(self, seen: Embedded, purpose: int = 0) -> Int[Tensor, "b k"]:
        places = torch.arange(self.k, device=seen.samples.device)
        return keyed.words(keyed.mix(self.seed, seen.epoch, MADE, TEXT, purpose), seen.samples[:, None], places)


TEXT = 9
"""Keeps these draws apart from those of other generators."""
