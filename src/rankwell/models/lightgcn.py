"""LightGCN: vectors that are averaged along the graph of who knows what."""

from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from rankwell.errors import InputError, UnknownName
from rankwell.lists import check_at_least, check_count, check_positive
from rankwell.losses import info_nce_loss
from rankwell.models.history import HistoryModel
from rankwell.models.kept import state_of
from rankwell.models.propagation import layer_mean, layers_of, propagated
from rankwell.models.registry import MODELS
from rankwell.models.spectral import normalised_interactions
from rankwell.models.start import Init, check_tables, fill_tables
from rankwell.registry import Search
from rankwell.similarity import by_row, normalise
from rankwell.types import Contrast, Hops, Ragged, Vectors

__all__ = ["LightGCN"]

Augment: TypeAlias = Literal["none", "edge_dropout", "noise"]
AUGMENTS = ("none", "edge_dropout", "noise")


@MODELS.register("interactions", name="lightgcn", paper="he2020lightgcn", complexity="layers · interactions a step")
class LightGCN(HistoryModel):
    r"""Matrix factorisation whose vectors are the mean of ``layers`` steps of averaging over neighbours.

    .. math:: E = \frac{1}{L + 1} \sum_{l=0}^{L} A^l E_0, \qquad
        A = \begin{pmatrix} 0 & \tilde R \\ \tilde R^\top & 0 \end{pmatrix}, \quad
        \tilde r_{ui} = \frac{r_{ui}}{\sqrt{d_u d_i}}

    and scores are inner products or cosines of rows of E. Only :math:`E_0` is learned. A is symmetric, so that the gradient is
    propagated by the same products and no second graph is kept. Every step propagates the whole tables, forward and
    backward: its gradients are dense, and every row moves at every step (AdamW; the rows of MF move with their batch).
    Scoring propagates once and keeps the result until the vectors or the graph change.

    ``augment`` adds :math:`\lambda` times InfoNCE between two disturbed views of the batch's users, and of its positive items:

    - ``edge_dropout`` (SGL): each view propagates along a graph of its own, which lacks a ``share`` of the interactions, with
      the degrees of what is left.
    - ``noise`` (SimGCL): each view adds :math:`\Delta` to every vector after each product, with :math:`|\Delta| = \epsilon`,
      the signs of the vector's entries, and directions uniform before they are scaled.

    The paper's regularisation, ``l2``, is added too: the squared lengths of the batch's rows of :math:`E_0`, a row as often as
    it occurs. The trainer's ``weight_decay`` differs: decoupled from the gradient, and of all rows at each step.

    Time of a step O(L n d) for n interactions, three times that with views. Memory: (L + 1) tables in a step, three of them
    when scoring, and the graph twice, by users and by items.

    Args:
        dim: length of the vectors.
        similarity: how they are compared.
        layers: L.
        init: the start, as in :class:`~rankwell.models.MatrixFactorisation`.
        init_std: standard deviation of ``normal``.
        l2: weight of the batch's squared lengths, halved and divided by the number of rows.
        augment: which views, if any.
        augment_weight: :math:`\lambda`.
        augment_temperature: of InfoNCE, over cosines.
        share: of the interactions, left out of each view.
        eps: :math:`\epsilon`, length of the noise.

    Raises:
        InputError: for settings out of range.

    >>> model = LightGCN(1, 2, dim=1, layers=1, similarity="dot")
    >>> model.remember(Ragged(torch.tensor([0, 2]), torch.tensor([0, 1])))
    >>> _ = model.load_state_dict({**model.state_dict(), "users": torch.ones(1, 1), "items": torch.tensor([[2.0], [0.0]])})
    >>> model.query_vectors(torch.tensor([0]))  # (1 + (2 + 0) / sqrt(2)) / 2
    tensor([[1.2071]])

    Source: :cite:`he2020lightgcn`, eqs. 3 and 4; SGL :cite:`wu2021`; SimGCL :cite:`yu2022`; equation numbers unchecked.
    Differs from them: cosine besides the inner product; any loss. From SGL: InfoNCE has the batch's nodes in its denominator,
    each once, not all nodes. From SimGCL: layer 0 stays in the mean.
    """

    trainable: ClassVar[bool] = True
    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: Annotated[int, Search(16, 256, log=True)] = 64,
        similarity: Literal["cosine", "dot"] = "cosine",
        layers: Annotated[int, Search(1, 4)] = 3,
        init: Init = "spectral",
        init_std: float = 0.1,
        l2: Annotated[float, Search(1e-6, 1e-2, log=True)] = 1e-4,
        augment: Augment = "none",
        augment_weight: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1,
        augment_temperature: Annotated[float, Search(0.05, 1.0, log=True)] = 0.2,
        share: Annotated[float, Search(0.05, 0.5)] = 0.1,
        eps: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1,
    ) -> None:
        super().__init__(num_users, num_items)
        check_tables(dim, similarity, init, init_std)
        check_count(layers, "layers")
        check_positive(augment_temperature, "augment_temperature")
        for name, value in (("l2", l2), ("augment_weight", augment_weight), ("eps", eps)):
            check_at_least(value, name)
        if not 0 <= share < 1:
            raise InputError(f"share must be in [0, 1): got {share}.")
        if augment not in AUGMENTS:
            raise UnknownName("augment", augment, AUGMENTS)
        self.dim, self.similarity, self.layers, self.l2 = dim, similarity, layers, l2
        self.init, self.init_std = init, init_std
        self.augment, self.augment_weight, self.augment_temperature = augment, augment_weight, augment_temperature
        self.share, self.eps = share, eps
        self.users = nn.Parameter(torch.zeros(num_users, dim))
        self.items = nn.Parameter(torch.zeros(num_items, dim))
        self._kept: tuple[Any, tuple[Tensor, Tensor]] | None = None
        for name in ("rows", "columns"):
            self.register_buffer(name, None, persistent=False)
        self._rebuild()

    @torch.no_grad()
    def initialise(self, known: Ragged, *, seed: int) -> None:
        """Keep the graph, and set the vectors to their start."""
        self.remember(known)
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
        generator: torch.Generator | None = None,  # noqa: ARG002 - the contract's; nothing is dropped
    ) -> tuple[Float[Tensor, "b *m"], Float[Tensor, "b n"]]:
        """Scores of positives and negatives for training; negatives ``[n]`` are shared by all rows."""
        self._kept = None
        of_users, of_pos, of_neg = self._compared_rows(self._tables(), queries, positives, negatives)
        return (of_pos * (of_users if positives.ndim == 1 else of_users[:, None])).sum(-1), by_row(of_users, of_neg)

    def contrast_vectors(
        self,
        queries: Int[Tensor, " b"],
        positives: Int[Tensor, "b *m"],
        negatives: Int[Tensor, "*b n"],
        *,
        generator: torch.Generator | None = None,  # noqa: ARG002 - the contract's; nothing is dropped
    ) -> Vectors:
        """What :meth:`contrast_scores` multiplies, and the layers that it is the mean of."""
        self._kept = None
        layers = self._layers()
        rows = self._compared_rows(layer_mean(layers), queries, positives, negatives)
        first = positives if positives.ndim == 1 else positives[:, 0]
        of_items = [table for _, table in layers]
        hops = Hops(_stacked(of_items, first), _stacked(of_items, negatives), self._pooled)
        return Vectors(*rows, hops)

    def auxiliary(self, seen: Contrast, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """The batch's squared lengths, and InfoNCE between two views, each times its weight."""
        total = self.users.new_zeros(())
        if self.l2:
            ids = (ids.flatten() for ids in (seen.positives, seen.ids) if ids is not None)
            rows = functional.embedding(seen.users, self.users), functional.embedding(torch.cat([*ids]), self.items)
            total = total + self.l2 / (2 * len(seen.users)) * sum(of.square().sum() for of in rows)
        if self.augment == "none" or not self.augment_weight:
            return total
        ids_of = seen.users.unique(), seen.positives.unique()  # type: ignore[no-untyped-call]
        views = [self._view(generator) for _ in range(2)]
        for ids, *tables in zip(ids_of, *views, strict=True):
            one, other = (functional.embedding(ids, table) for table in tables)
            total = total + self.augment_weight * info_nce_loss(one, other, temperature=self.augment_temperature)
        return total

    def score(self, queries: Int[Tensor, " q"], items: Int[Tensor, "*q m"]) -> Float[Tensor, "q m"]:
        """Scores of the items for each user; items ``[m]`` are shared by all."""
        return by_row(self.query_vectors(queries), self.item_vectors(items))

    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each user."""
        return torch.mm(self.query_vectors(queries), self.item_vectors().T, out=out)

    @torch.no_grad()
    def score_history(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for new users: averaged from their items, without a vector of their own. Propagates anew."""
        degrees = torch.bincount(self.history_items, minlength=self.num_items).clamp(min=1)
        below = torch.stack([items for _, items in self._layers()[:-1]]).sum(0) * degrees.rsqrt()[:, None]
        sums = functional.embedding_bag(history.values, below, history.offsets[:-1], mode="sum")
        users = sums * history.offsets.diff().clamp(min=1).rsqrt()[:, None] / (self.layers + 1)
        return torch.mm(normalise(users) if self.similarity == "cosine" else users, self.item_vectors().T, out=out)

    def query_vectors(self, queries: Int[Tensor, " q"]) -> Float[Tensor, "q dim"]:
        """Users' vectors, of length one under the cosine. No gradient."""
        return functional.embedding(queries, self._propagated()[0])

    def item_vectors(self, items: Int[Tensor, "*m"] | None = None) -> Float[Tensor, "*m dim"]:
        """Items' vectors, of length one under the cosine; the whole catalogue's for None. No gradient."""
        table = self._propagated()[1]
        return table if items is None else functional.embedding(items, table)

    @torch.no_grad()
    def _propagated(self) -> tuple[Tensor, Tensor]:
        """Users and items, ready to be compared; made anew once a vector has changed."""
        state = state_of((self.users, self.items))
        if self._kept is None or self._kept[0] != state:
            self._kept = state, self._compared(self._tables())
        return self._kept[1]

    def _tables(self) -> tuple[Tensor, Tensor]:
        return propagated(self.users, self.items, self.rows, self.columns, self.layers)

    def _view(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Users and items after propagation that is disturbed at random."""
        if self.augment == "noise":
            disturb = partial(_moved, eps=self.eps, generator=generator)
            return layer_mean(layers_of(self.users, self.items, self.rows, self.columns, self.layers, disturb))
        offsets, items = self.history()
        kept = torch.rand(len(items), generator=generator, device=items.device) >= self.share
        before = functional.pad(kept.cumsum(0), (1, 0))
        graph = normalised_interactions(Ragged(before[offsets], items[kept]), self.num_items)
        rows, columns = (each.to(self.users.dtype) for each in (graph.rows, graph.columns))
        return propagated(self.users, self.items, rows, columns, self.layers)

    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        """Users and items after none, one, … products."""
        return layers_of(self.users, self.items, self.rows, self.columns, self.layers)

    def _compared(self, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self._scaled(tables[0]), self._scaled(tables[1])

    def _compared_rows(self, tables: tuple[Tensor, Tensor], *ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of users, positives and negatives: normalised after they are looked up, for the tables are longer."""
        users, items = tables
        of_users, of_pos, of_neg = (
            functional.embedding(each, table) for each, table in zip(ids, (users, items, items), strict=True)
        )
        return self._scaled(of_users), self._scaled(of_pos), self._scaled(of_neg)

    def _scaled(self, vectors: Tensor) -> Tensor:
        return normalise(vectors) if self.similarity == "cosine" else vectors

    def _pooled(self, layers: Tensor) -> Tensor:
        return self._scaled(layers.mean(-2))

    def _rebuild(self) -> None:
        """Make what follows from the histories."""
        graph = normalised_interactions(self.history(), self.num_items)
        self.rows, self.columns, self._kept = graph.rows.to(self.users.dtype), graph.columns.to(self.users.dtype), None

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: without the compressed matrices, which torch cannot copy."""
        return self.__dict__ | {"_buffers": self._buffers | {"rows": None, "columns": None}, "_kept": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._rebuild()


def _stacked(tables: list[Tensor], ids: Tensor) -> Tensor:
    """The rows of each table: ``[*ids, tables, d]``."""
    return torch.stack([functional.embedding(ids, table) for table in tables], -2)


def _moved(x: Tensor, *, eps: float, generator: torch.Generator) -> Tensor:
    """Vectors moved by ``eps``, each at random within its quadrant."""
    drawn = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return torch.addcmul(x, normalise(drawn), x.sign(), value=eps)
