"""Losses of torch.nn.functional on the same float64 data, in value and gradient."""

import pytest
from comparisons import comparisons


@pytest.mark.parametrize("comparison", comparisons("torch"), ids=str)
def test_same_values_and_gradients(comparison) -> None:
    comparison.check()
