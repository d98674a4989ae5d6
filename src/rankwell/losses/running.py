"""Running normalisers: an average over the steps for each id stands in for the sum that one batch is too small for."""

# mypy: allow-untyped-calls

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.kernels.operators import batch_operator
from rankwell.lists import Rows, check_positive, in_full_precision, open_rows
from rankwell.losses.registry import Neg, Pos, stateful_loss
from rankwell.registry import Input, Search
from rankwell.types import Kind, Mask, Reduction, Weights

__all__ = ["RunningMean", "SogCLRLoss", "checked_ids", "mean_by_id", "without_absent"]

Gamma: TypeAlias = Annotated[float, Search(0.05, 1.0)]
"""Share of the new value in a moving average."""


class RunningMean(nn.Module):
    r"""A moving average for each id, kept as a logarithm so that no exponential overflows.

    .. math:: u \leftarrow (1 - \gamma)\, u + \gamma\, g, \qquad \text{the first } g \text{ of an id as it is}

    Averages and what has been seen are buffers, and so in ``state_dict``.

    Args:
        num_ids: ids are 0 to one less.
        gamma: :math:`\gamma`, the share of the new value.

    Raises:
        InputError: if ``num_ids`` is below 1, ``gamma`` is not in (0, 1], or ids do not fit.

    >>> mean = RunningMean(2, gamma=0.25)
    >>> for value in (8.0, 4.0):
    ...     mean.update(torch.tensor([1]), torch.tensor([value]).log())
    >>> mean.blend(torch.tensor([1, 0]), torch.tensor([3.0, 3.0]).log()).exp()  # 7 of before: 5.25 + 0.75; none of before
    tensor([6., 3.])
    """

    logs: Tensor
    seen: Tensor

    def __init__(self, num_ids: int, *, gamma: float) -> None:
        super().__init__()
        if num_ids < 1 or not 0 < gamma <= 1:
            raise InputError(f"num_ids must be at least 1 and gamma in (0, 1]: got {num_ids} and {gamma}.")
        self.old_share = math.log1p(-gamma) if gamma < 1 else -math.inf
        self.new_share = math.log(gamma)
        self.register_buffer("logs", torch.zeros(num_ids))
        self.register_buffer("seen", torch.zeros(num_ids, dtype=torch.bool))

    @torch.no_grad()
    def blend(self, ids: Int[Tensor, "*b"], new: Float[Tensor, "*b"], where: Mask | None = None) -> Float[Tensor, "*b"]:
        """Logarithms of the averages as they would be with these values, which are logarithms too. Writes nothing."""
        old, seen = self._before(ids, new, where)
        return torch.where(seen, torch.logaddexp(old + self.old_share, new + self.new_share), new)

    @torch.no_grad()
    def excess(
        self, ids: Int[Tensor, "*b"], new: Float[Tensor, "*b"], where: Mask | None = None
    ) -> Float[Tensor, "*b"]:
        """What :meth:`blend` gives, less the values, which must be finite: large ones lose no digits in a difference."""
        old, seen = self._before(ids, new, where)
        share = torch.logaddexp(old - new + self.old_share, torch.full_like(new, self.new_share))
        return torch.where(seen, share, 0)

    def _before(self, ids: Tensor, new: Tensor, where: Mask | None) -> tuple[Tensor, Tensor]:
        """Logarithms of the averages, and which there are."""
        ids = self._checked(ids, new, where)
        return in_full_precision(self.logs)[ids].to(new.dtype), self.seen[ids]

    def _checked(self, ids: Tensor, new: Tensor, where: Mask | None) -> Tensor:
        """The ids, 0 where masked."""
        if ids.shape != new.shape or ids.is_floating_point():
            raise InputError(
                f"ids must be integers, one a value, {tuple(new.shape)}: got {tuple(ids.shape)} of {ids.dtype}."
            )
        return checked_ids(ids, where, len(self.logs), "ids", "num_ids")

    @torch.no_grad()
    def update(self, ids: Int[Tensor, "*b"], new: Float[Tensor, "*b"], where: Mask | None = None) -> None:
        """Enter the values; those of one id by their mean. What is masked or not finite is left out."""
        ids = self._checked(ids, new, where)
        there = new.isfinite() if where is None else new.isfinite() & where
        ids, new, there = without_absent(ids.reshape(-1), new.reshape(-1), there.reshape(-1))
        top = _largest_by_id(ids, new, there)
        shares, found = mean_by_id(ids, (new - top).exp(), there)
        mean = self.blend(ids, top + torch.where(found, shares, 1).log())
        self.logs[ids] = torch.where(found, mean.to(self.logs.dtype), self.logs[ids])
        self.seen[ids] = self.seen[ids] | found


