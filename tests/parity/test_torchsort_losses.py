"""Soft ranks of torchsort on the same float64 scores, in value and gradient."""

import pytest
from comparisons import comparisons


@pytest.mark.parametrize("comparison", comparisons("torchsort"), ids=str)
def test_same_values_and_gradients(comparison) -> None:
    pytest.importorskip("torchsort", reason="torchsort is not installed: it has to be compiled", exc_type=ImportError)
    comparison.check()
