"""Laws of every registered metric. An exception stands beside its law, with the reason."""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from rankwell.lists import offsets_from_sizes
from rankwell.metrics import METRICS, Measure, evaluate_measures
from rankwell.metrics.registry import RESULTS
from rankwell.registry import Entry
from rankwell.types import Ragged

ENTRIES = [entry for entry in METRICS if entry.kind not in RESULTS]
each = pytest.mark.parametrize("metric", ENTRIES, ids=lambda entry: entry.name)
each_cut = pytest.mark.parametrize(
    ("metric", "k"),
    [(entry, k) for entry in ENTRIES for k in ((None, 1, 3) if entry.kind == "list" else (None,))],
    ids=lambda value: getattr(value, "name", f"k{value}"),
)

Metric = Entry[Callable[..., Tensor]]

NOT_NORMALISED = {
    "dcg": "a sum of gains: its best value depends on the labels",
    "err": "a sum of chances: its best value depends on the labels",
    "rbp": "a sum over relevant items: R of them reach 1 - p^R",
}
SIGNED = {"kendall_tau": "a correlation", "spearman": "a correlation"}
"""Between -1 and 1."""
CORRECT_FOR_TIES = {
    "kendall_tau": "tau-b divides by the pairs that the scores do not tie, so that scores are judged by what they say: no mean"
    " over orders, each of which ties nothing; and to break a tie may lower it",
    "spearman": "tied items share a mean rank: the correlation with mean ranks is no mean of correlations",
}
DIVIDES_BY_K = {"precision": "k is its denominator, also beyond the list (trec_eval)", "f1": "precision divides by k"}
ADDITIVE = {"dcg", "err", "mrr", "precision", "hit_rate", "rbp"}
"""Double with their weights; the others are ratios, in which one weight for a whole list cancels."""
NEITHER = {
    "f1": "harmonic mean of precision, which is additive, and recall, which is a ratio: tests/metrics/test_sets.py"
}
PAD_IDEAL_BY = {"bpref": -1}
"""A 0 in ``ideal`` is a judgement for bpref: what is not there is not judged."""


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
    return torch.rand(scores.shape, generator=torch.Generator().manual_seed(9), dtype=scores.dtype) + 0.5


# ------------------------------------------------------------------------------------------------------- metric laws


@each
def test_perfect_ranking_is_one(metric: Metric) -> None:
    if metric.name in NOT_NORMALISED:
        pytest.skip(NOT_NORMALISED[metric.name])
    labels = torch.tensor([[0.0, 3.0, 1.0, 0.0, 2.0], [1.0, 1.0, 1.0, 0.0, 0.0]])
    assert (labels >= 1).sum(-1).unique().tolist() == [3]
    # Precision and recall are both 1 only where k is the number of relevant items.
    k = 3 if metric.kind == "list" else None
    # Labels tie, so that only scores that tie as well correlate fully.
    for ties in ("expected",) if metric.name in CORRECT_FOR_TIES else ("expected", "order"):
        values = metric(labels * 2 - 5, labels, k=k, ties=ties, reduction="none")
        torch.testing.assert_close(values, torch.ones(2))


@each
def test_values_are_between_zero_and_one(metric: Metric) -> None:
    if metric.name in NOT_NORMALISED:
        pytest.skip(NOT_NORMALISED[metric.name])
    for seed in range(5):
        values = metric(*batch(seed, dtype=torch.float32), reduction="none")
        assert ((values >= (-1 if metric.name in SIGNED else 0)) & (values <= 1 + 1e-6)).all()


