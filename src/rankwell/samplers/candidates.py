"""What samplers that ask the model share: candidates to ask about, the question, and keyed choices by weight."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.lists import in_full_precision
from rankwell.samplers.catalogue import CatalogueSampler
from rankwell.samplers.held import needed_scorer
from rankwell.types import Ragged, SampleScorer, Scorer

__all__ = ["candidate_scores", "choose", "draw_by_weight", "gumbel", "refuse_full", "unknown_candidates"]

CHOICE = 7
"""Keeps the choice among candidates apart from what else is keyed by seed and epoch."""

_PARTS = 2**31 - 1


def unknown_candidates(known: Ragged, num_items: int, *, seed: int, n: int) -> CatalogueSampler:
    """A sampler of ``n`` items for each row, uniform among those that it does not know, with replacement.

    It looks at neither positives nor scorer. :class:`InputError` where a row knows everything.
    """
    refuse_full(known, num_items)
    return CatalogueSampler(known, num_items, seed=seed, n=n, shared=False, collisions="redraw")


def refuse_full(known: Ragged, num_items: int) -> None:
    """Raise :class:`InputError` if a row knows all items."""
    full = (known.offsets.diff() >= num_items).nonzero()
    if len(full):
        raise InputError(
            f"nothing is left to draw for {len(full):,} users who know all {num_items:,} items (first: row {int(full[0])})."
            " Leave them out, or choose a sampler with collisions = keep."
        )


@torch.no_grad()
def candidate_scores(
    scorer: Scorer | None,
    name: str,
    queries: Int[Tensor, " b"],
    items: Int[Tensor, "*b m"],
    samples: Int[Tensor, " b"] | None = None,
) -> Float[Tensor, "b m"]:
    """The model's scores of the candidates, without a gradient; :class:`InputError` without a model to ask.

    With ``samples``, a model that can tell them apart is asked by sample instead of by query.
    """
    if samples is not None and isinstance(scorer, SampleScorer):
        return in_full_precision(scorer.score_samples(samples, items))
    return in_full_precision(needed_scorer(scorer, name).score(queries, items))


def choose(
    log_weights: Float[Tensor, "b m"], n: int, key: int, samples: Int[Tensor, " b"]
) -> tuple[Float[Tensor, "b n"], Int[Tensor, "b n"]]:
    r"""``n`` columns of each row, drawn one after the other in proportion to :math:`e^w`, none twice; and their keys.

    The n largest of w plus Gumbel noise are such draws, in that order. Columns of weight :math:`-\infty` come when no others
    are left.

    >>> weights = torch.tensor([[0.0, 50.0, 100.0]])
    >>> choose(weights, 2, key=0, samples=torch.tensor([4]))[1]
    tensor([[2, 1]])
    """
    return (log_weights + gumbel(key, samples, log_weights.shape[1])).topk(n, dim=1)


def draw_by_weight(
    log_weights: Float[Tensor, "b m"], n: int, key: int, samples: Int[Tensor, " b"]
) -> Int[Tensor, "b n"]:
    r"""``n`` columns of each row, each drawn in proportion to :math:`e^w` from all: with replacement.

    By searching running sums, in double precision: single precision would lose the rare ones of a large catalogue.

    >>> draw_by_weight(torch.tensor([[0.0, 50.0, -torch.inf]]), 4, key=0, samples=torch.tensor([4]))
    tensor([[1, 1, 1, 1]])
    """
    until = (log_weights.double() - log_weights.amax(1, keepdim=True)).exp_().cumsum(1)
    bits = keyed.words(key, samples[:, None], torch.arange(n, device=samples.device))
    numbers = keyed.high(bits, _PARTS).double() / _PARTS * until[:, -1:]
    # Scores that are not numbers find nothing: what diverged is for the loss to say, not for an index out of range.
    return torch.searchsorted(until, numbers, right=True).clamp(max=log_weights.shape[1] - 1)


def gumbel(key: int, samples: Int[Tensor, " b"], m: int) -> Float[Tensor, "b m"]:
    """Standard Gumbel noise: a function of the key, the sample and the column."""
    bits = keyed.words(key, samples[:, None], torch.arange(m, device=samples.device))
    # Near 0 a float has digits to spare, and there the largest noise comes from; 1 would be an infinite -log.
    uniform = ((keyed.high(bits, _PARTS).float() + 0.5) / _PARTS).clamp_(max=1 - 2**-24)
    return uniform.neg_().log1p_().neg_().log_().neg_()
