"""Retrieval data as whole lists: what list losses and teachers' scores are about."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rankwell.data.retrieval import Retrieval
from rankwell.errors import ConfigError
from rankwell.lists import offsets_from_sizes
from rankwell.losses import LOSSES
from rankwell.tasks.settings import Config, refuse_watching
from rankwell.training.text_lists import TextListBatches, TextListObjective, TextLists
from rankwell.types import Ragged

__all__ = ["lists_of", "refuse_of_rows", "text_list_batches", "text_list_objective"]


def refuse_of_rows(given: Mapping[str, Any], sections: Sequence[str]) -> dict[str, Any]:
    """Empty sections; :class:`ConfigError` where one of them is given, since whole lists choose neither rows nor negatives."""
    if extra := [section for section in sections if given.get(section)]:
        raise ConfigError(f"{extra[0]}: data.rows lists takes whole lists, each once a pass. Leave it out.")
    refuse_watching(given, "data.rows lists")
    return {section: {} for section in sections}


def lists_of(part: Retrieval, *, targets: str = "grades") -> TextLists:
    """The lists of a part: of each pair with what it is to be told from, where the data have hard negatives; else of each
    query with all its judged documents.

    Labels are the grades, 1 and 0 beside hard negatives, or with the ``targets`` "teacher" the teacher's scores. Lists that
    tell nothing apart, of one document or, without a teacher, of one grade, are left out. Raises :class:`ConfigError` where
    none is left, or there are no teacher's scores to be labels.
    """
    found = _of_judgements(part) if part.negatives is None else _of_negatives(part)
    sizes = found.offsets.diff()
    keep = sizes > 1
    if found.teacher is None:
        first = found.labels[torch.repeat_interleave(found.offsets[:-1], sizes)]
        keep = (
            torch.zeros(len(sizes)).index_add_(0, torch.repeat_interleave(sizes), (found.labels != first).float()) > 0
        )
    if not bool(keep.any()):
        raise ConfigError(
            "data.rows lists: at least one query must have two documents of different grades, or a positive and a negative:"
            " none has. Give labelled lists or triplets, or train on pairs."
        )
    inside = torch.repeat_interleave(keep, sizes)
    teacher = None if found.teacher is None else found.teacher[inside]
    labels = found.labels[inside]
    if targets == "teacher":
        if teacher is None:
            raise ConfigError(
                "data.targets teacher: the data must have a teacher's scores: there is no column 'scores'."
            )
        labels = teacher
    return TextLists(
        found.queries[inside],
        found.documents[inside],
        labels,
        teacher,
        offsets_from_sizes(sizes[keep]),
        torch.arange(int(keep.sum())),
    )


def text_list_objective(config: Config, model: nn.Module, part: Retrieval, whole: Retrieval) -> TextListObjective:
    """The list loss on scores of pairs of the part. ``whole`` is what refitting takes, and must be taught where the part is."""
    entry = LOSSES[str(config.loss["name"])]
    if entry.kind != "list":
        raise ConfigError(
            f"loss {entry.name!r} is of kind {entry.kind!r}: data.rows lists takes list losses. 'rankwell losses' lists them."
        )
    given = config.parameters("loss")
    own = {name: value for name, value in given.items() if name in entry.parameters}
    temperature = 1.0 if "temperature" in own else float(given.get("temperature", 1.0))
    taught = lists_of(part, targets=_targets(config)).teacher is not None
    needed = _targets(config) == "teacher" or any(
        each.required for name, each in entry.inputs.items() if name == "teacher"
    )
    if taught and needed and config.training.refit and lists_of(whole).teacher is None:
        raise ConfigError(
            "training.refit trains on the validation part too, which has no teacher's scores: give it some, or leave refit out."
        )
    bound = partial(entry.function, **own)
    return TextListObjective(model, bound, config.seed, entry.inputs, temperature, taught)


def text_list_batches(config: Config, part: Retrieval) -> TextListBatches:
    """Whole lists in random order."""
    return TextListBatches(lists_of(part, targets=_targets(config)), config.training.batch_size, seed=config.seed)


def _targets(config: Config) -> str:
    return str(getattr(config.data, "targets", "grades"))


def _of_judgements(part: Retrieval) -> TextLists:
    sizes = part.judged.offsets.diff()
    return TextLists(
        torch.repeat_interleave(sizes),
        part.judged.values,
        part.grades,
        part.teacher,
        part.judged.offsets,
        torch.arange(len(sizes)),
    )


def _of_negatives(part: Retrieval) -> TextLists:
    """The positive first, then its negatives."""
    negatives = part.negatives
    assert negatives is not None
    asked, right = part.pairs()
    documents = _in_front(right, negatives.lists)
    labels = _in_front(
        torch.ones(len(right)), Ragged(negatives.lists.offsets, torch.zeros(len(negatives.lists.values)))
    )
    teacher: Any = None
    if negatives.scores is not None and negatives.pair_scores is not None:
        teacher = _in_front(negatives.pair_scores, Ragged(negatives.lists.offsets, negatives.scores)).values
    sizes = documents.offsets.diff()
    return TextLists(
        torch.repeat_interleave(asked, sizes),
        documents.values,
        labels.values,
        teacher,
        documents.offsets,
        torch.arange(len(sizes)),
    )


def _in_front(first: Tensor, lists: Ragged) -> Ragged:
    """Each list with its own first value before it."""
    offsets = lists.offsets + torch.arange(len(lists.offsets))
    values = first.new_empty(int(offsets[-1]))
    front = torch.zeros(len(values), dtype=torch.bool).index_fill(0, offsets[:-1], True)
    values[front], values[~front] = first, lists.values.to(first.dtype)
    return Ragged(offsets, values)
