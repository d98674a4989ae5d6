"""Vectors of batches of any size in the memory of a part: encode without a graph, and once more, part by part, backwards."""

# mypy: allow-untyped-calls

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rankwell import keyed

__all__ = ["in_chunks", "seeded"]


def in_chunks(
    run: Callable[[int], Tensor], chunks: int, *, key: int, cached: bool = True, device: torch.device | str = "cpu"
) -> Float[Tensor, "n d"]:
    r"""The vectors that ``run`` gives for chunk 0, 1, …, one behind the other, ready for any loss.

    .. math:: \frac{\partial \ell}{\partial \theta}
        = \sum_c \left(\frac{\partial \ell}{\partial V_c}\right)^{\!\top} \frac{\partial V_c}{\partial \theta}

    With ``cached`` they are made without a graph. When the gradient of the loss comes back to them, each chunk is run
    once more, with a graph, and its share of that gradient goes on into the parameters at once. Memory is then that of one
    chunk and of the vectors, whatever the number of chunks; time that of a second forward pass. Without ``cached`` the
    graph of all chunks is kept, and the gradients are the same.

    Several encoders are several calls; the loss sees ordinary tensors. torch's global generator, from which dropout
    draws, is seeded for each chunk by (``key``, chunk), in both passes, and is afterwards as it was: both see the same
    dropout, and a step does not depend on what was drawn before it.

    ``run`` must do the same each time but for what it draws; modes of modules must not change before the backward pass.
    Gradients go to leaves by ``backward``: ``torch.autograd.grad`` does not see through, and second derivatives do not exist.

    Args:
        run: from the number of a chunk to its vectors.
        chunks: how many there are.
        key: what the random numbers are keyed by.
        cached: whether to go without the graph.
        device: where dropout draws.

    >>> weight, rows = torch.ones(2, requires_grad=True), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> in_chunks(lambda chunk: rows[chunk : chunk + 1] * weight, 2, key=0).square().sum().backward()
    >>> weight.grad  # 2 (1 + 9), 2 (4 + 16)
    tensor([20., 40.])

    Source: :cite:`gao2021cache`, gradient caching; equation number unchecked. Differs from it: random states are keyed
    instead of saved.
    """

    def carry_out(chunk: int) -> Tensor:
        with seeded(keyed.mix(key, chunk), device):
            return run(chunk)

    if not cached or not torch.is_grad_enabled():
        return torch.cat([carry_out(chunk) for chunk in range(chunks)])
    vectors: Tensor = _Cached.apply(torch.empty(0, requires_grad=True), carry_out, chunks)
    return vectors


@contextmanager
def seeded(key: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """torch's global generators, seeded by the key inside, and behind it as they were."""
    device = torch.device(device)
    beside: dict[str, Any] = {} if device.type == "cpu" else {"device_type": device.type}
    with torch.random.fork_rng(devices=[device] if beside else [], **beside):
        torch.manual_seed(key)
        yield


class _Cached(torch.autograd.Function):
    """Gives chunks without a graph; its backward pass makes the graph of one at a time."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, run: Callable[[int], Tensor], chunks: int) -> Tensor:  # noqa: ARG004
        # The anchor alone makes autograd come back here: parameters are inputs of ``run``, not of this function.
        parts = [run(chunk) for chunk in range(chunks)]
        ctx.run, ctx.sizes = run, [len(part) for part in parts]
        return torch.cat(parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        for chunk, share in enumerate(gradient.split(ctx.sizes)):
            with torch.enable_grad():
                part = ctx.run(chunk)
            if part.requires_grad:
                torch.autograd.backward(part, share)
        return None, None, None
