"""UltraGCN: matrix factorisation with the graph in its loss."""

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from rankwell.errors import ConfigError
from rankwell.lists import check_at_least, check_count
from rankwell.models.history import co_occurrences
from rankwell.models.mf import MatrixFactorisation
from rankwell.models.registry import MODELS
from rankwell.models.start import Init
from rankwell.registry import Search
from rankwell.types import Contrast, Ragged

__all__ = ["UltraGCN"]


@MODELS.register("interactions", name="ultragcn", paper="mao2021ultragcn")
class UltraGCN(MatrixFactorisation):
    r"""Matrix factorisation whose training adds what infinitely many steps of propagation would ask of its vectors.

    To the mean loss of a batch it adds :math:`\lambda L_C + \gamma L_I`, both means over rows of a user u, a positive i and
    negatives j, with :math:`\ell(x) = \log(1 + e^{-x})`:

    .. math::
        L_C &= \beta_{ui}\, \ell(s_{ui}) + w \operatorname{mean}_j \beta_{uj}\, \ell(-s_{uj}), \qquad
            \beta_{ui} = \frac{1}{d_u} \sqrt{\frac{d_u + 1}{d_i + 1}} \\
        L_I &= \sum_{k \in S(i)} \omega_{ik}\, \ell(s_{uk}), \qquad
            \omega_{ik} = \frac{G_{ik}}{g_i - G_{ii}} \sqrt{\frac{g_i}{g_k}}

    :math:`d` are degrees; :math:`G_{ik}` counts the users who know both items, :math:`g_i = \sum_k G_{ik}`, and S(i) are the
    items of the largest :math:`\omega_{ik}` beside i. The paper's loss has :math:`L_O`, the same as :math:`L_C` without
    :math:`\beta`: choose ``sigmoid`` for it; any contrast loss will do. Scoring is that of
    :class:`~rankwell.models.MatrixFactorisation`, and so is the cost of a step but for ``neighbours`` more items a row.
    The fit counts co-occurrences once: O(interactions · items) time, in blocks.

    Inner products of a spectral start want small steps and a loss that is made for them: ``bpr`` with a learning rate of .001.
    With larger steps they leave the start for the training pairs, as MF's do; ``bsl``, made for cosines, lets them grow without
    bound: ``rankwell train`` compares by the cosine, unless the loss or the user says otherwise.

    Args:
        dim: length of the vectors.
        similarity: how they are compared.
        dropout: as in MF.
        init: as in MF.
        init_std: as in MF.
        constraint: :math:`\lambda`.
        neg_weight: w; the paper's code has 10 to 300.
        item_weight: :math:`\gamma`.
        neighbours: size of S(i), fewer in a smaller catalogue.

    Raises:
        InputError: for settings out of range.
        ConfigError: in a step, if a generator made the negatives, which have no degree then.

    >>> model = UltraGCN(3, 3, dim=2, neighbours=1)
    >>> model.initialise(Ragged(torch.tensor([0, 2, 4, 5]), torch.tensor([0, 1, 0, 1, 2])), seed=0)
    >>> model.of_users[0] * model.of_items[2]  # sqrt((2 + 1) / (1 + 1)) / 2
    tensor(0.6124)
    >>> model.neighbours[0], model.omega[0]  # item 1; 2 / (4 - 2) * sqrt(4 / 4)
    (tensor([1]), tensor([1.]))

    Source: :cite:`mao2021ultragcn`, equation numbers unchecked. Differs from it: negatives are averaged and weighted by w, as
    in its code; no item is its own neighbour, as it may be there; the code's :math:`\omega` has
    :math:`\sqrt{g_i + 1} / (g_i \sqrt{g_k + 1})` for the two factors beside G; the paper starts from small noise.
    """

    of_users: Tensor
    of_items: Tensor
    neighbours: Tensor
    omega: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: Annotated[int, Search(16, 256, log=True)] = 64,
        similarity: Literal["cosine", "dot"] = "dot",
        dropout: Annotated[float, Search(0.0, 0.5)] = 0.0,
        init: Init = "spectral",
        init_std: float = 0.01,
        constraint: Annotated[float, Search(0.01, 10.0, log=True)] = 1.0,
        neg_weight: Annotated[float, Search(1.0, 300.0, log=True)] = 10.0,
        item_weight: Annotated[float, Search(0.001, 10.0, log=True)] = 1.0,
        neighbours: Annotated[int, Search(5, 50, log=True)] = 10,
    ) -> None:
        super().__init__(
            num_users, num_items, dim=dim, similarity=similarity, dropout=dropout, init=init, init_std=init_std
        )
        check_count(neighbours, "neighbours")
        for name, value in (("constraint", constraint), ("neg_weight", neg_weight), ("item_weight", item_weight)):
            check_at_least(value, name)
        self.constraint, self.neg_weight, self.item_weight = constraint, neg_weight, item_weight
        self.register_buffer("of_users", torch.zeros(num_users))
        self.register_buffer("of_items", torch.zeros(num_items))
        most = max(0, min(neighbours, num_items - 1))
        self.register_buffer("neighbours", torch.zeros(num_items, most, dtype=torch.int64))
        self.register_buffer("omega", torch.zeros(num_items, most))

    @torch.no_grad()
    def initialise(self, known: Ragged, *, seed: int) -> None:
        """Set the vectors to their start, and count degrees and co-occurrences."""
        super().initialise(known, seed=seed)
        of_users = known.offsets.diff().to(self.of_users.dtype)
        of_items = torch.bincount(known.values, minlength=self.num_items)
        self.of_users.copy_((of_users + 1).sqrt() / of_users.clamp(min=1))
        self.of_items.copy_((of_items + 1).rsqrt())
        if not self.neighbours.shape[1]:
            return
        totals = self.omega.new_zeros(self.num_items)
        totals.index_add_(0, known.values, of_users.repeat_interleave(known.offsets.diff()))
        for first, counts in co_occurrences(known, self.num_items):
            last = first + counts.shape[1]
            own = torch.arange(first, last, device=counts.device)
            itself = counts[own, own - first]
            counts[own, own - first] = 0
            # Of each item of the block, a column, and each other item, a row.
            omega = counts / (totals[own] - itself).clamp(min=1) * (totals[own] / totals[:, None].clamp(min=1)).sqrt()
            best, which = omega.T.topk(self.neighbours.shape[1])
            self.omega[first:last], self.neighbours[first:last] = best, which

    def auxiliary(self, seen: Contrast, *, generator: torch.Generator) -> Float[Tensor, ""]:  # noqa: ARG002 - the protocol's
        """Both terms, each times its weight."""
        total = self.users.new_zeros(())
        if self.constraint:
            total = total + self.constraint * self._constraint(seen)
        if self.item_weight:
            total = total + self.item_weight * self._of_neighbours(seen)
        return total

    def _constraint(self, seen: Contrast) -> Float[Tensor, ""]:
        if seen.ids is None:
            raise ConfigError(
                "ultragcn weighs negatives by their degrees, which made ones do not have: leave the generator out, or set"
                " model.constraint to 0."
            )
        of_rows = self.of_users[seen.users][:, None]
        pos, positives = seen.pos.view(len(of_rows), -1), seen.positives.view(len(of_rows), -1)
        pull = of_rows * self.of_items[positives] * functional.softplus(-pos)
        push = of_rows * self.of_items[seen.ids] * functional.softplus(seen.neg)
        return (_row_means(pull, seen.pos_where) + self.neg_weight * _row_means(push, seen.where)).mean()

    def _of_neighbours(self, seen: Contrast) -> Float[Tensor, ""]:
        positives = seen.positives.view(len(seen.users), -1)
        users, near = (
            self._vectors(self.users, seen.users),
            self._vectors(self.items, self.neighbours[positives].flatten()),
        )
        scores = torch.einsum("bd,bmkd->bmk", users, near.view(*positives.shape, -1, self.dim))
        terms = (self.omega[positives] * functional.softplus(-scores)).sum(-1)
        return _row_means(terms, seen.pos_where).mean()


def _row_means(values: Float[Tensor, "b n"], where: Tensor | None) -> Float[Tensor, " b"]:
    """The mean of each row's values, of those that count; 0 without any."""
    if where is None:
        return values.mean(1)
    where = where.view(len(values), -1).expand(values.shape)
    return torch.where(where, values, 0).sum(1) / where.sum(1).clamp(min=1)
