"""Figures of what was mined."""

import pytest
import torch

from rankwell.mining import MiningSettings, mine
from rankwell.mining.report import Report
from rankwell.types import Ragged


@pytest.fixture
def report():
    generator = torch.Generator().manual_seed(0)
    queries, documents = torch.randn(6, 4, generator=generator), torch.randn(40, 4, generator=generator)
    positives = Ragged(torch.tensor([0, 1, 3, 4, 5, 6, 7]), torch.arange(7))
    made = Report(MiningSettings(relative_margin=0.3))
    for block in (slice(0, 4), slice(4, 6)):
        own = Ragged(positives.offsets[block.start : block.stop + 1] - positives.offsets[block.start], positives.values)
        own = Ragged(own.offsets, positives.values[positives.offsets[block.start] : positives.offsets[block.stop]])
        found = mine(queries[block], documents, own, made.settings)
        made.add(found)
    return made, mine(queries, documents, positives, made.settings)


def test_counts_are_those_of_the_whole(report):
    made, whole = report
    shown = dict(made.counts())
    found = (whole.negatives >= 0).sum(1)
    assert shown["queries, pairs"] == "6, 7" and shown["negatives"] == str(int(found.sum()))
    assert shown["candidates"] == f"{whole.candidates}" == "180"  # thirty for each query
    dropped = whole.dropped["relative_margin"]
    assert shown["dropped by relative_margin 0.3"] == f"{dropped} ({dropped / 180:.1%})"
    short, none = int((found < 3).sum()), int((found == 0).sum())
    assert short > 0
    assert shown["pairs with too few"] == f"{short} ({short / 7:.1%}), {none} of them with none"
    assert (
        made.advice()
        == f"{short} pairs with fewer than 3 negatives: raise --range-max (now 30) or lower --relative-margin."
    )


def test_scores_are_means_and_quantiles(report):
    made, whole = report
    shown = dict(made.scores())
    assert shown["positive"][0] == pytest.approx(float(whole.positive_scores.mean()))
    there = whole.negatives >= 0
    gaps = (whole.positive_scores[:, None] - whole.negative_scores)[there].sort().values
    assert shown["difference"][1:] == pytest.approx(
        [float(gaps[round(p * (len(gaps) - 1))]) for p in (0.05, 0.25, 0.5, 0.75, 0.95)]
    )


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_picture(report, tmp_path, suffix):
    report[0].draw(tmp_path / f"a.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes()[:8] in (b"\x89PNG\r\n\x1a\n", b"<?xml ve")


def test_a_picture_of_equal_scores(tmp_path):
    made = Report(MiningSettings(1))
    made.add(mine(torch.ones(1, 2), torch.ones(2, 2), Ragged(torch.tensor([0, 1]), torch.tensor([0])), made.settings))
    assert made.advice() is None
    made.draw(tmp_path / "a.svg")
