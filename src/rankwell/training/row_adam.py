"""Adam on the rows of a batch."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from rankwell.errors import InputError
from rankwell.training.norms import limit_norms

__all__ = ["RowAdam"]

CHUNK_NUMBERS = 1 << 17
"""Weights that are worked on at once: with moments and gradients they stay in the cache."""

FEW_NUMBERS = 1 << 14
"""Below so many weights of repeated rows these are worked on again, which is faster than to leave them out. They are summed by
one thread, in their order: torch shares twice as many among threads, which race."""


class RowAdam(Optimizer):
    r"""Adam whose step reads and writes the rows that have a gradient, and no others.

    For a row with gradient g at the table's step t:

    .. math:: m &\leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
              w &\leftarrow (1 - \eta\lambda) w
              - \eta\, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Takes the uncoalesced sparse gradients of ``embedding(sparse=True)``; rows that occur several times are summed. Both
    moments of a row lie side by side, so that a step is two gathers and two scatters of the batch's rows. The step is
    deterministic. Time O(rows · dim); state 8 bytes a weight, and 8 bytes a row to find repeated ones.

    ``weight_decay`` (λ) is decoupled and acts on the rows of the batch alone: a table's decay is per visit, not per step.
    Where ``max_norm`` is not 0, these rows are then scaled back to that Euclidean norm at most.

    >>> table = torch.nn.Parameter(torch.ones(3, 2))
    >>> optimiser = RowAdam([table], lr=0.1)
    >>> torch.nn.functional.embedding(torch.tensor([1, 1]), table, sparse=True).sum().backward()
    >>> optimiser.step()
    >>> table
    Parameter containing:
    tensor([[1.0000, 1.0000],
            [0.9000, 0.9000],
            [1.0000, 1.0000]], requires_grad=True)

    Source: :cite:`kingma2015`, algorithm 1, lazily as in torch's ``SparseAdam``; decay as in :cite:`loshchilov2019`.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_norm: float = 0.0,
    ) -> None:
        if lr < 0 or eps <= 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            raise InputError(
                f"lr and weight_decay must be at least 0, eps above 0, betas in [0, 1): got lr {lr},"
                f" weight_decay {weight_decay}, eps {eps}, betas {betas}."
            )
        if not max_norm >= 0:
            raise InputError(f"max_norm must be at least 0, which sets no limit: got {max_norm}.")
        own = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "max_norm": max_norm}
        super().__init__(params, own)
        self._slots: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the rows that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._update(table, table.grad, group)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: ARG002
        """Drop the gradients; torch's own takes as long as three small operators."""
        for group in self.param_groups:
            for table in group["params"]:
                table.grad = None

    def _update(self, table: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        if not grad.is_sparse or table.ndim != 2:
            raise InputError("RowAdam needs sparse gradients of a table [rows, dim]: look it up with sparse=True.")
        state = self.state[table]
        if not state:
            state["step"] = 0
            state["moments"] = torch.zeros(len(table), 2, table.shape[1], dtype=table.dtype, device=table.device)
        state["step"] += 1
        # Both corrections in the step's size and in epsilon, which saves a pass over the rows.
        beta1, beta2 = group["betas"]
        correction1, correction2 = 1 - beta1 ** state["step"], math.sqrt(1 - beta2 ** state["step"])
        smallest = torch.finfo(table.dtype).tiny
        for chosen, slopes in self._chunks(table, grad._indices()[0], grad._values()):
            moments = state["moments"].index_select(0, chosen)
            first, second = moments.unbind(1)
            first.lerp_(slopes, 1 - beta1)
            second.mul_(beta2).addcmul_(slopes, slopes, value=1 - beta2)
            _put(state["moments"], chosen, moments)  # at once, while their places are in the cache
            # Not of 0: roots of zeros, as of denormal numbers, take the processor ten times as long.
            spread = second.add(smallest).sqrt_().add_(group["eps"] * correction2)
            weights = table.index_select(0, chosen)
            if group["weight_decay"]:
                weights.mul_(1 - group["lr"] * group["weight_decay"])
            weights.addcdiv_(first, spread, value=-group["lr"] * correction2 / correction1)
            if group["max_norm"]:
                limit_norms(weights, group["max_norm"])
            _put(table, chosen, weights)

    def _chunks(self, table: Tensor, rows: Tensor, row_grads: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        """Rows with the sum of all gradients of each, found without a sort or a search, in chunks that stay in the cache.

        Within a chunk a row may occur again, with the same sum.
        """
        together = max(1, CHUNK_NUMBERS // table.shape[1]) if table.device.type == "cpu" else max(1, len(rows))
        if table not in self._slots:
            self._slots[table] = torch.zeros(len(table), dtype=torch.int64, device=table.device)
        slots, places = self._slots[table], torch.arange(len(rows), device=rows.device)
        # The last of the occurrences, not any one of them: threads that write race, and sums depend on their order.
        slots.scatter_reduce_(0, rows, places, "amax", include_self=False)
        last = slots.index_select(0, rows)
        again = (last != places).nonzero().squeeze(1)
        if len(rows) <= together and not len(again):
            return [(rows, row_grads)]
        if len(rows) <= together and len(again) * table.shape[1] < FEW_NUMBERS:
            of, sums = last.index_select(0, again), row_grads.clone()
            sums.index_put_((of,), row_grads.index_select(0, again), accumulate=True)
            return [(rows, sums.index_copy_(0, again, sums.index_select(0, of)))]
        once = (last == places).nonzero().squeeze(1)
        slots.index_copy_(0, rows.index_select(0, once), places[: len(once)])
        sums = row_grads.index_select(0, once)
        sums.index_add_(0, slots.index_select(0, rows.index_select(0, again)), row_grads.index_select(0, again))
        chosen = rows.index_select(0, once)
        return zip(torch.split(chosen, together), torch.split(sums, together), strict=True)


def _put(table: Tensor, rows: Tensor, values: Tensor) -> None:
    """Write rows, by sixteen bytes where their length is a multiple: torch copies number by number."""
    if values.shape[-1] * values.element_size() % 16 == 0 and values.numel():
        table, values = table.view(torch.complex128), values.view(torch.complex128)
    table.index_put_((rows,), values)
