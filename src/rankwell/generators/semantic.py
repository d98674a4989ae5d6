"""Sampled negatives, each moved towards the description of a hard one."""

import itertools
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.generators.described import TEXTS, Described, DescribedNegatives
from rankwell.generators.generator import Embedded, Made, chosen, generator, whole
from rankwell.lists import check_count
from rankwell.registry import Search
from rankwell.similarity import normalise
from rankwell.types import Ragged

__all__ = ["SemanticNegatives"]

START = 41
"""Keeps the random numbers of the adapter's start apart from others with the same seed."""


@generator(name="semantic", kind="text", paper="zhao2025hnlmrec", inputs=TEXTS)
class SemanticNegatives(DescribedNegatives):
    r"""HNLMRec: a text vector, adapted to the model's space, is mixed into each negative.

    .. math:: \hat e_{uj} = W_2 \operatorname{relu}(W_1 t_{uj} + b_1) + b_2, \qquad
        e^\prime_{n_j} = a\, \hat e_{uj} + (1 - a)\, e_{n_j}

    and beside the loss, which stays the user's, a term that keeps what is described further from the query than the positive,

    .. math:: \lambda\, \operatorname{mean}\, \operatorname{softplus}
        \frac{\cos(q_u, \hat e_{uj}) - \cos(q_u, e_i)}{T}

    which is the cross-entropy of the positive against the description. Rows without a description keep what was sampled, and
    count in no mean. Under the cosine :math:`\hat e` gets length one, so that a means the same everywhere. Gradients flow to
    the adapter, the sampled negatives and, by the term, to query and positive. Time O(b k h (t + d)), memory
    O(b k (t + h + d)).

    Args:
        mixing_weight: a; published .0001 (Yelp) and .01 (Toys).
        k: negatives a row; at least as many are to be sampled.
        hidden: h, entries of the adapter's inner layer.
        term_weight: :math:`\lambda`; published .001, 0 for none.
        term_temperature: T; published .2.
        table: a file of described negatives, for the command line.
        described: what such a file holds, along the data (:class:`~rankwell.generators.Described`).

    Raises:
        InputError: if there are no descriptions, their shapes do not fit, ``k`` or ``hidden`` is below 1, fewer than ``k`` are
            sampled, ``mixing_weight`` is not in [0, 1], ``term_weight`` below 0 or ``term_temperature`` not above it.

    >>> described = Described(torch.ones(1, 1, 3), torch.tensor([0]))
    >>> known = Ragged(torch.tensor([0]), torch.tensor([], dtype=torch.int64))
    >>> make = SemanticNegatives(known, 1, 2, seed=0, mixing_weight=0.25, described=described)
    >>> with torch.no_grad():
    ...     _ = make.layers[-1].weight.zero_()
    ...     _ = make.layers[-1].bias.copy_(torch.tensor([4.0, 0.0]))
    >>> row, ids = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    >>> made = make(Embedded(row, row, torch.tensor([[0.0, 8.0]]), None, ids, ids, ids, ids))
    >>> made.vectors.squeeze().tolist(), round(made.penalty.item() / 0.001, 4)  # 0.25 (4, 0) + 0.75 (0, 8); log 2
    ([1.0, 6.0], 0.6931)

    Source: :cite:`zhao2025hnlmrec` and its code; equation numbers unchecked. Differs from it: one inner layer in the adapter
    instead of two (2048, 1024); k negatives a row instead of one; the loss is not fixed to the hinge at .3.
    """

    def __init__(
        self,
        known: Ragged,  # noqa: ARG002
        num_items: int,
        dim: int,
        *,
        seed: int,
        mixing_weight: Annotated[float, Search(1e-4, 0.5, log=True)] = 0.01,
        k: int = 1,
        hidden: Annotated[int, Search(64, 2048, log=True)] = 256,
        term_weight: Annotated[float, Search(1e-4, 0.1, log=True)] = 0.001,
        term_temperature: Annotated[float, Search(0.05, 1.0, log=True)] = 0.2,
        table: str = "",  # noqa: ARG002
        described: Described | None = None,
    ) -> None:
        check_count(k, "k")
        check_count(hidden, "hidden")
        if not 0 <= mixing_weight <= 1 or not term_weight >= 0 or not term_temperature > 0:
            raise InputError(
                "mixing_weight must be in [0, 1], term_weight at least 0 and term_temperature above 0: got mixing_weight"
                f" {mixing_weight}, term_weight {term_weight}, term_temperature {term_temperature}."
            )
        super().__init__(described, "semantic", num_items, seed=seed, k=k)
        self.mixing_weight, self.term_weight, self.term_temperature = mixing_weight, term_weight, term_temperature
        self.layers = _adapter(self.vectors.shape[2], hidden, dim, seed=seed)

    def __call__(self, seen: Embedded) -> Made:
        """``k`` negatives a row, in place of the sampled ones."""
        seen = whole(seen)
        texts, there = self.described(seen)
        meant = self.layers(texts).to(seen.negatives.dtype)
        if seen.unit:
            meant = normalise(meant)
        places = self.places(seen)
        sampled = chosen(seen.negatives, places)
        made = torch.where(there[..., None], torch.lerp(sampled, meant, self.mixing_weight), sampled)
        where = self.valid(seen, places)
        return Made(torch.where(where[..., None], made, 0), where, penalty=self._penalty(seen, meant, there))

    def _penalty(
        self, seen: Embedded, meant: Float[Tensor, "b k d"], there: Bool[Tensor, "b 1"]
    ) -> Float[Tensor, ""] | None:
        """The term beside the loss; zero where no row has a description."""
        if not self.term_weight:
            return None
        queries, positives = normalise(seen.queries), normalise(seen.positives)
        gaps = (normalise(meant) * queries[:, None]).sum(-1) - (positives * queries).sum(-1, keepdim=True)
        each = functional.softplus(gaps / self.term_temperature).mean(-1)
        counted = there.squeeze(1)
        return self.term_weight * torch.where(counted, each, 0).sum() / counted.sum().clamp(min=1)


def _adapter(text: int, hidden: int, dim: int, *, seed: int) -> nn.Sequential:
    """Two layers with Glorot's start, drawn by the seed alone."""
    sizes = itertools.pairwise((text, hidden, dim))
    layers = [nn.utils.skip_init(nn.Linear, ins, outs) for ins, outs in sizes]  # type: ignore[no-untyped-call]
    draws = keyed.generator(seed, START)
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight, generator=draws)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])
