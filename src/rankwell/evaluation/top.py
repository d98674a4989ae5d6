"""The best items of the whole catalogue for many queries, streamed in blocks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.lists import take_lists
from rankwell.types import FullRanker, Ragged

__all__ = ["Progress", "TopItems", "count_tied", "scored_blocks", "top_items", "top_of_rows"]

GROUP = 64
"""Items whose maximum stands for them in the first stage; rows of scores are padded to a multiple of this."""

PLANNED_BLOCKS = 16
"""Blocks whose known items are looked up at once: small parallel steps cost more by their start than by their work."""

SETTLE_VALUES = 1 << 20
"""Scores that are compared at once where ties are settled."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of queries done, and of all."""


class TopItems(NamedTuple):
    """The best items of each query, best first; equal scores by the lower item code."""

    ids: Int[Tensor, "q k"]
    """Item codes, int64; -1 where fewer than k items could be ranked."""
    scores: Float[Tensor, "q k"]
    """-inf beside -1."""


def top_items(
    model: FullRanker,
    queries: Int[Tensor, " q"],
    k: int,
    *,
    known: Ragged | None,
    block: int = 256,
    progress: Progress | None = None,
) -> TopItems:
    """The ``k`` items with the highest scores for each query, without those in the query's ``known`` list.

    Equal scores are ordered by the lower item code, also where the k-th place is shared: one list must be shown. Measures take
    the mean over all orders instead (:func:`evaluate`), since codes may tell something: files often name popular items early.
    An item with the score -inf counts as not to be recommended. ``known`` holds one list for every query code that may occur;
    None ranks everything. Results stand on the model's device.

    Scores are made in one reused buffer of ``block`` rows: memory is ``block`` · items numbers and the result. Time is the
    model's plus O(items) a query: maxima of groups of 64 items, the k + 1 best groups, and the k + 1 best items inside. Rows
    in which place k + 1 scores as much as place k, and only they, are compared with the whole catalogue once more.

    Raises :class:`InputError` where a score is NaN (known items may be), or ``k`` is below 1.

    >>> class Middle:
    ...     num_items = 4
    ...     def score_all(self, queries, out=None):
    ...         scores = torch.tensor([0.0, 2.0, 2.0, 1.0]).expand(len(queries), 4)
    ...         return scores if out is None else out.copy_(scores)
    >>> top_items(Middle(), torch.tensor([0]), 3, known=None).ids
    tensor([[1, 2, 3]])
    >>> top_items(Middle(), torch.tensor([0]), 3, known=Ragged(torch.tensor([0, 2]), torch.tensor([0, 1]))).ids
    tensor([[ 2,  3, -1]])
    """
    if k < 1:
        raise InputError(f"k must be at least 1: got {k}.")
    blocks = scored_blocks(model, queries, k, known, block, progress)
    found = [top_of_rows(rows, k, by_code=True)[0] for _, rows in blocks]
    if not found:
        return TopItems(queries.new_zeros((0, k), dtype=torch.int64), torch.zeros(0, k))
    return TopItems(torch.cat([part.ids for part in found]), torch.cat([part.scores for part in found]))


