"""Miners choose after scoring: the contract, written here once, and what every miner is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import in_full_precision, open_rows
from rankwell.losses.grid import diagonal
from rankwell.losses.registry import Neg, Pos
from rankwell.registry import Input, Registry
from rankwell.types import Mask

__all__ = ["MINERS", "Keep", "Mined", "Miner", "Seen", "Step", "highest", "none"]


class Seen(NamedTuple):
    """What a step of a miner looks at: scores of rows, without gradient, in float32 at least."""

    pos: Float[Tensor, "*b m"]
    """Zero where masked."""
    neg: Float[Tensor, "*b n"]
    """Minus infinity where masked."""
    pos_where: Bool[Tensor, "*b m"]
    where: Bool[Tensor, "*b n"]
    generator: torch.Generator | None = None
    inputs: Mapping[str, Tensor] = {}
    """The declared ones, of the shapes of ``pos`` and ``neg``; anything may stand where these are masked."""

    @property
    def worst_pos(self) -> Float[Tensor, "*b 1"]:
        """The least score of a positive; infinity in rows without one."""
        return -highest(-self.pos, self.pos_where)

    @property
    def best_neg(self) -> Float[Tensor, "*b 1"]:
        """The highest score of a negative; minus infinity in rows without one."""
        return highest(self.neg, self.where)


class Mined(NamedTuple):
    """Both masks of a contrast loss."""

    pos_where: Bool[Tensor, "..."]
    """Of the shape of ``pos``."""
    where: Bool[Tensor, "*b n"]


Keep: TypeAlias = Callable[[Seen], Mask]
"""What a rule would keep of one side; it need not mind what is masked, nor that something is left."""


class Step(NamedTuple):
    """One rule: what it would keep of the negatives, of the positives, or of both; None leaves a side alone."""

    text: str
    negatives: Keep | None = None
    positives: Keep | None = None
    spared: Callable[[Seen], Tensor] | None = None
    """Where no negative would be left, the one is that has the most of this; for None, the hardest."""
    inputs: Mapping[str, Input] = {}

    def narrow(self, seen: Seen) -> Mined:
        """Both sides by what came in; at least one is left where one was."""
        pos_where, where = seen.pos_where, seen.where
        if self.positives is not None and seen.pos.shape[-1]:
            order = torch.where(pos_where, -seen.pos, -torch.inf)
            pos_where = _one_at_least(self.positives(seen) & pos_where, pos_where, order)
        if self.negatives is not None and seen.neg.shape[-1]:
            order = seen.neg if self.spared is None else torch.where(where, self.spared(seen), -torch.inf)
            where = _one_at_least(self.negatives(seen) & where, where, order)
        return Mined(pos_where, where)


@final
@dataclass(frozen=True, repr=False)
class Miner:
    """Narrows the masks of a loss by what the scores are: a rule, or several joined by ``&``.

    ``hardest(10) & false_negative_filter(0.95)`` applies its rules from left to right, each to what the one before left: the
    filter looks at ten negatives and leaves ten or fewer. The other way round ten of those that pass the filter are left.
    Its text is its name everywhere: :func:`~rankwell.miners.parse` reads it, and so does ``--miner``.

    **What every miner keeps to.** The result is a subset of ``where``, and has at least one negative of each row that had one:
    where a rule would leave none, the row's hardest remains (the least suspect, for a filter), of equal ones all. The same
    holds for positives, of which then the least-scored remains. What is masked changes nothing, whatever its score; a row
    depends on no other row; nothing waits for the device. No gradient passes, and half precision is compared in float32.

    >>> from rankwell.losses import bpr_loss
    >>> from rankwell.miners import false_negative_filter, hardest
    >>> pos, neg = torch.tensor([1.0]), torch.tensor([[0.5, 0.99, 0.2, 0.7]])
    >>> miner = false_negative_filter(0.95) & hardest(2)
    >>> miner(pos, neg)
    tensor([[ True, False, False,  True]])
    >>> bpr_loss(pos, neg, where=miner(pos, neg)).equal(bpr_loss(pos, neg[:, [0, 3]]))
    True
    """

    steps: tuple[Step, ...] = ()

    def __call__(
        self,
        pos: Pos,
        neg: Neg,
        *,
        pos_where: Mask | None = None,
        where: Mask | None = None,
        generator: torch.Generator | None = None,
        **inputs: Tensor,
    ) -> Bool[Tensor, "*b n"]:
        """The narrower ``where`` of a contrast loss.

        Args:
            pos: scores of positives, ``[*b]`` or ``[*b, m]``.
            neg: scores of negatives, ``[*b, n]``.
            pos_where: true where a positive is there, broadcast to ``pos``.
            where: true where a negative is there, broadcast to ``neg``.
            generator: for miners that draw, on the device of the scores.
            **inputs: the declared inputs of the miner, of the shape of ``neg`` or of ``pos``.

        Raises:
            InputError: if shapes or dtypes do not fit, a required input or generator is missing, or an input is unknown.
        """
        return self.masks(pos, neg, pos_where=pos_where, where=where, generator=generator, **inputs).where

    @torch.no_grad()
    def masks(
        self,
        pos: Pos,
        neg: Neg,
        *,
        pos_where: Mask | None = None,
        where: Mask | None = None,
        generator: torch.Generator | None = None,
        **inputs: Tensor,
    ) -> Mined:
        """The same call; both masks, for miners that narrow the positives too."""
        rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=None)
        pos_where, where = (
            torch.ones_like(x, dtype=torch.bool) if mask is None else mask
            for x, mask in ((rows.pos, rows.pos_where), (rows.given_neg, rows.where))
        )
        mined, given = Mined(pos_where, where), self._inputs(pos, neg, inputs)
        for step in self.steps:
            left = torch.where(mined.where, rows.given_neg, -torch.inf)
            mined = step.narrow(Seen(rows.pos, left, *mined, generator, given))
        return Mined(mined.pos_where.reshape(pos.shape), mined.where)

    def in_batch(
        self,
        scores: Float[Tensor, "*b q m"],
        positives: Bool[Tensor, "*b q m"] | None = None,
        *,
        where: Mask | None = None,
        generator: torch.Generator | None = None,
        **inputs: Tensor,
    ) -> Bool[Tensor, "*b q m"]:
        """The narrower ``where`` of an embedding loss: each query's positives and other items are a row.

        >>> from rankwell.losses import info_nce_loss
        >>> from rankwell.miners import hardest
        >>> from rankwell.similarity import cosine
        >>> x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> hardest(1).in_batch(cosine(x, x))
        tensor([[ True,  True, False],
                [False,  True,  True],
                [False,  True,  True]])

        Args:
            scores: the similarities that the loss will compare, ``[*b, q, m]``.
            positives: as in the loss: boolean, or None for the diagonal.
            where: true where a pair is there, broadcast to ``scores``.
            generator: for miners that draw.
            **inputs: the declared inputs, of the shape of ``scores``.

        Raises:
            InputError: as in a call, or if ``positives`` is not boolean of the shape of ``scores``.
        """
        right = diagonal(scores, scores.mT) if positives is None else positives
        if right.dtype != torch.bool or right.shape != scores.shape:
            raise InputError(
                f"positives must be boolean, of the shape of scores {tuple(scores.shape)}: got {tuple(right.shape)} of"
                f" {right.dtype}."
            )
        there = torch.ones_like(right) if where is None else where
        mined = self.masks(scores, scores, pos_where=right & there, where=~right & there, generator=generator, **inputs)
        return mined.pos_where | mined.where

    @property
    def inputs(self) -> dict[str, Input]:
        """The declared inputs of all its rules."""
        return {name: given for step in self.steps for name, given in step.inputs.items()}

    def __and__(self, other: "Miner") -> "Miner":
        return Miner(self.steps + other.steps) if isinstance(other, Miner) else NotImplemented

    def __repr__(self) -> str:
        return " & ".join(step.text for step in self.steps) or "none()"

    def _inputs(self, pos: Tensor, neg: Tensor, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The declared inputs, checked, along the axes of the rows."""
        declared = self.inputs
        if wrong := [name for name in inputs if name not in declared]:
            raise InputError(f"{self!r} takes {', '.join(declared) or 'no inputs'}: got {', '.join(wrong)}.")
        inputs = {name: x for name, x in inputs.items() if x is not None}
        if missing := [name for name, given in declared.items() if given.required and name not in inputs]:
            raise InputError(f"{self!r} needs {', '.join(missing)}: give tensors of these names.")
        for name, x in inputs.items():
            like, of = (neg, "neg") if declared[name].alignment == "item" else (pos, "pos")
            if x.shape != like.shape:
                raise InputError(f"{name} must have the shape of {of} {tuple(like.shape)}: got {tuple(x.shape)}.")
        single = {name for name, given in declared.items() if given.alignment == "positive" and pos.ndim < neg.ndim}
        return {name: in_full_precision(x[..., None] if name in single else x) for name, x in inputs.items()}


