"""Operators over flat lists: what a loop over blocks of lists computes, taken whole by tracing and by ``vmap``.

An operator is a function of tensors ``[total]``, of ``offsets`` and of numbers; its outputs are ``[total]`` too. A batch
of calls is one call with more lists.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rankwell.lists import Dense, Flat, Opened
from rankwell.types import Mask, Offsets

__all__ = ["FlatLists", "flatten", "list_operator", "no_second_derivative"]


class FlatLists(NamedTuple):
    """Scores of lists one behind the other, whatever the layout they came in."""

    scores: Tensor
    where: Mask
    offsets: Offsets


def flatten(opened: Opened) -> FlatLists:
    """Rows of dense lists one behind the other; ragged lists as they are."""
    scores, where, lists = opened.scores, opened.where, opened.lists
    where = scores.new_ones(scores.shape, dtype=torch.bool) if where is None else where
    if isinstance(lists, Flat):
        return FlatLists(scores, where, lists.offsets)
    assert isinstance(lists, Dense)
    rows, n = scores.shape[:-1].numel(), scores.shape[-1]
    return FlatLists(scores.reshape(-1), where.reshape(-1), torch.arange(rows + 1, device=scores.device) * n)


def list_operator(function: Callable[..., Any], *dtypes: torch.dtype | None) -> Callable[..., Any]:
    """Define ``rankwell::name`` from a function, with its rules for tracing and ``vmap``.

    ``dtypes``: one an output, None for that of the first tensor. Not by ``custom_op``, whose first call imports the
    compiler: 3 s.
    """
    short = function.__name__.removeprefix("_")
    name = f"rankwell::{short}"
    tensors = list(inspect.signature(function).parameters).index("offsets")
    torch.library.define(name, torch.library.infer_schema(function, mutates_args=()))
    torch.library.impl(name, "CompositeExplicitAutograd", function)
    operator: Callable[..., Any] = getattr(torch.ops.rankwell, short)

    @torch.library.register_fake(name)
    def _(first: Tensor, *_: Any) -> Tensor | tuple[Tensor, ...]:
        outputs = tuple(torch.empty_like(first, dtype=dtype or first.dtype) for dtype in dtypes)
        return outputs if len(outputs) > 1 else outputs[0]

    @torch.library.register_vmap(name)
    def _(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        size = info.batch_size
        flat = [
            (x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)).reshape(-1)
            for x, dim in zip(args[:tensors], in_dims, strict=False)
        ]
        offsets, *own = args[tensors:]
        total = flat[0].shape[0] // size
        starts = torch.arange(size, device=offsets.device)[:, None] * total + offsets[:-1]
        outputs = operator(*flat, torch.cat([starts.reshape(-1), offsets.new_full((1,), size * total)]), *own)
        if len(dtypes) == 1:
            return outputs.reshape(size, total), 0
        return tuple(x.reshape(size, total) for x in outputs), (0,) * len(dtypes)

    return operator


def no_second_derivative(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The operator that makes slopes, where differentiating it is an error and not silently zero."""

    class Slopes(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*inputs: Any) -> Tensor:
            return operator(*inputs)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            raise NotImplementedError(
                "losses of soft ranks have no second derivatives. Take the penalty of a gradient from another loss"
                " (softmax, sampled_softmax), or leave create_graph out."
            )

    def slopes(*inputs: Any) -> Tensor:
        if torch.compiler.is_compiling():  # no second derivatives there in any case
            return operator(*inputs)
        return Slopes.apply(*inputs)  # type: ignore[no-any-return]

    return slopes
