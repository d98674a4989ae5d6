import pytest
import torch

from rankwell.errors import ConfigError, InputError
from rankwell.metrics import Measure, ap_at_r, bpref, f1, precision, r_precision, recall

SCORES = torch.tensor([0.1, 0.9, 0.5, 0.7, 0.3])
LABELS = torch.tensor([2.0, 0.0, 1.0, 2.0, 0.0])
# By score: labels 0, 2, 1, 0, 2.


def test_f1_by_hand() -> None:
    # P = 2/3 and R = 2/3; P = 1/2 and R = 1/3; P = 3/5 and R = 1.
    assert f1(SCORES, LABELS, k=3).item() == pytest.approx(2 / 3)
    assert f1(SCORES, LABELS, k=2).item() == pytest.approx(2 / (2 + 3))
    assert f1(SCORES, LABELS).item() == pytest.approx(2 * 3 / (5 + 3))
    assert f1(SCORES, LABELS, k=2, rel=2).item() == pytest.approx(2 / (2 + 2))


def test_f1_is_the_harmonic_mean_also_of_weighted_values() -> None:
    weights = torch.tensor([3.0, 9.0, 2.0, 0.5, 9.0])
    for scale in (1, 2):
        p, r = (m(SCORES, LABELS, weights=scale * weights, k=3) for m in (precision, recall))
        found = f1(SCORES, LABELS, weights=scale * weights, k=3)
        torch.testing.assert_close(found, 2 / (1 / p + 1 / r))


def test_r_precision_by_hand() -> None:
    # Three relevant items, two of them among the first three; two of label 2, one of them among the first two.
    assert r_precision(SCORES, LABELS).item() == pytest.approx(2 / 3)
    assert r_precision(SCORES, LABELS, rel=2).item() == pytest.approx(1 / 2)
    # With a relevant item that was not retrieved, R = 4.
    assert r_precision(SCORES, LABELS, ideal=torch.tensor([1.0, 2.0, 2.0, 1.0])).item() == pytest.approx(2 / 4)


def test_r_precision_cuts_a_tie_group() -> None:
    # R = 2 takes one of the three tied items behind the first: one relevant item in a group of three.
    scores, labels = torch.tensor([4.0, 1.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert r_precision(scores, labels).item() == pytest.approx((1 + 1 / 3) / 2)


def test_ap_at_r_by_hand() -> None:
    # Labels by score 0, 2, 1, 0, 2: of three relevant items those at places 2 and 3 count, with precisions 1/2 and 2/3.
    assert ap_at_r(SCORES, LABELS).item() == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert ap_at_r(SCORES, LABELS, rel=2).item() == pytest.approx((1 / 2) / 2)
    # With two relevant items that were not retrieved, R = 5: the last place counts too, with precision 3/5.
    assert ap_at_r(SCORES, LABELS, ideal=torch.tensor([2.0, 1.0, 2.0, 1.0, 1.0])).item() == pytest.approx(
        (1 / 2 + 2 / 3 + 3 / 5) / 5
    )


def test_at_r_is_a_measure() -> None:
    assert str(Measure.parse("MAP@R")) == "ap_at_r" == str(Measure.parse("ap_at_r"))
    assert str(Measure.parse("P(rel=2)@r")) == str(Measure.parse("recall(rel=2)@R")) == "r_precision(rel=2)"
    with pytest.raises(ConfigError, match="must be a whole number of at least 1: got 'r'"):
        Measure.parse("ndcg@r")


def test_bpref_by_hand() -> None:
    # Labels by score 0, 2, 1, 0, 2: R = 3, N = 2, irrelevant above 1, 1, 2.
    assert bpref(SCORES, LABELS).item() == pytest.approx(((1 - 1 / 2) + (1 - 1 / 2) + 0) / 3)
    # The first not judged: N = 1, irrelevant above 0, 0, 1; the fourth too: nothing is above anything.
    assert bpref(SCORES, torch.tensor([2.0, -1.0, 1.0, 2.0, 0.0])).item() == pytest.approx((1 + 1 + 0) / 3)
    assert bpref(SCORES, torch.tensor([2.0, -1.0, 1.0, 2.0, -1.0])).item() == 1


def test_bpref_takes_all_judgements_from_ideal() -> None:
    # R = 3 of which one was not retrieved, N = 3; irrelevant above: 1 and 1.
    scores, labels = torch.tensor([3.0, 2.0, 1.0]), torch.tensor([0.0, 1.0, 1.0])
    judged = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0])
    assert bpref(scores, labels, ideal=judged).item() == pytest.approx(2 * (1 - 1 / 3) / 3)


def test_a_depth_of_their_own() -> None:
    for metric in (r_precision, ap_at_r, bpref):
        with pytest.raises(InputError, match="has a depth of its own: it takes no k"):
            metric(SCORES, LABELS, k=3)
    with pytest.raises(ConfigError, match=r"bpref has a depth of its own: it takes no cut-off, got bpref@10"):
        Measure.parse("bpref@10")


def test_reachable_depth() -> None:
    # implicit's precision, and Mult-VAE's recall: two of min(5, 3) and of min(2, 3).
    assert precision(SCORES, LABELS, k=3, depth="reachable").item() == pytest.approx(2 / 3)
    liked = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    assert precision(-torch.arange(5.0), liked, k=5, depth="reachable").item() == 1
    with pytest.raises(InputError, match="depth must be 'k' or 'reachable': got 'n'"):
        precision(SCORES, LABELS, depth="n")
