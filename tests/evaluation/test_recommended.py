"""Measures of recommended items, of the ranking that measures of scores and labels have."""

import math

import pytest
import torch
from torch import Tensor

from rankwell.errors import ConfigError
from rankwell.evaluation import Background, evaluate, measure_recommended, top_items
from rankwell.evaluation.next_item import evaluate_next
from rankwell.metrics import METRICS, Measure, metric
from rankwell.metrics.registry import RESULTS
from rankwell.models import Popularity
from rankwell.types import Ragged

KNOWN = Ragged(torch.tensor([0, 2, 4, 5]), torch.tensor([0, 1, 0, 2, 0]))
"""Items of three users: counts 3, 1, 1, 0 of four items."""
HELD_OUT = Ragged(torch.tensor([0, 1, 1, 3]), torch.tensor([2, 1, 3]))


class Fixed:
    """A model whose scores are given; it counts what it is asked."""

    def __init__(self, scores: Tensor) -> None:
        self.scores, self.num_items, self.asked = scores, scores.shape[1], 0

    def score_all(self, queries: Tensor, out: Tensor | None = None) -> Tensor:
        self.asked += len(queries)
        rows = self.scores[queries]
        return rows if out is None else out.copy_(rows)


def parsed(*texts: str) -> list[Measure]:
    return [Measure.parse(text) for text in texts]


def lists(*each: list[int]) -> Ragged:
    offsets = torch.tensor([0, *(len(one) for one in each)]).cumsum(0)
    return Ragged(offsets, torch.tensor([code for one in each for code in one], dtype=torch.int64))


def test_by_hand() -> None:
    # User 0 gets 3 and 2, user 2 gets 3 and 1; user 1 has nothing held out, and is not asked.
    model = Fixed(torch.tensor([[9.0, 9.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0], [9.0, 2.0, 1.0, 3.0]]))
    names = ("gini@2", "recall@2", "coverage@1", "coverage@2", "novelty@2", "popularity_lift@2", "serendipity@1")
    found = evaluate(model, parsed(*names), known=KNOWN, held_out=HELD_OUT)
    assert list(found.values) == list(names) and found.users.tolist() == [0, 2]
    means = found.means()
    assert means["coverage@1"] == 1 / 4 and means["coverage@2"] == 3 / 4
    # Shares 0, 1/4, 1/4, 1/2.
    assert means["gini@2"] == pytest.approx((-3 * 0 - 1 / 4 + 1 / 4 + 3 / 2) / 3)
    assert found.values["gini@2"].shape == () and found.values["recall@2"].tolist() == [1.0, 1.0]
    # One of three users, nobody (as one): log2(3) each.
    assert found.values["novelty@2"].tolist() == pytest.approx([math.log2(3)] * 2)
    # Means 1/2 against (3 + 1) / 2, and against 3.
    assert found.values["popularity_lift@2"].tolist() == pytest.approx([(1 / 2) / 2 - 1, (1 / 2) / 3 - 1])
    # Popular ones would be 2 and 1; 3 is relevant to user 2 alone.
    assert found.values["serendipity@1"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("decimals", [0, 3], ids=["ties", "no ties"])
@pytest.mark.parametrize("block", [7, 64])
def test_they_are_the_functions_of_what_is_recommended(decimals: int, block: int) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(40, 90, generator=generator)
    known = lists(*((row < 0.1).nonzero().flatten().tolist() for row in draw))
    held_out = lists(*((row > 0.95).nonzero().flatten().tolist() for row in draw))
    model = Fixed(torch.randn(40, 90, generator=generator).round(decimals=decimals))
    columns = {"a": torch.rand(90, 3, generator=generator)}
    background = Background.of(known, 90, columns)
    own = {"diversity": "(column=a)", "calibration": "(alpha=0.1,column=a)"}
    names = [entry.name for entry in METRICS if entry.kind in RESULTS]
    texts = [f"{name}{own.get(name, '')}@{k}" for name in names for k in (3, 10)]
    others = ("ndcg@5", "ndcg@20", "auc", "recall(ties=order)@5")
    found = evaluate(model, parsed(*texts, *others), known=known, held_out=held_out, background=background, block=block)
    assert list(found.values) == [*texts, *others]
    top = top_items(model, found.users, 10, known=known).ids
    popular = Popularity(40, 90)
    popular.initialise(known, seed=0)
    counts = background.counts

    def of_users(each: Ragged) -> Ragged:
        return lists(*(each.values[each.offsets[u] : each.offsets[u + 1]].tolist() for u in found.users.tolist()))

    for k in (3, 10):
        given = {
            "num_items": 90,
            "num_users": 40,
            "counts": counts,
            "history": of_users(known),
            "relevant": of_users(held_out),
            "expected": top_items(popular, found.users, k, known=known).ids,
            "vectors": columns["a"],
            "categories": columns["a"],
        }
        for name in names:
            inputs = {each: given[each] for each in METRICS[name].inputs}
            right = METRICS[name](top[:, :k], **inputs, **({"alpha": 0.1} if name == "calibration" else {}))
            assert found.means()[f"{name}{own.get(name, '')}@{k}"] == pytest.approx(right.item(), abs=1e-6)
    alone = evaluate(model, parsed(*others), known=known, held_out=held_out, block=block)
    for name, values in alone.values.items():
        torch.testing.assert_close(found.values[name], values, equal_nan=True)


def test_the_model_ranks_once() -> None:
    model, alone = (Fixed(torch.arange(12.0).view(3, 4)) for _ in range(2))
    evaluate(model, parsed("ndcg@2", "coverage@1", "serendipity@3"), known=KNOWN, held_out=HELD_OUT)
    evaluate(alone, parsed("ndcg@2"), known=KNOWN, held_out=HELD_OUT)
    assert model.asked == alone.asked


def test_what_popularity_recommends_is_expected() -> None:
    popular = Popularity(3, 4)
    popular.initialise(KNOWN, seed=0)
    for k in (1, 2, 3):
        found = evaluate(popular, parsed(f"serendipity@{k}"), known=KNOWN, held_out=HELD_OUT)
        assert found.means() == {f"serendipity@{k}": 0.0}


def test_users_that_do_not_count_are_in_no_mean() -> None:
    nothing = Fixed(torch.tensor([[0.0, 0.0, 1.0, 2.0], [0.0] * 4, [-math.inf] * 4]))
    found = evaluate(nothing, parsed("novelty@2", "coverage@2"), known=KNOWN, held_out=HELD_OUT)
    assert found.values["novelty@2"].isnan().tolist() == [False, True]
    assert found.means() == pytest.approx({"novelty@2": math.log2(3), "coverage@2": 1 / 2})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("diversity@2", r"diversity@2 needs vectors of items: name the column .* as diversity\(column=NAME\)@2\."),
        ("calibration@2", "calibration@2 needs categories of items: name the column"),
        ("diversity(column=b)@2", r"diversity\(column=b\)@2 names a column of items, which are not there"),
        ("calibration(alpha=1,column=a)@2", r"calibration\(alpha=1,column=a\)@2: alpha must be between 0 and 1: got 1"),
    ],
)
def test_what_is_lacking_is_said_before_anything_is_ranked(text: str, says: str) -> None:
    model = Fixed(torch.zeros(3, 4))
    background = Background.of(KNOWN, 4, {"a": torch.eye(4)})
    with pytest.raises(ConfigError, match=says):
        evaluate(model, parsed("ndcg@2", text), known=KNOWN, held_out=HELD_OUT, background=background)
    assert not model.asked


