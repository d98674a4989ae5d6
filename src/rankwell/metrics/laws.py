"""What every metric of scores and labels keeps to: each law is one function of a registry entry, as in ``losses/laws.py``.

The tests run every law on every registered metric, and ``rankwell check`` on a metric of one's own. An exception to
a law stands beside it, with its reason.
"""

# mypy: allow-untyped-calls

import itertools
import math
import typing
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from rankwell.laws import Laws, agree, shown
from rankwell.lists import offsets_from_sizes
from rankwell.metrics.measure import CONVENTIONS, Measure, evaluate_measures
from rankwell.registry import Entry, Parameter
from rankwell.types import Ragged

__all__ = ["LAWS"]

LAWS = Laws("list", "uncut", "whole")
law, usual = LAWS.law, LAWS.usual

close = partial(agree, rtol=1e-7, atol=1e-7)
close_in_float32 = partial(agree, rtol=1.3e-6, atol=1e-5)
same = partial(agree, rtol=0, atol=0)

_SUMS = {
    "dcg": "a sum of gains: its best value depends on the labels",
    "err": "a sum of chances: its best value depends on the labels",
    "rbp": "a sum over relevant items: R of them reach 1 - p^R",
}
_CORRELATIONS = {"kendall_tau": "a correlation", "spearman": "a correlation"}
_CORRECT_FOR_TIES = {
    "kendall_tau": "tau-b divides by the pairs that the scores do not tie, so that scores are judged by what they say: no mean"
    " over orders, each of which ties nothing; and to break a tie may lower it",
    "spearman": "tied items share a mean rank: the correlation with mean ranks is no mean of correlations",
}


