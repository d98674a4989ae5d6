"""The gradient of LightGBM's lambdarank on the same scores."""

import pytest
from comparisons import comparisons

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("comparison", comparisons("lightgbm"), ids=str)
def test_same_gradients(comparison) -> None:
    pytest.importorskip("lightgbm", reason="lightgbm is not installed (extra parity)", exc_type=ImportError)
    comparison.check()