def test_metrics_of_others_are_given_what_they_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    counts, prices = METRICS["novelty"].inputs["counts"], METRICS["diversity"].inputs["vectors"]

    @metric(kind="catalogue", inputs={"counts": counts})
    def most_used(items: Tensor, *, counts: Tensor | None = None) -> Tensor:
        assert counts is not None
        return counts[items].max().float()

    @metric(kind="catalogue", inputs={"weather": counts})
    def rain(items: Tensor, *, weather: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    @metric(kind="catalogue", inputs={"prices": prices})
    def dearest(items: Tensor, *, prices: Tensor | None = None) -> Tensor:
        assert prices is not None
        return prices[items].max()

    users = {"users": torch.tensor([0]), "known": KNOWN, "held_out": HELD_OUT}
    background = Background.of(KNOWN, 4, {"price": torch.arange(4.0)[:, None]})
    items = torch.tensor([[1, 3, 0]])
    found = measure_recommended(parsed("most_used@2", "dearest(column=price)@1"), items, background=background, **users)
    assert {name: float(value) for name, value in found.items()} == {"most_used@2": 1.0, "dearest(column=price)@1": 1.0}
    with pytest.raises(ConfigError, match="rain@2 needs weather, which these data do not tell"):
        measure_recommended(parsed("rain@2"), items, background=background, **users)


class After:
    """Scores what follows the last item."""

    num_items = 4

    def score_next(self, history: Ragged, out: Tensor | None = None) -> Tensor:
        last = history.values[history.offsets[1:] - 1]
        scores = torch.nn.functional.one_hot((last + 1) % 4, 4).float()
        return scores if out is None else out.copy_(scores)


def test_what_comes_next() -> None:
    histories, targets = lists([0, 0, 1], [3], [0, 3]), torch.tensor([2, 2, 1])
    measures = parsed("coverage@1", "hit_rate@1", "popularity_lift@1", "novelty@1")
    found = evaluate_next(After(), measures, histories, targets)  # 2, 0, 0
    assert found.means()["coverage@1"] == 2 / 4 and found.means()["hit_rate@1"] == 1 / 3
    # Histories have 0 twice, 1 once, 3 twice; each item of a history once.
    assert found.values["popularity_lift@1"].tolist() == pytest.approx([0 / 1.5 - 1, 2 / 2 - 1, 2 / 2 - 1])
    assert found.values["novelty@1"].tolist() == pytest.approx([math.log2(3), *[math.log2(3 / 2)] * 2])
    more = Background(lists([0], [3], [3]), torch.tensor([1, 4, 2, 1]), 4)
    found = evaluate_next(After(), measures, histories, targets, background=more)
    assert found.values["popularity_lift@1"].tolist() == pytest.approx([2 / 1 - 1, 1 / 1 - 1, 1 / 1 - 1])
