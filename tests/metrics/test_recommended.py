"""Metrics of recommended items: how they spread, how popular and how different they are."""

import math

import pytest
import torch

from rankwell.errors import ConfigError, InputError
from rankwell.metrics import METRICS, Measure, evaluate_measures, serendipity
from rankwell.metrics.recommended import user_blocks
from rankwell.metrics.registry import RESULTS
from rankwell.types import Ragged

ITEMS = torch.tensor([[0, 1, 2], [0, 1, -1], [-1, -1, -1]])
COUNTS = torch.tensor([8, 4, 1, 0])
HISTORY = Ragged(torch.tensor([0, 2, 3, 4]), torch.tensor([1, 2, 2, 0]))
CATEGORIES = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
GIVEN = {
    "num_items": 4,
    "num_users": 8,
    "counts": COUNTS,
    "history": HISTORY,
    "categories": CATEGORIES,
    "vectors": torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 0.1], [0.0, 0.0]]),
    "relevant": Ragged(torch.tensor([0, 2, 3, 4]), torch.tensor([1, 2, 0, 0])),
    "expected": torch.tensor([0, 1]),
}


def listed(*offsets: int, codes: list[int] | list[float] = [1, 2, 2, 0]) -> Ragged:  # noqa: B006
    return Ragged(torch.tensor(offsets), torch.tensor(codes))


def value(name: str, items: torch.Tensor = ITEMS, **change: object) -> torch.Tensor:
    entry = METRICS[name]
    given = {key: GIVEN[key] for key in entry.inputs} | ({"reduction": "none"} if entry.kind == "user" else {})
    return entry(items, **{**given, **change})


EXPECTED = {
    "coverage": 3 / 4,
    # Shares 0, 1/5, 2/5, 2/5.
    "gini": (-3 * 0 - 1 * 1 / 5 + 1 * 2 / 5 + 3 * 2 / 5) / 3,
    # Bits 0, 1 and 3.
    "novelty": [4 / 3, 1 / 2, 0.0],
    # Means 13/3 against 5/2, and 6 against 1.
    "popularity_lift": [13 / 3 / 2.5 - 1, 5.0, 0.0],
    # Cosines √½, 0, √½; then √½ alone.
    "diversity": [1 - 2 * math.sqrt(1 / 2) / 3, 1 - math.sqrt(1 / 2), 0.0],
    # (1/4, 3/4) against (1/2, 1/2); (0, 1) against (3/4, 1/4).
    "calibration": [
        1 / 4 * math.log((1 / 4) / (0.99 / 2 + 0.01 / 4)) + 3 / 4 * math.log((3 / 4) / (0.99 / 2 + 0.01 * 3 / 4)),
        math.log(1 / (0.99 / 4 + 0.01)),
        0.0,
    ],
    # Item 2 of three; nothing, since 0 is expected.
    "serendipity": [1 / 3, 0.0, 0.0],
}


def test_each_has_an_example() -> None:
    assert {entry.name for entry in METRICS if entry.kind in RESULTS} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_by_hand(name: str) -> None:
    torch.testing.assert_close(value(name), torch.tensor(EXPECTED[name]))


@pytest.mark.parametrize("name", METRICS.names("user"))
def test_users_without_recommendations_do_not_count(name: str) -> None:
    torch.testing.assert_close(value(name, reduction="mean"), value(name)[:2].mean())
    torch.testing.assert_close(value(name, reduction="sum"), value(name).sum())


@pytest.mark.parametrize("name", EXPECTED)
def test_the_order_of_items_and_the_width_of_lists_do_not_count(name: str) -> None:
    moved = torch.nn.functional.pad(ITEMS.flip(-1), (2, 1), value=-1)
    torch.testing.assert_close(value(name, moved), value(name))


