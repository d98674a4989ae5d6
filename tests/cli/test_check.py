"""``rankwell check`` names what is wrong with a loss."""

import pytest

CARELESS = """
import torch
from rankwell.losses import contrast_loss
from rankwell.lists import open_rows


@contrast_loss()
def careless_loss(pos, neg, *, pos_where=None, where=None, weights=None, reduction="mean"):
    \"\"\"BPR as it is often written.\"\"\"
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    gaps = rows.pos[..., :, None] - rows.neg[..., None, :]
    terms = -torch.log(1e-10 + torch.sigmoid(gaps)).sum(-1) / rows.count_neg().clamp(min=1)[..., None]
    return rows.reduce(rows.mean_pos(rows.weights * terms), reduction)
"""


@pytest.fixture
def careless(tmp_path):
    file = tmp_path / "careless.py"
    file.write_text(CARELESS)
    return file


def test_a_logarithm_with_a_constant_inside_is_named(careless, rankwell):
    shown = rankwell("check", f"{careless}:careless_loss")
    assert shown.code == 1
    broken = [line.split()[1] for line in shown.out.splitlines() if line.startswith("broken")]
    # sigmoid(-25) is 1.4e-11 beside 1e-10: 12 % of the gradient are left.
    assert "gradient_does_not_die" in broken
    report = shown.out.partition("gradient_does_not_die")[2]
    assert "at a gap of 25, expected" in report
    assert "pos = [" in report and "neg = [" in report
    # Half precision, masks and batches are as they should be.
    assert not {"masked_is_removed", "weights_are_additive", "half_precision_is_summed_in_float32"} & set(broken)


def test_one_of_ours_keeps_all(rankwell):
    shown = rankwell("check", "bpr")
    assert shown.code == 0
    assert "broken" not in shown.out and "laws are kept" in shown.out


def test_what_cannot_be_examined(tmp_path, rankwell):
    file = tmp_path / "plain.py"
    file.write_text("def plain(scores, labels): return scores.sum()\n")
    shown = rankwell("check", f"{file}:plain")
    assert "decorate it with @list_loss" in shown.sentence
