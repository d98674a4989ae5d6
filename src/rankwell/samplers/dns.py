"""Dynamic negative sampling: the hardest of some candidates."""

from typing import Annotated, Literal

from jaxtyping import Int
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.lists import check_count, check_positive
from rankwell.registry import Search
from rankwell.samplers.candidates import CHOICE, candidate_scores, choose, unknown_candidates
from rankwell.samplers.registry import sampler
from rankwell.types import Negatives, Ragged, Scorer

__all__ = ["DNSSampler"]


@sampler(name="dns", kind="model", paper="zhang2013")
class DNSSampler:
    r"""The n hardest of M uniform candidates of each row, for the model as it is now.

    .. math:: \text{top}_n \{ s_{c_1}, \dots, s_{c_M} \} \quad\text{or}\quad
        \text{top}_n \{ s_{c_k} / t + g_k \}, \qquad c_k \sim \text{unknown}_u, \quad g_k \sim \text{Gumbel}

    The second form draws n of the candidates one after the other in proportion to :math:`e^{s/t}`; as t falls to 0 it becomes
    the first. With n = 1 that is the candidate with the highest score. The M candidates are a row's, not one negative's: n of
    them are kept, so that harder negatives come from more candidates or fewer kept. With M = n it is
    :class:`~rankwell.samplers.uniform.UniformSampler` in another order.

    Candidates are drawn with replacement, so that an item may come twice, and never known to the row. How likely an
    item is has no closed form that is cheap: no ``log_q`` is stated. Time and memory O(M d) a row, for vectors of
    length d.

    Args:
        n: negatives of a row; the paper's is 1.
        candidates: M, the items that the model is asked about, for each row.
        form: ``top_k`` keeps the n with the highest scores, ``softmax`` draws n by their scores.
        temperature: t of the softmax form, in units of the scores.

    Raises:
        InputError: if ``n`` is above ``candidates``, ``temperature`` is not above 0, a row knows everything, or no
            scorer is passed.

    >>> import torch
    >>> from rankwell.models import MatrixFactorisation
    >>> model = MatrixFactorisation(1, 4, dim=1, similarity="dot")
    >>> model.load_state_dict({"users": torch.ones(1, 1), "items": torch.tensor([[0.1], [0.4], [0.3], [0.2]])})
    <All keys matched successfully>
    >>> draw = DNSSampler(Ragged(torch.tensor([0, 1]), torch.tensor([1])), 4, n=1, seed=0)
    >>> draw(torch.tensor([0]), torch.tensor([0]), epoch=0, step=0, scorer=model).ids  # the best that it does not know
    tensor([[2]])

    Source: :cite:`zhang2013`, from later descriptions, equation numbers unchecked; the top n of M and the softmax form are as
    in :cite:`shi2023`. Differs from them: n are kept, not one drawn of n; the softmax is over the candidates.
    """

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        *,
        seed: int,
        n: Annotated[int, Search(1, 100, log=True)] = 10,
        candidates: Annotated[int, Search(4, 256, log=True)] = 32,
        form: Literal["top_k", "softmax"] = "top_k",
        temperature: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1,
    ) -> None:
        check_count(n, "n")
        check_count(candidates, "candidates")
        check_positive(temperature, "temperature")
        if n > candidates:
            raise InputError(f"dns keeps n of the candidates, at most all: got n = {n} and {candidates} candidates.")
        if form not in ("top_k", "softmax"):
            raise UnknownName("form", form, ("top_k", "softmax"))
        self.seed, self.n, self.form, self.temperature = seed, n, form, temperature
        self._candidates = unknown_candidates(known, num_items, seed=seed, n=candidates)

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
        ids = self._candidates(queries, samples, epoch=epoch, step=step).ids
        scores = candidate_scores(scorer, "dns", queries, ids, samples)
        if self.form == "top_k":
            best = scores.topk(self.n, dim=1).indices
        else:
            key = keyed.mix(self.seed, epoch, CHOICE)
            best = choose(scores / self.temperature, self.n, key, samples)[1]
        return Negatives(ids.gather(1, best), None, None)
