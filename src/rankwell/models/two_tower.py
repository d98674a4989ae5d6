"""Two towers: users and items from ids and features, compared by inner products or cosines."""

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.models.history import mean_of_items
from rankwell.models.kept import state_of
from rankwell.models.registry import MODELS, check_known
from rankwell.models.start import Init, check_tables, fill_tables
from rankwell.models.tower import FUSIONS, Fusion, Tower
from rankwell.registry import Input, Search
from rankwell.similarity import by_row, normalise
from rankwell.types import Features, Ragged, Vectors

__all__ = ["TwoTower"]

WEIGHTS = 4
"""Keeps the random numbers of the towers' start apart from the tables'."""

ROWS = 1 << 14
"""Rows that a tower takes at a time when scoring."""


@MODELS.register(
    "interactions",
    name="two_tower",
    paper="yi2019",
    complexity="items · dim a query",
    inputs={"user_features": Input("catalogue"), "item_features": Input("catalogue")},
)
class TwoTower(nn.Module):
    r"""A vector of each user and item, made of an id's vector, categories and numbers.

    .. math:: z = \phi\big(e_{\text{id}} \oplus \operatorname{mean}_{c} e_c \oplus P\, \tilde x\big), \qquad
        s_{ui} = z_u \cdot z_i \quad\text{or}\quad \cos(z_u, z_i)

    with :math:`\tilde x` the numbers, standardised by the rows that occur in training, missing ones 0, and :math:`\oplus` the
    ``fusion``: the parts one behind the other, their sum, or their product :math:`\prod (1 + x) - 1`, which a part of zeros
    leaves as it is. :math:`\phi` is a perceptron, or a linear map for no widths, which starts as the sum of its parts. A side
    without features is an id: with neither it is :class:`~rankwell.models.MatrixFactorisation` and a linear map.

    ``id_dropout`` replaces a share of the ids of training rows by zeros, on sides that have features. What training did not
    see has no id there, and is told by its features: new items, new users, and rows without an interaction. A new user may
    also be told by a history, as the mean vector of its items: :meth:`encode_items`, :meth:`encode_users`,
    :meth:`score_history`.

    Ids and categories move with the batch (RowAdam), the other weights at each step. The catalogue's vectors are kept until
    a weight changes.

    Args:
        user_features: a row a user, in the order of their codes.
        item_features: a row an item.
        dim: length of all vectors.
        similarity: how they are compared.
        fusion: how the parts of a tower become one vector.
        widths: hidden units of both towers.
        id_dropout: share of rows that training sees without their id.
        columns: names of the columns of items that the trainer makes ``item_features`` of (see ``data.items``).
        user_columns: those of users, and ``user_features`` (see ``data.users``).
        init: the start of the ids, as in MF.
        init_std: standard deviation of ``normal``, and of the start of categories and projections.

    Raises:
        InputError: for settings out of range, or features that do not have a row each.

    >>> features = Features(torch.tensor([[1.0], [3.0]]), Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 1])), 2)
    >>> model = TwoTower(1, 2, item_features=features, dim=4)
    >>> model.initialise(Ragged(torch.tensor([0, 1]), torch.tensor([0])), seed=0)
    >>> model.score_new_items(torch.tensor([0]), features).shape
    torch.Size([1, 2])

    Source: the two towers of :cite:`yi2019`; the dropout of ids after :cite:`volkovs2017`. Differs from them: the first
    concatenates only and has no dropout of ids; the second drops preference vectors of a trained factorisation.
    """

    trainable: ClassVar[bool] = True
    row_parameters: ClassVar[tuple[str, ...]] = ("users.ids", "items.ids", "users.categories", "items.categories")

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        user_features: Features | None = None,
        item_features: Features | None = None,
        dim: Annotated[int, Search(16, 256, log=True)] = 64,
        similarity: Literal["cosine", "dot"] = "cosine",
        fusion: Fusion = "concat",
        widths: tuple[int, ...] = (),
        id_dropout: Annotated[float, Search(0.0, 0.5)] = 0.1,
        columns: tuple[str, ...] = (),
        user_columns: tuple[str, ...] = (),
        init: Init = "spectral",
        init_std: float = 0.1,
    ) -> None:
        super().__init__()
        check_tables(dim, similarity, init, init_std)
        if fusion not in FUSIONS:
            raise UnknownName("fusion", fusion, FUSIONS)
        if widths and min(widths) < 1:
            raise InputError(f"widths must be numbers of at least 1: got {widths}.")
        if not 0 <= id_dropout < 1:
            raise InputError(f"id_dropout must be in [0, 1): got {id_dropout}.")
        self.num_users, self.num_items, self.dim, self.similarity = num_users, num_items, dim, similarity
        self.id_dropout, self.init, self.init_std = id_dropout, init, init_std
        self.columns, self.user_columns = columns, user_columns
        self.users = Tower(num_users, dim, user_features, fusion, widths)
        self.items = Tower(num_items, dim, item_features, fusion, widths)
        self._kept: tuple[Any, Tensor] | None = None

    @torch.no_grad()
    def initialise(self, known: Ragged, *, seed: int) -> None:
        """Set the weights to their start."""
        check_known(known, self.num_users, self.num_items)
        start: dict[str, Any] = {"init": self.init, "init_std": self.init_std, "similarity": self.similarity}
        fill_tables(self.users.ids, self.items.ids, known, **start, seed=seed)
        counts = known.offsets.diff(), torch.bincount(known.values, minlength=self.num_items)
        for number, (tower, count) in enumerate(zip((self.users, self.items), counts, strict=True)):
            tower.start(count > 0, self.init_std, keyed.generator(seed, number, WEIGHTS))

    def contrast_scores(
        self,
        queries: Int[Tensor, " b"],
        positives: Int[Tensor, "b *m"],
        negatives: Int[Tensor, "*b n"],
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "b *m"], Float[Tensor, "b n"]]:
        """Scores of positives and negatives for training; negatives ``[n]`` are shared by all rows."""
        users, pos_items, neg_items, _ = self.contrast_vectors(queries, positives, negatives, generator=generator)
        return (pos_items * (users if positives.ndim == 1 else users[:, None])).sum(-1), by_row(users, neg_items)

    def contrast_vectors(
        self,
        queries: Int[Tensor, " b"],
        positives: Int[Tensor, "b *m"],
        negatives: Int[Tensor, "*b n"],
        *,
        generator: torch.Generator | None = None,
    ) -> Vectors:
        """What :meth:`contrast_scores` multiplies: of length one under the cosine. The generator drives the dropout of ids."""
        self._kept = None
        users = self._trained(self.users, queries, generator)
        # One pass for both kinds of items: one sparse gradient a table instead of two to be added.
        items = self._trained(self.items, torch.cat([positives.flatten(), negatives.flatten()]), generator)
        pos_items, neg_items = torch.split(items, [positives.numel(), negatives.numel()])
        pos_items, neg_items = (
            of.view(*ids.shape, self.dim) for of, ids in ((pos_items, positives), (neg_items, negatives))
        )
        return Vectors(users, pos_items, neg_items)

    def score(self, queries: Int[Tensor, " q"], items: Int[Tensor, "*q m"]) -> Float[Tensor, "q m"]:
        """Scores of the items for each user; items ``[m]`` are shared by all."""
        return by_row(self.query_vectors(queries), self.item_vectors(items))

    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each user."""
        return torch.mm(self.query_vectors(queries), self.item_vectors().T, out=out)

    @torch.no_grad()
    def encode_items(self, features: Features) -> Float[Tensor, "m dim"]:
        """Vectors of items that training did not see, by their features; of length one under the cosine."""
        return self._compared(self.items.of_features(features))

    @torch.no_grad()
    def encode_users(
        self, features: Features | None = None, *, history: Ragged | None = None
    ) -> Float[Tensor, "q dim"]:
        """Vectors of users that training did not see: by their features, or by the items that each knows, lists of codes.

        The second is the mean of the items' vectors: an approximation, for users' vectors of training are no means.
        """
        if (features is None) == (history is None):
            raise InputError(
                "new users need features or a history, not both: got " + ("both." if features else "none.")
            )
        if features is not None:
            return self._compared(self.users.of_features(features))
        assert history is not None
        check_known(history, len(history.offsets) - 1, self.num_items)
        return self._compared(mean_of_items(self.item_vectors(), history))

    def score_new_items(self, queries: Int[Tensor, " q"], features: Features) -> Float[Tensor, "q m"]:
        """Scores, for each user, of items that training did not see, by their features."""
        return self.query_vectors(queries) @ self.encode_items(features).T

    def score_new_users(self, features: Features) -> Float[Tensor, "q m"]:
        """Scores of every item for users that training did not see, by their features."""
        return self.encode_users(features) @ self.item_vectors().T

    def score_history(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for users that training did not see, by the items that each knows."""
        return torch.mm(self.encode_users(history=history), self.item_vectors().T, out=out)

    @torch.no_grad()
    def query_vectors(self, queries: Int[Tensor, " q"]) -> Float[Tensor, "q dim"]:
        """Users' vectors, of length one under the cosine. No gradient."""
        return torch.cat([self._compared(self.users(some)) for some in torch.split(queries, ROWS)])

    @torch.no_grad()
    def item_vectors(self, items: Int[Tensor, "*m"] | None = None) -> Float[Tensor, "*m dim"]:
        """Items' vectors, of length one under the cosine; the whole catalogue's for None. No gradient."""
        state = state_of([*self.items.parameters(), *self.items.buffers()])
        if self._kept is None or self._kept[0] != state:
            whole = torch.arange(self.num_items, device=self.items.ids.device)
            self._kept = state, torch.cat([self._compared(self.items(some)) for some in torch.split(whole, ROWS)])
        table = self._kept[1]
        return table if items is None else nn.functional.embedding(items, table)

    def _trained(self, tower: Tower, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        kept = None
        if self.training and self.id_dropout and generator is not None and tower.featured:
            kept = torch.rand(len(rows), generator=generator, device=rows.device) >= self.id_dropout
        return self._compared(tower(rows, kept))

    def _compared(self, vectors: Tensor) -> Tensor:
        return normalise(vectors) if self.similarity == "cosine" else vectors