def _ids_below(ids: Tensor, where: Tensor | None, size: int, name: str, count: str) -> Tensor:
    ids = ids.clone() if where is None else torch.where(where, ids, 0)
    bad = (ids < 0) | (ids >= size)
    if ids.device.type != "cpu":  # a look at the numbers would wait for the device: its own check of indices meets them
        return torch.where(bad, size, ids)
    if bool(bad.any()):
        raise InputError(
            f"{name} must be 0 to {size - 1}: got {int(ids[bad][0])}. Number them from 0, or build the loss with a larger"
            f" {count}."
        )
    return ids


_below = batch_operator(_ids_below, lambda ids, *_: torch.empty_like(ids))


def checked_ids(ids: Tensor, where: Mask | None, size: int, name: str, count: str) -> Tensor:
    """The ids, 0 where masked. One outside 0 to ``size`` less one, by the name of what says so, is an error.

    >>> checked_ids(torch.tensor([2, -1]), torch.tensor([True, False]), 3, "ids", "num_ids")
    tensor([2, 0])
    """
    checked: Tensor = _below(ids, where, size, name, count)
    return checked


def mean_by_id(
    ids: Int[Tensor, " n"], x: Float[Tensor, " n"], where: Mask
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """For each row the mean of ``x`` over the rows of its id that count, and whether there are any; 0 where there are none.

    >>> mean_by_id(torch.tensor([4, 9, 4]), torch.tensor([1.0, 2.0, 5.0]), torch.tensor([True, False, True]))
    (tensor([3., 0., 3.]), tensor([ True, False,  True]))
    """
    group = _groups(ids)
    counts, sums = (
        torch.zeros_like(x).scatter_add(0, group, y).gather(0, group)
        for y in (where.to(x.dtype), torch.where(where, x, 0))
    )
    return sums / counts.clamp(min=1), counts > 0


def _largest_by_id(ids: Tensor, x: Tensor, where: Mask) -> Tensor:
    """For each row the largest ``x`` of its id, 0 where none counts."""
    group, absent = _groups(ids), -torch.inf
    top = torch.full_like(x, absent).scatter_reduce(0, group, torch.where(where, x, absent), "amax").gather(0, group)
    return torch.where(top == absent, 0, top)


def _groups(ids: Tensor) -> Tensor:
    """The number of each row's id among the distinct ones, by a sort: no shape depends on how many there are."""
    ascending, order = ids.sort(stable=True)
    number = torch.zeros_like(ids)
    number[1:] = (ascending[1:] != ascending[:-1]).cumsum(0)
    return torch.zeros_like(ids).scatter(0, order, number)


def without_absent(ids: Tensor, x: Tensor, where: Mask) -> tuple[Tensor, Tensor, Mask]:
    """Rows that do not count under the id of one that does, so that what is written for an id is written once."""
    if not len(ids):
        return ids, x, where
    one = where.to(torch.uint8).argmax(0, keepdim=True)  # an index without dimensions would wait for the device
    return torch.where(where, ids, ids[one]), torch.where(where, x, 0), where


@stateful_loss(
    name="sog_clr",
    paper="yuan2022",
    complexity="m + n",
    softmax=True,
    inputs={"num_ids": Input("scalar", "count", required=True)},
)
class SogCLRLoss(nn.Module):
    r"""SogCLR: the softmax over all negatives of a query, from few a step, by a running normaliser.

    .. math::
        \ell = \sum_i w_i \left( -\frac{s_i}{\tau} + \log u \right), \qquad
        u \leftarrow (1 - \gamma)\, u + \gamma\, g, \qquad g = \frac{1}{n} \sum_j e^{s_j/\tau}

    The logarithm of a small batch's mean is not the mean's logarithm: :func:`~rankwell.losses.decoupled_softmax_loss` is
    biased, the more so the fewer negatives there are. Here :math:`u` averages over the steps in which a query was met, and
    the gradient is :math:`-\nabla s_i/\tau + \nabla g/u`, whose error shrinks with :math:`\gamma`. With :math:`\gamma = 1`, and
    for an id that is new, it is the decoupled softmax less log n. Time and memory O(m + n) a row, and one number an id.

    It is called as a contrast loss, with ``ids [*batch]``: whose row each is. For embeddings of a batch, ``pos`` is the
    diagonal of their similarities, ``neg`` the whole, and ``where`` leaves out the diagonal. ``forward`` uses :math:`u` as it
    is with this step's values, and writes nothing; ``update(ids, pos, neg, …)``, once a step behind it, does.

    Weights multiply the terms; they do not enter :math:`u`. A row without negatives keeps the pull :math:`-s_i/\tau`.

    Choose it for few negatives a step, as in the small batches of contrastive learning, where each query has an id and
    comes again over many epochs: a running number for each makes up for them. Where queries are seen once, or a step
    has hundreds of negatives, take :func:`~rankwell.losses.decoupled_softmax_loss` or
    :func:`~rankwell.losses.info_nce_loss`, which keep no state and need no ``update``.

    Args:
        num_ids: ids are 0 to one less.
        gamma: share of the new value; 1 forgets at once.
        temperature: what scores are divided by. The default is for cosine scores.

    Raises:
        InputError: if ``num_ids`` is below 1, ``gamma`` not in (0, 1], ``temperature`` not above 0, or ids do not fit.

    >>> loss = SogCLRLoss(5, gamma=0.5, temperature=1.0)
    >>> ids, pos, neg = torch.tensor([3]), torch.tensor([0.0]), torch.tensor([[2.0, 2.0]])
    >>> loss(pos, neg, ids=ids)  # log of e^2
    tensor(2.)
    >>> loss.update(ids, pos, neg)
    >>> loss(pos, torch.tensor([[0.0, 0.0]]), ids=ids)  # log((e^2 + 1) / 2)
    tensor(1.4338)

    Source: :cite:`yuan2022`, algorithm 1, and its official code; equation numbers unchecked. Differs from them: divided by
    the temperature, as all our softmax losses; the value is that of the estimate, whose gradient is the paper's; one
    normaliser a query, where the paper's two views share one; rows of one id in a step enter it by their mean.
    """

    call: ClassVar[Kind] = "contrast"
    """The kind of loss that it is called as."""
    inputs: ClassVar[Mapping[str, Input]] = {"ids": Input("list", "id", required=True)}
    """What calls take besides."""

    def __init__(
        self,
        num_ids: int,
        *,
        gamma: Gamma = 0.9,
        temperature: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1,
    ) -> None:
        super().__init__()
        check_positive(temperature, "temperature")
        self.temperature = temperature
        self.normaliser = RunningMean(num_ids, gamma=gamma)

    def forward(
        self,
        pos: Pos,
        neg: Neg,
        *,
        ids: Int[Tensor, "*batch"],
        pos_where: Mask | None = None,
        where: Mask | None = None,
        weights: Weights | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        """One value a row, reduced."""
        rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
        new = self._mean(rows)
        excess = self.normaliser.excess(ids, new.detach(), self._counts(rows))
        # In value log u, in gradient that of g / u, which is that of log g times a share of at most 1 / gamma.
        moved = (-excess).exp() * (new - new.detach())
        push = torch.where(rows.count_neg() > 0, new.detach() + excess + moved, 0)
        return rows.reduce(rows.sum_pos(push[..., None] - rows.pos / self.temperature), reduction)

    @torch.no_grad()
    def update(
        self,
        ids: Int[Tensor, "*batch"],
        pos: Pos,
        neg: Neg,
        *,
        pos_where: Mask | None = None,
        where: Mask | None = None,
    ) -> None:
        """Enter the scores of this step into the normalisers of its ids."""
        rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=None)
        self.normaliser.update(ids, self._mean(rows), self._counts(rows))

    def _mean(self, rows: Rows) -> Tensor:
        """Log of the mean exponential over the negatives of each row; 0 where there are none."""
        return rows.logsumexp_neg(self.temperature, absent=0.0) - rows.count_neg().clamp(min=1).log()

    def _counts(self, rows: Rows) -> Mask:
        """Rows with a positive and a negative."""
        some = rows.count_neg() > 0
        return some if rows.pos_where is None else some & rows.pos_where.any(-1)

    def extra_repr(self) -> str:
        """The configuration."""
        return f"temperature={self.temperature}"
