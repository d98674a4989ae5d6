"""Losses of rax on the same float64 data, in value and gradient, with masks and weights where it has them."""

import pytest
from comparisons import comparisons

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("comparison", comparisons("rax"), ids=str)
def test_same_values_and_gradients(comparison) -> None:
    pytest.importorskip("rax", reason="rax is not installed (extra parity)", exc_type=ImportError)
    comparison.check()
