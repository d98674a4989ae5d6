"""SciPy's rank correlations."""

import pytest
import torch

from rankwell.metrics import kendall_tau, spearman

stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_correlations(levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    for n in (2, 5, 40, 700):
        scores = torch.randint(0, levels, (n,), generator=generator).double()
        labels = torch.randint(0, 4, (n,), generator=generator).double()
        scores[:2] = labels[:2] = torch.tensor([0.0, 1.0])
        assert kendall_tau(scores, labels).item() == pytest.approx(
            stats.kendalltau(scores, labels).statistic, abs=1e-12
        )
        assert spearman(scores, labels).item() == pytest.approx(stats.spearmanr(scores, labels).statistic, abs=1e-12)