def batch(seed: int = 0, rows: int = 6, n: int = 7, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Lists with ties and graded labels, each with a highly relevant and an irrelevant item."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-3, 3, (rows, n), generator=generator).to(dtype)
    labels = torch.randint(0, 3, (rows, n), generator=generator).to(dtype)
    labels[:, 0], labels[:, 1] = 2, 0
    return scores, labels


def some(seed: int, shape: torch.Size) -> Tensor:
    """A mask that leaves the first two items of each list."""
    where = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    where[..., :2] = True
    return where


def weights_like(scores: Tensor) -> Tensor:
    """Weights between 0.5 and 1.5."""
    return torch.rand(scores.shape, generator=torch.Generator().manual_seed(9), dtype=scores.dtype) + 0.5


def cuts(entry: Entry[Any]) -> tuple[int | None, ...]:
    """The cut-offs that a law tries."""
    return (None, 1, 3) if entry.kind == "list" else (None,)


def choices(parameters: Mapping[str, Parameter]) -> list[dict[str, Any]]:
    """The defaults, and another value of each own parameter and convention that says what else it may be."""
    found = ((name, _other(known)) for name, known in {**parameters, **CONVENTIONS}.items())
    return [{}, *({name: value} for name, value in found if value is not None)]


def _other(parameter: Parameter) -> Any:
    kind, search, default = parameter.annotation, parameter.search, parameter.default
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    if typing.get_origin(kind) is Literal:
        return next((value for value in typing.get_args(kind) if value != default), None)
    if isinstance(default, bool):
        return not default
    if search is not None and isinstance(default, int | float):
        middle = type(default)((search.low + search.high) / 2)
        return middle if middle != default else type(default)(search.high)
    return 1.25 if parameter.name == "rel" else None


# -------------------------------------------------------------------------------------------------- what the values mean


@law()
def perfect_ranking_is_best(entry: Entry[Any]) -> None:
    """No order has a higher value than scores that order and tie the items as the labels do."""
    labels = torch.tensor([[0.0, 3.0, 1.0, 0.0, 2.0], [1.0, 1.0, 1.0, 0.0, 0.0]])
    orders = torch.tensor(list(itertools.permutations(range(-1, 4))), dtype=labels.dtype)
    given: dict[str, Any] = {"k": 3 if entry.kind == "list" else None, "reduction": "none"}
    for ties in ("expected", "order"):
        best = torch.stack([entry(orders, row.expand_as(orders), ties=ties, **given).max() for row in labels])
        values = entry(labels * 2 - 5, labels, ties=ties, **given)
        close_in_float32(values, torch.maximum(values, best))


@usual(**_SUMS)
def perfect_ranking_is_one(entry: Entry[Any]) -> None:
    """Scores that order and tie the items as the labels do have the value 1."""
    _perfect(entry, "expected")


@usual(**_SUMS, **_CORRECT_FOR_TIES)
def perfect_order_is_one(entry: Entry[Any]) -> None:
    """Where the input order decides ties, scores that order the items as the labels do have the value 1."""
    _perfect(entry, "order")


def _perfect(entry: Entry[Any], ties: str) -> None:
    # Precision and recall are both 1 only where k is the number of relevant items: three in each list.
    labels = torch.tensor([[0.0, 3.0, 1.0, 0.0, 2.0], [1.0, 1.0, 1.0, 0.0, 0.0]])
    k = 3 if entry.kind == "list" else None
    close_in_float32(entry(labels * 2 - 5, labels, k=k, ties=ties, reduction="none"), torch.ones(2))


@usual(**_SUMS)
def size_is_at_most_one(entry: Entry[Any]) -> None:
    """Values are between -1 and 1."""
    for seed in range(5):
        values = entry(*batch(seed, dtype=torch.float32), reduction="none")
        assert (values.abs() <= 1 + 1e-6).all(), f"got {shown(values)}, expected sizes of at most 1"


@usual(**_CORRELATIONS)
def values_are_not_negative(entry: Entry[Any]) -> None:
    """No value is below 0."""
    for seed in range(5):
        values = entry(*batch(seed, dtype=torch.float32), reduction="none")
        assert (values >= 0).all(), f"got {shown(values)}, expected at least 0"


@usual("list", f1="its precision divides by k", precision="k is its denominator, also beyond the list (trec_eval)")
def cut_beyond_the_list_is_none(entry: Entry[Any]) -> None:
    """A cut-off at the length of the list, or beyond it, changes nothing."""
    scores, labels = batch()
    n = scores.shape[-1]
    whole = entry(scores, labels, reduction="none")
    for beyond in (n, n + 1, 10 * n):
        close(entry(scores, labels, k=beyond, reduction="none"), whole)


@law("list")
def beyond_the_cut_nothing_counts(entry: Entry[Any]) -> None:
    """What stands behind the first k positions earns nothing, in whichever order it stands."""
    _, labels = batch()
    scores = -torch.arange(7, dtype=labels.dtype).expand_as(labels)
    for k in (1, 3):
        expected = entry(scores, labels, k=k, reduction="none")
        moved = torch.cat([labels[:, :k], labels[:, k:].flip(-1)], -1)
        close(entry(scores, moved, k=k, reduction="none"), expected)
        missed = torch.where(scores > -k, 0, torch.ones_like(labels))
        close(entry(scores, missed, k=k, reduction="none"), torch.zeros_like(expected))


@law()
def only_the_order_of_scores_counts(entry: Entry[Any]) -> None:
    """Scores that are scaled, shifted or exponentiated have the same value."""
    scores, labels = batch()
    for k in cuts(entry):
        expected = entry(scores, labels, k=k, reduction="none")
        for alike in (scores * 1e4, scores - 100, scores.exp(), scores * 20):
            close(entry(alike, labels, k=k, reduction="none"), expected)


@law(**_CORRECT_FOR_TIES)
def raising_the_best_never_lowers_it(entry: Entry[Any]) -> None:
    """With a higher score for a most relevant item, the value does not fall."""
    _raise_the_best(entry, "expected")


@law()
def raising_the_best_in_order_never_lowers_it(entry: Entry[Any]) -> None:
    """Where the input order decides ties, the value does not fall as the score of a most relevant item rises."""
    _raise_the_best(entry, "order")


def _raise_the_best(entry: Entry[Any], ties: str) -> None:
    for k, seed in itertools.product(cuts(entry), range(5)):
        scores, labels = batch(seed)
        before = entry(scores, labels, k=k, ties=ties, reduction="none")
        higher = scores.clone()
        higher[:, 0] += 1.5
        after = entry(higher, labels, k=k, ties=ties, reduction="none")
        assert (after >= before - 1e-12).all(), f"got {shown(after)}, expected at least {shown(before)}"


# ----------------------------------------------------------------------------------------------------------------- ties


@law(**_CORRECT_FOR_TIES)
def ties_are_the_mean_over_all_orders(entry: Entry[Any]) -> None:
    """Where scores tie, the value is the mean over all orders of the tied items."""
    orders = torch.tensor(list(itertools.permutations(range(6))))
    # Lists with ties of 1, 2 and 3 items, of 1 and 5, of 2, 1 and 3: the cut-offs stand at the ends of ties and inside.
    for k, seed in itertools.product(cuts(entry), (0, 1, 4)):
        scores, labels = (x[0] for x in batch(seed, rows=1, n=6))
        scores = scores.clamp(-1, 1)
        weights = weights_like(scores)
        every = {"weights": weights[orders], "k": k, "ties": "order", "reduction": "none"}
        expected = entry(scores[orders], labels[orders], **every).mean()
        close(entry(scores, labels, weights=weights, k=k), expected)


@law()
def without_ties_the_policies_agree(entry: Entry[Any]) -> None:
    """Where no scores tie, how ties are met is irrelevant."""
    scores, labels = batch()
    scores = scores + torch.linspace(0, 0.5, scores.shape[-1], dtype=scores.dtype)
    for k in cuts(entry):
        expected = entry(scores, labels, k=k, ties="order", reduction="none")
        close(entry(scores, labels, k=k, ties="expected", reduction="none"), expected)


@law()
def order_ranks_the_earlier_first(entry: Entry[Any]) -> None:
    """Where the input order decides ties, each item has the value of a slightly higher score than the next."""
    scores, labels = batch()
    apart = scores - torch.linspace(0, 0.5, scores.shape[-1], dtype=scores.dtype)
    for k in cuts(entry):
        expected = entry(apart, labels, k=k, ties="order", reduction="none")
        close(entry(scores, labels, k=k, ties="order", reduction="none"), expected)


@law()
def item_order_is_irrelevant(entry: Entry[Any]) -> None:
    """Items may stand in any order, also within ties, since those are met in expectation."""
    scores, labels = batch()
    where, weights = some(4, scores.shape), weights_like(scores)
    moved = torch.randperm(scores.shape[-1], generator=torch.Generator().manual_seed(5))
    for k in cuts(entry):
        expected = entry(scores, labels, where=where, weights=weights, k=k, reduction="none")
        there = {"where": where[:, moved], "weights": weights[:, moved], "k": k, "reduction": "none"}
        close(entry(scores[:, moved], labels[:, moved], **there), expected)


# ------------------------------------------------------------------------------------------------------------- measures


@law()
def text_of_a_measure_gives_it_back(entry: Entry[Any]) -> None:
    """``Measure.parse(str(measure))`` is the measure, whose value is the metric's."""
    scores, labels = batch()
    for k, own in itertools.product(cuts(entry), choices(entry.parameters)):
        measure = Measure(entry.name, k, tuple(own.items()))
        read = Measure.parse(str(measure))
        assert read == measure, f"got {read!r} of {str(measure)!r}, expected {measure!r}"
        same(measure(scores, labels), entry(scores, labels, k=k, **own))


@law()
def one_ranking_for_several_measures_is_one_each(entry: Entry[Any]) -> None:
    """Measures that share one ranking have the values of their own calls."""
    scores, labels = batch()
    given: dict[str, Any] = {"where": some(1, scores.shape), "weights": weights_like(scores)}
    for k in cuts(entry):
        measures = {Measure(entry.name, k, tuple(own.items())): own for own in choices(entry.parameters)}
        found = evaluate_measures(measures, scores, labels, **given)
        for measure, own in measures.items():
            close(found[str(measure)], entry(scores, labels, k=k, reduction="none", **given, **own))


# ------------------------------------------------------------------------------------------ relevance that is elsewhere


@law()
def nan_among_the_labels_is_not_hidden(entry: Entry[Any]) -> None:
    """A label of NaN that is not masked makes its list NaN, and no other list; a masked one is nothing."""
    scores, labels = batch()
    rows, where = torch.arange(len(scores)) == 1, some(5, scores.shape)
    offsets, spoilt, masked = torch.arange(len(scores) + 1) * scores.shape[1], labels.clone(), labels.clone()
    spoilt[1, 1], masked[~where] = torch.nan, torch.nan
    for k in cuts(entry):
        plain = entry(scores, labels, k=k, reduction="none")
        same(entry(scores, masked, where=where, k=k), entry(scores, labels, where=where, k=k))
        dense = entry(scores, spoilt, k=k, reduction="none")
        ragged = entry(scores.flatten(), spoilt.flatten(), offsets=offsets, k=k, reduction="none")
        ideal = dense if entry.kind == "whole" else entry(scores, labels, ideal=spoilt, k=k, reduction="none")
        for values in (dense, ragged, ideal):
            assert torch.equal(values.isnan(), rows), f"got {shown(values)}, expected nan for the second list alone"
        close(dense[~rows], plain[~rows])


@law("list", "uncut")
def ideal_of_the_own_labels_is_none(entry: Entry[Any]) -> None:
    """To name as ideal the labels that the list has, padded by those of items not judged, changes nothing."""
    _ideal_changes_nothing(entry, -1)


@usual("list", "uncut", bpref="a 0 in ideal is a judgement: what is not there is not judged")
def zeros_pad_the_ideal(entry: Entry[Any]) -> None:
    """To name as ideal the labels that the list has, padded by zeros, changes nothing."""
    _ideal_changes_nothing(entry, 0)


def _ideal_changes_nothing(entry: Entry[Any], padding: int) -> None:
    scores, labels = batch()
    flat = Ragged(torch.arange(0, labels.numel() + 1, labels.shape[-1]), labels.flatten())
    wider = torch.cat([labels, torch.full_like(labels, padding)], -1)
    for k in cuts(entry):
        expected = entry(scores, labels, k=k, reduction="none")
        for ideal in (labels, wider, flat):
            close(entry(scores, labels, k=k, ideal=ideal, reduction="none"), expected)


@law("list", "uncut")
def ideal_that_is_not_retrieved_is_missed(entry: Entry[Any]) -> None:
    """A list that holds none of the relevant items that ideal names counts, with the value 0."""
    scores, labels = batch()
    found = torch.arange(6) != 1
    for k in cuts(entry):
        expected = entry(scores[found], labels[found], k=k, reduction="sum") / 6
        close(entry(scores, labels * found[:, None], k=k, ideal=labels), expected)


@law()
def lists_without_positives_follow_the_policy(entry: Entry[Any]) -> None:
    """``empty`` says whether a list without positives counts, and as what; one with nothing valid never counts."""
    scores, labels = batch()
    labels[1:3] = 0
    where = torch.ones_like(scores, dtype=torch.bool)
    where[2] = False
    others = [0, 3, 4, 5]
    for k in cuts(entry):
        rest = entry(scores[others], labels[others], k=k, reduction="sum")
        for empty, value, counted in (("skip", 0, 4), ("zero", 0, 5), ("one", 1, 5)):
            values = entry(scores, labels, where=where, k=k, empty=empty, reduction="none")
            same(values[1:3], values.new_tensor([value, 0]))
            close(entry(scores, labels, where=where, k=k, empty=empty), (rest + value) / counted)


# -------------------------------------------------------------------------------------------------------------- weights


def adds(entry: Entry[Any]) -> bool:
    """Whether doubled weights rather double the values, as those of a sum, than leave them, as those of a ratio."""
    scores, labels = batch()
    weights = weights_like(scores)
    once, twice = (entry(scores, labels, weights=w, reduction="none") for w in (weights, 2 * weights))
    return bool((twice - 2 * once).abs().sum() < (twice - once).abs().sum())


@usual(f1="a harmonic mean of precision, which is additive, and recall, which is a ratio")
def weights_double_the_value_or_cancel(entry: Entry[Any]) -> None:
    """Doubled weights, and one weight for a list, multiply its value, or cancel as in a ratio; weights of one are none."""
    scores, labels = batch()
    weights = weights_like(scores)
    factor, of_list = (2, weights[:, 0]) if adds(entry) else (1, 1)
    for k in cuts(entry):
        plain = entry(scores, labels, k=k, reduction="none")
        once = entry(scores, labels, weights=weights, k=k, reduction="none")
        close(entry(scores, labels, weights=2 * weights, k=k, reduction="none"), factor * once)
        close(entry(scores, labels, weights=torch.ones(()), k=k, reduction="none"), plain)
        close(entry(scores, labels, weights=weights[:, :1], k=k, reduction="none"), of_list * plain)


@law()
def unequal_weights_count(entry: Entry[Any]) -> None:
    """Weights that differ within the lists change their values."""
    scores, labels = batch()
    k = cuts(entry)[-1]  # without a cut-off, all that is relevant is found
    plain = entry(scores, labels, k=k, reduction="none")
    found = entry(scores, labels, weights=weights_like(scores), k=k, reduction="none")
    assert (found - plain).abs().max() > 1e-3, f"got {shown(found)}, which is the value without weights"


# ---------------------------------------------------------------------------------------------------- values and batches


@law()
def one_value_a_list(entry: Entry[Any]) -> None:
    """Unreduced, there is one value a list."""
    scores, labels = batch()
    for k in cuts(entry):
        values = entry(scores, labels, k=k, reduction="none")
        assert values.shape == (6,), f"6 lists gave values of shape {tuple(values.shape)}"
        assert values.isfinite().all(), f"got {shown(values)}, expected finite values"


@law()
def reductions_agree(entry: Entry[Any]) -> None:
    """Sum and mean are those of the values; the mean is also the default."""
    scores, labels = batch()
    for k in cuts(entry):
        values = entry(scores, labels, k=k, reduction="none")
        close(entry(scores, labels, k=k, reduction="sum"), values.sum())
        close(entry(scores, labels, k=k, reduction="mean"), values.mean())
        close(entry(scores, labels, k=k), values.mean())


@law()
def batch_is_independent(entry: Entry[Any]) -> None:
    """Lists have, in several batch dimensions and alone, the values that they have together."""
    scores, labels = batch()
    for k in cuts(entry):
        values = entry(scores, labels, k=k, reduction="none")
        close(entry(scores.reshape(2, 3, 7), labels.reshape(2, 3, 7), k=k, reduction="none"), values.reshape(2, 3))
        for one, gains, value in zip(scores, labels, values, strict=True):
            close(entry(one, gains, k=k, reduction="none"), value)


@law()
def inputs_are_unchanged(entry: Entry[Any]) -> None:
    """No call writes to its arguments."""
    scores, labels = batch()
    given = {"scores": scores, "labels": labels, "where": some(7, scores.shape), "weights": weights_like(scores)}
    before = {name: x.clone() for name, x in given.items()}
    for k in cuts(entry):
        entry(**given, k=k)
        for name, x in before.items():
            assert torch.equal(given[name], x), f"{name} was written to"


# ------------------------------------------------------------------------------------------------------ masks and layouts


@law()
def masked_is_removed(entry: Entry[Any]) -> None:
    """A list has the value that it has without its masked items, whatever number, or none, stands there."""
    scores, labels = batch()
    where, weights = some(2, scores.shape), weights_like(scores)
    for k in cuts(entry):
        rows = zip(scores, labels, weights, where, strict=True)
        kept = torch.stack([entry(s[m], y[m], weights=w[m], k=k) for s, y, w, m in rows])
        for junk in (math.nan, math.inf, -math.inf, 1e30):
            dirty = [torch.where(where, x, junk) for x in (scores, labels, weights)]
            close(entry(*dirty[:2], where=where, weights=dirty[2], k=k, reduction="none"), kept)


@law()
def padding_width_is_irrelevant(entry: Entry[Any]) -> None:
    """More padding changes nothing."""
    scores, labels = batch()
    where = some(3, scores.shape)
    wider = {
        "scores": pad(scores, (0, 5), value=1),
        "labels": pad(labels, (0, 5), value=1),
        "where": pad(where, (0, 5)),
    }
    for k in cuts(entry):
        expected = entry(scores, labels, where=where, k=k, reduction="none")
        close(entry(**wider, k=k, reduction="none"), expected)


@law()
def ragged_is_dense_is_a_loop(entry: Entry[Any]) -> None:
    """Lists one behind the other, as padded rows, and one by one: the same values."""
    sizes = torch.tensor([3, 0, 7, 2, 0, 7, 1])
    scores, labels = (x.flatten()[: int(sizes.sum())] for x in batch())
    flat = {"scores": scores, "labels": labels, "where": some(6, scores.shape), "weights": weights_like(scores)}
    pieces = {name: x.split(sizes.tolist()) for name, x in flat.items()}
    dense = {name: pad_sequence(list(lists), batch_first=True) for name, lists in pieces.items()}
    ragged = {**flat, "offsets": offsets_from_sizes(sizes)}
    for k, ties in itertools.product(cuts(entry), ("expected", "order")):
        loop = torch.stack([entry(**one, k=k, ties=ties) for one in _each(pieces)])
        close(entry(**dense, k=k, ties=ties, reduction="none"), loop)
        close(entry(**ragged, k=k, ties=ties, reduction="none"), loop)
        close(entry(**ragged, k=k, ties=ties), entry(**dense, k=k, ties=ties))


def _each(pieces: Mapping[str, tuple[Tensor, ...]]) -> Iterator[dict[str, Tensor]]:
    for parts in zip(*pieces.values(), strict=True):
        yield dict(zip(pieces, parts, strict=True))


@law()
def nothing_valid_gives_zero(entry: Entry[Any]) -> None:
    """A list with nothing valid has value 0 and does not count, whatever lists without positives do."""
    scores, labels = batch()
    where = torch.ones_like(scores, dtype=torch.bool)
    where[1] = False
    kept = torch.arange(6) != 1
    for k, empty in itertools.product(cuts(entry), ("skip", "zero", "one")):
        value = entry(scores, labels, where=where, k=k, empty=empty, reduction="none")[1]
        same(value, torch.zeros_like(value))
        expected = entry(scores[kept], labels[kept], k=k, empty=empty)
        close(entry(scores, labels, where=where, k=k, empty=empty), expected)
        nothing = entry(scores, labels, where=torch.tensor(False), k=k, empty=empty)
        same(nothing, torch.zeros_like(nothing))


# ------------------------------------------------------------------------------------------------------------- precision


@law()
def half_precision_is_computed_in_float32(entry: Entry[Any]) -> None:
    """Half precision in gives what the same numbers give in float32, in float32."""
    for k, dtype in itertools.product(cuts(entry), (torch.bfloat16, torch.float16)):
        scores, labels = (x.to(dtype) for x in batch())
        expected = entry(scores.float(), labels.float(), k=k, reduction="none")
        found = entry(scores, labels, k=k, reduction="none")
        assert found.dtype == torch.float32, f"got {found.dtype}, expected torch.float32"
        close_in_float32(found, expected)


@law()
def float32_is_near_float64(entry: Entry[Any]) -> None:
    """Lists of 300 items have in float32 the values of float64."""
    scores, labels = batch(rows=20, n=300)
    for k in cuts(entry):
        expected = entry(scores, labels, k=k, reduction="none")
        found = entry(scores.float(), labels.float(), k=k, reduction="none")
        agree(found.double(), expected, rtol=2e-6, atol=1e-6)
