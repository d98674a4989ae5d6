"""Evaluation against the whole catalogue: every item that the user does not know yet competes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell.errors import ConfigError, InputError
from rankwell.evaluation.recommended import Background, check_recommended, measure_recommended
from rankwell.evaluation.top import Progress, TopItems, count_tied, scored_blocks, top_of_rows
from rankwell.lists import take_lists
from rankwell.metrics import METRICS, Measure, evaluate_measures
from rankwell.metrics.registry import RESULTS
from rankwell.models.registry import check_known
from rankwell.types import FullRanker, Ragged

__all__ = ["Evaluation", "check_binary", "evaluate"]

LIST_VALUES = 1 << 14
"""Places in lists that are measured at once: many blocks of short lists, since metrics take many small steps; but fewer
numbers than torch would spread over threads (2¹⁵), whose starts would cost more than the steps."""

SHOWN = ""
"""Whose values are recommended items, among those of measures, none of which is called so."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Measures of each user, on the CPU."""

    users: Int[Tensor, " u"]
    """Codes of the users evaluated, those with held-out items, in the order asked for."""
    values: dict[str, Tensor]
    """By the measure's text: one float32 value a user ``[u]``; NaN where the user does not count for the measure, as one
    who has no irrelevant candidate for ``auc``. Of measures of all users together (``coverage@20``) one number, ``[]``."""
    without_held_out: int
    """Users asked for that have no held-out item, and so no value."""

    def means(self) -> dict[str, float]:
        """Means over the users that count for the measure, NaN where nobody does; of one number that number.

        >>> Evaluation(torch.tensor([0, 3]), {"recall@2": torch.tensor([0.5, 1.0])}, without_held_out=2).means()
        {'recall@2': 0.75}
        """
        return {name: float(values.double().nanmean()) for name, values in self.values.items()}


def check_binary(measure: Measure) -> Measure:
    """The measure, or :class:`ConfigError` where it would find nothing relevant, since held-out pairs have no grades.

    >>> check_binary(Measure.parse("recall(rel=4)@20"))
    Traceback (most recent call last):
    rankwell.errors.ConfigError: recall(rel=4)@20: held-out items have the relevance 1: rel must be at most 1, got 4.
    """
    rel = measure.settings.get("rel")
    if isinstance(rel, float) and rel > 1:
        raise ConfigError(f"{measure}: held-out items have the relevance 1: rel must be at most 1, got {rel:g}.")
    return measure