MINERS: Registry[Callable[..., Miner]] = Registry("miner", {"negatives": (), "positives": (), "both": ()})
"""Every miner by its name: a function of its own parameters that gives a :class:`Miner`. The kind says what it narrows."""


@MINERS.register("negatives")
def none() -> Miner:
    """Keeps everything: no mining.

    >>> none()(torch.tensor([1.0]), torch.tensor([[2.0, 0.0]]))
    tensor([[True, True]])
    """
    return Miner()


def highest(x: Tensor, where: Mask) -> Tensor:
    """The highest number of each row, ``[*b, 1]``; minus infinity where there is none.

    >>> highest(torch.tensor([1.0, 3.0]), torch.tensor([True, False]))
    tensor([1.])
    """
    if not x.shape[-1]:
        return x.new_full((*x.shape[:-1], 1), -torch.inf)
    return torch.where(where, x, -torch.inf).amax(-1, keepdim=True)


def _one_at_least(kept: Mask, where: Mask, spared: Tensor) -> Mask:
    """What is kept and, in rows where that is nothing, what has the most of ``spared``, minus infinity where masked."""
    # By amax: any() takes ten times as long. Not by >=: NaN, of a model that has diverged, is to reach the loss.
    limit = torch.where(kept.amax(-1, keepdim=True), torch.inf, spared.amax(-1, keepdim=True))
    return kept | (~(spared < limit) & where)