@pytest.mark.parametrize("name", EXPECTED)
def test_blocks_of_users_join_seamlessly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = value(name)
    monkeypatch.setattr("rankwell.metrics.recommended.BLOCK_ITEMS", 1)
    torch.testing.assert_close(value(name), whole)


@pytest.mark.parametrize("name", EXPECTED)
def test_nothing_at_all(name: str) -> None:
    for items in (torch.full((3, 2), -1), torch.zeros(3, 0, dtype=torch.int64)):
        assert not value(name, items).any()
    none = Ragged(torch.tensor([0]), torch.zeros(0, dtype=torch.int64))
    lists = {key: none for key in ("history", "relevant") if key in METRICS[name].inputs}
    assert not value(name, torch.zeros(0, 3, dtype=torch.int64), **lists).any()


def test_spread() -> None:
    alone, equal = torch.tensor([[2, 2], [2, 2]]), torch.tensor([[0, 1], [2, 3]])
    assert value("gini", alone).item() == 1 and value("gini", equal).item() == 0
    assert value("coverage", alone).item() == 1 / 4 and value("coverage", equal).item() == 1


def test_serendipity_of_what_each_user_expects() -> None:
    assert value("serendipity", expected=torch.tensor([[0, 2], [1, 1], [0, 0]])).tolist() == pytest.approx(
        [1 / 3, 1 / 2, 0]
    )


def test_serendipity_of_padding_is_no_item_of_another_user() -> None:
    # Items 3 of user 0 and 1 of user 1 are relevant and unexpected; -1 of user 1 is no key of user 0's last item.
    found = serendipity(
        torch.tensor([[3, 0], [1, 2]]),
        relevant=Ragged(torch.tensor([0, 2, 3]), torch.tensor([3, 0, 1])),
        expected=torch.tensor([[1, 2], [0, -1]]),
        reduction="none",
    )
    assert found.tolist() == [2 / 2, 1 / 2]
    of_padding = Ragged(torch.tensor([0, 0, 1]), torch.tensor([-1]))
    nothing = serendipity(torch.tensor([[1], [0]]), relevant=of_padding, expected=torch.tensor([0]), reduction="none")
    assert nothing.tolist() == [0, 0]


def test_an_item_that_nobody_has_is_as_novel_as_one_that_one_has() -> None:
    assert value("novelty", torch.tensor([[2], [3], [0]])).tolist() == [3, 3, 0]


def test_calibration_is_zero_for_the_users_own_mixture_and_bounded() -> None:
    own = torch.tensor([[1, 2], [2, -1], [0, 0]])
    torch.testing.assert_close(value("calibration", own), torch.zeros(3))
    # All of it missing: log 1 / alpha.
    away = torch.tensor([[0], [0], [2]])
    assert value("calibration", away, alpha=0.1)[2].item() == pytest.approx(math.log(10))


def test_diversity_of_long_lists_makes_no_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, items = torch.randn(50, 8, generator=generator), torch.randint(0, 50, (4, 30), generator=generator)
    mine = torch.nn.functional.normalize(vectors.double(), dim=-1)[items]
    apart = 1 - mine @ mine.mT
    expected = (apart.sum((1, 2)) - apart.diagonal(dim1=1, dim2=2).sum(-1)) / (30 * 29)
    torch.testing.assert_close(value("diversity", items, vectors=vectors).double(), expected, atol=1e-6, rtol=1e-5)