@torch.no_grad()
def evaluate(
    model: FullRanker,
    measures: Sequence[Measure],
    *,
    known: Ragged,
    held_out: Ragged,
    gains: Float[Tensor, " n"] | None = None,
    users: Int[Tensor, " n"] | None = None,
    background: Background | None = None,
    block: int = 256,
    progress: Progress | None = None,
) -> Evaluation:
    """Rank the catalogue without the known items for every user with held-out items, and measure the lists.

    ``known`` and ``held_out`` hold a list of item codes for each user; ``users`` chooses and orders users, None takes all.
    ``gains`` are the grades of the held-out items, beside the values of ``held_out``; 1 each without.
    Each user is scored once, whatever the measures. The conventions are LightGCN's: recall divides by all held-out items,
    the ideal list has all of them, the mean is over users with at least one.

    Equal scores are met as the measure says: the mean over all orders of what is tied, also where the cut-off divides it, or
    the order of item codes (``recall(ties=order)@20``). A measure without a cut-off (``auc``, ``ap``, ``ndcg``) sees the scores
    of the whole catalogue; that sorts every row, which costs several times the rest. An item that scores
    -inf is not ranked: a held-out one counts as missed, as for trec_eval; only measures that need the whole list (``auc``)
    put it last. A held-out item that is also known cannot be ranked: with a cut-off it counts as missed, as in LightGCN's
    code; without one it is left out.

    Measures of recommended items (``coverage@20``) are of the first items of the same ranking, ties by the lower item code, as
    :func:`top_items` recommends them, to the users that are evaluated. ``background`` is what they know beside it; without, the
    known items are each user's history, and the columns of items are unknown.

    Memory: ``block`` · items scores, about three times that for measures without a cut-off, and the values. Time: the model's,
    plus what :func:`top_items` states.

    Raises :class:`InputError` where there is nobody to evaluate, two measures are the same, or a score is NaN, and
    :class:`ConfigError` for a measure that asks for graded relevance where there are no ``gains``, or of recommended items
    where the background does not tell what it needs.
    """
    if not measures or len({str(measure) for measure in measures}) < len(measures):
        raise InputError(f"measures must be at least one, each once: got {[str(measure) for measure in measures]}.")
    if gains is None:
        for measure in measures:
            check_binary(measure)
        gains = torch.ones(held_out.values.numel(), device=held_out.values.device)
    num_users = held_out.offsets.numel() - 1
    check_known(known, num_users, model.num_items)
    check_known(held_out, num_users, model.num_items)
    asked = torch.arange(num_users) if users is None else users
    evaluated = asked[held_out.offsets.diff().to(asked.device)[asked] > 0]
    if evaluated.numel() == 0:
        raise InputError(f"at least one user must have held-out items: none of {asked.numel()} has.")
    recommended = [measure for measure in measures if measure.kind in RESULTS]
    if recommended:
        background = background or Background.of(known, model.num_items)
        check_recommended(recommended, background)
    values: dict[str, list[Tensor]] = {}
    for part in _measured_parts(model, measures, evaluated, known, (held_out, gains), block, progress):
        for name, value in part.items():
            values.setdefault(name, []).append(value.cpu())
    found = {name: torch.cat(parts) for name, parts in values.items()}
    evaluated, without = evaluated.cpu(), asked.numel() - evaluated.numel()
    if recommended and background:
        found |= measure_recommended(
            recommended, found[SHOWN], users=evaluated, known=known, held_out=held_out, background=background
        )
    return Evaluation(evaluated, {str(measure): found[str(measure)] for measure in measures}, without)


def _measured_parts(
    model: FullRanker,
    measures: Sequence[Measure],
    users: Tensor,
    known: Ragged,
    held_out: tuple[Ragged, Tensor],
    block: int,
    progress: Progress | None,
) -> Iterator[dict[str, Tensor]]:
    """Values of consecutive users, in order for each measure; what is recommended to them, where a measure is of that."""
    cut = [measure for measure in measures if measure.k is not None and measure.kind not in RESULTS]
    whole = [measure for measure in measures if measure.k is None]
    shown = max((measure.k or 0 for measure in measures if measure.kind in RESULTS), default=0)
    by_code = shown > 0 or any(measure.settings["ties"] == "order" for measure in cut)
    k = max([shown, *(measure.k or 0 for measure in cut)])
    lists: list[_Lists] = []
    measured = 0
    for place, rows in scored_blocks(model, users, k, known, block, progress):
        if whole:
            relevant, excluded = _relevant(held_out, users[place]), take_lists(known, users[place])
            yield _measure_rows(whole, rows[:, : model.num_items], *relevant, excluded)
        if not k:
            continue
        top, tied = top_of_rows(rows, k, by_code=by_code)
        if shown:
            yield {SHOWN: top.ids[:, :shown]}
        if not cut:
            continue
        lists.append(_with_ties(rows, top, tied, held_out[0], users[place]))
        if (place.stop - measured) * k >= LIST_VALUES or place.stop == users.numel():
            relevant = _relevant(held_out, users[measured : place.stop])
            yield _measure_lists(cut, lists, *relevant, model.num_items)
            lists, measured = [], place.stop


class _Lists(NamedTuple):
    """Best items of each user, as many as are shown and what is relevant among those that share the last score."""

    ids: Tensor
    """Item codes, -1 where there are no more."""
    scores: Tensor
    unlisted: Tensor
    """How many others share the last score."""


