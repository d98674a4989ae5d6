"""Variance-based negatives from a memory of each user: hard ones whose scores have not settled."""

from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.lists import check_at_least, check_count, check_positive
from rankwell.registry import Search
from rankwell.samplers.candidates import candidate_scores, choose, refuse_full
from rankwell.samplers.collisions import KnownItems, UnknownItems
from rankwell.samplers.held import HoldsModel, needed_scorer
from rankwell.samplers.registry import sampler
from rankwell.types import Negatives, Ragged, Scorer

__all__ = ["SRNSSampler"]

MEMORY, FRESH, KEPT = 8, 9, 10
"""Keep the random numbers of a memory's start, of the candidates that join it, and of who stays, apart."""


@sampler(name="srns", kind="model", paper="ding2020")
class SRNSSampler(HoldsModel):
    r"""The best of a user's memory: scored high now, and with a score that still moves.

    .. math:: \operatorname{top}_n \; P_{uij} + \alpha \min\left(1, \frac{t}{t_0}\right) \operatorname{std}_w P_{uij},
        \qquad P_{uij} = \sigma(s_{uj} - s_{ui}), \quad j \in M_u

    at epoch t, with the standard deviation of P over the last w epochs. A false negative scores high in every epoch, a true
    one does not. After its draw the memory is renewed: of its items and of uniform candidates, all unknown to the user, as many
    stay as it holds, drawn without replacement in proportion to :math:`e^{s_{uj} / \text{temperature}}`. A user of
    several rows is renewed once a batch, keyed by the lowest of their samples: its rows draw from one memory if
    they come in one batch.

    No log q is stated. Rows of the result are distinct items, best first, as long as the memory has n; the few items of a
    user who knows nearly all are repeated.

    P of earlier epochs is computed, for the row's own positive, from the model's vectors at the start of each of the last w
    epochs, whose inner products must be its scores. Time O((w size + candidates) dim) a row; memory O(users size +
    w (users + items) dim), which checkpoints hold.

    Args:
        n: negatives of a row; the paper's is 1.
        size: :math:`|M_u|`, items that are remembered for each user.
        candidates: uniform items that join them at each renewal.
        alpha: :math:`\alpha`, weight of the deviation.
        warm_up: :math:`t_0`, epochs until it counts in full.
        window: w, epochs that the deviation is over, the present one's start included.
        temperature: in units of the scores; the paper's for inner products is 10, which suits no cosine.

    Raises:
        InputError: if there is no scorer or there are no positives, one each; a row knows everything; a count is below 1, ``n``
            is above ``size``, ``alpha`` below 0, ``temperature`` or ``warm_up`` not above 0.

    >>> from rankwell.models import MatrixFactorisation
    >>> model = MatrixFactorisation(1, 4, dim=1, similarity="dot")
    >>> _ = model.users.data.fill_(1), model.items.data.copy_(torch.tensor([[0.0], [3.0], [1.0], [2.0]]))
    >>> draw = SRNSSampler(Ragged(torch.tensor([0, 1]), torch.tensor([1])), 4, n=2, seed=0)
    >>> draw(torch.tensor([0]), torch.tensor([0]), epoch=0, step=0, positives=torch.tensor([1]), scorer=model).ids
    tensor([[3, 2]])

    Source: :cite:`ding2020`, algorithm 1 and the authors' configuration; equation numbers unchecked. Differs from it: n may be
    above 1; the deviation is exact for all items, where the authors track 3,000 of each user's and draw from these alone; a
    repeated candidate counts once; the default temperature is for cosines.
    """

    memory: Tensor
    """``[users, size]``, items."""
    users_then: Tensor
    """``[window, users, dim]``"""
    items_then: Tensor
    """``[window, items, dim]``"""
    epochs_then: Tensor
    """``[window]``: the epochs that these are of, −1 for none yet."""

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        *,
        seed: int,
        n: Annotated[int, Search(1, 20, log=True)] = 10,
        size: Annotated[int, Search(8, 128, log=True)] = 20,
        candidates: Annotated[int, Search(8, 128, log=True)] = 20,
        alpha: Annotated[float, Search(0.1, 20.0, log=True)] = 5.0,
        warm_up: int = 50,
        window: int = 5,
        temperature: Annotated[float, Search(0.01, 10.0, log=True)] = 0.1,
    ) -> None:
        super().__init__()
        counts = {"n": n, "size": size, "candidates": candidates, "warm_up": warm_up, "window": window}
        for name, count in counts.items():
            check_count(count, name)
        check_at_least(alpha, "alpha")
        check_positive(temperature, "temperature")
        if n > size:
            raise InputError(f"srns takes n items of the memory, at most all: got n = {n} and a size of {size}.")
        refuse_full(known, num_items)
        self.num_items, self.seed, self.n, self.candidates = num_items, seed, n, candidates
        self.alpha, self.warm_up, self.window, self.temperature = alpha, warm_up, window, temperature
        device = known.values.device
        self._unknown = UnknownItems(
            KnownItems(known, num_items), torch.ones(num_items, dtype=torch.int64, device=device)
        )
        self._users = torch.arange(len(known.offsets) - 1, device=device)
        self.register_buffer("memory", self._drawn(keyed.mix(seed, MEMORY), self._users, self._users, size).int())
        self.hold("users_then", window, len(self._users), 0, dtype=torch.float32, device=device)
        self.hold("items_then", window, num_items, 0, dtype=torch.float32, device=device)
        self.register_buffer("epochs_then", torch.full((window,), -1, dtype=torch.int64, device=device))

    @torch.no_grad()
    def forward(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],
        *,
        epoch: int,
        step: int,  # noqa: ARG002
        positives: Int[Tensor, "b *m"] | None = None,
        scorer: Scorer | None = None,
    ) -> Negatives:
        """Negatives for the rows of a batch; then the memories of its users are renewed."""
        model = needed_scorer(scorer, "srns")
        if positives is None or positives.shape != queries.shape:
            given = "none" if positives is None else tuple(positives.shape)
            raise InputError(f"srns compares with each row's positive, {tuple(queries.shape)}: got {given}.")
        self._remember(model, epoch)
        candidates = self.memory[queries].long()
        compared = torch.cat([positives[:, None], candidates], 1)
        now = _chances(candidate_scores(model, "srns", queries, compared))
        worth = now + self._weight(epoch) * self._deviation(queries, compared, epoch)
        best = worth.masked_fill(_repeats(candidates), -1).argsort(dim=1, descending=True, stable=True)
        ids = candidates.gather(1, best[:, : self.n])
        self._renew(queries, samples, model, epoch)
        return Negatives(ids, None, None)

    def _weight(self, epoch: int) -> float:
        return self.alpha * min(1.0, epoch / self.warm_up)

    def _remember(self, model: Scorer, epoch: int) -> None:
        """Keep the vectors of an epoch's start, in place of the oldest."""
        slot = epoch % self.window
        if int(self.epochs_then[slot]) == epoch:
            return
        for name, vectors in (("users_then", model.query_vectors(self._users)), ("items_then", model.item_vectors())):
            if not getattr(self, name).shape[2]:
                setattr(self, name, vectors.new_zeros(self.window, *vectors.shape, dtype=torch.float32))
            getattr(self, name)[slot] = vectors
        self.epochs_then[slot] = epoch

    def _deviation(self, queries: Tensor, compared: Tensor, epoch: int) -> Float[Tensor, "b s"]:
        """Of P over the epochs that are remembered; 0 for fewer than two. The first of what is compared is the positive."""
        slots = (self.epochs_then > max(epoch - self.window, -1)).nonzero().squeeze(1).tolist()
        if not self._weight(epoch) or len(slots) < 2:
            return torch.zeros(compared[:, 1:].shape, device=compared.device)
        then = []
        for slot in slots:
            users = functional.embedding(queries, self.users_then[slot])
            items = functional.embedding(compared, self.items_then[slot])
            then.append(_chances(torch.bmm(items, users[:, :, None]).squeeze(2)))
        return torch.stack(then).std(0, correction=0)

    def _renew(self, queries: Tensor, samples: Tensor, model: Scorer, epoch: int) -> None:
        """Once for each user: draw who stays of the memory and of fresh candidates, by Gumbel noise on the scores."""
        users, of_row = torch.unique(queries, return_inverse=True)
        keys = samples.new_zeros(len(users)).scatter_reduce(0, of_row, samples, "amin", include_self=False)
        fresh = self._drawn(keyed.mix(self.seed, epoch, FRESH), users, keys, self.candidates)
        pool = torch.cat([self.memory[users].long(), fresh], 1)
        weights = candidate_scores(model, "srns", users, pool) / self.temperature
        stay = choose(
            weights.masked_fill(_repeats(pool), -torch.inf),
            self.memory.shape[1],
            keyed.mix(self.seed, epoch, KEPT),
            keys,
        )[1]
        self.memory[users] = pool.gather(1, stay).int()

    def _drawn(self, key: int, users: Tensor, keys: Tensor, n: int) -> Int[Tensor, "u n"]:
        """Uniform draws from what the users do not know."""
        ranks = keyed.draws(key, keys, n, self._unknown.left[users])
        return self._unknown.find(users[:, None].expand_as(ranks), ranks)


def _chances(scores: Float[Tensor, "b s_plus_1"]) -> Float[Tensor, "b s"]:
    """P of candidates, from the score of the positive and theirs."""
    return torch.sigmoid(scores[:, 1:] - scores[:, :1])


def _repeats(ids: Int[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """True where an id stands further left in its row already."""
    ordered = ids.sort(dim=1, stable=True)
    again = torch.zeros_like(ids, dtype=torch.bool)
    again[:, 1:] = ordered.values[:, 1:] == ordered.values[:, :-1]
    return torch.zeros_like(again).scatter_(1, ordered.indices, again)
