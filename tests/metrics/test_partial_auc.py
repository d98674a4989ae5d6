import pytest
import torch

from rankwell.errors import InputError
from rankwell.metrics import auc, pauc

SCORES = torch.tensor([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
LABELS = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 0.0])
# Above the four irrelevant items: 1, 2, 2, 2 of two relevant ones.


def test_by_hand() -> None:
    assert pauc(SCORES, LABELS, max_fpr=0.25).item() == pytest.approx(1 / 2)
    assert pauc(SCORES, LABELS, max_fpr=0.5).item() == pytest.approx((1 / 2 + 1) / 2)
    # One and a half irrelevant items.
    assert pauc(SCORES, LABELS, max_fpr=0.375).item() == pytest.approx((1 / 2 + 1 / 2 * 1) / 1.5)


def test_mcclish_puts_a_random_order_at_one_half() -> None:
    area = (1 / 2 + 1) / 4
    expected = (1 + (area - 0.5**2 / 2) / (0.5 - 0.5**2 / 2)) / 2
    assert pauc(SCORES, LABELS, max_fpr=0.5, scale="mcclish").item() == pytest.approx(expected)
    n = 10_000
    tied = pauc(torch.zeros(n), (torch.arange(n) % 2).float(), max_fpr=0.2, scale="mcclish")
    assert tied.item() == pytest.approx(1 / 2, abs=1e-3)


def test_the_whole_of_it_is_auc() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.randint(0, 5, (9, 30), generator=generator).float(), torch.rand(9, 30, generator=generator)
    for scale in ("plain", "mcclish"):
        whole = pauc(scores, labels, rel=0.6, max_fpr=1.0, scale=scale, reduction="none")
        torch.testing.assert_close(whole, auc(scores, labels, rel=0.6, reduction="none"))


def test_one_sort_of_items_is_empty() -> None:
    lists = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    assert pauc(torch.tensor([[1.0, 2.0]] * 3), lists, reduction="none", empty="one").tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_fpr": 0.0}, r"max_fpr must be above 0 and at most 1: got 0\.0"),
        ({"max_fpr": 1.5}, r"max_fpr must be above 0 and at most 1: got 1\.5"),
        ({"scale": "raw"}, "scale must be 'plain' or 'mcclish': got 'raw'"),
        ({"k": 3}, "pauc needs the whole list"),
    ],
)
def test_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pauc(SCORES, LABELS, **change)
