"""Losses of pytorch-metric-learning on the same float64 batches, in value and gradient."""

import pytest
from comparisons import comparisons

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("comparison", comparisons("pytorch_metric_learning"), ids=str)
def test_same_values_and_gradients(comparison) -> None:
    library = "pytorch_metric_learning"
    pytest.importorskip(library, reason="pytorch-metric-learning is not installed (extra parity)", exc_type=ImportError)
    comparison.check()
