"""Edges of the call: what is refused, what is empty, what was not retrieved."""

import numpy as np
import pytest
import torch

from rankwell.errors import InputError
from rankwell.metrics import METRICS, ap, mrr, ndcg, recall
from rankwell.metrics.registry import RESULTS, checked_cut
from rankwell.types import Ragged

SCORES, LABELS = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be a whole number of at least 1, or None: got 0."),
        ({"k": 2.0}, "k must be a whole number"),
        ({"k": True}, "k must be a whole number of at least 1, or None: got True."),
        ({"ties": "random"}, "ties must be 'expected' or 'order': got 'random'."),
        ({"empty": "nan"}, "empty must be 'skip', 'zero' or 'one': got 'nan'."),
        ({"reduction": "max"}, "reduction must be"),
        ({"rel": 0.0}, "rel must be above 0, the label of padding: got 0.0."),
        ({"ideal": LABELS, "weights": SCORES}, "weights do not go with ideal"),
        ({"ideal": LABELS[0]}, r"ideal must be \[\*batch, m\] with the batch of the scores, \(1,\): got \(3,\)."),
        (
            {"ideal": Ragged(torch.tensor([0, 1, 3]), LABELS[0])},
            "ideal must have a list for each of the 1 lists: got 2.",
        ),
        ({"ideal": Ragged(torch.tensor([0, 4]), LABELS[0])}, "offsets must start at 0"),
    ],
)
def test_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        recall(SCORES, LABELS, **change)


def test_refused_scores() -> None:
    with pytest.raises(InputError, match="scores must be floating point"):
        ndcg(torch.tensor([1, 2]), torch.tensor([1, 0]))
    with pytest.raises(InputError, match="labels must have the shape of scores"):
        ndcg(SCORES, LABELS[:, :2])
    with pytest.raises(InputError, match="must have a list axis"):
        ndcg(torch.tensor(1.0), torch.tensor(1.0))


def test_labels_may_be_integers_or_booleans() -> None:
    for dtype in (torch.bool, torch.int32, torch.int64, torch.bfloat16):
        assert ndcg(SCORES, LABELS.to(dtype)) == ndcg(SCORES, LABELS)
        assert ndcg(SCORES, LABELS, ideal=LABELS.to(dtype)) == ndcg(SCORES, LABELS)


def test_nan_and_minus_infinity_rank_last_and_tie() -> None:
    scores = torch.tensor([torch.nan, -torch.inf, -1e30, torch.inf])
    for place, expected in enumerate([1 / 3 / 2 + 1 / 4 / 2, 1 / 3 / 2 + 1 / 4 / 2, 1 / 2, 1.0]):
        assert mrr(scores, torch.eye(4)[place]).item() == pytest.approx(expected)


def test_minus_infinity_ranks_above_absent() -> None:
    where = torch.tensor([False, True, True])
    scores = torch.tensor([5.0, -torch.inf, 1.0])
    assert mrr(scores, torch.tensor([1.0, 1.0, 0.0]), where=where).item() == 1 / 2


@pytest.mark.parametrize("empty", ["skip", "zero", "one"])
@pytest.mark.parametrize("entry", [e for e in METRICS if e.kind not in RESULTS], ids=lambda entry: entry.name)
def test_lists_of_width_zero_never_count(entry, empty) -> None:
    for batch in ((), (0,), (3,), (2, 0)):
        nothing = torch.zeros(*batch, 0)
        assert entry(nothing, nothing, empty=empty).item() == 0
        assert entry(nothing, nothing, empty=empty, reduction="none").shape == batch


def test_a_cut_off_may_be_a_whole_number_of_numpy() -> None:
    for k in (np.int64(2), np.uint8(2)):
        assert (checked_cut(k), type(checked_cut(k))) == (2, int)


def test_no_lists_with_ideal() -> None:
    none = torch.zeros(0, 3)
    for metric in (ndcg, recall, ap, mrr):
        assert metric(none, none, ideal=torch.zeros(0, 4)).item() == 0
        assert metric(none, none, ideal=torch.zeros(0, 4), reduction="none").shape == (0,)


def test_ideal_may_be_a_plain_pair() -> None:
    pair = (torch.tensor([0, 2]), torch.ones(2))
    assert recall(SCORES, LABELS, ideal=pair).item() == recall(SCORES, LABELS, ideal=Ragged(*pair)).item() == 1 / 2


def test_retrieving_nothing_is_a_miss() -> None:
    # pytrec_eval drops queries without results; here what ideal names was missed, and the list counts.
    offsets = torch.tensor([0, 0, 1, 1])
    known = Ragged(torch.tensor([0, 2, 3, 3]), torch.ones(3))
    for metric in (ndcg, recall, ap, mrr):
        scores, labels = torch.ones(1), torch.ones(1)
        assert metric(scores, labels, offsets=offsets, ideal=known, reduction="none").tolist() == [0, 1, 0]
        assert metric(scores, labels, offsets=offsets, ideal=known).item() == 1 / 2
        # Nothing retrieved and nothing to retrieve: no policy makes that count.
        assert metric(scores, labels, offsets=offsets, ideal=known, empty="one").item() == 1 / 2
    dense = torch.zeros(2, 0)
    assert recall(dense, dense, ideal=torch.tensor([[1.0], [0.0]]), reduction="none").tolist() == [0, 0]


def test_blocks_of_rows_join_seamlessly(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(7, 5, generator=generator), torch.randint(0, 3, (7, 5), generator=generator)
    whole = ndcg(scores, labels, where=labels < 2, weights=scores.exp(), reduction="none")
    monkeypatch.setattr("rankwell.metrics.ranked.BLOCK_ITEMS", 11)
    torch.testing.assert_close(ndcg(scores, labels, where=labels < 2, weights=scores.exp(), reduction="none"), whole)
