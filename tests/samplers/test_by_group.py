import pytest
import torch

from rankwell.errors import InputError, UnknownName
from rankwell.samplers import ByGroupSampler
from rankwell.types import Negatives, Ragged

GROUPS = torch.tensor([9, 4, 4, 9, 9, 4, -1, 4])
"""Of 9: items 0, 3, 4; of 4: 1, 2, 5, 7; item 6 is alone."""
KNOWN = Ragged(torch.tensor([0, 2, 3, 6]), torch.tensor([0, 5, 6, 0, 3, 4]))


def draw(user: int, positive: int, **own) -> Negatives:
    sampler = ByGroupSampler(KNOWN, 8, seed=0, n=40, item_groups=GROUPS, **own)
    return sampler(torch.tensor([user]), torch.tensor([user]), epoch=0, step=0, positives=torch.tensor([positive]))


@pytest.mark.parametrize(
    ("user", "positive", "own", "possible"),
    [
        (0, 0, {}, {3, 4}),
        (0, 5, {}, {1, 2, 7}),
        (0, 0, {"collisions": "keep"}, {0, 3, 4}),
        (0, 5, {"group": "other"}, {3, 4, 6}),
        (0, 0, {"group": "other"}, {1, 2, 6, 7}),
        (0, 0, {"group": "other", "collisions": "mask"}, {1, 2, 5, 6, 7}),
        (1, 6, {}, {0, 1, 2, 3, 4, 5, 7}),  # alone in its group: the catalogue, less what the row knows
        (2, 3, {}, {1, 2, 5, 6, 7}),  # the whole group is known
        (2, 3, {"collisions": "mask"}, {0, 3, 4}),
        (1, 6, {"group": "other"}, {0, 1, 2, 3, 4, 5, 7}),
    ],
)
def test_what_can_be_drawn_is_drawn_alike(user, positive, own, possible):
    got = draw(user, positive, **own)
    assert set(got.ids.flatten().tolist()) == possible
    torch.testing.assert_close(got.log_q.exp(), torch.full((1, 1), 1 / len(possible)))


def test_nothing_to_draw_can_be_an_error():
    with pytest.raises(InputError, match=r"nothing is left to draw in same groups for 1 rows \(first: row 0\)"):
        draw(2, 3, empty="error")
    sampler = ByGroupSampler(KNOWN, 8, seed=0, item_groups=torch.zeros(8).long(), group="other", empty="error")
    with pytest.raises(InputError, match="nothing is left to draw in other groups"):
        sampler(torch.tensor([0]), torch.tensor([0]), epoch=0, step=0, positives=torch.tensor([1]))


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="by_group draws for each row, by its positive: set shared to false"):
        draw(0, 0, shared=True)
    with pytest.raises(UnknownName, match="Did you mean 'other'"):
        draw(0, 0, group="others")
    with pytest.raises(InputError, match=r"needs item_groups, one integer an item, shape \(8,\): got none"):
        ByGroupSampler(KNOWN, 8, seed=0)
    with pytest.raises(InputError, match=r"got torch.float32 \(8,\)"):
        ByGroupSampler(KNOWN, 8, seed=0, item_groups=torch.ones(8))
    with pytest.raises(InputError, match=r"by the group of each row's positive, \(1,\): got none"):
        ByGroupSampler(KNOWN, 8, seed=0, item_groups=GROUPS)(torch.tensor([0]), torch.tensor([0]), epoch=0, step=0)
