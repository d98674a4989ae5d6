"""Curves and drawings of losses, held against formulas written a second time."""

import math
from dataclasses import replace

import pytest
import torch

from rankwell.errors import ConfigError, InputError, RunError
from rankwell.losses import LOSSES
from rankwell.pictures import curves_beside, draw_loss, loss_curve
from rankwell.registry import Input

X = torch.tensor([-6.0, -3.0, 0.0, 3.0, 6.0], dtype=torch.double)
COSINES = 0.99 * X / 6


def close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.double))


@pytest.mark.parametrize("entry", LOSSES, ids=lambda entry: entry.name)
def test_every_loss_has_a_curve(entry):
    curve = loss_curve(entry, points=5)
    assert curve.value.shape == curve.slope.shape == curve.x.shape == (5,)
    assert curve.value.isfinite().all() and curve.slope.isfinite().all()
    assert curve.value.dtype == curve.slope.dtype == torch.double
    assert curve.slope.count_nonzero(), "a picture without a gradient teaches nothing"


def test_ccl_by_hand():
    """One of three negatives moves; those at -0.2 and 0.6 and the positive at 0.5 stand still."""
    curve = loss_curve(LOSSES["ccl"], points=5, margin=0.4, neg_weight=30.0)
    close(curve.x, COSINES)
    close(curve.value, 0.5 + 30 * ((0.6 - 0.4) + (COSINES - 0.4).relu()) / 3)
    close(curve.slope, [0, 0, 0, 10, 10])


def test_mml_by_hand():
    curve = loss_curve(LOSSES["mml"], points=5, margins=(0.3, 0.7), margin_weights=(0.25, 0.5), neg_weight=60.0)
    others = 0.25 * (0.6 - 0.3)
    close(curve.value, 0.5 + 60 * (others + 0.25 * (COSINES - 0.3).relu() + 0.5 * (COSINES - 0.7).relu()) / 3)
    close(curve.slope, [0, 0, 0, 60 * 0.25 / 3, 60 * 0.75 / 3])


def test_bpr_by_hand():
    """The mean over three negatives of log(1 + e^gap)."""
    curve = loss_curve(LOSSES["bpr"], points=5)
    close(curve.x, X)
    close(curve.value, ((1 + X.exp()).log() + math.log(1 + math.exp(-2)) + math.log(1 + math.e)) / 3)
    close(curve.slope, 1 / (1 + (-X).exp()) / 3)


@pytest.mark.parametrize("name", ["softmax", "sampled_softmax", "linear_softmax"])
def test_softmax_by_hand(name):
    """As a list, a row and a head: the relevant item at 0, irrelevant ones at x, -2 and 1."""
    curve = loss_curve(LOSSES[name], points=5)
    total = 1 + X.exp() + math.exp(-2) + math.e
    close(curve.value, total.log())
    close(curve.slope, X.exp() / total)


def test_info_nce_by_hand():
    curve = loss_curve(LOSSES["info_nce"], points=5, temperature=0.5)
    close(curve.value, (1 + ((COSINES - 0.5) / 0.5).exp()).log())
    close(curve.slope, 2 / (1 + ((0.5 - COSINES) / 0.5).exp()))


def test_a_loss_that_remembers_starts_without_memories():
    """SogCLR of an id that is new: the softmax over the negatives, less log n."""
    curve = loss_curve(LOSSES["sog_clr"], points=5, temperature=0.5)
    mean = ((COSINES / 0.5).exp() + math.exp(-0.4) + math.exp(1.2)) / 3
    close(curve.value, mean.log() - 0.5 / 0.5)


def test_kinks_are_where_the_margins_are():
    """Between neighbouring points the slope jumps only at the margins."""
    curve = loss_curve(LOSSES["mml"])
    jumps = curve.x[1:][curve.slope.diff() > 1]
    torch.testing.assert_close(jumps, torch.tensor([0.7, 0.8, 0.9], dtype=torch.double), atol=2.1e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("mml", ["ccl", "sampled_softmax"]),
        ("ccl", ["sampled_softmax"]),
        ("hinge", ["softmax", "logistic"]),
        ("circle", ["info_nce", "triplet"]),
        ("cross_batch_memory", ["info_nce", "triplet"]),
        ("k_song", ["softmax", "logistic"]),
        ("ordinal", ["sigmoid", "softmax"]),
    ],
)
def test_what_stands_beside(name, others):
    curve = loss_curve(LOSSES[name], points=5)
    beside = curves_beside(curve)
    assert [other.entry.name for other in beside] == others
    assert {other.scene for other in beside} == {curve.scene}


def test_files(tmp_path):
    draw_loss(tmp_path / "new" / "mml.svg", LOSSES["mml"], {"neg_weight": 1.0}, {"neg_weight": 400.0})
    text = (tmp_path / "new" / "mml.svg").read_text()
    assert text.startswith("<?xml") and "</svg>" in text
    # Texts are outlines; their words stand in comments.
    for words in (
        *(
            "mml(margins=[0.7, 0.8, 0.9], margin_weights=[0.1, 0.15, 0.75], pos_weight=1)",
            "neg_weight=1",
            "neg_weight=400",
        ),
        *("ccl(margin=0.9, neg_weight=150)", "sampled_softmax(temperature=0.1)", "gradient, per unit of cosine"),
        "cosine of a negative (the positive at 0.5, dotted, others -0.2 and 0.6)",
    ):
        assert f"<!-- {words} -->" in text
    draw_loss(tmp_path / "triplet.png", LOSSES["triplet"])
    assert (tmp_path / "triplet.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(ConfigError, match=r"a picture is a file \.svg, \.png, \.pdf: got '.*mml\.jpg'"):
        draw_loss(tmp_path / "mml.jpg", LOSSES["mml"])
    with pytest.raises(ConfigError, match="at most 6 settings apart: got 7"):
        draw_loss(tmp_path / "mml.svg", LOSSES["mml"], *({"neg_weight": float(n)} for n in range(7)))
    with pytest.raises(InputError, match="as many as margins"):
        draw_loss(tmp_path / "mml.svg", LOSSES["mml"], {"margins": (0.5,)})
    needy = replace(LOSSES["bpr"], name="needy", inputs={"prices": Input("catalogue", required=True)})
    with pytest.raises(ConfigError, match="needy cannot be drawn: it needs prices, one a catalogue, which only data"):
        draw_loss(tmp_path / "needy.svg", needy)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*mml\.svg: File exists"):
        draw_loss(tmp_path / "file" / "mml.svg", LOSSES["bpr"])


def test_a_loss_that_remembers_more_than_ids(tmp_path):
    class Needy(torch.nn.Module):
        call = "contrast"

        def forward(self, pos, neg, *, prices, reduction="mean"):
            return pos, neg, prices, reduction

    with pytest.raises(ConfigError, match="needy cannot be drawn: it needs prices, which only data can tell"):
        draw_loss(tmp_path / "needy.svg", replace(LOSSES["sog_clr"], name="needy", function=Needy, inputs={}))
