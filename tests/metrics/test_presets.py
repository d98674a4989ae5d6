"""Conventions of other tools, against what their documentation or code says, worked by hand."""

from math import log2

import pytest
import torch

from rankwell.errors import UnknownName
from rankwell.metrics import PRESETS, Measure, ap, ndcg, presets

SCORES = torch.tensor([[5.0, 4.0, 3.0, 2.0], [4.0, 3.0, 2.0, 1.0]])
LABELS = torch.tensor([[0.0, 2.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]])


def mean(text: str, preset: str) -> float:
    return Measure.parse(text, preset=preset)(SCORES, LABELS).item()


def test_each_is_put_into_words() -> None:
    for name in PRESETS:
        assert f"\n``{name}``\n" in (presets.__doc__ or "")


def test_letor() -> None:
    # Positions 1 and 2 both count fully, and the empty query counts as 0.
    found = 3 + 1 / log2(3) + 3 / log2(4)
    best = 3 + 3 + 1 / log2(3)
    assert mean("ndcg@4", "letor") == pytest.approx(found / best / 2)
    assert mean("ndcg@2", "letor") == pytest.approx(3 / 6 / 2)
    assert mean("ap", "letor") == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3 / 2)
    assert mean("precision@10", "letor") == pytest.approx(3 / 10 / 2)


def test_lightgbm() -> None:
    # The empty query counts as 1, and average precision divides by min(k, relevant).
    found = 3 / log2(3) + 1 / log2(4)
    assert mean("ndcg@3", "lightgbm") == pytest.approx((found / (3 + 3 / log2(3) + 1 / log2(4)) + 1) / 2)
    assert mean("map@2", "lightgbm") == pytest.approx((1 / 2 / 2 + 1) / 2)


def test_recbole() -> None:
    # Only users with test items; precision divides by k, recall by all test items, average precision by min(k, relevant).
    assert mean("recall@2", "recbole") == pytest.approx(1 / 3)
    assert mean("precision@2", "recbole") == pytest.approx(1 / 2)
    assert mean("map@2", "recbole") == pytest.approx(1 / 2 / 2)
    assert mean("mrr@2", "recbole") == pytest.approx(1 / 2)
    assert mean("hit@2", "recbole") == 1


def test_implicit() -> None:
    # Its precision divides by min(k, liked): here by 3.
    assert mean("precision@4", "implicit") == 1
    assert mean("precision@10", "implicit") == 1
    assert mean("precision@2", "implicit") == pytest.approx(1 / 2)
    assert mean("map@10", "implicit") == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)


def test_sklearn() -> None:
    # One threshold for a tie group: both items of the pair have the precision down to its end.
    scores, labels = torch.tensor([2.0, 2.0, 1.0]), torch.tensor([1.0, 0.0, 1.0])
    found = Measure.parse("ap", preset="sklearn")(scores, labels)
    assert found.item() == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert Measure.parse("ndcg", preset="sklearn").settings["gain"] == "linear"
    assert Measure.parse("pauc(max_fpr=0.2)", preset="sklearn").settings["scale"] == "mcclish"


def test_trec() -> None:
    assert Measure.parse("ndcg", preset="trec") == Measure.parse("ndcg(gain=linear,ties=order,empty=zero)")
    assert mean("ap", "trec") == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3 / 2)


def test_the_text_outweighs_the_preset() -> None:
    assert Measure.parse("ndcg(discount=shifted)", preset="letor").settings["discount"] == "shifted"


def test_unknown_values_are_errors() -> None:
    for change, message in (({"total": "all"}, "total must be"), ({"at": "ends"}, "at must be")):
        with pytest.raises(ValueError, match=message):
            ap(SCORES, LABELS, **change)
    with pytest.raises(ValueError, match="discount must be 'shifted' or 'original': got 'none'"):
        ndcg(SCORES, LABELS, discount="none")
    with pytest.raises(UnknownName, match=r"Did you mean 'letor'\?"):
        presets.preset("lettor")
