"""Head losses that hold each row against the items near it only, found by random directions."""

# mypy: allow-untyped-calls

import math
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.kernels.buckets import Plan, bucketed_losses
from rankwell.lists import check_count, check_positive
from rankwell.losses.head import Head, one_an_item, open_head
from rankwell.losses.registry import Hidden, IdLists, ItemWeight, Targets, head_loss
from rankwell.registry import Input, Search
from rankwell.types import Reduction, Weights

__all__ = ["reduced_cross_entropy_loss", "scalable_cross_entropy_loss"]

SCORES = 1 << 20
"""Scores of directions made at once."""

PIECE = 1 << 16
"""Vectors brought to full precision at once."""

# No number of the data, but no parameter either: who calls has it, and no command line or tuning shows it.
RANDOM = {"generator": Input("scalar")}


@head_loss(paper="mezentsev2024", complexity="buckets d (m + rows items)", inputs=RANDOM)
def scalable_cross_entropy_loss(
    hidden: Hidden,
    item_weight: ItemWeight,
    targets: Targets,
    *,
    known: IdLists | None = None,
    weights: Weights | None = None,
    log_q: Float[Tensor, " m"] | None = None,
    chunk: int | None = None,
    reduction: Reduction = "mean",
    generator: torch.Generator | None = None,
    buckets: int | None = None,
    bucket_rows: int | None = None,
    bucket_items: int = 256,
    mix: bool = False,
    temperature: Annotated[float, Search(0.01, 1.0, log=True)] = 1.0,
) -> Tensor:
    r"""Softmax cross-entropy of a row against the items of its hardest bucket (SCE).

    .. math:: \ell = w \max_{b \ni h} \log \Big( 1 + \sum_{j \in b,\, j \ne y} e^{z_j - z_y} \Big),
        \qquad z_j = \frac{\langle h, v_j \rangle}{\tau}

    A bucket b belongs to a random direction: of all rows and of all items it holds those with the largest inner products.
    One bucket of all rows and all items makes it :func:`linear_softmax_loss`; otherwise it is a lower bound of that. A
    row in no bucket has value 0 and does not count in the mean. Known items are left out. Time O(buckets · m d) for the
    choice of items and O(buckets · rows · items · d) for the rest, forwards and backwards; memory beyond the gradients
    O(buckets · (bucket_rows + bucket_items)), O(1) an item, and blocks of 4 MB. Which rows share a bucket depends on the batch.

    A row weighs its value.

    Choose it for catalogues of a million items and steps of thousands of rows, where
    :func:`~rankwell.losses.linear_softmax_loss` takes too long: a row works on the items of its hardest bucket. It has
    three numbers to set, and rows in no bucket learn nothing in that step; :func:`reduced_cross_entropy_loss` takes all
    rows. Where some hundred shared negatives do, :func:`~rankwell.losses.scaled_cross_entropy_loss` is simpler.

    Args:
        generator: draws the directions. None: those keyed by zero, the same at every call; for training pass one.
        buckets: how many; None for twice the square root of the rows.
        bucket_rows: rows of a bucket; None for twice the square root of the rows. Absent rows take no place.
        bucket_items: items of a bucket.
        mix: directions are random mixtures of the hidden states, not Gaussian.
        temperature: what scores are divided by.

    Raises:
        InputError: if shapes, types or ids do not fit, there is more than one target a row, ``temperature`` is not above 0,
            or ``chunk`` or a number of the buckets is below 1.

    >>> items = torch.tensor([[2.0], [1.0], [3.0]])
    >>> scalable_cross_entropy_loss(torch.ones(1, 1), items, torch.tensor([0]))  # all in one bucket: log(1 + 1/e + e)
    tensor(1.4076)

    Source: :cite:`mezentsev2024`, section 3; read in its official code, equation number unchecked. Differs from the code: a
    row counts when it is in a bucket, where the code drops all rows of value 0; known items, weights, log q (as in
    :func:`linear_softmax_loss`) and a temperature; buckets are made one after the other.
    """
    numbers = {"buckets": buckets, "bucket_rows": bucket_rows, "bucket_items": bucket_items}
    head = _opened(hidden, item_weight, targets, known, weights, temperature, chunk, numbers)
    usual = math.ceil(2 * math.sqrt(max(len(head.hidden), 1)))
    plan = _nearest(head, item_weight, buckets or usual, bucket_rows or usual, bucket_items, generator, mix)
    return _reduced(head, item_weight, plan, log_q, temperature, chunk, reduction, largest=True)