@torch.no_grad()
def scored_blocks(
    model: FullRanker,
    queries: Int[Tensor, " q"],
    k: int,
    known: Ragged | None,
    block: int,
    progress: Progress | None = None,
) -> Iterator[tuple[slice, Float[Tensor, "b width"]]]:
    """Blocks of queries with their scores: known items and the padding behind the catalogue are -inf.

    The rows are a buffer that the next block overwrites. They are padded to hold ``k`` + 1 numbers and whole groups.
    """
    if block < 1:
        raise InputError(f"block must be at least 1: got {block}.")
    _check_queries(queries, known)
    if queries.numel() == 0:
        return
    with _evaluating(model):
        like = _one_row(model, queries)
        queries = queries.to(like.device)
        width = -(-(max(model.num_items, k) + 1) // GROUP) * GROUP
        buffer = like.new_full((min(block, queries.numel()), width), -torch.inf)
        for first, chosen, places in _planned(queries, known, block, width):
            rows = buffer[: chosen.numel()]
            target = rows[:, : model.num_items]
            scores = model.score_all(chosen, out=target)
            if scores.data_ptr() != target.data_ptr():
                target.copy_(scores)
            rows.view(-1).index_fill_(0, places, -torch.inf)
            last = first + chosen.numel()
            yield slice(first, last), rows
            if progress is not None:
                progress(last, queries.numel())


def _planned(
    queries: Tensor, known: Ragged | None, block: int, width: int
) -> Iterator[tuple[int, Tensor, Int[Tensor, " n"]]]:
    """Blocks of queries, each with its start and the places of known items in its flat rows of ``width``."""
    for start in range(0, queries.numel(), PLANNED_BLOCKS * block):
        planned = queries[start : start + PLANNED_BLOCKS * block]
        places, cuts = planned.new_zeros(0, dtype=torch.int64), [0] * (PLANNED_BLOCKS + 1)
        if known is not None:
            offsets, items = take_lists(known, planned.to(known.offsets.device))
            rows = torch.arange(planned.numel(), device=items.device) % block
            rows = torch.repeat_interleave(rows, offsets.diff(), output_size=items.numel())
            places = (rows * width + items).to(queries.device)
            cuts = [*offsets[::block].tolist(), items.numel()]
        for number, first in enumerate(range(0, planned.numel(), block)):
            yield start + first, planned[first : first + block], places[cuts[number] : cuts[number + 1]]


def top_of_rows(rows: Float[Tensor, "b width"], k: int, *, by_code: bool) -> tuple[TopItems, Int[Tensor, " t"]]:
    """The ``k`` best of each row of :func:`scored_blocks`, and the rows whose last place is shared with items left out.

    Without ``by_code`` ties are in any order, and any of those that share the last place have it.
    """
    ids, scores = _best(rows, k + 1)
    if bool(scores[:, 0].isnan().any()):  # topk and maxima put NaN above everything
        raise InputError("scores of items must not be NaN: the model gave NaN. Did its training diverge?")
    tied = ((scores[:, k - 1] == scores[:, k]) & (scores[:, k - 1] > -torch.inf)).nonzero().flatten()
    ids, scores = ids[:, :k], scores[:, :k]
    if by_code:
        for part in torch.split(tied, max(1, SETTLE_VALUES // rows.shape[1])):
            _settle(rows, ids, scores, part)
        # Two stable sorts: by code, then by score.
        ids, places = ids.sort(1)
        scores, by_score = scores.gather(1, places).sort(dim=1, stable=True, descending=True)
        ids = ids.gather(1, by_score)
    return TopItems(ids.masked_fill_(scores == -torch.inf, -1), scores), tied


def count_tied(rows: Float[Tensor, "b width"], top: TopItems, tied: Int[Tensor, " t"]) -> Int[Tensor, " t"]:
    """How many items share the last place of their row's list and are not in it, of the rows that are named so."""
    border = top.scores[tied, -1:]
    parts = torch.split(tied, max(1, SETTLE_VALUES // rows.shape[1]))
    counts = [(rows[part] == top.scores[part, -1:]).sum(1) for part in parts]
    return torch.cat(counts) - (top.scores[tied] == border).sum(1)


def _best(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Items and scores of the ``count`` best of each row, best first, ties in any order."""
    number, width = rows.shape
    groups = width // GROUP
    if 2 * count > groups:
        scores, ids = rows.topk(count)
        return ids, scores
    # The groups with the best maxima hold the best items, whatever the ties.
    grouped = rows.view(number * groups, GROUP)
    best = grouped.amax(1).view(number, groups).topk(count, sorted=False).indices
    flat = best + torch.arange(0, number * groups, groups, device=rows.device)[:, None]
    scores, place = grouped.index_select(0, flat.view(-1)).view(number, -1).topk(count)
    return best.gather(1, place // GROUP) * GROUP + place % GROUP, scores


def _settle(rows: Tensor, ids: Tensor, scores: Tensor, tied: Tensor) -> None:
    """Where the k-th score is shared, give the last places to the lowest codes that have it."""
    k = ids.shape[1]
    border = scores[tied, -1:]
    better = (scores[tied] > border).sum(1)
    row, code = (rows[tied] == border).nonzero().unbind(1)  # by row, then by code
    first = torch.searchsorted(row, torch.arange(tied.numel(), device=row.device))
    place = better[row] + torch.arange(row.numel(), device=row.device) - first[row]
    inside = place < k
    ids[tied[row[inside]], place[inside]] = code[inside]


def _check_queries(queries: Tensor, known: Ragged | None) -> None:
    if queries.ndim != 1 or queries.is_floating_point() or queries.dtype == torch.bool:
        raise InputError(f"queries must be integer codes [q]: got {queries.dtype} of shape {tuple(queries.shape)}.")
    if not queries.numel():
        return
    first, last = int(queries.min()), int(queries.max())
    if first < 0 or (known is not None and last >= known.offsets.numel() - 1):
        lists = "" if known is None else f" and have a list in known, which has {known.offsets.numel() - 1}"
        raise InputError(f"queries must be codes from 0 on{lists}: got {first} to {last}.")


def _one_row(model: FullRanker, queries: Tensor) -> Tensor:
    """A row of scores, for its dtype and device."""
    row = model.score_all(queries[:1])
    if row.shape != (1, model.num_items) or not row.is_floating_point():
        raise InputError(
            f"score_all must give floating-point scores [queries, num_items = {model.num_items}]:"
            f" got {row.dtype} of shape {tuple(row.shape)} for one query."
        )
    return row


@contextmanager
def _evaluating(model: object) -> Iterator[None]:
    """The model in evaluation mode (no dropout), and back in the mode it was in."""
    if not (isinstance(model, nn.Module) and model.training):
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()