@pytest.mark.parametrize("name", METRICS.names("list"))
def test_a_cut_beyond_the_list_is_no_cut(name: str) -> None:
    metric = METRICS[name]
    scores, labels = batch()
    n = scores.shape[-1]
    whole = metric(scores, labels, reduction="none")
    for beyond in (n, n + 1, 10 * n):
        if metric.name == "f1":
            recall = METRICS["recall"](scores, labels, reduction="none")
            precision = METRICS["precision"](scores, labels, k=beyond, reduction="none")
            expected = 2 * precision * recall / (precision + recall)
            torch.testing.assert_close(metric(scores, labels, k=beyond, reduction="none"), expected)
            continue
        share = n / beyond if metric.name in DIVIDES_BY_K else 1
        torch.testing.assert_close(metric(scores, labels, k=beyond, reduction="none"), whole * share)


@each_cut
def test_ties_are_the_mean_over_all_orders(metric: Metric, k: int | None) -> None:
    if metric.name in CORRECT_FOR_TIES:
        pytest.skip(CORRECT_FOR_TIES[metric.name])
    scores, labels = (x[0] for x in batch(rows=1, n=6))
    scores = scores.clamp(-1, 1)
    weights = weights_like(scores)
    orders = torch.tensor(list(itertools.permutations(range(6))))
    by_order = metric(scores[orders], labels[orders], weights=weights[orders], k=k, ties="order", reduction="none")
    torch.testing.assert_close(metric(scores, labels, weights=weights, k=k), by_order.mean())


@each_cut
def test_without_ties_the_policies_agree(metric: Metric, k: int | None) -> None:
    scores, labels = batch()
    scores = scores + torch.linspace(0, 0.5, scores.shape[-1], dtype=scores.dtype)
    values = [metric(scores, labels, k=k, ties=ties, reduction="none") for ties in ("expected", "order")]
    torch.testing.assert_close(*values)


@each_cut
def test_only_the_order_of_scores_counts(metric: Metric, k: int | None) -> None:
    scores, labels = batch()
    for same in (scores * 1e4, scores - 100, scores.exp(), scores * 20):
        torch.testing.assert_close(metric(same, labels, k=k), metric(scores, labels, k=k))


@each_cut
def test_raising_the_most_relevant_item_never_lowers_the_value(metric: Metric, k: int | None) -> None:
    ties = "order" if metric.name in CORRECT_FOR_TIES else "expected"
    for seed in range(5):
        scores, labels = batch(seed)
        higher = scores.clone()
        higher[:, 0] += 1.5
        same = {"k": k, "ties": ties, "reduction": "none"}
        gap = metric(higher, labels, **same) - metric(scores, labels, **same)
        assert (gap >= -1e-12).all()


@each_cut
def test_the_text_of_a_measure_gives_it_back(metric: Metric, k: int | None) -> None:
    for own in choices(metric.parameters):
        measure = Measure(metric.name, k, tuple(own.items()))
        assert Measure.parse(str(measure)) == measure
        scores, labels = batch()
        assert measure(scores, labels) == metric(scores, labels, k=k, **own)