@head_loss(paper="gusak2024", complexity="rounds m d (buckets + rows / chunks)", inputs=RANDOM)
def reduced_cross_entropy_loss(
    hidden: Hidden,
    item_weight: ItemWeight,
    targets: Targets,
    *,
    known: IdLists | None = None,
    weights: Weights | None = None,
    log_q: Float[Tensor, " m"] | None = None,
    chunk: int | None = None,
    reduction: Reduction = "mean",
    generator: torch.Generator | None = None,
    buckets: int | None = None,
    buckets_per_chunk: int = 1,
    extra_chunks: int = 1,
    rounds: int = 1,
    temperature: Annotated[float, Search(0.01, 1.0, log=True)] = 1.0,
) -> Tensor:
    r"""Softmax cross-entropy of a row against the items that hash near it (RECE).

    .. math:: \ell = w \log \Big( 1 + \sum_{j \in N,\, j \ne y} e^{z_j - z_y} \Big),
        \qquad z_j = \frac{\langle h, v_j \rangle}{\tau}

    In each round, rows and items are hashed to the random direction that they have the largest inner product with, sorted
    by it and cut into as many equal chunks each. N is the items of the row's own chunk and of ``extra_chunks`` on either
    side, in all rounds, each once: the sum over rounds takes log n off the logit of an item that was met n times. With as
    many extra chunks as chunks it is :func:`linear_softmax_loss`; otherwise a lower bound of it. Known items are left out. Time
    O(buckets · m d) for hashing and O(m d (1 + 2 extra) / chunks) a row and round, forwards and backwards; memory beyond the
    gradients O(rounds) a row and an item (24 B), and blocks of 4 MB. Which rows share a chunk depends on the batch.

    A row weighs its value.

    Choose it for the catalogues of :func:`scalable_cross_entropy_loss` where every row should learn at every step. More
    rounds make up for items that hash elsewhere, and each hashes and sorts all rows and items again. Where an epoch of
    the full softmax can be waited for, take :func:`~rankwell.losses.linear_softmax_loss`, which this bounds from below.

    Args:
        generator: draws the directions. None: those keyed by zero, the same at every call; for training pass one.
        buckets: directions of a round; None for twice the square root of the rows (of the items, if there are fewer).
        buckets_per_chunk: there are ``buckets // buckets_per_chunk`` chunks.
        extra_chunks: neighbouring chunks of items on either side of the row's; 3 is published for Gowalla.
        rounds: how often all is hashed anew; 8 is published for Gowalla.
        temperature: what scores are divided by.

    Raises:
        InputError: if shapes, types or ids do not fit, there is more than one target a row, ``temperature`` is not above 0,
            ``extra_chunks`` is below 0, or ``chunk`` or another number below 1.

    >>> items = torch.tensor([[2.0], [1.0], [3.0]])
    >>> reduced_cross_entropy_loss(torch.ones(1, 1), items, torch.tensor([0]), extra_chunks=2)  # log(1 + 1/e + e)
    tensor(1.4076)

    Source: :cite:`gusak2024`, section 3; read in its official code, equation number unchecked. Differs from the code: chunks
    differ by one in size, so that no item is dropped and no row is padded; the last chunks have fewer neighbours, as there;
    the default number of buckets is ours; known items, weights, log q (as in :func:`linear_softmax_loss`) and a temperature.
    """
    numbers = {"buckets": buckets, "buckets_per_chunk": buckets_per_chunk, "rounds": rounds}
    head = _opened(hidden, item_weight, targets, known, weights, temperature, chunk, numbers)
    check_count(extra_chunks, "extra_chunks", least=0)
    buckets = buckets or math.ceil(2 * math.sqrt(max(min(len(head.hidden), len(item_weight)), 1)))
    chunks = max(1, min(buckets // buckets_per_chunk, len(item_weight)))
    plan = _chunked(head, item_weight, rounds, buckets, chunks, generator)
    return _reduced(head, item_weight, plan, log_q, temperature, chunk, reduction, around=min(extra_chunks, chunks))


def _opened(
    hidden: Tensor, item_weight: Tensor, targets: Targets, known: IdLists | None, weights: Weights | None,
    temperature: float, chunk: int | None, numbers: dict[str, int | None],
) -> Head:  # fmt: skip
    check_positive(temperature, "temperature")
    for name, number in {"chunk": chunk, **numbers}.items():
        check_count(number, name, optional=True)
    if isinstance(targets, tuple) or targets.shape != hidden.shape[:-1]:
        given = "ragged lists" if isinstance(targets, tuple) else tuple(targets.shape)
        raise InputError(
            f"targets must be one a row, {tuple(hidden.shape[:-1])}: got {given}. Several a row are for linear_softmax."
        )
    return open_head(hidden, item_weight, targets, known, weights)


def _reduced(
    head: Head, item_weight: Tensor, plan: Plan, log_q: Tensor | None, temperature: float, chunk: int | None,
    reduction: Reduction, *, around: int = 0, largest: bool = False,
) -> Tensor:  # fmt: skip
    column = None if log_q is None else -math.log(len(item_weight)) - one_an_item("log_q", log_q, item_weight)
    values, there = bucketed_losses(
        head.hidden / temperature, item_weight, head.targets.values, plan, around=around, largest=largest,
        known=head.known, column=column, chunk=chunk,
    )  # fmt: skip
    return head._replace(valid=there).reduce(values, reduction)


# ----------------------------------------------------------------------------------------------------------- directions


def _nearest(
    head: Head, item_weight: Tensor, buckets: int, bucket_rows: int, bucket_items: int,
    generator: torch.Generator | None, mix: bool,
) -> Plan:  # fmt: skip
    """One block a direction, of the rows and the items that lie furthest along it."""
    rows, items = head.hidden.detach(), item_weight.detach()
    with torch.autocast(rows.device.type, enabled=False):
        directions = _normal(buckets, len(rows) if mix else rows.shape[1], generator, rows)
        directions = directions @ rows if mix else directions
        of_rows = _largest(directions, rows, min(bucket_rows, len(rows)), head.valid)
        of_items = _largest(directions, items, min(bucket_items, len(items)), None)
    filled = head.valid.sum().clamp(max=of_rows.shape[1])
    return Plan(of_rows, _ends(filled, of_rows), of_items, _ends(torch.full_like(filled, of_items.shape[1]), of_items))


def _chunked(
    head: Head, item_weight: Tensor, rounds: int, buckets: int, chunks: int, generator: torch.Generator | None
) -> Plan:
    """In each round, rows and items sorted by hash and cut into chunks; rows without a target are behind the last one."""
    rows, items = head.hidden.detach(), item_weight.detach()
    with torch.autocast(rows.device.type, enabled=False):
        directions = _normal(rounds * buckets, rows.shape[1], generator, rows).unflatten(0, (rounds, buckets))
        of_rows = torch.where(head.valid, _hashes(directions, rows), buckets).argsort(dim=1, stable=True)
        of_items = _hashes(directions, items).argsort(dim=1, stable=True)
    cuts = torch.arange(chunks + 1, device=rows.device)
    row_bounds, item_bounds = (
        (cuts * n).div(chunks, rounding_mode="floor").expand(rounds, -1) for n in (head.valid.sum(), len(items))
    )
    return Plan(of_rows.int(), row_bounds, of_items.int(), item_bounds)


def _normal(n: int, d: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Normal numbers ``[n, d]``; without a generator a fixed table of them, by the inverse of the distribution."""
    if generator is not None:
        return torch.randn(n, d, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)
    bits = keyed.draws(0, torch.arange(n, device=like.device), d, 1 << 23)
    return math.sqrt(2) * torch.erfinv((2 * bits.to(like.dtype) + 1) / (1 << 23) - 1)


def _largest(directions: Tensor, vectors: Tensor, k: int, where: Tensor | None) -> Tensor:
    """For each direction the ``k`` vectors with the largest inner products; absent ones come last."""
    chosen = []
    for some in directions.split(max(1, SCORES // max(len(vectors), 1))):
        scores = torch.cat([some @ piece.to(some.dtype).T for piece in vectors.split(PIECE)], 1)
        scores = _of_items(scores) if where is None else torch.where(where, scores, -torch.inf)
        chosen.append(scores.topk(k, dim=1).indices)
    return torch.cat(chosen)


def _hashes(directions: Tensor, vectors: Tensor) -> Tensor:
    """For each round the direction with which each vector has the largest inner product: ``[rounds, n]``."""
    step = max(1, SCORES // directions.shape[1])
    return torch.stack([
        torch.cat([_of_items(some.to(of_round.dtype) @ of_round.T).argmax(1) for some in vectors.split(step)])
        for of_round in directions
    ])  # fmt: skip


def _of_items(scores: Tensor) -> Tensor:
    """In their place: what is not finite may be masked for every row, and then lies where zeros do."""
    return scores.nan_to_num_(0, 0, 0)


def _ends(end: Tensor, order: Tensor) -> Tensor:
    """Bounds of one block a round, from 0 to ``end``."""
    return torch.stack([torch.zeros_like(end), end]).expand(order.shape[0], 2)
