"""Operators that tracing takes whole, whatever loops they run inside."""

# mypy: allow-untyped-calls, allow-untyped-decorators

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["no_second_derivative", "whole_operator"]


def whole_operator(function: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """Define ``rankwell::name`` from a function, which tracing takes whole and ``vmap`` calls once an element.

    It computes in the precision of its arguments, under autocast too.
    """
    # Not by custom_op, whose first call imports the compiler: 3 s.
    short = function.__name__.removeprefix("_")
    name = f"rankwell::{short}"
    torch.library.define(name, torch.library.infer_schema(function, mutates_args=()))

    @torch.library.impl(name, "CompositeExplicitAutograd")
    def _(first: Tensor, *args: Any) -> Any:
        with torch.autocast(first.device.type, enabled=False):
            return function(first, *args)

    torch.library.register_fake(name, fake)
    operator: Callable[..., Any] = getattr(torch.ops.rankwell, short)

    @torch.library.register_vmap(name)
    def _(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        calls = [
            operator(*(x.select(dim, i) if isinstance(dim, int) else x for x, dim in zip(args, in_dims, strict=True)))
            for i in range(info.batch_size)
        ]
        return tuple(torch.stack(outputs) for outputs in zip(*calls, strict=True)), (0,) * len(calls[0])

    return operator


def no_second_derivative(operator: Callable[..., Any]) -> Callable[..., Any]:
    """The operator that makes slopes, where differentiating it is an error and not a zero."""

    class Slopes(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*inputs: Any) -> Any:
            return operator(*inputs)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            raise NotImplementedError(
                "losses over a catalogue have no second derivatives. Take the penalty of a gradient from another loss"
                " (softmax, sampled_softmax), or leave create_graph out."
            )

    def slopes(*inputs: Any) -> Any:
        if torch.compiler.is_compiling():  # no second derivatives there in any case
            return operator(*inputs)
        return Slopes.apply(*inputs)

    return slopes
