"""scikit-learn's ranking metrics, where its definitions are ours."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from rankwell.metrics import Measure, ap, auc, dcg, ndcg, pauc

metrics = pytest.importorskip("sklearn.metrics")


def lists(*, ties: bool) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for n in (2, 5, 30, 101):
        for _ in range(5):
            scores = torch.rand(n, generator=generator, dtype=torch.float64)
            labels = torch.randint(0, 4, (n,), generator=generator).double()
            labels[0], labels[1] = 1, 0
            yield (scores * 5).floor() if ties else scores, labels


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [None, 1, 7])
def test_ndcg_and_dcg(k: int | None, ties: bool) -> None:
    # Linear gains; ties averaged as McSherry and Najork do.
    for scores, labels in lists(ties=ties):
        arguments = labels[None].numpy(), scores[None].numpy()
        ours = ndcg(scores, labels, k=k, gain="linear").item()
        assert ours == pytest.approx(metrics.ndcg_score(*arguments, k=k), abs=1e-12)
        assert dcg(scores, labels, k=k, gain="linear").item() == pytest.approx(metrics.dcg_score(*arguments, k=k))


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision(ties: bool) -> None:
    # It has one threshold for a whole tie group, which is no mean over orders.
    for scores, labels in lists(ties=ties):
        expected = metrics.average_precision_score((labels >= 1).numpy(), scores.numpy())
        assert Measure.parse("ap", preset="sklearn")(scores, labels).item() == pytest.approx(expected, abs=1e-12)
        if not ties:
            assert ap(scores, labels).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("max_fpr", [0.05, 0.37, 0.5, 1.0])
def test_partial_auc(max_fpr: float) -> None:
    for scores, labels in lists(ties=False):
        expected = metrics.roc_auc_score((labels >= 1).numpy(), scores.numpy(), max_fpr=max_fpr)
        measure = Measure.parse(f"pauc(max_fpr={max_fpr})", preset="sklearn")
        assert measure(scores, labels).item() == pytest.approx(expected, abs=1e-12)


def test_partial_auc_with_ties_that_the_rate_does_not_cut() -> None:
    # Four irrelevant items; a rate of one half ends with the first tie group.
    scores, labels = torch.tensor([2.0, 2.0, 2.0, 1.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    expected = metrics.roc_auc_score(labels.numpy(), scores.numpy(), max_fpr=0.5)
    assert pauc(scores, labels, max_fpr=0.5, scale="mcclish").item() == pytest.approx(expected)


def test_presets_reproduce_means_over_lists() -> None:
    labels = torch.tensor([[0.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    scores = torch.tensor([[3.0, 2.0, 2.0], [1.0, 2.0, 3.0]])
    found = Measure.parse("ndcg", preset="sklearn")(scores, labels).item()
    assert found == pytest.approx(metrics.ndcg_score(labels.numpy(), scores.numpy()))


@pytest.mark.parametrize("ties", [False, True])
def test_auc(ties: bool) -> None:
    for scores, labels in lists(ties=ties):
        weights = torch.linspace(0.5, 2, scores.numel(), dtype=torch.float64)
        expected = metrics.roc_auc_score((labels >= 2).numpy(), scores.numpy()) if (labels >= 2).any() else None
        if expected is not None:
            assert auc(scores, labels, rel=2).item() == pytest.approx(expected, abs=1e-12)
        # Its weights weigh irrelevant items too; ours are those of the relevant ones.
        weights = torch.where(labels >= 1, weights, 1)
        expected = metrics.roc_auc_score((labels >= 1).numpy(), scores.numpy(), sample_weight=weights.numpy())
        assert auc(scores, labels, weights=weights).item() == pytest.approx(expected, abs=1e-12)
