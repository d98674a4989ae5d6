"""Miners that leave out negatives which are likely positives."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.miners.miner import MINERS, Miner, Seen, Step, highest
from rankwell.registry import Input, Search
from rankwell.types import Mask

__all__ = ["false_negative_filter"]

INPUTS = {
    "scores": {},
    "teacher": {"teacher": Input("item", required=True), "teacher_pos": Input("positive", required=True)},
    "known": {"known": Input("item", "flag", required=True)},
}


@MINERS.register("negatives", paper="moreira2024", complexity="m + n")
def false_negative_filter(
    fraction: Annotated[float, Search(0.5, 1.0)] = 0.95,
    margin: Annotated[float, Search(0.0, 0.5)] = 0.0,
    by: Literal["scores", "teacher", "known"] = "scores",
) -> Miner:
    r"""Drops the negatives that look like positives: scored nearly as high as the row's best positive, or known.

    .. math:: \{ j : s_j \le \min(s^+ - (1 - f)\,|s^+|,\; s^+ - m) \}, \qquad s^+ = \max_{i \in P} s_i

    For :math:`s^+ \ge 0` the first is :math:`f s^+`; below zero it lies below :math:`s^+` just as well. ``by`` says whose
    judgement it is: the scores' own; a ``teacher``'s, whose scores of negatives and positives are the inputs ``teacher`` and
    ``teacher_pos``; or that of the boolean input ``known``, true at known positives, without regard to scores.

    A row without positives keeps all, unless by ``known``. Where all would be dropped the least suspect remains: the
    lowest-scored, by whoever judges. What must never be a negative belongs in ``where``. Time O(m + n) a row.

    Args:
        fraction: f; 1 leaves it to the margin.
        margin: m, in units of the scores that judge; 0 leaves it to the fraction.
        by: whose judgement.

    Raises:
        InputError: if ``fraction`` is not in (0, 1], ``margin`` below 0 or ``by`` unknown; in a call, if the inputs of ``by``
            are missing, or ``known`` is not boolean.

    >>> pos, neg = torch.tensor([1.0]), torch.tensor([[0.96, 0.9, 1.2]])
    >>> false_negative_filter(0.95)(pos, neg)
    tensor([[False,  True, False]])
    >>> false_negative_filter(by="known")(pos, neg, known=torch.tensor([[False, True, False]]))
    tensor([[ True, False,  True]])

    Source: :cite:`moreira2024`, TopK-PercPos (0.95) and TopK-MarginPos (0.05), of which the first k are
    ``false_negative_filter(...) & hardest(k)``; equation numbers unchecked. Differs from it: several positives, and scores
    below zero.
    """
    if not 0 < fraction <= 1 or not margin >= 0:
        raise InputError(
            f"fraction must be above 0 and at most 1, and margin at least 0: got fraction {fraction}, margin {margin}."
        )
    if by not in INPUTS:
        raise InputError(f"by must be one of {', '.join(INPUTS)}: got {by!r}.")

    def judged(seen: Seen) -> tuple[Tensor, Tensor]:
        return (seen.inputs["teacher_pos"], seen.inputs["teacher"]) if by == "teacher" else (seen.pos, seen.neg)

    def keep(seen: Seen) -> Mask:
        if by == "known":
            return ~_checked(seen.inputs["known"])
        pos, neg = judged(seen)
        best = highest(pos, seen.pos_where)
        limit = torch.minimum(best - (1 - fraction) * best.abs(), best - margin)
        return neg <= torch.where(seen.pos_where.any(-1, keepdim=True), limit, torch.inf)

    def spared(seen: Seen) -> Tensor:
        return -judged(seen)[1]

    text = f"false_negative_filter({fraction}, margin={margin}, by={by!r})"
    return Miner((Step(text, keep, spared=spared, inputs=INPUTS[by]),))


def _checked(known: Tensor) -> Mask:
    if known.dtype != torch.bool:
        raise InputError(f"known must be boolean, true at known positives: got {known.dtype}.")
    return known
