"""Head losses: hidden states against the whole item table."""

# mypy: allow-untyped-calls

import math
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rankwell.errors import InputError
from rankwell.kernels.catalogue import catalogue_losses, check_offsets
from rankwell.lists import Flat, check_count, check_positive, in_full_precision, reduce
from rankwell.losses.registry import Hidden, IdLists, ItemWeight, Targets, head_loss
from rankwell.registry import Input, Search
from rankwell.types import Mask, Ragged, Reduction, Values, Weights

__all__ = ["Head", "linear_softmax_loss", "one_an_item", "open_head"]


@head_loss(paper="wijmans2024", complexity="m d", inputs={"bias": Input("catalogue")}, softmax=True)
def linear_softmax_loss(
    hidden: Hidden,
    item_weight: ItemWeight,
    targets: Targets,
    *,
    known: IdLists | None = None,
    weights: Weights | None = None,
    log_q: Float[Tensor, " m"] | None = None,
    chunk: int | None = None,
    reduction: Reduction = "mean",
    bias: Float[Tensor, " m"] | None = None,
    temperature: Annotated[float, Search(0.01, 1.0, log=True)] = 1.0,
    label_smoothing: Annotated[float, Search(0.0, 0.5)] = 0.0,
) -> Tensor:
    r"""Cross-entropy of the softmax over all items, from hidden states and the item table, without the logits.

    .. math::
        \ell &= \sum_{i \in T} w \Big( \log \sum_{j \in C} e^{z_j} - (1 - \epsilon)\, z_i
            - \frac{\epsilon}{|C|} \sum_{j \in C} z_j \Big) \\
        z_j &= \frac{\langle h, v_j \rangle + b_j}{\tau} - [j \notin T] \log(m\, q_j)

    C is all m items but the row's known ones, which T, its targets, always belong to. It is ``softmax_loss`` over the scores
    of C, labelled 1 at the targets, and ``torch.nn.functional.cross_entropy`` of the logits where there is one target a row.
    Several targets add up; weigh a row by one over their number for a mean.
    Logits are made in blocks that stay in the cache, once in the forward pass and again in the backward pass. Time
    O(m d) a row, four matrix products in all; memory beyond the gradients O(d) a row, O(1) an item with ``bias`` or
    ``log_q``, and blocks of 4 MB: at 4,096 rows, a million items and 64 dimensions 8 MB where the logits would be 16 GB,
    and 1.2 times the time of the products. Half precision is computed in float32, the item table chunk by chunk. There
    are no second derivatives.

    A row weighs its value.

    Choose it for the next item, or any model that scores a hidden state against one table, wherever an epoch over the
    whole table can be waited for: it needs no sampler, no correction and no logits. With a million items or more take
    :func:`~rankwell.losses.scaled_cross_entropy_loss` or :func:`~rankwell.losses.scalable_cross_entropy_loss`. On
    Beauty, SASRec, it had NDCG@10 0.0573, 500 shared negatives with the former 0.0559, binary cross-entropy 0.0296
    (``bench/results/sequences.txt``).

    Args:
        bias: b, one an item. ``bias = τ log π`` with the shares π of the items is the logit adjustment of :cite:`menon2021`.
        log_q: where the table is a sample of m draws from the catalogue, the log-probability of one draw: the correction
            of :func:`~rankwell.transforms.correct_log_q`, of all but the row's targets. None for the whole catalogue.
        temperature: what scores are divided by.
        label_smoothing: the share of each target's label that all candidates divide evenly.

    Raises:
        InputError: if shapes, types or ids do not fit, ``temperature`` is not above 0, ``label_smoothing`` not in [0, 1) or
            ``chunk`` not above 0.

    >>> items = torch.tensor([[2.0], [1.0], [3.0]])
    >>> linear_softmax_loss(torch.ones(1, 1), items, torch.tensor([0]))  # log(1 + 1/e + e)
    tensor(1.4076)

    Source: :cite:`wijmans2024`, section 4, the logits in blocks; equation number unchecked. Differs from it: no gradient is
    skipped for being small, and known items, several targets, weights, log q and label smoothing are new.
    """
    check_positive(temperature, "temperature")
    if not 0 <= label_smoothing < 1:
        raise InputError(f"label_smoothing must be at least 0 and below 1: got {label_smoothing}.")
    check_count(chunk, "chunk", optional=True)
    head = open_head(hidden, item_weight, targets, known, weights)
    column = None if bias is None else one_an_item("bias", bias, item_weight) / temperature
    lift = None if log_q is None else math.log(len(item_weight)) + one_an_item("log_q", log_q, item_weight)
    if lift is not None:
        column = -lift if column is None else column - lift
    values = catalogue_losses(
        head.hidden / temperature, item_weight, head.targets, known=head.known, column=column, lift=lift,
        smoothing=label_smoothing, chunk=chunk,
    )  # fmt: skip
    return head.reduce(values, reduction)