def test_blocks_hold_all_users_once() -> None:
    cost = torch.tensor([1 << 17, 1 << 17, 1, 1 << 19, 0, 5])
    assert list(user_blocks(cost)) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 6)]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("coverage", {"num_items": None}, "num_items must be the number of items of the catalogue: got None"),
        ("coverage", {"num_items": 2}, "items must be codes below the 2 of the catalogue: got 2"),
        ("coverage", {"items": ITEMS.float()}, r"items must be integer codes \[users, k\]: got torch.float32"),
        ("novelty", {"counts": None}, "counts must be one number for each item of the catalogue: got None"),
        ("novelty", {"num_users": None}, "num_users must be the number of users: got None"),
        (
            "popularity_lift",
            {"history": None},
            "history must be Ragged with one list for each of the 3 users: got None",
        ),
        ("calibration", {"alpha": 0.0}, r"alpha must be between 0 and 1: got 0\.0"),
        ("calibration", {"categories": None}, r"categories must be \[num_items, …\], one row for each item"),
        ("diversity", {"vectors": None}, r"vectors must be \[num_items, …\]"),
        (
            "serendipity",
            {"expected": None},
            r"expected must be item codes \[e\] or \[users, e\] with 3 users: got None",
        ),
        ("serendipity", {"relevant": Ragged(torch.tensor([0, 1]), torch.tensor([0]))}, "3 users: got 1 lists"),
        (
            "serendipity",
            {"relevant": listed(0, 1, 2, 5)},
            "offsets of relevant must start at 0, not fall, and end at .* 4",
        ),
        ("serendipity", {"expected": torch.tensor([0.0])}, "expected must be integer codes: got torch.float32"),
        *(
            (name, {"history": lists}, message)
            for name in ("calibration", "popularity_lift")
            for lists, message in (
                (listed(0, 2, 3, 4, codes=[1, 4, 2, 0]), "history must be codes of the 4 items .*, from 0: got 4"),
                (listed(0, 2, 3, 4, codes=[1, -1, 2, 0]), "history must be codes of the 4 items .*, from 0: got -1"),
                (listed(0, 3, 2, 4), "offsets of history must start at 0, not fall, and end at .*, 4: got first 0 and"),
                (listed(1, 2, 3, 4), "got first 1 and last 4"),
                (listed(0, 2, 3, 9), "got first 0 and last 9"),
                (listed(0, 2, 3, 4, codes=[1.0, 2.0, 2.0, 0.0]), "integer offsets .* and item codes .*float32"),
            )
        ),
        ("novelty", {"counts": COUNTS + 5}, "counts must be of the 8 users of num_users at most: got 13"),
        ("novelty", {"counts": COUNTS - 1}, "counts must not be below 0: got -1"),
        ("popularity_lift", {"counts": COUNTS - 1}, "counts must not be below 0: got -1"),
        ("calibration", {"categories": CATEGORIES - 1}, "categories must not be below 0: got -1"),
    ],
)
def test_refused(name: str, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        value(name, **change)


@pytest.mark.parametrize("name", METRICS.names("user"))
def test_users_that_do_not_count_are_marked(name: str) -> None:
    assert value(name, uncounted=math.nan).isnan().tolist() == [False, False, True]
    torch.testing.assert_close(value(name, uncounted=math.nan, reduction="mean"), value(name, reduction="mean"))


@pytest.mark.parametrize("name", EXPECTED)
def test_as_measures_they_have_a_cut_off_and_refuse_scores(name: str) -> None:
    measure = Measure.parse(f"{name}@10")
    assert (measure.name, measure.k) == (name, 10) and Measure.parse(str(measure)) == measure
    lists = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])
    said = f"{name}@10 is a metric of recommended items, not of scores and labels: call rankwell.metrics.{name}"
    for call in (measure, lambda *given: evaluate_measures(["mrr", measure], *given)):
        with pytest.raises(ConfigError, match=said):
            call(*lists)


def test_a_measure_names_a_column_where_one_can_be_filled() -> None:
    measure = Measure.parse("Calibration( alpha=0.05, column=my genres )@5")
    assert str(measure) == "calibration(alpha=0.05,column=my genres)@5" and measure.column == "my genres"
    assert Measure.parse(str(measure)) == measure and Measure.parse("diversity@5").column is None
    for name in ("", " genres", "a,b", "a(b"):
        with pytest.raises(ConfigError, match="a column's name must have no comma, parenthesis or outer space: got"):
            Measure("diversity", 5, (("column", name),))
