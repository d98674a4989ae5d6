"""NeuMF: a learned function of a user's and an item's vectors in place of the inner product."""

from typing import Annotated, ClassVar, NamedTuple, NoReturn

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from rankwell import keyed
from rankwell.errors import ConfigError, InputError
from rankwell.lists import check_at_least, check_count
from rankwell.models.dropout import dropped
from rankwell.models.registry import MODELS, check_known
from rankwell.registry import Search
from rankwell.similarity import by_row
from rankwell.types import Ragged

__all__ = ["NeuMF"]

TABLES = ("gmf_users", "gmf_items", "mlp_users", "mlp_items")

START = 2
"""Keeps the random numbers of the start apart from those drawn for other purposes with the same seed."""

BLOCK_VALUES = 1 << 22
"""Numbers of the first layer held at a time when scoring: 16 MB, and as much again for the next."""


class _Sides(NamedTuple):
    """What the score is made of, of users or of items: each side is looked up and multiplied once, not once a pair."""

    gmf: Tensor
    first: Tensor
    """The side's part of the first layer, before the nonlinearity."""


@MODELS.register("interactions", name="neumf", paper="he2017", complexity="items · widths² a query")
class NeuMF(nn.Module):
    r"""Generalised matrix factorisation beside a multilayer perceptron, with vectors of their own, summed at the end.

    .. math:: s_{ui} = h_G \cdot (p^G_u \odot q^G_i) + h_M \cdot
        \phi_L(\dots \phi_1(p^M_u, q^M_i)), \qquad \phi_l(x) = \max(0, W_l x + b_l)

    Scores are of pairs: there are no vectors to search by or to make negatives of, and the whole catalogue costs the
    perceptron for each item. Against a well-tuned inner product it wins little (:cite:`rendle2020`). The paper
    trains it with ``sigmoid``, the cross-entropy of each pair, on its scores; every contrast loss will do.

    The first layer is the sum of a user's and an item's part, each made once, so that a pair costs it one addition. A batch of
    b rows with n negatives takes O(b n) times the widths in time, and in memory their sum; scoring the catalogue works in
    blocks of at most 16 MB.

    Args:
        dim: length of the vectors, of each of the two pairs of tables.
        widths: units of the perceptron's layers.
        dropout: share of the units that training sets to zero, behind each layer.
        init_std: standard deviation of the vectors' start.

    Raises:
        InputError: for settings out of range.

    >>> model = NeuMF(2, 3, dim=4, widths=(8, 4))
    >>> model.initialise(Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 2])), seed=0)
    >>> model.score_all(torch.tensor([1])).shape
    torch.Size([1, 3])

    Source: :cite:`he2017`, eq. 12; equation number unchecked. Differs from it: no pre-training of the two parts, and no
    logistic function on the score, which the losses have.
    """

    trainable: ClassVar[bool] = True
    row_parameters: ClassVar[tuple[str, ...]] = TABLES

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: Annotated[int, Search(8, 128, log=True)] = 32,
        widths: tuple[int, ...] = (64, 32, 16),
        dropout: Annotated[float, Search(0.0, 0.5)] = 0.0,
        init_std: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1,
    ) -> None:
        super().__init__()
        check_count(dim, "dim")
        check_at_least(init_std, "init_std")
        if not widths or min(widths) < 1:
            raise InputError(f"widths must be one or more numbers of at least 1: got {widths}.")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must be in [0, 1): got {dropout}.")
        self.num_users, self.num_items, self.dropout, self.init_std = num_users, num_items, dropout, init_std
        for name in TABLES:
            rows = num_users if name.endswith("users") else num_items
            self.register_parameter(name, nn.Parameter(torch.zeros(rows, dim)))
        self.layers = nn.ModuleList(
            nn.Linear(entering, leaving) for entering, leaving in zip((2 * dim, *widths), widths, strict=False)
        )
        self.gmf_out, self.mlp_out = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(widths[-1]))

    @torch.no_grad()
    def initialise(self, known: Ragged, *, seed: int) -> None:
        """Set the weights to their start: normal vectors, Glorot's uniform layers, a GMF part that is an inner product."""
        check_known(known, self.num_users, self.num_items)
        generator = keyed.generator(seed, START)
        for name in TABLES:
            table = self.get_parameter(name)
            table.copy_(torch.empty(table.shape).normal_(0, self.init_std, generator=generator))
        for name, weights in self.layers.named_parameters():
            if name.endswith("bias"):
                weights.zero_()
            else:
                weights.copy_(nn.init.xavier_uniform_(torch.empty(weights.shape), generator=generator))
        self.gmf_out.fill_(1)
        width = len(self.mlp_out)
        self.mlp_out.copy_(nn.init.xavier_uniform_(torch.empty(1, width), generator=generator)[0])

    def contrast_scores(
        self,
        queries: Int[Tensor, " b"],
        positives: Int[Tensor, "b *m"],
        negatives: Int[Tensor, "*b n"],
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "b *m"], Float[Tensor, "b n"]]:
        """Scores of positives and negatives for training; negatives ``[n]`` are shared by all rows."""
        users = self._sides("users", queries)
        # One look-up for both kinds of items: one sparse gradient a table instead of two to be added.
        items = self._sides("items", torch.cat([positives.flatten(), negatives.flatten()]))
        parts = zip(*(torch.split(of, [positives.numel(), negatives.numel()]) for of in items), strict=True)
        of_pos, of_neg = (
            _Sides(*(part.view(*ids.shape, part.shape[-1]) for part in of))
            for of, ids in zip(parts, (positives.view(len(queries), -1), negatives), strict=True)
        )
        drop = generator if self.training and self.dropout else None
        return self._pairs(users, of_pos, drop).view(positives.shape), self._pairs(users, of_neg, drop)

    @torch.no_grad()
    def score(self, queries: Int[Tensor, " q"], items: Int[Tensor, "*q m"]) -> Float[Tensor, "q m"]:
        """Scores of the items for each user; items ``[m]`` are shared by all."""
        out = self.gmf_out.new_empty(len(queries), items.shape[-1])
        if items.ndim == 1:
            self._fill(queries, self._sides("items", items), out)
            return out
        rows = max(1, BLOCK_VALUES // max(1, items.shape[1] * self._width()))
        for first in range(0, len(queries), rows):
            some = slice(first, first + rows)
            out[some] = self._pairs(self._sides("users", queries[some]), self._sides("items", items[some]))
        return out

    @torch.no_grad()
    def score_all(self, queries: Int[Tensor, " q"], out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each user."""
        if out is None:
            out = self.gmf_out.new_empty(len(queries), self.num_items)
        self._fill(queries, self._sides("items", torch.arange(self.num_items, device=self.gmf_out.device)), out)
        return out

    def query_vectors(self, queries: Int[Tensor, " q"]) -> NoReturn:  # noqa: ARG002 - the protocol's
        """NeuMF has none."""
        raise _without_vectors()

    def item_vectors(self, items: Int[Tensor, " m"] | None = None) -> NoReturn:  # noqa: ARG002 - the protocol's
        """NeuMF has none."""
        raise _without_vectors()

    def _width(self) -> int:
        return max(layer.out_features for layer in self.layers)  # type: ignore[type-var,return-value]

    def _sides(self, side: str, ids: Tensor) -> _Sides:
        """Of ``users`` or ``items``; the bias of the first layer is the users'."""
        gmf, mlp = (
            functional.embedding(ids, self.get_parameter(f"{part}_{side}"), sparse=True) for part in ("gmf", "mlp")
        )
        of_users, of_items = self.layers[0].weight.chunk(2, 1)  # type: ignore[operator]
        if side == "users":
            return _Sides(gmf * self.gmf_out, functional.linear(mlp, of_users, self.layers[0].bias))  # type: ignore[arg-type]
        return _Sides(gmf, functional.linear(mlp, of_items))

    def _pairs(self, users: _Sides, items: _Sides, generator: torch.Generator | None = None) -> Tensor:
        """Scores ``[q, m]`` of each user with its own items, or with those that all share."""
        x = torch.relu_(users.first[:, None] + items.first)
        for layer in (None, *self.layers[1:]):
            x = x if layer is None else functional.relu(layer(x), inplace=True)
            x = x if generator is None else dropped(x, self.dropout, generator)
        return by_row(users.gmf, items.gmf) + x @ self.mlp_out

    def _fill(self, queries: Tensor, items: _Sides, out: Tensor) -> None:
        """Scores of all queries and items, a block of both at a time."""
        users, width = self._sides("users", queries), self._width()
        columns = max(1, min(out.shape[1], BLOCK_VALUES // width))
        rows = max(1, BLOCK_VALUES // (width * columns))
        for left in range(0, out.shape[1], columns):
            some = _Sides(*(part[left : left + columns] for part in items))
            for top in range(0, len(queries), rows):
                block = _Sides(*(part[top : top + rows] for part in users))
                out[top : top + rows, left : left + columns] = self._pairs(block, some)


def _without_vectors() -> ConfigError:
    return ConfigError(
        "neumf scores pairs and has no vectors to compare. Choose a model that has, such as mf, or a sampler that asks for"
        " scores alone."
    )
