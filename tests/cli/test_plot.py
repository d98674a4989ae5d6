"""``rankwell losses NAME --plot``: words in, a picture out."""

import pytest

from rankwell.losses import LOSSES


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """What would be drawn: drawing takes longer than all of these tests."""
    calls = []
    monkeypatch.setattr("rankwell.cli.losses.draw_loss", lambda *given: calls.append(given))
    monkeypatch.chdir(tmp_path)
    return calls


def test_a_picture(rankwell, tmp_path):
    said = rankwell("losses", "ccl", "--plot", tmp_path / "ccl.svg", "--margin", "0.5")
    assert (said.code, said.out) == (0, f"picture: {tmp_path / 'ccl.svg'}\n")
    assert "<!-- ccl(margin=0.5, neg_weight=150) -->" in (tmp_path / "ccl.svg").read_text()


@pytest.mark.parametrize(
    ("words", "file", "settings"),
    [
        ("mml --plot", "mml.svg", [{}]),
        ("--plot mml", "mml.svg", [{}]),
        ("--plot some.png mml", "some.png", [{}]),
        ("mml --plot=some.png", "some.png", [{}]),
        ("mml --neg_weight 3 --plot", "mml.svg", [{"neg_weight": 3.0}]),
        ("mml --plot --neg-weight=3", "mml.svg", [{"neg_weight": 3.0}]),
        ("mml --plot m.svg --margins 0.8,0.9", "m.svg", [{"margins": (0.8, 0.9)}]),
        (
            "mml --plot --neg_weight 1 --neg_weight 400 --pos_weight 2",
            "mml.svg",
            [{"neg_weight": 1.0, "pos_weight": 2.0}, {"neg_weight": 400.0, "pos_weight": 2.0}],
        ),
    ],
)
def test_words(rankwell, drawn, words, file, settings):
    said = rankwell("losses", *words.split())
    assert (said.code, said.out) == (0, f"picture: {file}\n")
    ((path, entry, *given),) = drawn
    assert (str(path), entry, given) == (file, LOSSES["mml"], settings)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("mlm --plot", "unknown loss 'mlm'. Did you mean 'mml'?"),
        ("mml --plot --margn 1", "loss.margn: mml has no such parameter. Did you mean 'margins'?"),
        ("mml --plot --neg_weight much", "loss.neg_weight: Input should be a valid number"),
        ("mml --plot --neg_weight", "option --neg_weight needs a value."),
        ("mml --neg_weight 3", "--neg_weight: parameters are for a picture: give --plot, too."),
        ("--plot", "name the loss to draw"),
        ("mml ccl --plot", "unexpected argument 'ccl' beside 'mml'."),
    ],
)
def test_refusals(rankwell, drawn, words, says):
    assert rankwell("losses", *words.split()).sentence.startswith(says)
    assert not drawn


def test_what_only_the_loss_and_the_disk_refuse(rankwell, tmp_path):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "mml.svg"
    assert rankwell("losses", "mml", "--plot", place).sentence.startswith(f"cannot write {place}: ")
    assert "got 'mml.jpg'" in rankwell("losses", "mml", "--plot", "mml.jpg").sentence
    refused = rankwell("losses", "mml", "--plot", tmp_path / "mml.svg", "--margins", "0.8,0.9").sentence
    assert refused == "margin_weights must be as many as margins: got 3 for 2 margins."
