"""Matrix factorisation: one vector a user, one an item."""

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.models.contrast_product import contrast_product, own_product
from rankwell.models.dropout import kept
from rankwell.models.history import mean_of_items
from rankwell.models.registry import MODELS
from rankwell.models.start import Init, check_tables, fill_tables
from rankwell.registry import Search
from rankwell.similarity import by_row, normalise
from rankwell.types import Ragged, Vectors

__all__ = ["MatrixFactorisation"]


@MODELS.register("interactions", name="mf", paper="koren2009")
class MatrixFactorisation(nn.Module):
    r"""Scores are inner products or cosines of a user's and an item's vector.

    .. math:: s_{ui} = p_u \cdot q_i \quad\text{or}\quad \cos(p_u, q_i)

    ``dropout`` is the share of a user vector's entries that training sets to zero, after normalising, as SimpleX does
    (:cite:`mao2021`); the rest is scaled by 1 / (1 − dropout), so that training scores may exceed 1. ``init`` is the start:
    ``normal`` with standard deviation ``init_std``; ``xavier`` (uniform, Glorot); or ``spectral``, the singular vectors
    of the degree-normalised interactions, which cost seconds and save epochs (:func:`~rankwell.models.spectral_start`).

    Look-ups give sparse gradients, so that a step touches the rows of its batch and no others (see
    :class:`rankwell.training.RowAdam`). ``score_all`` costs one matrix product.

    >>> model = MatrixFactorisation(2, 3, dim=4)
    >>> model.initialise(Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 2])), seed=0)
    >>> model.score_all(torch.tensor([1])).shape
    torch.Size([1, 3])

    Source: :cite:`koren2009`, eq. 1. Differs: no biases, and cosine besides the inner product.
    """

    trainable: ClassVar[bool] = True
    row_parameters: ClassVar[tuple[str, ...]] = ("users", "items")

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: Annotated[int, Search(16, 256, log=True)] = 64,
        similarity: Literal["cosine", "dot"] = "cosine",
        dropout: Annotated[float, Search(0.0, 0.5)] = 0.1,
        init: Init = "spectral",
        init_std: float = 0.1,
    ) -> None:
        super().__init__()
        check_tables(dim, similarity, init, init_std)
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must be in [0, 1): got {dropout}.")
        self.num_users, self.num_items, self.dim = num_users, num_items, dim
        self.similarity, self.dropout, self.init, self.init_std = similarity, dropout, init, init_std
        self.users = nn.Parameter(torch.zeros(num_users, dim))
        self.items = nn.Parameter(torch.zeros(num_items, dim))

    def initialise(self, known: Ragged, *, seed: int) -> None:
        """Set the vectors to their start."""
        fill_tables(
            self.users,
            self.items,
            known,
            init=self.init,
            init_std=self.init_std,
            similarity=self.similarity,
            seed=seed,
        )

    def contrast_scores(
        self,
        queries: Int[Tensor, " b"],
        positives: Int[Tensor, "b *m"],
        negatives: Int[Tensor, "*b n"],
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "b *m"], Float[Tensor, "b n"]]:
        """Scores of positives and negatives for training; negatives ``[n]`` are shared by all rows.

        The generator drives dropout, which is off without one or outside training.
        """
        mine = type(self).contrast_vectors is MatrixFactorisation.contrast_vectors
        if mine and positives.ndim == 1 and not torch.is_autocast_enabled(queries.device.type):
            dropped = self._kept((len(queries), self.dim), generator)
            unit = self.similarity == "cosine"
            if negatives.ndim == 1:
                most = 1 / (1 - self.dropout)
                rows = self.users, self.items, queries, positives, negatives
                return contrast_product(*rows, unit=unit, kept=dropped, most=most)
            users = self._vectors(self.users, queries)
            ids = torch.cat([positives[:, None], negatives], 1)
            scores = own_product(users if dropped is None else users * dropped, self.items, ids, unit=unit)
            return scores[:, 0], scores[:, 1:]
        users, pos_items, neg_items, _ = self.contrast_vectors(queries, positives, negatives, generator=generator)
        pos = (pos_items * (users if positives.ndim == 1 else users[:, None])).sum(-1)
        return pos, by_row(users, neg_items)

    def contrast_vectors(
        self,
        queries: Int[Tensor, " b"],
        positives: Int[Tensor, "b *m"],
        negatives: Int[Tensor, "*b n"],
        *,
        generator: torch.Generator | None = None,
    ) -> Vectors:
        """What :meth:`contrast_scores` multiplies: of length one under the cosine, but for the dropout of users."""
        users, kept = self._vectors(self.users, queries), self._kept((len(queries), self.dim), generator)
        users = users if kept is None else users * kept
        # One look-up for both kinds of items: one sparse gradient instead of two to be added.
        items = self._vectors(self.items, torch.cat([positives.flatten(), negatives.flatten()]))
        pos_items, neg_items = torch.split(items, [positives.numel(), negatives.numel()])
        pos_items, neg_items = (
            of.view(*ids.shape, self.dim) for of, ids in ((pos_items, positives), (neg_items, negatives))
        )
        return Vectors(users, pos_items, neg_items)

    def score(self, queries: Int[Tensor, " q"], items: Int[Tensor, "*q m"]) -> Float[Tensor, "q m"]:
        """Scores of the items for each user; items ``[m]`` are shared by all."""
        users = self.query_vectors(queries)
        if items.ndim == 1:
            return users @ self.item_vectors(items).T
        vectors = functional.embedding(items, self.items.detach())
        scores = torch.einsum("qd,qmd->qm", users, vectors)
        if self.similarity == "cosine":  # a pass over the scores: one over the vectors takes as long as all of this
            scores /= torch.linalg.vector_norm(vectors, dim=-1).clamp(min=1e-8)
        return scores

    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each user."""
        return torch.mm(self.query_vectors(queries), self.item_vectors().T, out=out)

    def score_history(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for new users, by the mean vector of the items that each knows: an approximation, for users'
        vectors of training are not means."""
        items = self.item_vectors()
        return torch.mm(self._compared(mean_of_items(items, history)), items.T, out=out)

    def query_vectors(self, queries: Int[Tensor, " q"]) -> Float[Tensor, "q dim"]:
        """Users' vectors, of length one under the cosine. No gradient."""
        return self._compared(functional.embedding(queries, self.users.detach()))

    def item_vectors(self, items: Int[Tensor, " m"] | None = None) -> Float[Tensor, "m dim"]:
        """Items' vectors, of length one under the cosine; the whole catalogue's for None. No gradient."""
        table = self.items.detach()
        # An embedding look-up: indexing takes five times as long.
        return self._compared(table if items is None else functional.embedding(items, table))

    def _vectors(self, table: Tensor, ids: Tensor) -> Tensor:
        return self._compared(functional.embedding(ids, table, sparse=True))

    def _compared(self, vectors: Tensor) -> Tensor:
        return normalise(vectors) if self.similarity == "cosine" else vectors

    def _kept(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor | None:
        """What dropout multiplies users' vectors by, if there is any."""
        if not self.training or not self.dropout or generator is None:
            return None
        return kept(shape, self.dropout, generator, self.users.dtype)