def choices(parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The defaults, and another value of each own parameter and convention."""
    other: dict[str, Any] = {
        **{"gain": "linear", "discount": "original", "rel": 1.25, "ties": "order", "empty": "one"},
        **{"total": "reachable", "at": "thresholds", "depth": "reachable", "max_label": 2.0, "p": 0.5},
        **{"max_fpr": 0.45, "scale": "mcclish"},
    }
    assert set(parameters) <= set(other)
    return [{}, *({name: other[name]} for name in (*parameters, "ties", "empty"))]


@each_cut
def test_one_ranking_for_several_measures_is_one_each(metric: Metric, k: int | None) -> None:
    scores, labels = batch()
    arguments = {"where": some(1, scores.shape), "weights": weights_like(scores)}
    measures = [Measure(metric.name, k, tuple(own.items())) for own in choices(metric.parameters)]
    found = evaluate_measures(measures, scores, labels, **arguments)
    for measure in measures:
        torch.testing.assert_close(found[str(measure)], measure(scores, labels, reduction="none", **arguments))


@each_cut
def test_ideal_of_the_own_labels_is_none(metric: Metric, k: int | None) -> None:
    if metric.kind == "whole":
        pytest.skip("pairs with what was not retrieved are unknown")
    scores, labels = batch()
    expected = metric(scores, labels, k=k, reduction="none")
    flat = Ragged(torch.arange(0, labels.numel() + 1, labels.shape[-1]), labels.flatten())
    padding = torch.full_like(labels, PAD_IDEAL_BY.get(metric.name, 0))
    for ideal in (labels, torch.cat([labels, padding], -1), flat):
        torch.testing.assert_close(metric(scores, labels, k=k, ideal=ideal, reduction="none"), expected)


@each_cut
def test_lists_without_positives_follow_the_policy(metric: Metric, k: int | None) -> None:
    scores, labels = batch()
    labels[1:3] = 0
    where = torch.ones_like(scores, dtype=torch.bool)
    where[2] = False
    rest = metric(scores[[0, 3, 4, 5]], labels[[0, 3, 4, 5]], k=k, reduction="sum")
    for empty, value, counted in (("skip", 0, 4), ("zero", 0, 5), ("one", 1, 5)):
        values = metric(scores, labels, where=where, k=k, empty=empty, reduction="none")
        assert values[1:3].tolist() == [value, 0]
        mean = metric(scores, labels, where=where, k=k, empty=empty)
        torch.testing.assert_close(mean, (rest + value) / counted)


@each_cut
def test_weights_do_what_the_family_says(metric: Metric, k: int | None) -> None:
    if metric.name in NEITHER:
        pytest.skip(NEITHER[metric.name])
    scores, labels = batch()
    weights = weights_like(scores)
    once, twice = (metric(scores, labels, weights=w, k=k, reduction="none") for w in (weights, 2 * weights))
    torch.testing.assert_close(twice, 2 * once if metric.name in ADDITIVE else once)
    plain = metric(scores, labels, k=k, reduction="none")
    torch.testing.assert_close(metric(scores, labels, weights=torch.ones(()), k=k, reduction="none"), plain)
    a_list = metric(scores, labels, weights=weights[:, :1], k=k, reduction="none")
    torch.testing.assert_close(a_list, weights[:, 0] * plain if metric.name in ADDITIVE else plain)


# --------------------------------------------------------------------------------------------------------- list laws


@each_cut
def test_one_value_a_list_and_batch_dimensions_are_independent(metric: Metric, k: int | None) -> None:
    scores, labels = batch()
    values = metric(scores, labels, k=k, reduction="none")
    assert values.shape == (6,)
    cube = metric(scores.reshape(2, 3, 7), labels.reshape(2, 3, 7), k=k, reduction="none")
    torch.testing.assert_close(cube, values.reshape(2, 3))
    alone = torch.stack([metric(s, y, k=k, reduction="none") for s, y in zip(scores, labels, strict=True)])
    torch.testing.assert_close(alone, values)
    torch.testing.assert_close(metric(scores, labels, k=k, reduction="sum"), values.sum())
    torch.testing.assert_close(metric(scores, labels, k=k), values.mean())


@each_cut
@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf, 1e30])
def test_masked_is_removed(metric: Metric, k: int | None, rubbish: float) -> None:
    scores, labels = batch()
    where, weights = some(2, scores.shape), weights_like(scores)
    dirty = [torch.where(where, x, rubbish) for x in (scores, labels, weights)]
    found = metric(dirty[0], dirty[1], where=where, weights=dirty[2], k=k, reduction="none")
    rows = zip(scores, labels, weights, where, strict=True)
    kept = torch.stack([metric(s[m], y[m], weights=w[m], k=k) for s, y, w, m in rows])
    torch.testing.assert_close(found, kept)


@each_cut
def test_padding_width_is_irrelevant(metric: Metric, k: int | None) -> None:
    scores, labels = batch()
    where = some(3, scores.shape)
    wider = [torch.nn.functional.pad(x, (0, 5), value=1) for x in (scores, labels)]
    padded = metric(*wider, where=torch.nn.functional.pad(where, (0, 5)), k=k, reduction="none")
    torch.testing.assert_close(padded, metric(scores, labels, where=where, k=k, reduction="none"))


@each_cut
def test_item_order_is_irrelevant(metric: Metric, k: int | None) -> None:
    scores, labels = batch()
    where, weights = some(4, scores.shape), weights_like(scores)
    moved = torch.randperm(scores.shape[-1], generator=torch.Generator().manual_seed(5))
    one = metric(scores, labels, where=where, weights=weights, k=k)
    # Also within ties, since they are met in expectation.
    other = metric(scores[:, moved], labels[:, moved], where=where[:, moved], weights=weights[:, moved], k=k)
    torch.testing.assert_close(other, one)


@each_cut
@pytest.mark.parametrize("ties", ["expected", "order"])
def test_ragged_is_dense_is_a_loop(metric: Metric, k: int | None, ties: str) -> None:
    sizes = torch.tensor([3, 0, 7, 2, 0, 7, 1])
    scores, labels = (x.flatten()[: int(sizes.sum())] for x in batch())
    where, weights, offsets = some(6, scores.shape), weights_like(scores), offsets_from_sizes(sizes)
    same = {"k": k, "ties": ties}
    ragged = metric(scores, labels, where=where, weights=weights, offsets=offsets, reduction="none", **same)
    pieces = [x.split(sizes.tolist()) for x in (scores, labels, where, weights)]
    loop = [metric(s, y, where=m, weights=w, **same) for s, y, m, w in zip(*pieces, strict=True)]
    torch.testing.assert_close(ragged, torch.stack(loop))
    padded = [torch.nn.utils.rnn.pad_sequence(list(piece), batch_first=True) for piece in pieces]
    dense = metric(padded[0], padded[1], where=padded[2], weights=padded[3], reduction="none", **same)
    torch.testing.assert_close(ragged, dense)
    flat = metric(scores, labels, where=where, weights=weights, offsets=offsets, **same)
    torch.testing.assert_close(flat, metric(padded[0], padded[1], where=padded[2], weights=padded[3], **same))


@each_cut
def test_nothing_valid_is_zero_and_does_not_count(metric: Metric, k: int | None) -> None:
    scores, labels = batch()
    where = torch.ones_like(scores, dtype=torch.bool)
    where[1] = False
    for empty in ("skip", "zero", "one"):
        assert metric(scores, labels, where=where, k=k, empty=empty, reduction="none")[1] == 0
        kept = torch.arange(6) != 1
        torch.testing.assert_close(
            metric(scores, labels, where=where, k=k, empty=empty), metric(scores[kept], labels[kept], k=k, empty=empty)
        )
        assert metric(scores, labels, where=torch.tensor(False), k=k, empty=empty) == 0


@each_cut
def test_half_precision_is_computed_in_float32(metric: Metric, k: int | None) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        scores, labels = (x.to(dtype) for x in batch())
        found = metric(scores, labels, k=k)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, metric(scores.float(), labels.float(), k=k))


@each_cut
def test_float32_is_near_float64(metric: Metric, k: int | None) -> None:
    scores, labels = batch(rows=20, n=300)
    exact = metric(scores, labels, k=k, reduction="none")
    found = metric(scores.float(), labels.float(), k=k, reduction="none")
    torch.testing.assert_close(found.double(), exact, rtol=2e-6, atol=1e-6)


@each_cut
def test_inputs_are_not_changed(metric: Metric, k: int | None) -> None:
    scores, labels = batch()
    arguments = [scores, labels, some(7, scores.shape), weights_like(scores)]
    before = [x.clone() for x in arguments]
    metric(scores, labels, where=arguments[2], weights=arguments[3], k=k)
    assert all(torch.equal(one, other) for one, other in zip(arguments, before, strict=True))
