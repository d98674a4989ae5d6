"""SimpleX: a user's vector blended with the items that the user knows."""

from typing import Annotated, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.lists import check_count, offsets_from_sizes, take_lists
from rankwell.models.dropout import dropped
from rankwell.models.history import HistoryModel
from rankwell.models.registry import MODELS
from rankwell.models.start import Init, check_tables, fill_tables
from rankwell.registry import Search
from rankwell.similarity import by_row, normalise
from rankwell.types import Ragged, Vectors

__all__ = ["SimpleX"]

Pooling: TypeAlias = Literal["mean", "user_attention", "self_attention"]
POOLINGS = ("mean", "user_attention", "self_attention")

WEIGHTS = 3
"""Keeps the random numbers of the pooling's start apart from the tables'."""

USERS = 1024
"""Users whose histories are looked up at a time."""


@MODELS.register("interactions", name="simplex", paper="mao2021", complexity="max_history · dim² a query")
class SimpleX(HistoryModel):
    r"""A user is a weighted sum of an own vector and a pool of the known items' vectors.

    .. math:: z_u = g\, p_u + (1 - g)\, V \sum_{i \in H_u} \alpha_{ui}\, q_i, \qquad s_{ui} = \cos(z_u, q_i)

    over the history :math:`H_u`, with :math:`\alpha_{ui}` by ``pooling``:

    - ``mean``: :math:`1 / |H_u|`;
    - ``user_attention``: the softmax over the history of :math:`p_u \cdot \tanh(W q_i + b)`;
    - ``self_attention``: that of :math:`a \cdot \tanh(W q_i + b)`, with one learned vector a for all users.

    With g = 1 it is :class:`~rankwell.models.MatrixFactorisation` by the cosine; below, users are told by what they know, too,
    and new ones can be scored. The paper trains it with ``ccl`` and hundreds of negatives; every contrast loss will do.

    In training a row's positive stands in its user's history, and pooling would tell the answer: with ``leave_out`` each row
    pools the other items. A user who then has none, and a new user without history, has no pool.

    Time of a step O(b h d²) for histories of at most h, memory O(b h d); vectors move with the batch, its histories among it.

    Args:
        dim: length of the vectors.
        own: g, the weight of a user's own vector.
        pooling: how known items are weighed.
        max_history: items of a history that count. Interactions have no order here: of longer histories, those whose codes
            have the smallest hash, the same for every user.
        leave_out: whether training leaves a row's positives out of its history.
        dropout: share of a user vector's entries that training sets to zero, after normalising.
        init: the start of both tables, as in :class:`~rankwell.models.MatrixFactorisation`. V starts as the identity.
        init_std: standard deviation of ``normal``.

    Raises:
        InputError: for settings out of range.

    >>> model = SimpleX(1, 3, dim=2, own=0.5, dropout=0.0)
    >>> model.remember(Ragged(torch.tensor([0, 2]), torch.tensor([0, 1])))
    >>> tables = {"users": torch.tensor([[0.0, 1.0]]), "items": torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 1.0]])}
    >>> _ = model.load_state_dict({**model.state_dict(), **tables})
    >>> model.score_all(torch.tensor([0]))  # of (3, 1) / 2
    tensor([[0.9487, 0.9487, 0.3162]])

    Source: :cite:`mao2021`, equation numbers unchecked, and its official code, which has bias and tanh as here. Differs from
    them: the code leaves the positive in the history and takes the latest items, counts a vector whose entries add up to 0 as
    absent, and starts V at random.
    """

    trainable: ClassVar[bool] = True
    row_parameters: ClassVar[tuple[str, ...]] = ("users", "items")
    similarity: ClassVar[Literal["cosine"]] = "cosine"
    counted_offsets: Tensor
    counted_items: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: Annotated[int, Search(16, 256, log=True)] = 64,
        own: Annotated[float, Search(0.0, 1.0)] = 0.5,
        pooling: Pooling = "mean",
        max_history: Annotated[int, Search(10, 500, log=True)] = 100,
        leave_out: bool = True,
        dropout: Annotated[float, Search(0.0, 0.5)] = 0.1,
        init: Init = "spectral",
        init_std: float = 0.1,
    ) -> None:
        super().__init__(num_users, num_items)
        check_tables(dim, "cosine", init, init_std)
        check_count(max_history, "max_history")
        if not 0 <= own <= 1 or not 0 <= dropout < 1:
            raise InputError(f"own must be in [0, 1] and dropout in [0, 1): got {own} and {dropout}.")
        if pooling not in POOLINGS:
            raise UnknownName("pooling", pooling, POOLINGS)
        self.dim, self.own, self.pooling, self.max_history, self.leave_out = dim, own, pooling, max_history, leave_out
        self.dropout, self.init, self.init_std = dropout, init, init_std
        self.users = nn.Parameter(torch.zeros(num_users, dim))
        self.items = nn.Parameter(torch.zeros(num_items, dim))
        self.mix = nn.Parameter(torch.eye(dim))
        if pooling != "mean":
            self.keys, self.bias = nn.Parameter(torch.zeros(dim, dim)), nn.Parameter(torch.zeros(dim))
        if pooling == "self_attention":
            self.asked = nn.Parameter(torch.zeros(dim))
        for name, given in zip(("counted_offsets", "counted_items"), self.history(), strict=True):
            self.register_buffer(name, given, persistent=False)

    @torch.no_grad()
    def initialise(self, known: Ragged, *, seed: int) -> None:
        """Keep the histories, and set the weights to their start."""
        self.remember(known)
        fill_tables(
            self.users, self.items, known, init=self.init, init_std=self.init_std, similarity="cosine", seed=seed
        )
        self.mix.copy_(torch.eye(self.dim))
        generator = keyed.generator(seed, WEIGHTS)
        if self.pooling != "mean":
            self.keys.copy_(nn.init.xavier_uniform_(torch.empty(self.dim, self.dim), generator=generator))
            self.bias.zero_()
        if self.pooling == "self_attention":
            self.asked.copy_(torch.randn(self.dim, generator=generator) / self.dim**0.5)

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
        """What :meth:`contrast_scores` multiplies: of length one, but for the dropout of users."""
        history, where = self._padded(self._counted(queries))
        if self.leave_out:
            own = positives.view(len(queries), -1, 1)
            where = where & (history[:, None] != own).all(1)
        # One look-up of all items: one sparse gradient instead of three to be added.
        ids = positives, negatives, history
        looked = functional.embedding(torch.cat([of.flatten() for of in ids]), self.items, sparse=True)
        pos_items, neg_items, known = (
            part.view(*of.shape, self.dim)
            for part, of in zip(torch.split(looked, [of.numel() for of in ids]), ids, strict=True)
        )
        users = normalise(self._blended(functional.embedding(queries, self.users, sparse=True), known, where))
        if self.training and self.dropout and generator is not None:
            users = dropped(users, self.dropout, generator)
        return Vectors(users, normalise(pos_items), normalise(neg_items))

    def score(self, queries: Int[Tensor, " q"], items: Int[Tensor, "*q m"]) -> Float[Tensor, "q m"]:
        """Scores of the items for each user; items ``[m]`` are shared by all."""
        return by_row(self.query_vectors(queries), self.item_vectors(items))

    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each user."""
        return torch.mm(self.query_vectors(queries), self.item_vectors().T, out=out)

    def score_history(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for new users, who have no vector of their own: with ``user_attention``, by the mean."""
        none = self.users.new_zeros(len(history.offsets) - 1, self.dim)
        return torch.mm(self._pooled(none, self._cut(history)), self.item_vectors().T, out=out)

    def query_vectors(self, queries: Int[Tensor, " q"]) -> Float[Tensor, "q dim"]:
        """Users' vectors, of length one. No gradient."""
        blocks = torch.split(queries, USERS)
        return torch.cat([self._pooled(self.users[of], self._counted(of)) for of in blocks])

    def item_vectors(self, items: Int[Tensor, "*m"] | None = None) -> Float[Tensor, "*m dim"]:
        """Items' vectors, of length one; the whole catalogue's for None. No gradient."""
        table = self.items.detach()
        return normalise(table if items is None else functional.embedding(items, table))

    @torch.no_grad()
    def _pooled(self, users: Tensor, history: Ragged) -> Tensor:
        ids, where = self._padded(history)
        return normalise(self._blended(users, functional.embedding(ids, self.items), where))

    def _blended(
        self, users: Float[Tensor, "b d"], known: Float[Tensor, "b h d"], where: Bool[Tensor, "b h"]
    ) -> Float[Tensor, "b d"]:
        """Users' own vectors and the pools of their known items."""
        if self.pooling == "mean":
            scores = known.new_zeros(where.shape)
        else:
            keys = torch.tanh(functional.linear(known, self.keys, self.bias))
            scores = by_row(users, keys) if self.pooling == "user_attention" else keys @ self.asked
        # Rows without an item: a softmax of zeros, times nothing.
        shares = torch.where(where, scores, torch.finfo(scores.dtype).min).softmax(1) * where
        return self.own * users + (1 - self.own) * functional.linear(torch.bmm(shares[:, None], known)[:, 0], self.mix)

    def _rebuild(self) -> None:
        """The histories as far as they count."""
        self.counted_offsets, self.counted_items = self._cut(self.history())

    def _counted(self, queries: Int[Tensor, " q"]) -> Ragged:
        """What counts of the histories of these users."""
        return take_lists(Ragged(self.counted_offsets, self.counted_items), queries)

    def _cut(self, history: Ragged) -> Ragged:
        """Of each list the ``max_history`` items whose codes have the smallest hash."""
        offsets, values = history
        lengths = offsets.diff()
        if not len(lengths) or int(lengths.max()) <= self.max_history:
            return history
        lists = torch.repeat_interleave(lengths, output_size=len(values))
        order = keyed.splitmix64(values).argsort(stable=True)  # by hash within each list: two stable sorts
        values = values[order[lists[order].argsort(stable=True)]]
        kept = torch.arange(len(values), device=values.device) - offsets[:-1][lists] < self.max_history
        return Ragged(offsets_from_sizes(lengths.clamp(max=self.max_history)), values[kept])

    @staticmethod
    def _padded(lists: Ragged) -> tuple[Int[Tensor, "b h"], Bool[Tensor, "b h"]]:
        """Lists as rows, and where there is an item; elsewhere item 0 stands in."""
        lengths, values = lists.offsets.diff(), lists.values
        width = int(lengths.max()) if len(lengths) else 0
        where = torch.arange(width, device=values.device) < lengths[:, None]
        return values.new_zeros(where.shape).masked_scatter_(where, values), where
