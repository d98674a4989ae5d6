import pytest
import torch

from rankwell.errors import ConfigError
from rankwell.losses import LOSSES
from rankwell.pictures import draw_curves, loss_curve

DRAWN = [entry for entry in LOSSES if entry.kind in ("list", "contrast", "embedding")]


@pytest.mark.parametrize("entry", DRAWN, ids=lambda entry: entry.name)
def test_every_loss_has_a_curve(entry):
    curve = loss_curve(entry, points=5)
    assert curve.value.shape == curve.slope.shape == (5,)
    assert curve.value.isfinite().all() and curve.slope.isfinite().all()


def test_the_slope_of_a_margin():
    """One of three negatives, weight 150: 50 above the margin, 0 below."""
    curve = loss_curve(LOSSES["ccl"], cosine=True, margin=0.7)
    torch.testing.assert_close(curve.slope, 50.0 * (curve.x > 0.7).double())
    assert curve.label == "ccl(margin=0.7)"


def test_the_slope_of_a_softmax_is_the_share():
    curve = loss_curve(LOSSES["sampled_softmax"])
    weights = torch.stack([curve.x, *(torch.full_like(curve.x, s) for s in (0.0, -2.0, 1.0))]).exp()
    torch.testing.assert_close(curve.slope, weights[0] / weights.sum(0))


def test_a_file(tmp_path):
    curves = [loss_curve(LOSSES[name], cosine=True, points=9) for name in ("mml", "ccl")]
    draw_curves(tmp_path / "new" / "margins.svg", curves, title="Margins")
    text = (tmp_path / "new" / "margins.svg").read_text()
    assert text.startswith("<?xml") and "</svg>" in text


def test_kinds_without_a_picture():
    with pytest.raises(ConfigError, match="a loss of kind 'graded' has no picture"):
        loss_curve(LOSSES["classification"])