# ---------------------------------------------------------------------------------------------------------------- edges


class Head(NamedTuple):
    """Checked arguments of a head loss, its rows in one dimension."""

    hidden: Tensor
    """``[r, d]``; zero in rows without a target."""
    targets: Ragged
    """One list a row; ids below 0 are absent."""
    known: Ragged | None
    weights: Tensor
    """``[r]``; zero in rows without a target."""
    valid: Mask
    """True in rows that have a target."""
    shape: torch.Size
    """That of the rows as given."""

    def reduce(self, values: Tensor, reduction: Reduction) -> Values:
        """Weigh and reduce values of rows; a row counts when it has a target."""
        return reduce((self.weights * values).reshape(self.shape), self.valid.reshape(self.shape), reduction)


def open_head(
    hidden: Tensor, item_weight: Tensor, targets: Targets, known: IdLists | None, weights: Weights | None
) -> Head:
    """Check the arguments of a head loss, and put 0 into rows without a target."""
    for name, x in {"hidden": hidden, "item_weight": item_weight}.items():
        if not x.is_floating_point():
            raise InputError(f"{name} must be floating point: got {x.dtype}. Convert by .float().")
    if hidden.ndim == 0 or item_weight.ndim != 2 or hidden.shape[-1] != item_weight.shape[1] or not len(item_weight):
        raise InputError(
            "hidden must be [*batch, d] and item_weight [m, d], with one item at least: got hidden"
            f" {tuple(hidden.shape)} and item_weight {tuple(item_weight.shape)}."
        )
    shape = hidden.shape[:-1]
    lists, there = _open_targets(targets, shape)
    known = None if known is None else _checked_lists("known", known, shape)
    # Half precision in float32, and float64 where either of the two is in it.
    dtype = torch.promote_types(torch.promote_types(hidden.dtype, item_weight.dtype), torch.float32)
    hidden = torch.where(there[:, None], hidden.reshape(shape.numel(), hidden.shape[-1]), 0).to(dtype)
    weights = hidden.new_ones(()) if weights is None else weights
    if weights.ndim > len(shape) or any(
        a not in (1, b) for a, b in zip(weights.shape[::-1], shape[::-1], strict=False)
    ):
        raise InputError(f"weights must broadcast to the rows {tuple(shape)}: got {tuple(weights.shape)}.")
    weights = torch.where(there, weights.to(dtype).expand(shape).reshape(-1), 0)
    return Head(hidden, lists, known, weights, there, shape)


def _open_targets(targets: Targets, shape: torch.Size) -> tuple[Ragged, Mask]:
    """One list of ids a row, and which rows have any."""
    if isinstance(targets, tuple):
        lists = _checked_lists("targets", targets, shape)
        check_offsets("targets", *lists)
        return lists, Flat(lists.values, lists.offsets, lists.values >= 0).count() > 0
    _check_whole("targets", targets)
    if targets.shape[: len(shape)] != shape or targets.ndim > len(shape) + 1:
        raise InputError(
            f"targets must be [*batch], [*batch, p] or ragged lists, with hidden [*batch, d]: got targets"
            f" {tuple(targets.shape)} for the rows {tuple(shape)}."
        )
    several = targets.reshape(shape.numel(), targets.shape[len(shape) :].numel())
    starts = torch.arange(shape.numel() + 1, device=targets.device) * several.shape[1]
    return Ragged(starts, several.reshape(-1)), (several >= 0).any(-1)


def _checked_lists(name: str, given: IdLists, shape: torch.Size) -> Ragged:
    """Offsets and ids by these names, if they are one list a row; a plain pair of them will do."""
    if len(given) != 2 or not all(isinstance(x, Tensor) for x in given):
        raise InputError(
            f"{name} must be the pair (offsets, ids) of tensors: got {', '.join(type(x).__name__ for x in given)}."
        )
    lists = Ragged(*given)
    _check_whole(f"ids of {name}", lists.values)
    _check_whole(f"offsets of {name}", lists.offsets)
    if lists.values.ndim != 1 or lists.offsets.shape != (shape.numel() + 1,):
        raise InputError(
            f"{name} must be offsets [rows + 1] and ids [total]: got {tuple(lists.offsets.shape)} and"
            f" {tuple(lists.values.shape)} for {shape.numel()} rows."
        )
    return lists


def _check_whole(name: str, x: Tensor) -> None:
    if x.is_floating_point() or x.dtype == torch.bool:
        raise InputError(f"{name} must be integers: got {x.dtype}.")


def one_an_item(name: str, x: Tensor, item_weight: Tensor) -> Tensor:
    """The tensor in full precision, if it is one number an item."""
    if x.shape != item_weight.shape[:1]:
        raise InputError(f"{name} must be one an item, [{len(item_weight)}]: got {tuple(x.shape)}.")
    return in_full_precision(x)
