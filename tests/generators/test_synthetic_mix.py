"""Written and sampled negatives in one row."""

import math

import pytest
import torch

from rankwell.errors import InputError
from rankwell.generators import Described, Embedded, SyntheticMix
from rankwell.types import Ragged

NOBODY = Ragged(torch.zeros(9, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))


def seen(b, n, *, where=None, first=0):
    """Sampled negatives are all zeros."""
    ids, samples = torch.zeros(b, dtype=torch.int64), torch.arange(first, first + b)
    row = torch.ones(b, 2)
    return Embedded(row, row, torch.zeros(b, n, 2), where, ids, ids, torch.zeros(b, n).long(), samples)


def maker(described, **own):
    return SyntheticMix(NOBODY, 3, 2, seed=5, described=described, **own)


def written(n, k=2):
    """Text ``j`` of anything is (j + 1, j + 1)."""
    return Described(torch.arange(1.0, k + 1)[None, :, None].expand(1, k, 2), torch.zeros(n, dtype=torch.int64))


def chi_square(counts, shares):
    expected = torch.tensor(shares) * counts.sum()
    return ((counts - expected) ** 2 / expected).sum().item()


def test_shares_of_written_and_sampled():
    rows, k = 4000, 8
    made = maker(written(rows), ratio=0.3, k=k)(seen(rows, 10))
    counts = torch.bincount(made.vectors[..., 0].long().flatten(), minlength=3).double()
    assert chi_square(counts, [0.7, 0.15, 0.15]) < 13.8  # 2 degrees of freedom, one in a thousand
    by_place = (made.vectors[..., 0] > 0).sum(0).double()
    assert chi_square(by_place, [1 / k] * k) < 24.3  # 7 degrees of freedom
    in_row = (made.vectors[..., 0] > 0).sum(1)
    assert (
        2 <= in_row.double().var() / (k * 0.3 * 0.7) * 2 <= 2.4 or in_row.double().var() > 1.4
    )  # coins, not a fixed number


@pytest.mark.parametrize(("ratio", "values"), [(0.0, {0.0}), (1.0, {1.0, 2.0})])
def test_all_of_one_kind(ratio, values):
    made = maker(written(50), ratio=ratio, k=4)(seen(50, 4))
    assert set(made.vectors.flatten().tolist()) == values and not made.beside and made.penalty is None


def test_rows_without_a_text_keep_what_was_sampled():
    texts = written(6)._replace(rows=torch.tensor([0, -1, 0, -1, -1, 0]))
    made = maker(texts, ratio=1.0, k=3)(seen(6, 3))
    assert (made.vectors[[0, 2, 5]] > 0).all() and (made.vectors[[1, 3, 4]] == 0).all()


def test_masks_are_those_of_what_was_sampled():
    where = torch.zeros(2000, 3, dtype=torch.bool)
    given = seen(2000, 3, where=where)
    given.negatives.fill_(math.nan)
    made = maker(written(2000), ratio=0.5, k=3)(given)
    assert made.where.equal(made.vectors[..., 0] > 0)  # what is written is there
    assert 0.45 < made.where.double().mean() < 0.55 and made.vectors.isfinite().all()


def test_rows_do_not_depend_on_their_batch():
    make = maker(written(40), k=3)
    whole = make(seen(40, 5)).vectors
    assert torch.cat([make(seen(7, 5, first=first)).vectors for first in range(0, 35, 7)]).equal(whole[:35])
    assert not make(seen(40, 5)._replace(epoch=1)).vectors.equal(whole)


def test_a_map_is_learnt_from_the_items_texts():
    draw = torch.Generator().manual_seed(0)
    items, true = torch.randn(30, 5, generator=draw), torch.randn(2, 5, generator=draw)
    vectors = torch.randn(1, 1, 5, generator=draw)
    described = Described(vectors, torch.zeros(30, dtype=torch.int64), items)
    make = SyntheticMix(NOBODY, 30, 2, seed=0, ratio=1.0, k=1, map_weight=0.5, described=described)
    ids = torch.arange(30)
    row = (items @ true.T).requires_grad_()
    given = Embedded(row, row, torch.zeros(30, 1, 2), None, ids, ids, ids[:, None], ids)
    torch.testing.assert_close(make(given).penalty, 0.5 * row.square().sum(1).mean())  # the map is zero at first
    optimiser = torch.optim.SGD(make.parameters(), lr=0.2)
    for _ in range(300):
        made = make(given)
        optimiser.zero_grad()
        made.penalty.backward()
        optimiser.step()
    torch.testing.assert_close(make.map.detach(), true, atol=1e-3, rtol=0)
    torch.testing.assert_close(make(given).vectors[3, 0].detach(), true @ vectors[0, 0], atol=1e-2, rtol=0)
    assert row.grad is None  # positives are constants there


def test_the_loss_does_not_move_the_map():
    described = Described(torch.ones(1, 1, 5), torch.zeros(4, dtype=torch.int64), torch.ones(3, 5))
    make = maker(described, ratio=0.5, k=2)
    given = seen(4, 2)
    given = given._replace(negatives=given.negatives.requires_grad_())
    make(given).vectors.sum().backward()
    assert make.map.grad is None and given.negatives.grad.sum() > 0
    assert list(make.state_dict()) == ["map"]


@pytest.mark.parametrize(
    ("described", "own", "says"),
    [
        (None, {}, "rankwell describe"),
        (Described(torch.ones(1, 1, 5), torch.zeros(1).long()), {}, r"--model.dim 5"),
        (written(1), {"ratio": 1.5}, "ratio 1.5"),
        (written(1), {"ratio": math.nan}, "ratio nan"),
        (written(1), {"map_weight": 0.0}, "map_weight 0.0"),
        (written(1), {"k": 0}, "k must be"),
    ],
    ids=["none", "length", "ratio", "nan", "map_weight", "k"],
)
def test_arguments(described, own, says):
    with pytest.raises(InputError, match=says):
        maker(described, **own)


def test_too_few_sampled():
    with pytest.raises(InputError, match=r"k = 8 .* got 2"):
        maker(written(1))(seen(1, 2))
