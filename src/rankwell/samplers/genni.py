"""Negatives drawn from the model's own preferences."""

# mypy: allow-untyped-calls

from typing import Annotated

import torch
from jaxtyping import Int
from torch import Tensor

from rankwell import keyed
from rankwell.lists import check_count, check_positive
from rankwell.registry import Search
from rankwell.samplers.candidates import CHOICE, candidate_scores, draw_by_weight, refuse_full, unknown_candidates
from rankwell.samplers.collisions import KnownItems
from rankwell.samplers.registry import sampler
from rankwell.types import Negatives, Ragged, Scorer

__all__ = ["GenNiSampler"]

BLOCK = 1 << 22
"""Scores of the catalogue that are held at a time."""


@sampler(name="genni", kind="model", paper="chen2022")
class GenNiSampler:
    r"""Negatives drawn with replacement in proportion to what the model, as it is now, thinks of them.

    .. math:: q_j = \frac{e^{s_j / t}}{\sum_{k \in C_u} e^{s_k / t}}

    over :math:`C_u`, M candidates that are uniform among what the row does not know (two stages), or all of that with
    ``candidates=0``. The draws harden by themselves as the scores spread: :math:`\beta = 1 / t`. Where
    :class:`~rankwell.samplers.dns.DNSSampler` draws no candidate twice, here each draw is from all of them.

    Over the whole catalogue the distribution is exact, and ``log_q`` is its logarithm: at the loss's own temperature, sampled
    softmax then has the gradient of the full softmax on average, at any n. With candidates, what is drawn depends on which
    were drawn before; the probability of one draw has no closed form, and no ``log_q`` is stated.

    Time and memory O(M d) a row, for vectors of length d; for the whole catalogue O(items · d) a row, in blocks of 2^22
    scores.

    Args:
        n: negatives of a row.
        candidates: M, the items that the model is asked about, for each row; 0 for the whole catalogue (small ones).
        temperature: t, in units of the scores; the lower, the harder.

    Raises:
        InputError: if ``n`` is below 1, ``candidates`` below 0, ``temperature`` is not above 0, a row knows everything, or no
            scorer is passed.

    >>> from rankwell.models import MatrixFactorisation
    >>> model = MatrixFactorisation(1, 3, dim=1, similarity="dot")
    >>> model.load_state_dict({"users": torch.ones(1, 1), "items": torch.tensor([[0.0], [9.0], [3.0]]).log1p()})
    <All keys matched successfully>
    >>> known = Ragged(torch.tensor([0, 1]), torch.tensor([1]))  # left: items 0 and 2, weights 1 and 4
    >>> draw = GenNiSampler(known, 3, seed=5, n=3, candidates=0, temperature=1.0)
    >>> got = draw(torch.tensor([0]), torch.tensor([0]), epoch=0, step=0, scorer=model)
    >>> got.ids, got.log_q.exp()
    (tensor([[0, 2, 2]]), tensor([[0.2000, 0.8000, 0.8000]]))

    Source: :cite:`chen2022`, from its abstract; the formula and its two stages are not confirmed. Differs from it: known
    positives are left out of the distribution, a fixed temperature.
    """

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        *,
        seed: int,
        n: Annotated[int, Search(1, 100, log=True)] = 10,
        candidates: Annotated[int, Search(16, 1024, log=True)] = 100,
        temperature: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1,
    ) -> None:
        check_count(n, "n")
        check_count(candidates, "candidates", least=0)
        check_positive(temperature, "temperature")
        self.num_items, self.seed, self.n, self.temperature = num_items, seed, n, temperature
        self._candidates = None
        if candidates:
            self._candidates = unknown_candidates(known, num_items, seed=seed, n=candidates)
        else:
            self._known = KnownItems(known, num_items)
            refuse_full(known, num_items)

    def __call__(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],
        *,
        epoch: int,
        step: int,
        positives: Int[Tensor, "b *m"] | None = None,  # noqa: ARG002
        scorer: Scorer | None = None,
    ) -> Negatives:
        """Negatives for the rows of a batch, by the scorer; positives are not looked at."""
        key = keyed.mix(self.seed, epoch, CHOICE)
        if self._candidates is not None:
            ids = self._candidates(queries, samples, epoch=epoch, step=step).ids
            weights = candidate_scores(scorer, "genni", queries, ids, samples) / self.temperature
            return Negatives(ids.gather(1, draw_by_weight(weights, self.n, key, samples)), None, None)
        rows = max(BLOCK // self.num_items, 1)
        blocks = [
            self._from_all(*block, key, scorer) for block in zip(queries.split(rows), samples.split(rows), strict=True)
        ]
        ids, log_q = map(torch.cat, zip(*blocks, strict=True))
        return Negatives(ids, log_q, None)

    def _from_all(self, queries: Tensor, samples: Tensor, key: int, scorer: Scorer | None) -> tuple[Tensor, Tensor]:
        """Draws of some rows from all that they do not know, and their log-probabilities."""
        items = torch.arange(self.num_items, device=queries.device)
        weights = candidate_scores(scorer, "genni", queries, items, samples) / self.temperature
        weights[self._known.of(queries)] = -torch.inf
        ids = draw_by_weight(weights, self.n, key, samples)
        return ids, weights.gather(1, ids) - weights.logsumexp(1, keepdim=True)
