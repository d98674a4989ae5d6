"""Every metric against its definition, written as loops, averaged over every order of every tie."""

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch

from rankwell.lists import offsets_from_sizes
from rankwell.metrics import METRICS
from rankwell.types import Ragged

Item = tuple[float, float]
"""Label and weight."""


def dcg(ranked: list[Item], known: list[Item], k: int, gain: Callable[[float], float]) -> float:
    return sum(w * gain(y) / math.log2(place + 2) for place, (y, w) in enumerate(ranked[:k]))


def ndcg(ranked: list[Item], known: list[Item], k: int, gain: Callable[[float], float]) -> float:
    best = sorted(known, key=lambda item: item[1] * gain(item[0]), reverse=True)
    return dcg(ranked, known, k, gain) / dcg(best, known, k, gain)


def exponential(label: float) -> float:
    return 2**label - 1


def ap(ranked: list[Item], known: list[Item], k: int, rel: float) -> float:
    total = 0.0
    for place, (y, w) in enumerate(ranked[:k]):
        if y >= rel:
            total += w * sum(label >= rel for label, _ in ranked[: place + 1]) / (place + 1)
    return total / sum(w for y, w in known if y >= rel)


def mrr(ranked: list[Item], known: list[Item], k: int, rel: float) -> float:
    return next((w / (place + 1) for place, (y, w) in enumerate(ranked[:k]) if y >= rel), 0.0)


def hit_rate(ranked: list[Item], known: list[Item], k: int, rel: float) -> float:
    return next((w for y, w in ranked[:k] if y >= rel), 0.0)


def recall(ranked: list[Item], known: list[Item], k: int, rel: float) -> float:
    return sum(w for y, w in ranked[:k] if y >= rel) / sum(w for y, w in known if y >= rel)


def precision(ranked: list[Item], known: list[Item], k: int, rel: float) -> float:
    return sum(w for y, w in ranked[:k] if y >= rel) / k


def auc(ranked: list[Item], known: list[Item], k: int, rel: float) -> float:
    negatives = sum(y < rel for y, _ in ranked)
    won = sum(w * sum(y < rel for y, _ in ranked[place:]) for place, (label, w) in enumerate(ranked) if label >= rel)
    return won / negatives / sum(w for y, w in ranked if y >= rel)


DEFINITIONS = {f.__name__: f for f in (dcg, ndcg, ap, mrr, hit_rate, recall, precision, auc)}


def orders(scores: list[float]) -> Iterator[list[int]]:
    """Every order by descending score."""
    groups = [[i for i, s in enumerate(scores) if s == level] for level in sorted(set(scores), reverse=True)]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [i for part in parts for i in part]


def random_list(seed: int) -> tuple[list[float], list[float], list[float]]:
    generator = torch.Generator().manual_seed(seed)
    n = int(torch.randint(2, 7, (), generator=generator))
    scores = torch.randint(0, 3, (n,), generator=generator).double().tolist()
    labels = torch.randint(0, 4, (n,), generator=generator).double()
    # One of each sort, so that no definition divides by zero.
    labels[0], labels[1] = 3, 0
    return scores, labels.tolist(), (torch.rand(n, generator=generator) + 0.5).double().tolist()


def test_every_metric_has_a_definition() -> None:
    assert set(METRICS.names()) == set(DEFINITIONS)


@pytest.mark.parametrize("own", [1.0, 2.0], ids=lambda own: f"own{own}")
@pytest.mark.parametrize(("name", "k"), [("auc", None), *itertools.product(METRICS.names("list"), [None, 1, 2, 4, 9])])
def test_equals_the_mean_over_all_orders(name: str, k: int | None, own: float) -> None:
    for seed in range(15):
        scores, labels, weights = random_list(seed)
        items = list(zip(labels, weights, strict=True))
        if "gain" in METRICS[name].parameters:
            parameters, argument = (
                {"gain": "exponential" if own == 1 else "linear"},
                (exponential if own == 1 else float),
            )
        else:
            parameters, argument = {"rel": own}, own
        expected = [
            DEFINITIONS[name]([items[i] for i in order], items, k or len(items), argument) for order in orders(scores)
        ]
        arguments = [torch.tensor(x, dtype=torch.float64) for x in (scores, labels)]
        value = METRICS[name](*arguments, weights=torch.tensor(weights, dtype=torch.float64), k=k, **parameters)
        assert value.item() == pytest.approx(sum(expected) / len(expected), abs=1e-12)


@pytest.mark.parametrize("k", [None, 1, 3, 9])
@pytest.mark.parametrize("name", METRICS.names("list"))
def test_what_was_not_retrieved_counts_by_ideal(name: str, k: int | None) -> None:
    rows = [random_list(seed)[:2] for seed in range(10)]
    missed = [[3.0, 1.0, 0.0], [], [2.0]] * 3 + [[1.0]]
    argument = exponential if "gain" in METRICS[name].parameters else 1.0
    expected = []
    for (scores, labels), more in zip(rows, missed, strict=True):
        items, known = [(y, 1.0) for y in labels], [(y, 1.0) for y in labels + more]
        each = [
            DEFINITIONS[name](
                [items[i] for i in order], known, k or (len(known) if name == "ndcg" else len(items)), argument
            )
            for order in orders(scores)
        ]
        expected.append(sum(each) / len(each))
    flat = [torch.tensor([x for row in rows for x in row[part]], dtype=torch.float64) for part in (0, 1)]
    offsets = offsets_from_sizes(torch.tensor([len(scores) for scores, _ in rows]))
    known_labels = [torch.tensor(row[1] + more) for row, more in zip(rows, missed, strict=True)]
    ragged = Ragged(offsets_from_sizes(torch.tensor([len(y) for y in known_labels])), torch.cat(known_labels))
    dense = torch.nn.utils.rnn.pad_sequence(known_labels, batch_first=True)
    for ideal in (ragged, dense):
        values = METRICS[name](*flat, offsets=offsets, ideal=ideal, k=k, reduction="none")
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
    assert METRICS["recall"](scores, labels, k=k).item() == pytest.approx(k / n)
