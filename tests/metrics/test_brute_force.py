"""Every metric against its definition, written as loops, averaged over every order of every tie."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from rankwell.lists import offsets_from_sizes
from rankwell.metrics import METRICS
from rankwell.metrics.registry import RESULTS
from rankwell.types import Ragged

Item = tuple[float, float]
"""Label and weight."""


def gain_of(label: float, gain: str) -> float:
    return max(0.0, 2**label - 1 if gain == "exponential" else label)


def dcg(ranked: list[Item], known: list[Item], k: int, gain: str = "exponential", discount: str = "shifted") -> float:
    total = 0.0
    for position, (y, w) in enumerate(ranked[:k], 1):
        total += (
            w * gain_of(y, gain) / (math.log2(1 + position) if discount == "shifted" else max(1, math.log2(position)))
        )
    return total


def ndcg(ranked: list[Item], known: list[Item], k: int, gain: str = "exponential", discount: str = "shifted") -> float:
    best = sorted(known, key=lambda item: item[1] * gain_of(item[0], gain), reverse=True)
    return dcg(ranked, known, k, gain, discount) / dcg(best, known, k, gain, discount)


def credit(items: list[Item], rel: float) -> float:
    return sum(w for y, w in items if y >= rel)


def number(items: list[Item], rel: float) -> int:
    return sum(y >= rel for y, _ in items)


def ap(ranked: list[Item], known: list[Item], k: int, rel: float = 1, total: str = "relevant") -> float:
    gained = 0.0
    for place, (y, w) in enumerate(ranked[:k]):
        if y >= rel:
            gained += w * number(ranked[: place + 1], rel) / (place + 1)
    share = min(k, number(known, rel)) / number(known, rel) if total == "reachable" else 1
    return gained / credit(known, rel) / share


def mrr(ranked: list[Item], known: list[Item], k: int, rel: float = 1) -> float:
    return next((w / (place + 1) for place, (y, w) in enumerate(ranked[:k]) if y >= rel), 0.0)


def hit_rate(ranked: list[Item], known: list[Item], k: int, rel: float = 1) -> float:
    return next((w for y, w in ranked[:k] if y >= rel), 0.0)


def recall(ranked: list[Item], known: list[Item], k: int, rel: float = 1) -> float:
    return credit(ranked[:k], rel) / credit(known, rel)


def precision(ranked: list[Item], known: list[Item], k: int, rel: float = 1, depth: str = "k") -> float:
    return credit(ranked[:k], rel) / (k if depth == "k" else min(k, number(known, rel)))


def f1(ranked: list[Item], known: list[Item], k: int, rel: float = 1) -> float:
    p, r = precision(ranked, known, k, rel), recall(ranked, known, k, rel)
    return 2 * p * r / (p + r) if p else 0.0


def r_precision(ranked: list[Item], known: list[Item], k: int, rel: float = 1) -> float:
    return credit(ranked[: number(known, rel)], rel) / credit(known, rel)


def ap_at_r(ranked: list[Item], known: list[Item], k: int, rel: float = 1) -> float:
    return ap(ranked, known, number(known, rel), rel)


def bpref(ranked: list[Item], known: list[Item], k: int, rel: float = 1) -> float:
    relevant, irrelevant = number(known, rel), sum(0 <= y < rel for y, _ in known)
    total = 0.0
    for place, (y, w) in enumerate(ranked):
        above = sum(0 <= label < rel for label, _ in ranked[:place])
        if y >= rel:
            total += w * (1 - min(above, relevant) / min(irrelevant, relevant) if above else 1)
    return total / credit(known, rel)


def err(ranked: list[Item], known: list[Item], k: int, max_label: float = 4) -> float:
    reached, total = 1.0, 0.0
    for position, (y, w) in enumerate(ranked[:k], 1):
        stop = gain_of(min(y, max_label), "exponential") / 2**max_label
        total += reached * w * stop / position
        reached *= 1 - stop
    return total


def rbp(ranked: list[Item], known: list[Item], k: int, rel: float = 1, p: float = 0.8, grades: str = "cut") -> float:
    top = max(y for y, _ in known)
    gains = [float(y >= rel) if grades == "cut" else max(y, 0) / top for y, _ in ranked[:k]]
    return (1 - p) * sum(gain * w * p**place for place, (gain, (_, w)) in enumerate(zip(gains, ranked, strict=False)))


def auc(ranked: list[Item], known: list[Item], k: int, rel: float = 1, top: int = 0) -> float:
    if not top:
        return pauc(ranked, known, k, rel, max_fpr=1)
    won = pairs = 0.0
    for (i, (y, w)), (j, (other, _)) in itertools.product(enumerate(ranked), repeat=2):
        if y >= rel > other:
            won += w * (0.5 if min(i, j) >= top else i < j)
            pairs += w
    return won / pairs


def pauc(
    ranked: list[Item], known: list[Item], k: int, rel: float = 1, max_fpr: float = 0.1, scale: str = "plain"
) -> float:
    """The area under the steps of the curve, strip by strip."""
    irrelevant = [place for place, (y, _) in enumerate(ranked) if y < rel]
    area = 0.0
    for t, place in enumerate(irrelevant):
        width = max(0.0, min(1, max_fpr * len(irrelevant) - t)) / len(irrelevant)
        area += width * credit(ranked[:place], rel) / credit(ranked, rel)
    if scale == "plain":
        return area / max_fpr
    least, most = max_fpr * max_fpr / 2, max_fpr
    return 0.5 * (1 + (area - least) / (most - least))


def opa(ranked: list[Item], known: list[Item], k: int) -> float:
    apart = [(max(a, b)[1], a[0] > b[0]) for a, b in itertools.combinations(ranked, 2) if a[0] != b[0]]
    return sum(w for w, right in apart if right) / sum(w for w, _ in apart)


DEFINITIONS = {
    f.__name__: f
    for f in (
        dcg,
        ndcg,
        ap,
        mrr,
        hit_rate,
        recall,
        precision,
        f1,
        r_precision,
        ap_at_r,
        bpref,
        err,
        rbp,
        auc,
        pauc,
        opa,
    )
}

OWN: dict[str, list[dict[str, Any]]] = {
    **{name: [{}, {"rel": 2.0}] for name in DEFINITIONS},
    **{name: [{}, {"gain": "linear"}, {"discount": "original"}] for name in ("dcg", "ndcg")},
    "ap": [{}, {"rel": 2.0}, {"total": "reachable"}],
    "precision": [{}, {"rel": 2.0}, {"depth": "reachable"}],
    "err": [{}, {"max_label": 2.0}],
    "rbp": [{}, {"rel": 2.0, "p": 0.5}, {"grades": "share"}],
    "auc": [{}, {"rel": 2.0}, {"top": 1}, {"top": 2}, {"top": 3, "rel": 2.0}, {"top": 9}],
    "pauc": [{}, {"max_fpr": 0.37, "scale": "mcclish"}, {"max_fpr": 0.5, "rel": 2.0}, {"max_fpr": 0.75}],
    "opa": [{}],
}

NO_MEAN_OVER_ORDERS = {"kendall_tau", "spearman"}
"""Against their definitions in test_correlation.py."""

CASES = [
    pytest.param(name, k, own, id=f"{name}-{k}-{own}")
    for name in DEFINITIONS
    for k in ([None, 1, 2, 4, 9] if METRICS[name].kind == "list" else [None])
    for own in OWN[name]
]


def orders(scores: list[float]) -> Iterator[list[int]]:
    """Every order by descending score."""
    groups = [[i for i, s in enumerate(scores) if s == level] for level in sorted(set(scores), reverse=True)]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [i for part in parts for i in part]


def random_list(seed: int) -> tuple[list[float], list[float], list[float]]:
    generator = torch.Generator().manual_seed(seed)
    n = int(torch.randint(2, 7, (), generator=generator))
    scores = torch.randint(0, 3, (n,), generator=generator).double().tolist()
    labels = torch.randint(-1, 4, (n,), generator=generator).double()
    # One of each sort, so that no definition divides by zero.
    labels[0], labels[1] = 3, 0
    return scores, labels.tolist(), (torch.rand(n, generator=generator) + 0.5).double().tolist()


def test_every_metric_has_a_definition() -> None:
    ranked = {entry.name for entry in METRICS if entry.kind not in RESULTS}
    assert ranked == set(DEFINITIONS) | NO_MEAN_OVER_ORDERS


@pytest.mark.parametrize(("name", "k", "own"), CASES)
def test_equals_the_mean_over_all_orders(name: str, k: int | None, own: dict[str, Any]) -> None:
    for seed in range(15):
        scores, labels, weights = random_list(seed)
        items = list(zip(labels, weights, strict=True))
        expected = [
            DEFINITIONS[name]([items[i] for i in order], items, k or len(items), **own) for order in orders(scores)
        ]
        arguments = [torch.tensor(x, dtype=torch.float64) for x in (scores, labels)]
        value = METRICS[name](*arguments, weights=torch.tensor(weights, dtype=torch.float64), k=k, **own)
        assert value.item() == pytest.approx(sum(expected) / len(expected), abs=1e-12)


@pytest.mark.parametrize(("name", "k", "own"), [case for case in CASES if METRICS[case.values[0]].kind != "whole"])
def test_what_was_not_retrieved_counts_by_ideal(name: str, k: int | None, own: dict[str, Any]) -> None:
    rows = [random_list(seed)[:2] for seed in range(10)]
    missed = [[3.0, 1.0, 0.0], [], [2.0]] * 3 + [[1.0]]
    expected = []
    for (scores, labels), more in zip(rows, missed, strict=True):
        items, known = [(y, 1.0) for y in labels], [(y, 1.0) for y in labels + more]
        depth = k or (len(known) if name in ("ndcg", "ap") else len(items))
        each = [DEFINITIONS[name]([items[i] for i in order], known, depth, **own) for order in orders(scores)]
        expected.append(sum(each) / len(each))
    flat = [torch.tensor([x for row in rows for x in row[part]], dtype=torch.float64) for part in (0, 1)]
    offsets = offsets_from_sizes(torch.tensor([len(scores) for scores, _ in rows]))
    known_labels = [torch.tensor(row[1] + more) for row, more in zip(rows, missed, strict=True)]
    ragged = Ragged(offsets_from_sizes(torch.tensor([len(y) for y in known_labels])), torch.cat(known_labels))
    # To bpref a 0 is a judgement.
    padding = -1.0 if name == "bpref" else 0.0
    dense = torch.nn.utils.rnn.pad_sequence(known_labels, batch_first=True, padding_value=padding)
    for ideal in (ragged, dense):
        values = METRICS[name](*flat, offsets=offsets, ideal=ideal, k=k, reduction="none", **own)
        torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64))


def test_long_tie_groups_keep_their_digits() -> None:
    """In closed form, where brute force ends: one score for all of n items with r relevant ones."""
    n, r, k = 2000, 3, 50
    scores, labels = torch.zeros(n), (torch.arange(n) % 700 == 1).float()
    assert labels.sum() == r
    missed = math.comb(n - r, k) / math.comb(n, k)
    assert METRICS["hit_rate"](scores, labels, k=k).item() == pytest.approx(1 - missed, rel=1e-5)
    first = [math.comb(n - x, r - 1) / math.comb(n, r) / x for x in range(1, n - r + 2)]
    assert METRICS["mrr"](scores, labels).item() == pytest.approx(sum(first), rel=1e-5)
    assert METRICS["mrr"](scores, labels, k=k).item() == pytest.approx(sum(first[:k]), rel=1e-5)
    mean = sum(1 / math.log2(1 + place) for place in range(1, n + 1)) / n
    assert METRICS["dcg"](scores, labels).item() == pytest.approx(r * mean, rel=1e-5)
    assert METRICS["auc"](scores, labels).item() == pytest.approx(0.5)
    assert METRICS["opa"](scores, labels).item() == pytest.approx(0.5)
    # The curve is a straight line: the area up to f is f² / 2.
    assert METRICS["pauc"](scores, labels, max_fpr=0.1).item() == pytest.approx(0.1 / 2, rel=1e-2)
    assert METRICS["recall"](scores, labels, k=k).item() == pytest.approx(k / n)
    assert METRICS["rbp"](scores, labels, p=0.9).item() == pytest.approx(r / n * (1 - 0.9**n), rel=1e-5)
    # Each relevant item stops with chance 1/2: the expected pass of x items is a sum over the relevant ones among them.
    passes = [
        sum(math.comb(r, h) * math.comb(n - r, x - h) * 0.5**h for h in range(min(r, x) + 1)) / math.comb(n, x)
        for x in range(k + 1)
    ]
    stops = sum((passes[x - 1] - passes[x]) / x for x in range(1, k + 1))
    assert METRICS["err"](scores, labels, k=k, max_label=1.0).item() == pytest.approx(stops, rel=1e-5)
