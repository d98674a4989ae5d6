"""Losses of sentence-transformers on the same data, in value and gradient: those over lists in float32, which they have."""

import pytest
import torch
from comparisons import comparisons
from torch.testing import assert_close

from rankwell.losses import listmle_loss, listnet_loss

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    library = "sentence_transformers"
    pytest.importorskip(library, reason="sentence-transformers is not installed (extra parity)", exc_type=ImportError)


@pytest.mark.parametrize("comparison", comparisons("sentence_transformers"), ids=str)
def test_same_values_and_gradients(comparison) -> None:
    comparison.check()


@pytest.mark.parametrize(("ours", "theirs"), [(listmle_loss, "ListMLELoss"), (listnet_loss, "ListNetLoss")])
def test_lists_of_several_lengths(ours, theirs) -> None:
    """Padding once entered ListMLE's normaliser there: 0.26 became 2.16."""
    from sentence_transformers.cross_encoder import losses
    from sentence_transformers_comparisons import Stub

    scores, labels = torch.tensor([1.0, -0.5, 0.3, 2.0, 0.4]), torch.tensor([2.0, 1.0, 0.0, 1.0, 0.0])
    own = {"respect_input_order": False} if theirs == "ListMLELoss" else {}
    module = getattr(losses, theirs)(Stub(scores), **own)
    other = module([["a", "b"], [["0", "1", "2"], ["3", "4"]]], [labels[:3], labels[3:]])
    assert_close(ours(scores, labels, offsets=torch.tensor([0, 3, 5])), other)
