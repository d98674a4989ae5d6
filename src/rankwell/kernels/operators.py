"""What makes an operator of a function: tracing and ``vmap`` take it whole, whatever loops it runs inside.

Tracing needs to know the shapes of the outputs only, which a ``fake`` function says; ``vmap`` needs to know what a batch of
calls is:

- of a function of flat lists, one call with more lists (:func:`list_operator`);
- of a function of tensors ``[*batch, ...]``, one call with one more dimension (:func:`batch_operator`);
- of any other, a call an element (:func:`whole_operator`).

An operator computes in the precision of its arguments, under autocast too. Its derivative is an ``autograd.Function`` of
the kernel's own, or that of :func:`list_sums`. Slopes have no derivative: :func:`no_second_derivative`.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rankwell.lists import Dense, Flat, Lists, Opened
from rankwell.types import Mask, Offsets

__all__ = [
    "FlatLists",
    "Operator",
    "applied",
    "batch_operator",
    "flatten",
    "list_operator",
    "list_sums",
    "no_second_derivative",
    "refuse_second_derivative",
    "whole_operator",
]

Operator: TypeAlias = Callable[..., Any]

FIRST_LOSSES = "softmax, sampled_softmax"
"""Losses that have second derivatives, of scores."""


# ---------------------------------------------------------------------------------------------------------------- layout


class FlatLists(NamedTuple):
    """Scores of lists one behind the other, whatever the layout they came in."""

    scores: Tensor
    where: Mask
    offsets: Offsets


def flatten(opened: Opened) -> FlatLists:
    """Rows of dense lists one behind the other; ragged lists as they are."""
    scores, where = opened.scores, opened.where
    where = scores.new_ones(scores.shape, dtype=torch.bool) if where is None else where
    return FlatLists(scores.reshape(-1), where.reshape(-1), _offsets(opened.lists, scores))


def _offsets(lists: object, scores: Tensor) -> Offsets:
    """Where the lists start when they are laid one behind the other."""
    if isinstance(lists, Flat):
        return lists.offsets
    assert isinstance(lists, Dense)
    rows, n = scores.shape[:-1].numel(), scores.shape[-1]
    return torch.arange(rows + 1, device=scores.device) * n


# ------------------------------------------------------------------------------------------------------------- operators


def _define(function: Operator, fake: Operator, batch: Operator) -> Operator:
    """Define ``rankwell::name``, with its rules for tracing and for ``vmap``: ``batch(operator, size, in_dims, args)``."""
    # Not by custom_op, whose first call imports the compiler: 3 s.
    short = function.__name__.removeprefix("_")
    name = f"rankwell::{short}"
    torch.library.define(name, torch.library.infer_schema(function, mutates_args=()))

    @torch.library.impl(name, "CompositeExplicitAutograd")
    def _(first: Tensor, *args: Any) -> Any:
        kind = first.device.type
        if not torch.is_autocast_enabled(kind):
            return function(first, *args)
        with torch.autocast(kind, enabled=False):
            return function(first, *args)

    torch.library.register_fake(name, fake)
    operator: Operator = getattr(torch.ops.rankwell, short)

    @torch.library.register_vmap(name)
    def _(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        outputs = batch(operator, info.batch_size, in_dims, args)
        return outputs, 0 if isinstance(outputs, Tensor) else (0,) * len(outputs)

    return operator


def _each(change: Callable[[Tensor], Tensor], outputs: Any) -> Any:
    return change(outputs) if isinstance(outputs, Tensor) else tuple(change(x) for x in outputs)


def _stacked(x: Any, dim: Any, size: int) -> Any:
    """A tensor with the batch in front; anything else as it is."""
    if not isinstance(x, Tensor):
        return x
    return x.movedim(dim, 0) if isinstance(dim, int) else x.expand(size, *x.shape)


def _like_first(first: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(first)


def list_operator(function: Operator, fake: Operator = _like_first) -> Operator:
    """The operator of a function of tensors ``[total]``, of ``offsets`` and of numbers, with outputs one an item or one a
    list. Without ``fake``: one output, like the first tensor.
    """
    tensors = list(inspect.signature(function).parameters).index("offsets")

    def more_lists(operator: Operator, size: int, in_dims: tuple[Any, ...], args: Any) -> Any:
        flat = [_stacked(x, dim, size) for x, dim in zip(args[:tensors], in_dims, strict=False)]
        flat = [x if x is None else x.reshape(-1) for x in flat]
        offsets, *own = args[tensors:]
        total = flat[0].shape[0] // size
        starts = torch.arange(size, device=offsets.device)[:, None] * total + offsets[:-1]
        outputs = operator(*flat, torch.cat([starts.reshape(-1), offsets.new_full((1,), size * total)]), *own)
        return _each(lambda x: x.reshape(size, x.shape[0] // size), outputs)

    return _define(function, fake, more_lists)


def batch_operator(function: Operator, fake: Operator) -> Operator:
    """The operator of a function of tensors that all have the same ``*batch`` in front, as all outputs do."""

    def one_more_dimension(operator: Operator, size: int, in_dims: tuple[Any, ...], args: Any) -> Any:
        return operator(*(_stacked(x, dim, size) for x, dim in zip(args, in_dims, strict=True)))

    return _define(function, fake, one_more_dimension)


def whole_operator(function: Operator, fake: Operator) -> Operator:
    """The operator of a function of any tensors, with several outputs."""

    def one_by_one(operator: Operator, size: int, in_dims: tuple[Any, ...], args: Any) -> Any:
        calls = [
            operator(*(x.select(dim, i) if isinstance(dim, int) else x for x, dim in zip(args, in_dims, strict=True)))
            for i in range(size)
        ]
        return tuple(torch.stack(outputs) for outputs in zip(*calls, strict=True))

    return _define(function, fake, one_by_one)


# ----------------------------------------------------------------------------------------------------------- derivatives


def refuse_second_derivative(grads: Iterable[Tensor | None], what: str, instead: str = FIRST_LOSSES) -> None:
    """Raise where slopes were given gradients: when somebody differentiates ``what`` a second time."""
    if not torch.compiler.is_compiling() and any(grad is not None for grad in grads):
        raise NotImplementedError(
            f"{what} have no second derivatives. Take the penalty of a gradient from another loss ({instead}), or leave"
            " create_graph out."
        )


def no_second_derivative(operator: Operator, what: str, instead: str = FIRST_LOSSES) -> Operator:
    """The operator that makes slopes of ``what``, where differentiating it is an error and not a zero."""

    class Slopes(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*inputs: Any) -> Any:
            return operator(*inputs)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: ARG004
            refuse_second_derivative(grads, what, instead)

    def slopes(*inputs: Any) -> Any:
        return operator(*inputs) if torch.compiler.is_compiling() else Slopes.apply(*inputs)

    return slopes


def applied(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    """``function.apply``; its forward alone where no gradient is asked for and ``torch.compile``, which then takes no
    function whose arguments are ``*inputs``, traces it."""
    tracked = torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
    return function.apply(*inputs) if tracked or not torch.compiler.is_compiling() else function.forward(*inputs)


def list_sums(function: Operator, what: str, *, constants: int = 0) -> Callable[..., tuple[Tensor, ...]]:
    """From a function that gives the sums of lists with their slopes, one that is differentiable by a multiplication.

    ``function`` takes ``scores``, ``labels``, ``weights``, ``where`` and ``offsets`` of flat lists, and its own numbers. It
    gives the sum of each list, as many ``constants`` of each list, and the slopes of the sums by scores and by weights,
    the latter empty where weights are None. What is returned takes ``lists`` of any layout, the four tensors (whatever
    broadcasts to the scores, or None) and the numbers, and gives the sums and constants.
    """

    def fake(scores: Tensor, _labels: Any, weights: Any, _where: Any, offsets: Tensor, *_: Any) -> tuple[Tensor, ...]:
        by_weights = torch.empty_like(scores[:0] if weights is None else scores)
        of_lists = (scores.new_empty(offsets.shape[0] - 1) for _ in range(1 + constants))
        return *of_lists, torch.empty_like(scores), by_weights

    operator = list_operator(function, fake)

    class Sums(torch.autograd.Function):
        """The slopes come with the sums, as outputs whose own gradient is an error, not a zero: it is asked for when
        somebody differentiates a second time.
        """

        generate_vmap_rule = True

        @staticmethod
        def forward(_: Tensor | None, *inputs: Any) -> Any:
            return operator(*inputs)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
            *others, by_scores, by_weights = output[1:]
            if torch.compiler.is_compiling():  # no second derivatives there in any case
                others += [by_scores, by_weights]
            ctx.mark_non_differentiable(*others)
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(inputs[0], by_scores, by_weights if ctx.needs_input_grad[3] else None)
            ctx.none_of_rest = (None,) * (len(inputs) - 4)

        @staticmethod
        def backward(ctx: Any, grad: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
            segment, by_scores, by_weights = ctx.saved_tensors
            refuse_second_derivative(others, what)
            if grad is None:
                return None, None, None, None, *ctx.none_of_rest
            if segment is None:  # lists of one length
                grad = grad[:, None]
                shape = (grad.shape[0], by_scores.shape[0] // max(grad.shape[0], 1))
            else:
                grad, shape = grad.index_select(0, segment), by_scores.shape
            by_scores, by_weights = (
                None if slopes is None else (grad * slopes.view(shape)).view(-1) for slopes in (by_scores, by_weights)
            )
            return None, by_scores, None, by_weights, *ctx.none_of_rest

    def sums(lists: Lists, scores: Tensor, *others: Any) -> tuple[Tensor, ...]:
        tensors, own = others[:3], others[3:]
        flat = [x if x is None else x.expand(scores.shape).reshape(-1) for x in (scores, *tensors)]
        inputs = (*flat, _offsets(lists, scores), *own)
        outputs = applied(Sums, lists.segment if isinstance(lists, Flat) else None, *inputs)
        shape = lists.lengths.shape if isinstance(lists, Flat) else scores.shape[:-1]
        return tuple(x.reshape(shape) for x in outputs[: 1 + constants])

    return sums