def _with_ties(rows: Tensor, top: TopItems, tied: Tensor, held_out: Ragged, users: Tensor) -> _Lists:
    """The lists of a block, and what shares the last score of the lists that are tied."""
    unlisted = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    if not tied.numel():
        return _Lists(*top, unlisted)
    unlisted[tied] = count_tied(rows, top, tied)
    wanted = take_lists(held_out, users[tied.to(users.device)])
    row, items = tied[_rows_of(wanted).to(tied.device)], wanted.values.to(tied.device)
    border = top.scores[row, -1]
    more = (rows[row, items] == border) & (top.ids[row] != items[:, None]).all(1)
    row, items, border = row[more], items[more], border[more]
    number = row.bincount(minlength=len(rows))
    ids, scores = (nn.functional.pad(part, (0, int(number.max())), value=-1) for part in top)
    place = top.ids.shape[1] + torch.arange(len(row), device=row.device) - (number.cumsum(0) - number)[row]
    ids[row, place], scores[row, place] = items, border
    return _Lists(ids, scores, unlisted - number)


def _relevant(held_out: tuple[Ragged, Tensor], users: Tensor) -> tuple[Ragged, Tensor]:
    """Held-out items of these users, and their gains."""
    lists, gains = held_out
    places = take_lists(Ragged(lists.offsets, torch.arange(lists.values.numel(), device=lists.values.device)), users)
    return Ragged(places.offsets, lists.values[places.values]), gains[places.values].float()


def _measure_lists(
    measures: list[Measure], lists: Sequence[_Lists], relevant: Ragged, gains: Tensor, num_items: int
) -> dict[str, Tensor]:
    """Measures with a cut-off."""
    width = max(part.ids.shape[1] for part in lists)
    padded = [[nn.functional.pad(each, (0, width - each.shape[1]), value=-1) for each in part[:2]] for part in lists]
    ids, scores = (torch.cat(parts).to(relevant.values.device) for parts in zip(*padded, strict=True))
    unlisted = torch.cat([part.unlisted for part in lists]).to(ids.device)
    rows = torch.arange(ids.shape[0], device=ids.device)
    # One number a pair of list and item; those of the relevant pairs are sorted, up to the order inside a list.
    wanted, order = (_rows_of(relevant) * num_items + relevant.values).sort()
    listed = rows[:, None] * num_items + ids
    found = torch.searchsorted(wanted, listed).clamp_(max=wanted.numel() - 1)
    labels = gains[order][found].where(wanted[found] == listed, 0)
    ideal = Ragged(relevant.offsets, gains)
    return evaluate_measures(
        measures, scores, labels, where=ids >= 0, ideal=ideal, uncounted=torch.nan, unlisted=unlisted
    )


def _measure_rows(
    measures: list[Measure], scores: Tensor, relevant: Ragged, gains: Tensor, known: Ragged
) -> dict[str, Tensor]:
    """Measures without a cut-off, of the whole catalogue."""
    if bool(scores.isnan().any()):
        raise InputError("scores of items must not be NaN: the model gave NaN. Did its training diverge?")
    labels = torch.zeros_like(scores)
    labels[_rows_of(relevant), relevant.values] = gains.to(labels)
    unknown = torch.ones_like(scores, dtype=torch.bool)
    unknown[_rows_of(known), known.values] = False
    ranked = unknown & (scores > -torch.inf)
    missed = unknown & ~ranked & (labels > 0)
    if not bool(missed.any()):
        return evaluate_measures(measures, scores, labels, where=ranked, uncounted=torch.nan)
    every = labels.masked_fill(~unknown, -1)  # not judged
    values = [
        evaluate_measures([measure], scores, labels, where=ranked | missed, uncounted=torch.nan)
        if METRICS[measure.name].kind == "whole"
        else evaluate_measures([measure], scores, labels, where=ranked, ideal=every, uncounted=torch.nan)
        for measure in measures
    ]
    return {name: value for part in values for name, value in part.items()}


def _rows_of(lists: Ragged) -> Tensor:
    """The list that each value belongs to."""
    return torch.repeat_interleave(lists.offsets.diff(), output_size=lists.values.numel())
